"""A pixel-basis PSF whose pixels are polynomials of the position, as PSFEx makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from service.exposure.geometry import pixel_index
from service.exposure.psf.base import Psf, positions
from service.exposure.psf.lanczos import lanczos_matrices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

__all__ = ["PsfexPsf", "monomials"]

_CHUNK = 64  # oversampled stamps drawn together: 2 MB, within the cache


def monomials(u: NDArray[np.float64], v: NDArray[np.float64], degree: int) -> NDArray[np.float64]:
    """Terms ``u^i v^j`` with ``i + j <= degree`` in PSFEx order 1, u, u^2, v, uv, v^2; shape (n, terms)."""
    return np.stack([u**i * v**j for j in range(degree + 1) for i in range(degree + 1 - j)], axis=-1)


class PsfexPsf(Psf):
    """PSF on an oversampled pixel grid with polynomial coefficients.

    Method: PSFEx as Rubin's meas_extensions_psfex evaluates it: the grid is resampled with Lanczos-5 to detector
    pixels and divided by its sum.

    Parameters
    ----------
    components : ndarray of float32, shape (terms, grid height, grid width)
        Coefficients of the monomials 1, u, u^2, v, uv, v^2 (1, 3, 6, 10... terms) on a grid of odd size whose centre
        pixel is the PSF's centre.
    context_offset, context_scale : tuple of float
        ``u = (x - context_offset[0]) / context_scale[0]``, the same in y; px.
    average_position : tuple of float
        (x, y) in px.
    oversampling : int
        Grid pixels a detector pixel.

    Raises
    ------
    ValueError
        The number of components belongs to no degree, or the grid is not of odd size.
    """

    kind: ClassVar[str] = "psfex"

    def __init__(
        self,
        components: NDArray[np.float32],
        context_offset: tuple[float, float],
        context_scale: tuple[float, float],
        average_position: tuple[float, float],
        oversampling: int = 2,
    ) -> None:
        terms, grid_height, grid_width = components.shape
        self.degree = int(np.sqrt(2 * terms)) - 1
        if (self.degree + 1) * (self.degree + 2) // 2 != terms:
            raise ValueError(f"{terms} PSF components do not make a complete polynomial")
        super().__init__(grid_width // oversampling, grid_height // oversampling, average_position)
        if grid_width % 2 == 0 or grid_height % 2 == 0:
            raise ValueError(f"PSF grid {grid_width} x {grid_height} is not odd")
        self.components = np.ascontiguousarray(components, dtype=np.float32)
        self.context_offset = (float(context_offset[0]), float(context_offset[1]))
        self.context_scale = (float(context_scale[0]), float(context_scale[1]))
        self.oversampling = oversampling
        step = oversampling
        row = grid_height // 2 - step * (self.height // 2)
        column = grid_width // 2 - step * (self.width // 2)
        centred = self.components[:, row::step, column::step][:, : self.height, : self.width]
        self._centred = np.ascontiguousarray(centred).reshape(terms, -1)

    def kernel_images(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float32]:
        """Stamps with the PSF centred on the centre pixel, unit sum; float32 of shape (n, height, width)."""
        terms = self._terms(*positions(x, y))
        # Lanczos weights at whole grid pixels are a delta function: the resampling is a subset of the grid
        flat = terms @ self._centred
        flat /= flat.sum(axis=1, keepdims=True)
        return flat.reshape(-1, self.height, self.width)

    def images(self, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]:
        """Stamps drawn at the sub-pixel position, unit sum; see `Psf.images`."""
        x, y = positions(x, y)
        ix, iy = pixel_index(x), pixel_index(y)
        step = self.oversampling
        result = self._drawn(self._terms(x, y), step * (ix - x), step * (iy - y))
        x0 = (ix - self.width // 2).astype(np.int32)
        y0 = (iy - self.height // 2).astype(np.int32)
        return result, x0, y0

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Header keywords and arrays; see `Psf.state`."""
        header = {
            **self._base_state(),
            "PSFXOFF": self.context_offset[0],
            "PSFYOFF": self.context_offset[1],
            "PSFXSCL": self.context_scale[0],
            "PSFYSCL": self.context_scale[1],
            "PSFOVER": self.oversampling,
        }
        return header, {"components": self.components}

    @classmethod
    def from_state(cls, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> PsfexPsf:
        """Rebuild from `state`."""
        return cls(
            arrays["components"],
            (float(header["PSFXOFF"]), float(header["PSFYOFF"])),
            (float(header["PSFXSCL"]), float(header["PSFYSCL"])),
            (float(header["PSFAVGX"]), float(header["PSFAVGY"])),
            int(header["PSFOVER"]),
        )

    def _drawn(
        self, terms: NDArray[np.float32], shift_x: NDArray[np.float64], shift_y: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Stamps of unit sum whose centre pixels read at shifts, in grid pixels, from the centre of the grid."""
        _, grid_height, grid_width = self.components.shape
        flat = self.components.reshape(len(self.components), -1)
        result = np.empty((len(terms), self.height, self.width), np.float32)
        for start in range(0, len(terms), _CHUNK):
            part = slice(start, start + _CHUNK)
            grids = (terms[part] @ flat).reshape(-1, grid_height, grid_width)
            rows = lanczos_matrices(shift_y[part], grid_height, self.height, self.oversampling)
            columns = lanczos_matrices(shift_x[part], grid_width, self.width, self.oversampling)
            stamps = result[part]
            np.matmul(np.matmul(rows, grids), columns.transpose(0, 2, 1), out=stamps)
            stamps /= stamps.sum(axis=(1, 2))[:, None, None]
        return result

    def _terms(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float32]:
        u = (x - self.context_offset[0]) / self.context_scale[0]
        v = (y - self.context_offset[1]) / self.context_scale[1]
        return monomials(u, v, self.degree).astype(np.float32)
