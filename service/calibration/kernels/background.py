"""Statistics of the cells of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from service.calibration.kernels.statistics import clipped_moments, moments, quantiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CLIPPED_MEAN", "MEAN", "MEDIAN", "cell_statistics"]

MEAN, MEDIAN, CLIPPED_MEAN = 0, 1, 2


_ALL_GOOD = np.uint64(0x0101010101010101)


@njit(cache=True, nogil=True)
def _append_good(
    row: NDArray[np.float32],
    mask: NDArray[np.int32],
    bad: np.int32,
    words: NDArray[np.uint64],
    out: NDArray[np.float32],
    n: int,
) -> int:
    """Finite pixels of a row without a bad bit, into ``out`` from ``n`` on; returns where they end.

    Masks come in patches: pixels go by eights, and one comparison of a word says whether all or none of them count.
    ``words`` holds a byte a pixel.
    """
    good = words.view(np.uint8)
    for x in range(row.size):
        good[x] = (abs(row[x]) < np.float32(np.inf)) & ((mask[x] & bad) == 0)
    for word in range(row.size // 8):
        first = 8 * word
        if words[word] == _ALL_GOOD:
            for x in range(8):
                out[n + x] = row[first + x]
            n += 8
        elif words[word] != 0:
            for x in range(8):
                out[n] = row[first + x]
                n += good[first + x]
    for x in range(row.size // 8 * 8, row.size):
        out[n] = row[x]
        n += good[x]
    return n


@njit(cache=True, nogil=True)
def _gather_strip(
    image: NDArray[np.float32],
    mask: NDArray[np.int32],
    bad: np.int32,
    ratio: NDArray[np.float32],
    x_edges: NDArray[np.int64],
    out: NDArray[np.float32],
) -> NDArray[np.int64]:
    """Good pixels of every cell of a strip of the image, times the ratio; row by row as they lie in memory."""
    count = np.zeros(x_edges.size - 1, np.int64)
    scaled = np.empty(ratio.shape[1], np.float32)
    words = np.empty(out.shape[1] // 8 + 1, np.uint64)
    for y in range(image.shape[0]):
        row = image[y]
        if ratio.size:
            for x in range(row.size):
                scaled[x] = row[x] * ratio[y, x]
            row = scaled
        for i in range(count.size):
            first, last = x_edges[i], x_edges[i + 1]
            count[i] = _append_good(row[first:last], mask[y, first:last], bad, words, out[i], count[i])
    return count


@njit(cache=True, nogil=True)
def _statistic(
    values: NDArray[np.float32],
    statistic: int,
    num_sigma: float,
    num_iter: int,
) -> tuple[float, float]:
    """Value and standard error of one cell."""
    if statistic == CLIPPED_MEAN:
        mean, variance, kept, _ = clipped_moments(values, num_sigma, num_iter)
        return mean, np.sqrt(variance / kept) if kept > 0 else np.nan
    mean, variance, kept = moments(values, np.float64(values[0]), np.inf)
    if statistic == MEDIAN:
        return quantiles(values, np.array([0.5]))[0], np.sqrt(0.5 * np.pi * variance / kept)
    return mean, np.sqrt(variance / kept)


@njit(cache=True, nogil=True)
def cell_statistics(
    image: NDArray[np.float32],
    mask: NDArray[np.int32],
    bad: np.int32,
    ratio: NDArray[np.float32],
    y_edges: NDArray[np.int64],
    x_edges: NDArray[np.int64],
    statistic: int,
    num_sigma: float,
    num_iter: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Value, standard error and number of pixels of every cell; a ``ratio`` of size 0 stands for none."""
    ny, nx = y_edges.size - 1, x_edges.size - 1
    value = np.full((ny, nx), np.nan, np.float32)
    stderr = np.full((ny, nx), np.nan, np.float32)
    count = np.zeros((ny, nx), np.int64)
    # cells differ by one pixel at most; one element more than there are pixels, see `_append_good`
    values = np.empty((nx, (y_edges[ny] // ny + 1) * (x_edges[nx] // nx + 1) + 1), np.float32)
    for j in range(ny):
        strip = slice(y_edges[j], y_edges[j + 1])
        part = ratio[strip] if ratio.size else ratio
        count[j] = _gather_strip(image[strip], mask[strip], bad, part, x_edges, values)
        for i in range(nx):
            if count[j, i] > 0:
                value[j, i], stderr[j, i] = _statistic(values[i, : count[j, i]], statistic, num_sigma, num_iter)
    return value, stderr, count
