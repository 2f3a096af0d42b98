"""Exact quartiles and clipped moments of a whole plane without sorting or copying it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["clipped_moments", "order_statistics"]

_BINS = 1 << 16


@njit(cache=True, nogil=True, error_model="numpy")
def _sortable(bits: np.uint32) -> np.uint32:
    """Unsigned integer that sorts as the float32 with these bits does."""
    if bits & np.uint32(0x80000000):
        return ~bits
    return bits | np.uint32(0x80000000)


@njit(cache=True, nogil=True, error_model="numpy")
def _histogram(words: NDArray[np.uint32], prefix: int) -> NDArray[np.int64]:
    """Counts of the upper halves of finite values, or of the lower halves of those whose upper half is ``prefix``."""
    counts = np.zeros(_BINS, np.int64)
    for word in words:
        if (word & np.uint32(0x7F800000)) != np.uint32(0x7F800000):
            key = _sortable(word)
            if prefix < 0:
                counts[key >> np.uint32(16)] += 1
            elif key >> np.uint32(16) == prefix:
                counts[key & np.uint32(0xFFFF)] += 1
    return counts


@njit(cache=True, nogil=True, error_model="numpy")
def _find(counts: NDArray[np.int64], rank: int) -> tuple[int, int]:
    """Bin that holds the element of a rank, and the rank within it."""
    for b in range(_BINS):
        if rank < counts[b]:
            return b, rank
        rank -= counts[b]
    return _BINS - 1, 0


@njit(cache=True, nogil=True, error_model="numpy")
def order_statistics(words: NDArray[np.uint32], fractions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantiles at index ``fraction * (n - 1)`` with linear interpolation, over finite values.

    Parameters
    ----------
    words : ndarray of uint32, shape (n,)
        The float32 values seen as unsigned integers.
    fractions : ndarray of float64
        Between 0 and 1.

    Returns
    -------
    ndarray of float64
        NaN where there is no finite value.
    """
    upper = _histogram(words, -1)
    n = upper.sum()
    result = np.full(len(fractions), np.nan)
    if n == 0:
        return result
    known = -1
    lower = upper
    for i in range(len(fractions)):
        index = fractions[i] * (n - 1)
        rank = int(np.floor(index))
        value = 0.0
        for step in range(2):
            weight = index - rank if step else 1.0 - (index - rank)
            if weight == 0.0:
                continue
            prefix, inner = _find(upper, rank + step)
            if prefix != known:
                lower = _histogram(words, prefix)
                known = prefix
            low, _ = _find(lower, inner)
            key = np.uint32((prefix << 16) | low)
            bits = key & np.uint32(0x7FFFFFFF) if key & np.uint32(0x80000000) else ~key
            value += weight * np.array([bits], np.uint32).view(np.float32)[0]
        result[i] = value
    return result


# reassociation lets the sums run in vector registers; NaN still fails both comparisons
@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def clipped_moments(image: NDArray[np.float32], low: float, high: float) -> tuple[int, float, float]:
    """Number, mean and variance (n - 1) of the pixels with ``low <= value <= high``, two finite limits."""
    center = 0.5 * (low + high)
    n = 0
    total = 0.0
    squares = 0.0
    for row in image:
        for value in row:
            if low <= value <= high:
                d = value - center
                n += 1
                total += d
                squares += d * d
    if n < 2:
        return n, np.nan if n == 0 else center + total, np.nan
    mean = total / n
    return n, center + mean, max(squares - n * mean * mean, 0.0) / (n - 1)
