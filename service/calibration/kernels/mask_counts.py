"""How often each bit of a mask is set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["counts_by_bit"]


@njit(cache=True, nogil=True)
def counts_by_bit(mask: NDArray[np.int32]) -> NDArray[np.int64]:
    """Number of pixels with each bit set, in one pass over the mask.

    Parameters
    ----------
    mask : ndarray of int32, shape (height, width)

    Returns
    -------
    ndarray of int64, shape (32,)
    """
    counts = np.zeros(32, np.int64)
    for y in range(mask.shape[0]):
        row = mask[y]
        start = 0
        for x in range(1, row.size + 1):  # neighbours mostly have the same bits: count them together
            if x < row.size and row[x] == row[start]:
                continue
            bits = row[start]
            if bits != 0:
                for bit in range(32):
                    if bits >> bit & 1:
                        counts[bit] += x - start
            start = x
    return counts
