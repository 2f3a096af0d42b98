"""Statistics of the cells of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from service.calibration.kernels.statistics import clipped_moments, gather, moments, quantiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CLIPPED_MEAN", "MEAN", "MEDIAN", "cell_statistics"]

MEAN, MEDIAN, CLIPPED_MEAN = 0, 1, 2


@njit(cache=True, nogil=True)
def _gather_scaled(
    image: NDArray[np.float32],
    mask: NDArray[np.int32],
    bad: np.int32,
    ratio: NDArray[np.float32],
    y0: int,
    y1: int,
    x0: int,
    x1: int,
    out: NDArray[np.float32],
) -> int:
    """Like `gather`, of image times ratio."""
    n = 0
    for y in range(y0, y1):
        for x in range(x0, x1):
            out[n] = image[y, x] * ratio[y, x]
            n += (mask[y, x] & bad) == 0 and abs(out[n]) < np.inf
    return n


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
    # cells differ by one pixel at most
    scratch = np.empty((y_edges[ny] // ny + 2) * (x_edges[nx] // nx + 2), np.float32)
    for j in range(ny):
        y0, y1 = y_edges[j], y_edges[j + 1]
        for i in range(nx):
            x0, x1 = x_edges[i], x_edges[i + 1]
            if ratio.size:
                n = _gather_scaled(image, mask, bad, ratio, y0, y1, x0, x1, scratch)
            else:
                n = gather(image, mask, bad, y0, y1, x0, x1, scratch)
            count[j, i] = n
            if n > 0:
                value[j, i], stderr[j, i] = _statistic(scratch[:n], statistic, num_sigma, num_iter)
    return value, stderr, count
