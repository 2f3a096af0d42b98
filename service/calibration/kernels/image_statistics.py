"""What the statistics of a whole plane need, from one pass over it that neither sorts nor copies it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BINS", "moments_within", "survey_plane"]

#: Bins of the histogram; 0 is for pixels that do not count.
BINS = 2048


@njit(cache=True, nogil=True, error_model="numpy")
def _clean(row: NDArray[np.float32], mask: NDArray[np.int32], bad: np.int32, out: NDArray[np.float32]) -> None:
    """Row with NaN for pixels that are not finite or have a bad bit; a mask of size 0 stands for none."""
    infinity, nan = np.float32(np.inf), np.float32(np.nan)
    for x in range(row.size):
        out[x] = row[x] if abs(row[x]) < infinity else nan
    for x in range(mask.size):
        out[x] = out[x] if (mask[x] & bad) == 0 else nan


@njit(cache=True, nogil=True, error_model="numpy")
def _sort_into_bins(row: NDArray[np.float32], low: np.float32, scale: np.float32, bins: NDArray[np.uint16]) -> None:
    """Bins from 1 on, monotone in the value; 0 for NaN."""
    bottom, top, one = np.float32(0), np.float32(BINS - 2), np.float32(1)
    for x in range(row.size):
        place = min(max((row[x] - low) * scale, bottom), top) + one
        bins[x] = np.uint16(np.int32(place if row[x] == row[x] else bottom))


@njit(cache=True, nogil=True, error_model="numpy")
def _count_and_pick(
    row: NDArray[np.float32],
    bins: NDArray[np.uint16],
    counts: NDArray[np.int32],
    wanted: NDArray[np.uint8],
    picked: NDArray[np.float32],
    n: int,
) -> int:
    """Count bins and append the values of those wanted; four tables, for equal neighbours not to wait for each other.

    A value is written always and kept by the count: no branch to mispredict.
    """
    even = row.size // 4 * 4
    for x in range(0, even, 4):
        for k in range(4):
            b = bins[x + k]
            counts[k, b] += 1
            picked[n] = row[x + k]
            n += wanted[b]
    for x in range(even, row.size):
        b = bins[x]
        counts[0, b] += 1
        picked[n] = row[x]
        n += wanted[b]
    return n


# reassociation lets the sums run in vector registers; NaN still fails the comparison
@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _row_moments(row: NDArray[np.float32], center: float, limit: float) -> tuple[int, float, float]:
    """Number, sum and sum of squares of the deviations from ``center`` up to ``limit``."""
    n = np.int32(0)
    total = squares = 0.0
    for x in range(row.size):
        deviation = row[x] - center
        kept = abs(deviation) <= limit
        deviation = deviation if kept else 0.0  # no branch: three times faster
        n += np.int32(kept)
        total += deviation
        squares += deviation * deviation
    return int(n), total, squares


@njit(cache=True, nogil=True, error_model="numpy")
def survey_plane(
    image: NDArray[np.float32],
    mask: NDArray[np.int32],
    bad: np.int32,
    low: np.float32,
    scale: np.float32,
    wanted: NDArray[np.uint8],
    center: float,
    inner: float,
    picked: NDArray[np.float32],
) -> tuple[NDArray[np.int64], int, NDArray[np.float64]]:
    """Histogram of the finite pixels without a bad bit, the values of some bins, and moments of the middle.

    Parameters
    ----------
    image : ndarray of float32, shape (height, width)
    mask : ndarray of int32, same shape or (1, 0)
        The latter stands for no mask.
    bad : int
        Bits of ``mask`` that exclude a pixel.
    low, scale : float
        A value goes to bin ``1 + (value - low) * scale``, those beyond to the first or the last.
    wanted : ndarray of uint8, shape (BINS,)
        1 for bins whose values are picked.
    center, inner : float
        Moments are those of pixels within ``inner`` of ``center``.
    picked : ndarray of float32, shape (n,)
        Receives the values picked, as long as a whole row and one more find room.

    Returns
    -------
    counts : ndarray of int64, shape (BINS,)
        Pixels in each bin, 0 in the first.
    n_picked : int
        Less than what was wanted if ``picked`` was too small.
    middle : ndarray of float64, shape (height, 3)
        Number, sum and sum of squares of deviations from ``center`` in each row, which no other row has a part in.
    """
    width = image.shape[1]
    row, bins = np.empty(width, np.float32), np.empty(width, np.uint16)
    counts = np.zeros((4, BINS), np.int32)
    nothing, no_mask = np.zeros(BINS, np.uint8), np.empty(0, np.int32)
    middle = np.zeros((image.shape[0], 3))
    n_picked = 0
    for y in range(image.shape[0]):
        _clean(image[y], mask[y] if mask.size else no_mask, bad, row)
        _sort_into_bins(row, low, scale, bins)
        if n_picked + width >= picked.size:
            wanted = nothing
        n_picked = _count_and_pick(row, bins, counts, wanted, picked, n_picked)
        if inner >= 0:
            middle[y, 0], middle[y, 1], middle[y, 2] = _row_moments(row, center, inner)
    counts[:, 0] = 0
    return counts.sum(axis=0), n_picked, middle


@njit(cache=True, nogil=True, error_model="numpy")
def moments_within(
    image: NDArray[np.float32], mask: NDArray[np.int32], bad: np.int32, center: float, limit: float
) -> NDArray[np.float64]:
    """Number, sum and sum of squares of the deviations of good pixels from ``center`` up to ``limit``."""
    row, no_mask = np.empty(image.shape[1], np.float32), np.empty(0, np.int32)
    sums = np.zeros(3)
    for y in range(image.shape[0]):
        _clean(image[y], mask[y] if mask.size else no_mask, bad, row)
        n, total, squares = _row_moments(row, center, limit)
        sums += np.array([n, total, squares])
    return sums
