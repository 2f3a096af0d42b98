"""A pixel-grid PSF whose pixels are polynomials of the position, as Piff makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from service.exposure.geometry import pixel_index
from service.exposure.psf.base import Psf, positions
from service.exposure.psf.psfex import monomials

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

__all__ = ["PiffPsf"]

_CHUNK = 64  # stamps drawn together


class PiffPsf(Psf):
    """PSF on a grid of points with polynomial coefficients, read between the points with a Lanczos kernel.

    Method: Piff's ``PixelGrid`` with ``BasisPolynomial``, evaluated without Piff; beyond the grid the PSF is 0.

    Parameters
    ----------
    components : ndarray of float32, shape (terms, grid size, grid size)
        Coefficients of the monomials 1, u, u^2, v, uv, v^2 (1, 3, 6, 10... terms); the point of index ``size // 2``
        is the PSF's centre.
    context_offset, context_scale : tuple of float
        ``u = (x - context_offset[0]) / context_scale[0]``, the same in y; px.
    average_position : tuple of float
        (x, y) in px.
    size : int
        Odd size of the stamps in px.
    sampling : float
        Distance of grid points in px.
    order : int
        Of the Lanczos kernel.

    Raises
    ------
    ValueError
        The number of components belongs to no degree, or the grid is not square.
    """

    kind: ClassVar[str] = "piff"

    def __init__(
        self,
        components: NDArray[np.float32],
        context_offset: tuple[float, float],
        context_scale: tuple[float, float],
        average_position: tuple[float, float],
        *,
        size: int,
        sampling: float = 1.0,
        order: int = 11,
    ) -> None:
        terms, height, width = components.shape
        self.degree = int(np.sqrt(2 * terms)) - 1
        if (self.degree + 1) * (self.degree + 2) // 2 != terms:
            raise ValueError(f"{terms} PSF components do not make a complete polynomial")
        if height != width:
            raise ValueError(f"PSF grid {width} x {height} is not square")
        super().__init__(size, size, average_position)
        self.components = np.ascontiguousarray(components, dtype=np.float32)
        self.context_offset = (float(context_offset[0]), float(context_offset[1]))
        self.context_scale = (float(context_scale[0]), float(context_scale[1]))
        self.sampling = float(sampling)
        self.order = int(order)

    def kernel_images(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float32]:
        """Stamps with the PSF centred on the centre pixel, unit sum; float32 of shape (n, height, width)."""
        x, y = positions(x, y)
        zero = np.zeros(len(x))
        return self._drawn(x, y, zero, zero)

    def images(self, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]:
        """Stamps drawn at the sub-pixel position, unit sum; see `Psf.images`."""
        x, y = positions(x, y)
        ix, iy = pixel_index(x), pixel_index(y)
        stamps = self._drawn(x, y, x - ix, y - iy)
        return stamps, (ix - self.width // 2).astype(np.int32), (iy - self.height // 2).astype(np.int32)

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Header keywords and arrays; see `Psf.state`."""
        header = {
            **self._base_state(),
            "PSFXOFF": self.context_offset[0],
            "PSFYOFF": self.context_offset[1],
            "PSFXSCL": self.context_scale[0],
            "PSFYSCL": self.context_scale[1],
            "PSFSAMP": self.sampling,
            "PSFORDER": self.order,
        }
        return header, {"components": self.components}

    @classmethod
    def from_state(cls, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> PiffPsf:
        """Rebuild from `state`."""
        return cls(
            arrays["components"],
            (float(header["PSFXOFF"]), float(header["PSFYOFF"])),
            (float(header["PSFXSCL"]), float(header["PSFYSCL"])),
            (float(header["PSFAVGX"]), float(header["PSFAVGY"])),
            size=int(header["PSFW"]),
            sampling=float(header["PSFSAMP"]),
            order=int(header["PSFORDER"]),
        )

    def _drawn(
        self,
        x: NDArray[np.float64],
        y: NDArray[np.float64],
        dx: NDArray[np.float64],
        dy: NDArray[np.float64],
    ) -> NDArray[np.float32]:
        """Stamps of the PSF at (x, y) with its centre (dx, dy) off the centre pixel, unit sum."""
        u = (x - self.context_offset[0]) / self.context_scale[0]
        v = (y - self.context_offset[1]) / self.context_scale[1]
        terms = monomials(u, v, self.degree).astype(np.float32)
        n_grid = self.components.shape[1]
        flat = self.components.reshape(len(self.components), -1)
        result = np.empty((len(x), self.height, self.width), np.float32)
        for start in range(0, len(x), _CHUNK):
            part = slice(start, start + _CHUNK)
            grids = (terms[part] @ flat).reshape(-1, n_grid, n_grid)
            rows, columns = self._matrices(dy[part]), self._matrices(dx[part])
            stamps = result[part]
            np.matmul(np.matmul(rows, grids), columns.transpose(0, 2, 1), out=stamps)
            stamps /= stamps.sum(axis=(1, 2))[:, None, None]
        return result

    def _matrices(self, shift: NDArray[np.float64]) -> NDArray[np.float32]:
        """Weights of the grid points for each pixel of a row whose PSF is ``shift`` px off; (n, size, grid size).

        Each pixel's weights over all points, those beyond the grid included, have unit sum.
        """
        n_grid, order = self.components.shape[1], self.order
        pixel = np.arange(self.width) - self.width // 2
        point = (pixel - shift[:, None]) / self.sampling + n_grid // 2
        first = np.floor(point).astype(np.int64) + 1 - order
        taps = first[:, :, None] + np.arange(2 * order)
        weights = _lanczos(taps - point[:, :, None], order)
        weights /= weights.sum(axis=2, keepdims=True)
        weights[(taps < 0) | (taps >= n_grid)] = 0.0
        matrices = np.zeros((*point.shape, n_grid + 1), np.float32)
        np.put_along_axis(matrices, np.where((taps < 0) | (taps >= n_grid), n_grid, taps), weights, axis=2)
        return np.ascontiguousarray(matrices[:, :, :n_grid])


def _lanczos(t: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """``sinc(t) sinc(t / order)`` for ``|t| <= order``, else 0."""
    return np.where(np.abs(t) <= order, np.sinc(t) * np.sinc(t / order), 0.0)
