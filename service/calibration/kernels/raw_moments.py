"""Unweighted moments of the good pixels of footprints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SUMS", "footprint_sums"]

#: Columns of the result: what is summed, or 1 for a number of pixels.
SUMS = ("flux", "variance", "x", "y", "xx", "yy", "xy", "pixels", "bad", "near", "center")
_FLUX, _VARIANCE, _X, _Y, _XX, _YY, _XY, _PIXELS, _BAD, _NEAR, _CENTER = range(len(SUMS))


@njit(cache=True, nogil=True, error_model="numpy")
def footprint_sums(
    image: NDArray[np.float32],
    mask: NDArray[np.int32],
    variance: NDArray[np.float32],
    bad_bits: int,
    spans: NDArray[np.int32],
    span_offsets: NDArray[np.int64],
    rows: NDArray[np.int64],
    corners: NDArray[np.int64],
    radius: float,
) -> NDArray[np.float64]:
    """Sums over the pixels of some footprints that lie inside the image.

    Parameters
    ----------
    image, mask, variance : ndarray, shape (height, width)
        Planes.
    bad_bits : int
        Pixels with one of these, or not finite, are bad.
    spans, span_offsets : ndarray
        Footprints, in array coordinates.
    rows : ndarray of int64, shape (n,)
        Which of them.
    corners : ndarray of int64, shape (n, 2)
        Origin (x, y) of each one's coordinates, array coordinates.
    radius : float
        Bad pixels within it are near the centre, px.

    Returns
    -------
    ndarray of float64, shape (n, 11)
        Named by `SUMS`. Good pixels give sums of values and variances, the centre x, y (the mean weighted with the
        values) and the mean squares xx, yy and product xy of their distances from it. Numbers are those of all pixels,
        of bad ones, of bad ones near the centre, and whether (1) the pixel of the centre is among them.
    """
    result = np.zeros((len(rows), len(SUMS)))
    height, width = image.shape
    for k in range(len(rows)):
        sums = result[k]
        own = spans[span_offsets[rows[k]] : span_offsets[rows[k] + 1]]
        left, bottom = corners[k, 0], corners[k, 1]
        for y, x0, x1 in own:
            if y < 0 or y >= height:
                continue
            for x in range(max(x0, 0), min(x1, width - 1) + 1):
                value = np.float64(image[y, x])
                sums[_PIXELS] += 1.0
                if mask[y, x] & bad_bits or not np.isfinite(value):
                    sums[_BAD] += 1.0
                    continue
                sums[_FLUX] += value
                sums[_VARIANCE] += variance[y, x]
                sums[_X] += value * (x - left)
                sums[_Y] += value * (y - bottom)
        flux = sums[_FLUX] if sums[_FLUX] != 0.0 else np.nan
        center_x, center_y = sums[_X] / flux, sums[_Y] / flux
        sums[_X], sums[_Y] = center_x, center_y
        pixel_x, pixel_y = np.floor(center_x + left + 0.5), np.floor(center_y + bottom + 0.5)
        for y, x0, x1 in own:
            if y < 0 or y >= height:
                continue
            dy = y - bottom - center_y
            for x in range(max(x0, 0), min(x1, width - 1) + 1):
                dx = x - left - center_x
                if x == pixel_x and y == pixel_y:
                    sums[_CENTER] = 1.0
                value = np.float64(image[y, x])
                if mask[y, x] & bad_bits or not np.isfinite(value):
                    if dx**2 + dy**2 <= radius**2:
                        sums[_NEAR] += 1.0
                    continue
                sums[_XX] += value * (dx * dx)
                sums[_YY] += value * (dy * dy)
                sums[_XY] += value * (dx * dy)
        for moment in (_XX, _YY, _XY):
            sums[moment] /= flux
    return result
