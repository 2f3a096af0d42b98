"""Peaks of footprints: local maxima, their order and the merging of ordered lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from service.calibration.kernels.footprints import connected, threshold_runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["find_peaks", "merged_peaks", "redetected_peaks"]

_MAX_STEPS = 1e8  # of merging unsorted lists one by one into one, some seconds


@njit(cache=True, nogil=True)
def _precedes(peaks: NDArray[np.int32], values: NDArray[np.float32], i: int, j: int) -> bool:
    """Whether peak i sorts strictly before j: larger value, then smaller x, then smaller y."""
    if values[i] != values[j]:
        return values[i] > values[j]
    if peaks[i, 0] != peaks[j, 0]:
        return peaks[i, 0] < peaks[j, 0]
    return peaks[i, 1] < peaks[j, 1]


@njit(cache=True, nogil=True)
def _merge(
    peaks: NDArray[np.int32],
    values: NDArray[np.float32],
    order: NDArray[np.int64],
    start: int,
    middle: int,
    stop: int,
    scratch: NDArray[np.int64],
) -> None:
    """Merge ``order[start:middle]`` and ``order[middle:stop]``; of equals the earlier list goes first.

    A first list longer than the second is merged from the back. For sorted lists that makes no difference; for
    lists that are not it does, and this is what std::inplace_merge does upstream.
    """
    i, j = start, middle
    if middle - start <= stop - middle:
        k = start
        while i < middle and j < stop:
            if _precedes(peaks, values, order[j], order[i]):
                scratch[k] = order[j]
                j += 1
            else:
                scratch[k] = order[i]
                i += 1
            k += 1
        while i < middle:
            scratch[k] = order[i]
            i += 1
            k += 1
        order[start:k] = scratch[start:k]  # what is left of the second list is in place
    else:
        i, j, k = middle - 1, stop - 1, stop - 1
        while i >= start and j >= middle:
            if _precedes(peaks, values, order[j], order[i]):
                scratch[k] = order[i]
                i -= 1
            else:
                scratch[k] = order[j]
                j -= 1
            k -= 1
        while j >= middle:
            scratch[k] = order[j]
            j -= 1
            k -= 1
        order[k + 1 : stop] = scratch[k + 1 : stop]  # what is left of the first list is in place


@njit(cache=True, nogil=True)
def _sort(
    peaks: NDArray[np.int32],
    values: NDArray[np.float32],
    order: NDArray[np.int64],
    start: int,
    stop: int,
    scratch: NDArray[np.int64],
) -> None:
    """Stable merge sort of ``order[start:stop]``."""
    width = 1
    while width < stop - start:
        at = start
        while at + width < stop:
            _merge(peaks, values, order, at, at + width, min(at + 2 * width, stop), scratch)
            at += 2 * width
        width *= 2


@njit(cache=True, nogil=True)
def _is_peak(smooth: NDArray[np.float32], y: int, x: int, sign: float) -> bool:
    value = sign * smooth[y, x]
    for v in range(y - 1, y + 2):
        for u in range(x - 1, x + 2):
            if sign * smooth[v, u] > value:
                return False
    return True


@njit(cache=True, nogil=True)
def _appended(peaks: NDArray[np.int32], n: int, x: int, y: int) -> NDArray[np.int32]:
    """``peaks``, larger where necessary, with row ``n`` set."""
    if n == peaks.shape[0]:
        peaks = np.concatenate((peaks, np.empty_like(peaks)))
    peaks[n, 0] = x
    peaks[n, 1] = y
    return peaks


@njit(cache=True, nogil=True)
def find_peaks(
    smooth: NDArray[np.float32], spans: NDArray[np.int32], offsets: NDArray[np.int64], sign: float, margin: int
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int64]]:
    """Local maxima of each footprint, sorted by descending value; the extreme pixel where there is none.

    Parameters
    ----------
    smooth : ndarray of float32, shape (height, width)
        Smoothed image.
    spans : ndarray of int32, shape (n, 3)
        Spans of all footprints.
    offsets : ndarray of int64, shape (footprints + 1,)
        First span of each.
    sign : float
        1 for maxima, -1 for minima.
    margin : int
        Pixels closer than this to the border are no local maxima, at least 1.

    Returns
    -------
    peaks : ndarray of int32, shape (p, 2)
        ``(x, y)``.
    values : ndarray of float32, shape (p,)
        Values of ``smooth`` there.
    peak_offsets : ndarray of int64, shape (footprints + 1,)
        First peak of each footprint.
    """
    height, width = smooth.shape
    n_footprints = offsets.shape[0] - 1
    peaks = np.empty((n_footprints + 64, 2), np.int32)
    n = 0
    peak_offsets = np.zeros(n_footprints + 1, np.int64)
    for f in range(n_footprints):
        best, best_x, best_y = -np.inf, 0, 0
        for i in range(offsets[f], offsets[f + 1]):
            y = spans[i, 0]
            for x in range(spans[i, 1], spans[i, 2] + 1):
                value = sign * smooth[y, x]
                if value > best:
                    best, best_x, best_y = value, x, y
                inside = margin <= y < height - margin and margin <= x < width - margin
                if inside and _is_peak(smooth, y, x, sign):
                    peaks = _appended(peaks, n, x, y)
                    n += 1
        if n == peak_offsets[f]:
            peaks = _appended(peaks, n, best_x, best_y)
            n += 1
        peak_offsets[f + 1] = n
    values = np.empty(n, np.float32)
    for i in range(n):
        values[i] = smooth[peaks[i, 1], peaks[i, 0]]
    order = np.arange(n)
    scratch = np.empty(n, np.int64)
    for f in range(n_footprints):
        _sort(peaks, values, order, peak_offsets[f], peak_offsets[f + 1], scratch)
    return peaks[order], values[order], peak_offsets


@njit(cache=True, nogil=True)
def _contains(spans: NDArray[np.int32], start: int, stop: int, x: int, y: int) -> bool:
    """Whether a pixel is in ``spans[start:stop]``, which are sorted by y, then x."""
    low, high = start, stop  # first span behind the pixel
    while low < high:
        middle = (low + high) // 2
        if spans[middle, 0] < y or (spans[middle, 0] == y and spans[middle, 1] <= x):
            low = middle + 1
        else:
            high = middle
    return low > start and spans[low - 1, 0] == y and spans[low - 1, 2] >= x


@njit(cache=True, nogil=True)
def redetected_peaks(
    smooth: NDArray[np.float32],
    variance: NDArray[np.float32],
    kernel: NDArray[np.float32],
    spans: NDArray[np.int32],
    offsets: NDArray[np.int64],
    peaks: NDArray[np.int32],
    values: NDArray[np.float32],
    peak_offsets: NDArray[np.int64],
    threshold: float,
    include: float,
    sign: float,
    per_pixel: bool,
    min_pixels: int,
    simple: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int64]]:
    """Peaks of footprints after ``smooth`` has changed: those found again inside each footprint.

    A footprint with more than ``simple`` peaks is searched afresh within its bounding box. The new peaks inside it
    replace the old ones, region by region and not sorted across regions; without any it keeps its first peak.

    Parameters
    ----------
    smooth : ndarray of float32, shape (height, width)
        Smoothed image.
    variance, kernel : ndarray
        As for `threshold_runs`.
    spans, offsets, peaks, values, peak_offsets : ndarray
        The footprints and their peaks, as `find_peaks` returns them.
    threshold, include, sign, per_pixel, min_pixels : float, float, float, bool, int
        As for `threshold_runs` and `connected`.
    simple : int
        Footprints with at most so many peaks stay as they are.

    Returns
    -------
    peaks, values, peak_offsets : ndarray
        In the same order of footprints.
    """
    n_footprints = offsets.shape[0] - 1
    new_peaks = np.empty((peaks.shape[0] + 64, 2), np.int32)
    new_values = np.empty(new_peaks.shape[0], np.float32)
    new_offsets = np.zeros(n_footprints + 1, np.int64)
    n = 0
    for f in range(n_footprints):
        first, last = peak_offsets[f], peak_offsets[f + 1]
        kept = last
        found_peaks, found_values = peaks[:0], values[:0]
        if last - first > simple:
            part = spans[offsets[f] : offsets[f + 1]]
            x0, x1, y0, y1 = part[:, 1].min(), part[:, 2].max(), part[0, 0], part[-1, 0]
            box = smooth[y0 : y1 + 1, x0 : x1 + 1].copy()
            positive, negative = threshold_runs(box, variance, kernel, (y0, x0), threshold, include, per_pixel)
            runs = positive if sign > 0 else negative
            box_spans, box_offsets, _ = connected(runs, min_pixels)
            found_peaks, found_values, _ = find_peaks(box, box_spans, box_offsets, sign, 1)
            inside = 0
            for i in range(found_peaks.shape[0]):
                x, y = found_peaks[i, 0] + x0, found_peaks[i, 1] + y0
                if _contains(spans, offsets[f], offsets[f + 1], x, y):
                    found_peaks[inside, 0] = x
                    found_peaks[inside, 1] = y
                    found_values[inside] = found_values[i]
                    inside += 1
            found_peaks, found_values = found_peaks[:inside], found_values[:inside]
            kept = first if inside else first + 1
        total = kept - first + found_peaks.shape[0]
        while n + total > new_peaks.shape[0]:
            new_peaks = np.concatenate((new_peaks, np.empty_like(new_peaks)))
            new_values = np.concatenate((new_values, np.empty_like(new_values)))
        for i in range(first, kept):
            new_peaks[n] = peaks[i]
            new_values[n] = values[i]
            n += 1
        for i in range(found_peaks.shape[0]):
            new_peaks[n] = found_peaks[i]
            new_values[n] = found_values[i]
            n += 1
        new_offsets[f + 1] = n
    return new_peaks[:n].copy(), new_values[:n].copy(), new_offsets


@njit(cache=True, nogil=True)
def _owner_of(runs: NDArray[np.int32], owner: NDArray[np.int64], x: int, y: int) -> int:
    """Region of the run that contains a pixel; runs are in raster order."""
    low, high = 0, runs.shape[0]
    while low < high:
        middle = (low + high) // 2
        if runs[middle, 0] < y or (runs[middle, 0] == y and runs[middle, 1] <= x):
            low = middle + 1
        else:
            high = middle
    return owner[low - 1]


@njit(cache=True, nogil=True)
def merged_peaks(
    spans: NDArray[np.int32],
    offsets: NDArray[np.int64],
    peaks: NDArray[np.int32],
    values: NDArray[np.float32],
    peak_offsets: NDArray[np.int64],
    runs: NDArray[np.int32],
    owner: NDArray[np.int64],
    n_regions: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Peaks of grown regions: the lists of the footprints that grew into each, merged in footprint order.

    Lists that are not sorted are merged one after the other, as upstream, which takes as long as the square of their
    number; where that is too long they are sorted.

    Parameters
    ----------
    spans, offsets, peaks, values, peak_offsets : ndarray
        Footprints before growth and their peaks.
    runs, owner : ndarray
        Runs of the grown regions and the region of each, see `connected`.
    n_regions : int
        Number of regions.

    Returns
    -------
    order : ndarray of int64, shape (p,)
        Old peak of each new one, region by region.
    region_offsets : ndarray of int64, shape (n_regions + 1,)
        First peak of each region.
    """
    n_footprints = offsets.shape[0] - 1
    region = np.empty(n_footprints, np.int64)
    region_offsets = np.zeros(n_regions + 1, np.int64)
    n_lists = np.zeros(n_regions, np.int64)
    sorted_lists = np.ones(n_regions, np.bool_)
    for f in range(n_footprints):
        first = offsets[f]
        region[f] = _owner_of(runs, owner, spans[first, 1], spans[first, 0])
        region_offsets[region[f] + 1] += peak_offsets[f + 1] - peak_offsets[f]
        n_lists[region[f]] += 1
        for i in range(peak_offsets[f] + 1, peak_offsets[f + 1]):
            if _precedes(peaks, values, i, i - 1):
                sorted_lists[region[f]] = False
    for r in range(n_regions):
        if np.float64(n_lists[r]) * region_offsets[r + 1] > _MAX_STEPS:
            sorted_lists[r] = True
    region_offsets = np.cumsum(region_offsets)
    end = region_offsets[:-1].copy()
    order = np.empty(peaks.shape[0], np.int64)
    scratch = np.empty(peaks.shape[0], np.int64)
    for f in range(n_footprints):
        r = region[f]
        middle = end[r]
        for i in range(peak_offsets[f], peak_offsets[f + 1]):
            order[end[r]] = i
            end[r] += 1
        if not sorted_lists[r]:  # merging unsorted lists depends on their order: one after the other
            _merge(peaks, values, order, region_offsets[r], middle, end[r], scratch)
    for r in range(n_regions):
        if sorted_lists[r]:
            _sort(peaks, values, order, region_offsets[r], region_offsets[r + 1], scratch)
    return order, region_offsets
