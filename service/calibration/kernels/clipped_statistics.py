"""Clipped mean and standard deviation of a whole plane, with exact quartiles and without sorting it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["clipped_mean_std"]

_IQR_TO_SIGMA = 0.741301


def clipped_mean_std(image: NDArray[np.float32], *, num_sigma: float = 3.0, num_iter: int = 3) -> tuple[float, float]:
    """Clipped mean and sample standard deviation of all finite pixels.

    The first pass keeps pixels within ``num_sigma`` times 0.741301 IQR of the median, later ones those within
    ``num_sigma`` standard deviations of the mean of the pass before; every pass starts from all pixels.

    Method: Rubin ``afw.math`` MEANCLIP and STDEVCLIP.

    Parameters
    ----------
    image : ndarray of float32
        Any shape; pixels that are not finite are left out.
    num_sigma : float
        Clipping limit in standard deviations.
    num_iter : int
        Number of passes, at least 1.

    Returns
    -------
    mean, std : float
        In the units of the image; NaN where fewer than two pixels are left.
    """
    values = np.ascontiguousarray(image, dtype=np.float32).ravel()
    bits = values.view(np.uint32)
    counts = _count_high(bits, values)
    n = int(counts.sum())
    if n < 2:
        return float("nan"), float("nan")
    ranks = np.array([q * (n - 1) for q in (0.25, 0.5, 0.75)])
    lower = np.floor(ranks).astype(np.int64)
    orders = np.concatenate([lower, np.minimum(lower + 1, n - 1)])
    found = _order_statistics(bits, values, counts, orders)
    fraction = ranks - lower
    quartile1, median, quartile3 = found[:3] + fraction * (found[3:] - found[:3])
    center, width = float(median), _IQR_TO_SIGMA * float(quartile3 - quartile1)
    for _ in range(num_iter):
        kept, total, squares = _moments(values, center, num_sigma * width, float(median))
        if kept < 2:
            return float("nan"), float("nan")
        offset = total / kept
        center, width = float(median) + offset, float(np.sqrt(max(squares - kept * offset**2, 0.0) / (kept - 1)))
    return center, width


def _order_statistics(
    bits: NDArray[np.uint32], values: NDArray[np.float32], counts: NDArray[np.int64], orders: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Values of given ranks: the upper half of the sort key from the first count, the lower half from a second."""
    cumulative = np.cumsum(counts)
    high = np.searchsorted(cumulative, orders, side="right")
    bins, row = np.unique(high, return_inverse=True)
    slot = np.full(65536, -1, np.int8)
    slot[bins] = np.arange(len(bins))
    low_counts = _count_low(bits, values, slot, len(bins))
    result = np.empty(len(orders), np.uint32)
    for i, order in enumerate(orders):
        below = order - (cumulative[high[i]] - counts[high[i]])
        low = np.searchsorted(np.cumsum(low_counts[row[i]]), below, side="right")
        key = (int(high[i]) << 16) | int(low)
        result[i] = key ^ 0x80000000 if key & 0x80000000 else ~np.uint32(key)
    return result.view(np.float32).astype(np.float64)


@njit(cache=True, nogil=True, inline="always")
def _key(pattern: np.uint32) -> np.uint32:  # bit pattern of a float, reordered so that keys sort like the floats
    if pattern & np.uint32(0x80000000):
        return np.uint32(~pattern)
    return np.uint32(pattern | np.uint32(0x80000000))


@njit(cache=True, nogil=True)
def _count_high(bits, values):  # type: ignore[no-untyped-def]
    counts = np.zeros(65536, np.int64)
    for i in range(bits.size):
        if np.isfinite(values[i]):
            counts[_key(bits[i]) >> np.uint32(16)] += 1
    return counts


@njit(cache=True, nogil=True)
def _count_low(bits, values, slot, n):  # type: ignore[no-untyped-def]
    counts = np.zeros((n, 65536), np.int64)
    for i in range(bits.size):
        if np.isfinite(values[i]):
            key = _key(bits[i])
            row = slot[key >> np.uint32(16)]
            if row >= 0:
                counts[row, key & np.uint32(0xFFFF)] += 1
    return counts


@njit(cache=True, nogil=True)
def _moments(values, center, limit, origin):  # type: ignore[no-untyped-def]
    kept = 0
    total = 0.0
    squares = 0.0
    for i in range(values.size):
        value = np.float64(values[i])
        if abs(value - center) <= limit:
            kept += 1
            total += value - origin
            squares += (value - origin) * (value - origin)
    return kept, total, squares
