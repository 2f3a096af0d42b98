"""The fitted PSF as the pipeline uses it: drawn and measured by kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.calibration.kernels.lanczos import resample
from service.calibration.kernels.psf_shapes import measure_shapes
from service.exposure.psf import PsfexPsf
from service.exposure.psf.base import positions
from service.exposure.psf.lanczos import check_shifts

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["CompiledPsfexPsf", "drawn"]

_CHUNK = 64  # stamps at a time: 2 MB, within the cache


class CompiledPsfexPsf(PsfexPsf):
    """A `PsfexPsf` for thousands of positions.

    It gives the same numbers but for the rounding of float32, and its state is that of a `PsfexPsf`: who reads it from
    a file gets one that needs no compiler.
    """

    def shapes(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """Truncated adaptive moments Ixx, Iyy, Ixy of the kernel images in px^2, shape (n, 3)."""
        x, y = positions(x, y)
        result = np.empty((len(x), 3))
        for start in range(0, len(x), _CHUNK):
            part = slice(start, start + _CHUNK)
            measure_shapes(self.kernel_images(x[part], y[part]), result[part])
        failed = np.isnan(result[:, 0])
        if failed.any():
            result[failed] = super().shapes(x[failed], y[failed])
        return result

    def _drawn(
        self, terms: NDArray[np.float32], shift_x: NDArray[np.float64], shift_y: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        stamps = drawn(self.components, terms, shift_x, shift_y, self.oversampling, (self.height, self.width))
        for start in range(0, len(stamps), _CHUNK):
            part = stamps[start : start + _CHUNK]
            part /= part.sum(axis=(1, 2))[:, None, None]
        return stamps


def drawn(
    components: NDArray[np.float32],
    terms: NDArray[np.float32],
    shift_x: NDArray[np.float64],
    shift_y: NDArray[np.float64],
    oversampling: int,
    shape: tuple[int, int],
) -> NDArray[np.float32]:
    """Stamps of a pixel-basis PSF as they are, without a sum of one.

    Parameters
    ----------
    components : ndarray of float32, shape (terms, grid height, grid width)
        Coefficients of the monomials.
    terms : ndarray of float32, shape (n, terms)
        Monomials at each position.
    shift_x, shift_y : ndarray of float64, shape (n,)
        Where the centre pixel of each stamp reads, relative to the grid's; grid pixels, within [-1, 1].
    oversampling : int
        Grid pixels a stamp pixel.
    shape : tuple of int
        Height and width of the stamps.

    Returns
    -------
    ndarray of float32, shape (n, height, width)
        The stamps.

    Raises
    ------
    ValueError
        A shift is too large, or NaN.
    """
    check_shifts(shift_x, shift_y)
    _, grid_height, grid_width = components.shape
    transposed = np.ascontiguousarray(components.transpose(0, 2, 1)).reshape(len(components), -1)
    stamps = np.empty((len(terms), *shape), np.float32)
    for start in range(0, len(terms), _CHUNK):
        part = slice(start, start + _CHUNK)
        grids = (terms[part] @ transposed).reshape(-1, grid_width, grid_height)
        resample(grids, shift_x[part], shift_y[part], oversampling, 1, stamps[part])
    return stamps
