"""All pairs of references by their distance, sorted where they are looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.calibration.kernels.pattern_match import count_pairs, fill_pairs, pair_lengths

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAX_POINTS", "PairTable"]

#: Indices are packed into 16 bits.
MAX_POINTS = 1 << 16

_PAIRS_PER_BIN = 1024


class PairTable:
    """Pairs ``i < j`` of points in the order of their chord length (float32).

    The pairs are distributed over bins of length once; a bin is sorted when a query first touches it. A search that
    succeeds on its first patterns so never pays for sorting the n(n-1)/2 pairs of a dense catalogue.

    Parameters
    ----------
    points : ndarray of float64, shape (n, 3)
        Unit vectors, at most `MAX_POINTS`.

    Raises
    ------
    ValueError
        Too many points.
    """

    def __init__(self, points: NDArray[np.float64]) -> None:
        if len(points) > MAX_POINTS:
            raise ValueError(f"{len(points)} points; pairs are indexed with 16 bits")
        self._points = np.ascontiguousarray(points, dtype=np.float64)
        n_pairs = len(points) * (len(points) - 1) // 2
        n_bins = max(1, n_pairs // _PAIRS_PER_BIN)
        extent = float(np.linalg.norm(np.ptp(points, axis=0))) if len(points) else 0.0
        self._inverse_width = n_bins / extent if extent > 0 else 1.0
        counts = count_pairs(self._points, self._inverse_width, n_bins)
        self._offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._pairs = np.empty(n_pairs, np.uint32)
        fill_pairs(self._points, self._inverse_width, self._offsets[:-1].copy(), self._pairs)
        self._sorted = np.zeros(n_bins, dtype=bool)

    def within(self, length: float, tolerance: float) -> NDArray[np.uint32]:
        """Pairs with a length of ``length`` (as float32) within ``tolerance``, packed ``i << 16 | j``, by length."""
        middle = float(np.float32(length))
        low, high = middle - tolerance - 1e-16, middle + tolerance + 1e-16
        first, last = self._bin(low), self._bin(high)
        for index in np.flatnonzero(~self._sorted[first : last + 1]) + first:
            self._sort(int(index))
        begin = self._offsets[first] + np.searchsorted(self._lengths(first), low, side="right")
        end = self._offsets[last] + np.searchsorted(self._lengths(last), high, side="right")
        return self._pairs[begin:end]

    def _bin(self, length: float) -> int:
        # Rounded as the kernel rounds lengths: the order of the bins then is the order of the float32 lengths.
        return int(min(float(np.float32(max(length, 0.0))) * self._inverse_width, len(self._sorted) - 1))

    def _lengths(self, index: int) -> NDArray[np.float64]:
        pairs = self._pairs[self._offsets[index] : self._offsets[index + 1]]
        return np.asarray(pair_lengths(self._points, pairs), dtype=np.float64)

    def _sort(self, index: int) -> None:
        pairs = self._pairs[self._offsets[index] : self._offsets[index + 1]]
        pairs[:] = pairs[np.argsort(pair_lengths(self._points, pairs), kind="stable")]
        self._sorted[index] = True
