"""Runs of pixels: thresholding, connection, growth and painting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from service.calibration.kernels.smoothing import correlated_row

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["connected", "counted_bits", "dilated", "painted_bits", "threshold_runs"]

_POSITIVE, _NEGATIVE, _REACHED = 1, 2, 4


@njit(cache=True, nogil=True)
def _with_room(runs: NDArray[np.int32], n: int, more: int) -> NDArray[np.int32]:
    """``runs`` with space for ``more`` rows behind the first ``n``."""
    if n + more <= runs.shape[0]:
        return runs
    larger = np.empty((2 * (n + more), 4), np.int32)
    larger[:n] = runs[:n]
    return larger


@njit(cache=True, nogil=True)
def _put(runs: NDArray[np.int32], n: int, y: int, x0: int, x1: int, reached: int) -> None:
    runs[n, 0] = y
    runs[n, 1] = x0
    runs[n, 2] = x1
    runs[n, 3] = reached


@njit(cache=True, nogil=True)
def _mark_row(
    values: NDArray[np.float32],
    squares: NDArray[np.float32],
    low: float,
    high: float,
    per_pixel: bool,
    marks: NDArray[np.uint8],
) -> None:
    """Bits of each pixel: positive and above, negative and above, reaching the higher level; levels are squared."""
    for x in range(values.size):
        s = np.float64(values[x])
        scale = np.float64(squares[x]) if per_pixel else 1.0
        above = np.uint8((scale >= 0) & (s * s >= low * scale))
        sides = np.uint8(s >= 0) * np.uint8(_POSITIVE) + np.uint8(s <= 0) * np.uint8(_NEGATIVE)
        marks[x] = above * (sides + np.uint8(s * s >= high * scale) * np.uint8(_REACHED))


@njit(cache=True, nogil=True)
def _append_row(runs: NDArray[np.int32], n: int, y: int, marks: NDArray[np.uint8], bit: int) -> int:
    """Append the runs of a bit of a row, which ends with a zero, to the first ``n`` runs; returns their new number."""
    words = marks.view(np.uint64)
    x = 0
    while x < marks.size:
        if marks[x] & bit == 0:
            x += 1
            while x < marks.size and x % 8 == 0 and words[x // 8] == 0:
                x += 8
            continue
        start = x
        reached = 0
        while marks[x] & bit:
            reached |= marks[x] & _REACHED
            x += 1
        _put(runs, n, y, start, x - 1, reached // _REACHED)
        n += 1
    return n


@njit(cache=True, nogil=True)
def threshold_runs(
    smooth: NDArray[np.float32],
    variance: NDArray[np.float32],
    kernel: NDArray[np.float32],
    corner: tuple[int, int],
    threshold: float,
    include: float,
    per_pixel: bool,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Runs of pixels at or beyond a threshold, above and below zero.

    The variance is smoothed row by row as it is needed: that costs less than one more plane in memory.

    Parameters
    ----------
    smooth : ndarray of float32, shape (height, width)
        Values; NaN is beyond no threshold.
    variance : ndarray of float32
        Variance of each pixel before smoothing, of the plane that ``smooth`` is a part of.
    kernel : ndarray of float32, shape (2 h + 1,)
        What correlates it along y and x to the variance of ``smooth``. Where that does not fit, or gives less than 0,
        nothing is beyond a threshold.
    corner : tuple of int
        Row and column of ``smooth[0, 0]`` in ``variance``.
    threshold, include : float
        Lower level, and the level that one pixel of a kept region must reach: at least 0, in standard deviations
        where ``per_pixel``, else in the unit of ``smooth``.
    per_pixel : bool
        Levels scale with the square root of the variance, which is not looked at otherwise.

    Returns
    -------
    positive, negative : ndarray of int32, shape (n, 4)
        Rows ``(y, x0, x1, reached)`` by y, then x; ``reached`` is 1 where a pixel of the run reaches ``include``.
    """
    height, width = smooth.shape
    positive, negative = np.empty((1024, 4), np.int32), np.empty((1024, 4), np.int32)
    n = m = 0
    marks = np.zeros((width + 8) // 8 * 8, np.uint8)  # whole words with a zero behind the row
    column = np.empty(width + kernel.size, np.float32)
    squares = np.empty(width, np.float32)
    for y in range(height):
        if per_pixel:
            correlated_row(variance, kernel, corner[0] + y, corner[1], column, squares)
        _mark_row(smooth[y], squares, threshold * threshold, include * include, per_pixel, marks)
        # once a row: growing at each run costs more than all else
        positive, negative = _with_room(positive, n, width // 2 + 1), _with_room(negative, m, width // 2 + 1)
        n = _append_row(positive, n, y, marks, _POSITIVE)
        m = _append_row(negative, m, y, marks, _NEGATIVE)
    return positive[:n].copy(), negative[:m].copy()


@njit(cache=True, nogil=True)
def _root(parents: NDArray[np.int64], label: int) -> int:
    while parents[label] != label:
        parents[label] = parents[parents[label]]
        label = parents[label]
    return label


@njit(cache=True, nogil=True)
def _label(runs: NDArray[np.int32]) -> tuple[NDArray[np.int64], int]:
    """Label of each run after one raster pass, and the number of labels given.

    A run takes the label of the first run of the row below that touches its first pixel (left, middle or right of
    it), else a new one; every other run that it touches is redirected to it. The order of the labels is upstream's.
    """
    n = runs.shape[0]
    labels = np.empty(n, np.int64)
    parents = np.empty(n, np.int64)
    n_labels = 0
    before, row = 0, 0  # first runs of the row below and of this one
    for i in range(n):
        y, x0, x1 = runs[i, 0], runs[i, 1], runs[i, 2]
        if i > 0 and y != runs[i - 1, 0]:
            before = row if y == runs[i - 1, 0] + 1 else i
            row = i
        while before < row and runs[before, 2] < x0 - 1:
            before += 1
        k = before
        if k < row and runs[k, 1] <= x0 + 1:
            labels[i] = labels[k]
            k += 1
        else:
            labels[i] = n_labels
            parents[n_labels] = n_labels
            n_labels += 1
        while k < row and runs[k, 1] <= x1 + 1:
            parents[_root(parents, labels[k])] = _root(parents, labels[i])
            k += 1
    for i in range(n):
        labels[i] = _root(parents, labels[i])
    return labels, n_labels


@njit(cache=True, nogil=True)
def connected(
    runs: NDArray[np.int32], min_pixels: int
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Group runs into 8-connected regions and keep the good ones.

    Parameters
    ----------
    runs : ndarray of int32, shape (n, 4)
        As `threshold_runs` returns them: raster order, runs of a row do not touch.
    min_pixels : int
        Smallest region kept.

    Returns
    -------
    spans : ndarray of int32, shape (m, 3)
        ``(y, x0, x1)`` region by region, regions in the order of their labels.
    offsets : ndarray of int64, shape (regions + 1,)
        First span of each region.
    owner : ndarray of int64, shape (n,)
        Region of each input run, -1 where it was not kept.
    """
    labels, n_labels = _label(runs)
    area = np.zeros(n_labels, np.int64)
    count = np.zeros(n_labels, np.int64)
    good = np.zeros(n_labels, np.bool_)
    for i in range(runs.shape[0]):
        label = labels[i]
        count[label] += 1
        area[label] += runs[i, 2] - runs[i, 1] + 1
        good[label] |= runs[i, 3] != 0
    number = np.full(n_labels, -1, np.int64)
    offsets = np.zeros(n_labels + 1, np.int64)
    regions = 0
    for label in range(n_labels):
        if good[label] and area[label] >= min_pixels:
            number[label] = regions
            offsets[regions + 1] = offsets[regions] + count[label]
            regions += 1
    spans = np.empty((offsets[regions], 3), np.int32)
    place = offsets[:regions].copy()
    owner = np.empty(runs.shape[0], np.int64)
    for i in range(runs.shape[0]):
        owner[i] = number[labels[i]]
        if owner[i] >= 0:
            spans[place[owner[i]]] = runs[i, :3]
            place[owner[i]] += 1
    return spans, offsets[: regions + 1].copy(), owner


@njit(cache=True, nogil=True)
def _by_row(spans: NDArray[np.int32], height: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Spans in the order of their rows, and the first span of each row."""
    first = np.zeros(height + 1, np.int64)
    for i in range(spans.shape[0]):
        first[spans[i, 0] + 1] += 1
    first = np.cumsum(first)
    place = first[:-1].copy()
    ordered = np.empty_like(spans)
    for i in range(spans.shape[0]):
        ordered[place[spans[i, 0]]] = spans[i]
        place[spans[i, 0]] += 1
    return ordered, first


@njit(cache=True, nogil=True)
def dilated(spans: NDArray[np.int32], height: int, width: int, radius: int) -> NDArray[np.int32]:
    """Union of spans grown by the digital disc ``dx^2 + dy^2 <= radius^2``, clipped to the array.

    Parameters
    ----------
    spans : ndarray of int32, shape (n, 3)
        ``(y, x0, x1)`` inside the array, in any order.
    height, width : int
        Shape of the array.
    radius : int
        At least 0.

    Returns
    -------
    ndarray of int32, shape (m, 4)
        Rows ``(y, x0, x1, 1)`` by y, then x.
    """
    spans, first = _by_row(spans, height)
    runs = np.empty((1024, 4), np.int32)
    n = 0
    steps = np.zeros(width + 1, np.int32)  # change of the number of grown spans that cover a pixel
    for y in range(height):
        low, high = max(0, y - radius), min(height - 1, y + radius)
        near = first[high + 1] - first[low]
        if near == 0:
            continue
        runs = _with_room(runs, n, near)
        for v in range(low, high + 1):
            reach = np.int64(np.sqrt(np.float64(radius * radius - (v - y) * (v - y))))
            for i in range(first[v], first[v + 1]):
                steps[max(0, spans[i, 1] - reach)] += 1
                steps[min(width, spans[i, 2] + reach + 1)] -= 1
        cover, start = 0, 0
        for x in range(width + 1):
            step = steps[x]
            if step != 0:
                steps[x] = 0
                if cover == 0:
                    start = x
                cover += step
                if cover == 0:
                    _put(runs, n, y, start, x - 1, 1)
                    n += 1
    return runs[:n].copy()


@njit(cache=True, nogil=True)
def painted_bits(mask: NDArray[np.int32], spans: NDArray[np.int32], bits: np.int32) -> None:
    """OR ``bits`` into a mask over spans inside it."""
    for i in range(spans.shape[0]):
        row = mask[spans[i, 0], spans[i, 1] : spans[i, 2] + 1]
        for x in range(row.shape[0]):
            row[x] |= bits


@njit(cache=True, nogil=True)
def counted_bits(
    mask: NDArray[np.int32], spans: NDArray[np.int32], offsets: NDArray[np.int64], bits: np.int32
) -> NDArray[np.int64]:
    """Number of pixels of each footprint with any of ``bits`` set; spans lie inside the mask."""
    counts = np.zeros(offsets.shape[0] - 1, np.int64)
    for f in range(counts.shape[0]):
        for i in range(offsets[f], offsets[f + 1]):
            row = mask[spans[i, 0], spans[i, 1] : spans[i, 2] + 1]
            for x in range(row.shape[0]):
                counts[f] += (row[x] & bits) != 0
    return counts
