"""Exact order statistics and clipped moments of a whole plane without sorting or copying it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["moments_within", "order_statistics"]

_BINS = 1 << 16


@njit(cache=True, nogil=True, error_model="numpy")
def _sortable(bits: np.uint32) -> np.uint32:
    """Unsigned integer that sorts as the float32 with these bits does."""
    if bits & np.uint32(0x80000000):
        return ~bits
    return bits | np.uint32(0x80000000)


@njit(cache=True, nogil=True, error_model="numpy")
def _upper_histogram(words: NDArray[np.uint32], mask: NDArray[np.int32], bad: np.int32) -> NDArray[np.int64]:
    """Counts of the upper halves of the keys of finite values without a bad bit."""
    counts = np.zeros(_BINS, np.int64)
    masked = mask.size > 0
    for j in range(words.shape[0]):
        row = words[j]
        row_mask = mask[j] if masked else mask[0]
        for i in range(row.size):
            word = row[i]
            if (word & np.uint32(0x7F800000)) == np.uint32(0x7F800000):
                continue
            if masked and row_mask[i] & bad:
                continue
            counts[_sortable(word) >> np.uint32(16)] += 1
    return counts


@njit(cache=True, nogil=True, error_model="numpy")
def _lower_histograms(
    words: NDArray[np.uint32], mask: NDArray[np.int32], bad: np.int32, slots: NDArray[np.int8], n_slots: int
) -> NDArray[np.int64]:
    """Counts of the lower halves of those keys whose upper half has a slot."""
    counts = np.zeros((n_slots, _BINS), np.int64)
    masked = mask.size > 0
    for j in range(words.shape[0]):
        row = words[j]
        row_mask = mask[j] if masked else mask[0]
        for i in range(row.size):
            key = _sortable(row[i])
            slot = slots[key >> np.uint32(16)]
            if slot >= 0 and not (masked and row_mask[i] & bad):
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
def order_statistics(
    words: NDArray[np.uint32], mask: NDArray[np.int32], bad: np.int32, fractions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Quantiles at index ``fraction * (n - 1)`` with linear interpolation, over finite values without a bad bit.

    Exact, by counting the upper and then the lower halves of the bits: two passes, no copy.

    Parameters
    ----------
    words : ndarray of uint32, shape (height, width)
        The float32 values seen as unsigned integers.
    mask : ndarray of int32, same shape or (1, 0)
        The latter stands for no mask.
    bad : int
        Bits of ``mask`` that exclude a pixel.
    fractions : ndarray of float64, shape (q,)
        Between 0 and 1; at most 60.

    Returns
    -------
    ndarray of float64, shape (q,)
        NaN where there is no such value.
    """
    upper = _upper_histogram(words, mask, bad)
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
    lower = _lower_histograms(words, mask, bad, slots, n_slots)
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


# reassociation lets the sums run in vector registers; NaN still fails the comparison
@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def moments_within(
    image: NDArray[np.float32], mask: NDArray[np.int32], bad: np.int32, center: float, limit: float
) -> tuple[int, float, float]:
    """Number, mean and variance (n - 1) of the good pixels within a finite ``limit`` of ``center``."""
    n = 0
    total = 0.0
    squares = 0.0
    for j in range(image.shape[0]):
        row = image[j]
        if mask.size > 0:
            row_mask = mask[j]
            for i in range(row.size):
                deviation = row[i] - center
                kept = (abs(deviation) <= limit) & ((row_mask[i] & bad) == 0)
                d = deviation if kept else 0.0  # no branch: three times faster
                n += int(kept)
                total += d
                squares += d * d
        else:
            for i in range(row.size):
                deviation = row[i] - center
                kept = abs(deviation) <= limit
                d = deviation if kept else 0.0
                n += int(kept)
                total += d
                squares += d * d
    if n == 0:
        return 0, np.nan, np.nan
    mean = total / n
    return n, center + mean, max(squares - n * mean * mean, 0.0) / (n - 1) if n > 1 else np.nan
