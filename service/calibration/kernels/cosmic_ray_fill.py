"""Linear prediction of single pixels from good neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["predict_pixels"]

_REACH = 10  # longest run of unusable pixels on one side that is interpolated across
# weights of the two nearest and the two next neighbours, for a Gaussian PSF of sigma 1 px (SDSS photometric pipeline)
_ALONG_AXIS = (0.7737, -0.2737)
_ALONG_DIAGONAL = (0.7358, -0.2358)


@njit(cache=True, nogil=True)
def _usable(image: NDArray[np.float32], mask: NDArray[np.int32], unusable: np.int32, y: int, x: int) -> bool:
    inside = 0 <= y < image.shape[0] and 0 <= x < image.shape[1]
    return inside and (mask[y, x] & unusable) == 0 and abs(image[y, x]) < np.inf


@njit(cache=True, nogil=True)
def _across(image: NDArray[np.float32], mask: NDArray[np.int32], unusable: np.int32, y: int, x: int) -> float:
    """Linear interpolation across the defect, mean of row and column, the shorter gap counting more; NaN for none."""
    total = weights = 0.0
    for dy, dx in ((0, 1), (1, 0)):
        before = after = 1
        while before <= _REACH and not _usable(image, mask, unusable, y - before * dy, x - before * dx):
            before += 1
        while after <= _REACH and not _usable(image, mask, unusable, y + after * dy, x + after * dx):
            after += 1
        if before > _REACH or after > _REACH:
            continue
        low, high = image[y - before * dy, x - before * dx], image[y + after * dy, x + after * dx]
        weight = 1.0 / (before + after)
        total += weight * (after * low + before * high) / (before + after)
        weights += weight
    return total / weights if weights > 0 else np.nan


@njit(cache=True, nogil=True)
def predict_pixels(
    image: NDArray[np.float32],
    mask: NDArray[np.int32],
    variance: NDArray[np.float32],
    pixels: NDArray[np.int64],
    background: float,
    unusable: np.int32,
) -> NDArray[np.float32]:
    """Predicted values of pixels, given as flat indices; NaN where nothing usable is in reach.

    The smallest of up to four predictions along a row, a column and two diagonals, each from four usable neighbours
    and above the background less 2 sigma. The smallest of several noisy values is too low on average, for which the
    mean of the minimum of as many normal deviates is added. Without a prediction: interpolation across the defect.
    """
    width = image.shape[1]
    # minus the mean of the smallest of 1, 2, 3, 4 normal deviates
    bias = (0.0, 0.5641896, 0.8462844, 1.0293754)
    result = np.full(pixels.size, np.nan, np.float32)
    for i in range(pixels.size):
        y, x = pixels[i] // width, pixels[i] % width
        lowest, n, noise = np.inf, 0, 0.0
        for dy, dx in ((0, 1), (1, 0), (1, 1), (-1, 1)):
            near, far = _ALONG_AXIS if dy * dx == 0 else _ALONG_DIAGONAL
            usable = True
            for step in (-2, -1, 1, 2):
                usable &= _usable(image, mask, unusable, y + step * dy, x + step * dx)
            if not usable:
                continue
            predicted = near * (np.float64(image[y - dy, x - dx]) + image[y + dy, x + dx]) + far * (
                np.float64(image[y - 2 * dy, x - 2 * dx]) + image[y + 2 * dy, x + 2 * dx]
            )
            if predicted > background - 2 * np.sqrt(variance[y, x]):
                lowest = min(lowest, predicted)
                n += 1
                noise += near**2 * (variance[y - dy, x - dx] + variance[y + dy, x + dx])
                noise += far**2 * (variance[y - 2 * dy, x - 2 * dx] + variance[y + 2 * dy, x + 2 * dx])
        result[i] = lowest + bias[n - 1] * np.sqrt(noise / n) if n > 0 else _across(image, mask, unusable, y, x)
    return result
