"""Order statistics and clipped moments of float32 samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["clipped_moments", "moments", "quantiles", "sort_in_place"]

_BINS = 512
_SAMPLE = 64
_FEW = 512  # values that are sorted at once
_IQR_TO_STDEV = 0.741301109252801


@njit(cache=True, nogil=True)
def sort_in_place(values: NDArray[Any]) -> None:
    """Shell sort; NumPy's sort costs seconds to compile and there is little to sort."""
    gap = 1
    while gap < values.size // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, values.size):
            value = values[i]
            j = i
            while j >= gap and values[j - gap] > value:
                values[j] = values[j - gap]
                j -= gap
            values[j] = value
        gap //= 3


@njit(cache=True, nogil=True)
def _range(values: NDArray[np.float32]) -> tuple[np.float32, np.float32]:
    """Where most values lie, from a subsample: its middle half and as much on either side."""
    stride = (values.size // _SAMPLE) | 1
    sample = values[::stride].copy()
    sort_in_place(sample)
    low, high = sample[sample.size // 4], sample[-1 - sample.size // 4]
    width = high - low
    return (low - width, high + width) if width > 0 else (sample[0], sample[-1])


@njit(cache=True, nogil=True)
def _sort_into_bins(values: NDArray[np.float32], bins: NDArray[np.uint16]) -> NDArray[np.int32]:
    """Bin of each value, monotone in the value whatever the range, and the counts of the bins."""
    counts = np.zeros((4, _BINS), np.int32)
    low, high = _range(values)
    scale = np.float32(_BINS - 2) / (high - low) if high > low else np.float32(0.0)
    if not 0 < scale < np.inf:  # one value, or a range beyond float32, in which 0 times infinity is no bin
        bins[:] = 1
        counts[0, 1] = values.size
        return counts[0]
    top, bottom, one = np.float32(_BINS - 2), np.float32(-1.0), np.float32(1.0)
    for i in range(values.size):
        bins[i] = np.uint16(np.int32(min(max((values[i] - low) * scale, bottom), top) + one))
    even = values.size // 4 * 4
    for i in range(0, even, 4):  # four tables: equal neighbours do not wait for each other
        counts[0, bins[i]] += 1
        counts[1, bins[i + 1]] += 1
        counts[2, bins[i + 2]] += 1
        counts[3, bins[i + 3]] += 1
    for i in range(even, values.size):
        counts[0, bins[i]] += 1
    return counts[0] + counts[1] + counts[2] + counts[3]


@njit(cache=True, nogil=True)
def _values_at(values: NDArray[np.float32], ranks: NDArray[np.int64]) -> NDArray[np.float32]:
    """Elements of the sorted ``values`` at some ranks, by one histogram and a sort of the bins that matter."""
    if values.size <= _FEW:
        picked = values.copy()
        sort_in_place(picked)
        return picked[ranks]
    bins = np.empty(values.size, np.uint16)
    counts = _sort_into_bins(values, bins)
    upto = np.cumsum(counts)
    bin_of = np.searchsorted(upto, ranks, side="right")
    wanted = np.zeros(_BINS, np.uint8)
    wanted[bin_of] = 1
    picked = np.empty(np.sum(counts * wanted) + 1, np.float32)
    n = 0
    for i in range(values.size):
        picked[n] = values[i]  # written always and kept by the count: no branch to mispredict
        n += wanted[bins[i]]
    sort_in_place(picked[:n])
    left_out = np.cumsum(counts * (1 - wanted))
    return picked[ranks - left_out[bin_of]]


@njit(cache=True, nogil=True)
def quantiles(values: NDArray[np.float32], fractions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantiles at some fractions, linear at index ``fraction*(n - 1)``; NaN of no values."""
    result = np.full(fractions.size, np.nan)
    n = values.size
    if n == 0:
        return result
    ranks = np.empty(2 * fractions.size, np.int64)
    for k in range(fractions.size):
        ranks[2 * k] = int(fractions[k] * (n - 1))
        ranks[2 * k + 1] = min(ranks[2 * k] + 1, n - 1)
    at = _values_at(values, ranks)
    for k in range(fractions.size):
        weight = fractions[k] * (n - 1) - ranks[2 * k]
        result[k] = (1.0 - weight) * at[2 * k] + weight * at[2 * k + 1]
    return result


@njit(cache=True, nogil=True, fastmath={"reassoc"})  # the sums vectorise; the values are finite
def moments(
    values: NDArray[np.float32],
    center: float,
    limit: float,
) -> tuple[float, float, int]:
    """Mean, sample variance and number of the values within ``limit`` of ``center``."""
    n = 0
    total = squares = 0.0
    for i in range(values.size):
        deviation = values[i] - center
        kept = abs(deviation) <= limit
        deviation = deviation if kept else 0.0
        n += kept
        total += deviation
        squares += deviation * deviation
    if n == 0:
        return np.nan, np.nan, 0
    variance = max(squares - total * total / n, 0.0) / (n - 1) if n > 1 else np.nan
    return center + total / n, variance, n


@njit(cache=True, nogil=True)
def clipped_moments(
    values: NDArray[np.float32],
    num_sigma: float,
    num_iter: int,
) -> tuple[float, float, int, float]:
    """Mean, sample variance and number after clipping, and the median of all values."""
    quartiles = quantiles(values, np.array([0.25, 0.5, 0.75]))
    center = median = quartiles[1]
    # without a limit nothing is cut, not even where the quartiles are equal
    limit = num_sigma * _IQR_TO_STDEV * (quartiles[2] - quartiles[0]) if num_sigma < np.inf else np.inf
    mean, variance, n = np.nan, np.nan, 0
    for _ in range(num_iter):
        mean, variance, n = moments(values, center, limit)
        if n <= 1:  # no width to clip with
            break
        center, limit = mean, num_sigma * np.sqrt(variance) if num_sigma < np.inf else np.inf
    return mean, variance, n, median
