"""How much of an image is detected: counts of good pixels with a bit, and runs of pixels with a bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["bit_runs", "counted_good"]


@njit(cache=True, nogil=True)
def counted_good(
    mask: NDArray[np.int32], y0: int, y1: int, x0: int, x1: int, bits: np.int32, bad: np.int32
) -> tuple[int, int]:
    """Pixels of ``mask[y0:y1, x0:x1]`` without any of ``bad``: those with any of ``bits``, and all of them."""
    detected, good = 0, 0
    for y in range(y0, y1):
        row = mask[y, x0:x1]
        for x in range(row.shape[0]):
            is_good = (row[x] & bad) == 0
            good += is_good
            detected += is_good & ((row[x] & bits) != 0)
    return detected, good


@njit(cache=True, nogil=True)
def bit_runs(mask: NDArray[np.int32], bits: np.int32) -> NDArray[np.int32]:
    """Runs of pixels with any of ``bits``: rows ``(y, x0, x1)`` by y, then x; int32, shape (n, 3)."""
    height, width = mask.shape
    n = 0
    for y in range(height):
        row = mask[y]
        inside = False
        for x in range(width):
            is_set = (row[x] & bits) != 0
            n += is_set and not inside
            inside = is_set
    runs = np.empty((n, 3), np.int32)
    n = 0
    for y in range(height):
        row = mask[y]
        inside = False
        for x in range(width):
            is_set = (row[x] & bits) != 0
            if is_set and not inside:
                runs[n, 0] = y
                runs[n, 1] = x
            if inside and not is_set:
                runs[n, 2] = x - 1
                n += 1
            inside = is_set
        if inside:
            runs[n, 2] = width - 1
            n += 1
    return runs
