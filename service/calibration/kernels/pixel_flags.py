"""Mask bits over footprints and around centroids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["collect_mask_bits"]


@njit(cache=True, nogil=True, error_model="numpy")
def collect_mask_bits(
    mask: NDArray[np.int32],
    spans: NDArray[np.int32],
    span_offsets: NDArray[np.int64],
    centers: NDArray[np.float64],
    bits: NDArray[np.int32],
    off_image: NDArray[np.bool_],
) -> None:
    """Mask bits of each source.

    Parameters
    ----------
    mask : ndarray of int32, shape (h, w)
        Mask plane.
    spans, span_offsets : ndarray
        Footprints, array coordinates.
    centers : ndarray of float64, shape (n, 2)
        Centroids, array coordinates.
    bits : ndarray of int32, shape (n, 3)
        Filled with: OR over the footprint, OR over the 3x3 pixels at the centroid, AND over these; 0 where the
        centroid is not finite or off the image.
    off_image : ndarray of bool, shape (n,)
        Set where the centroid is finite and off the image.
    """
    height, width = mask.shape
    for i in range(len(centers)):
        anywhere = 0
        for s in range(span_offsets[i], span_offsets[i + 1]):
            y = spans[s, 0]
            if 0 <= y < height:
                for x in range(max(spans[s, 1], 0), min(spans[s, 2] + 1, width)):
                    anywhere |= mask[y, x]
        bits[i, 0] = anywhere
        x_center, y_center = centers[i, 0], centers[i, 1]
        if not (np.isfinite(x_center) and np.isfinite(y_center)):
            continue
        if not (-0.5 <= x_center < width - 0.5 and -0.5 <= y_center < height - 0.5):
            off_image[i] = True
            continue
        column, row = int(np.floor(x_center + 0.5)), int(np.floor(y_center + 0.5))
        any_bits = 0
        all_bits = -1
        for y in range(max(row - 1, 0), min(row + 2, height)):
            for x in range(max(column - 1, 0), min(column + 2, width)):
                any_bits |= mask[y, x]
                all_bits &= mask[y, x]
        bits[i, 1], bits[i, 2] = any_bits, all_bits
