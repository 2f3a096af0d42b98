"""Separable correlation of a plane, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["correlate_separable", "correlated_at", "correlated_row", "spread_bits"]


@njit(cache=True, nogil=True)
def correlated_row(
    plane: NDArray[np.float32],
    kernel: NDArray[np.float32],
    y: int,
    x0: int,
    column: NDArray[np.float32],
    row: NDArray[np.float32],
) -> None:
    """Part of a row of a plane correlated with a symmetric kernel along y and x; NaN where the kernel does not fit.

    Parameters
    ----------
    plane : ndarray of float32, shape (height, width)
        Input.
    kernel : ndarray of float32, shape (2 h + 1,)
        Symmetric.
    y, x0 : int
        Row, and column where the part begins, inside the plane.
    column : ndarray of float32, shape (row.size + 2 h,) or longer
        Overwritten.
    row : ndarray of float32
        Output; ends inside the plane.
    """
    height, width = plane.shape
    h = kernel.shape[0] // 2
    first, last = max(x0, h), min(x0 + row.size, width - h)  # where it fits along x
    if y < h or y >= height - h or last <= first:
        row[:] = np.nan
        return
    n = last - first
    row[: first - x0] = np.nan
    row[last - x0 :] = np.nan
    column = column[: n + 2 * h]
    weight = kernel[h]
    middle = plane[y, first - h : last + h]
    for x in range(n + 2 * h):
        column[x] = weight * middle[x]
    for k in range(1, h + 1):
        weight = kernel[h + k]
        below = plane[y - k, first - h : last + h]
        above = plane[y + k, first - h : last + h]
        for x in range(n + 2 * h):
            column[x] += weight * (below[x] + above[x])
    inner = row[first - x0 : last - x0]
    centre = column[h : h + n]
    weight = kernel[h]
    for x in range(n):
        inner[x] = weight * centre[x]
    for k in range(1, h + 1):
        weight = kernel[h + k]
        left = column[h - k : h - k + n]
        right = column[h + k : h + k + n]
        for x in range(n):
            inner[x] += weight * (left[x] + right[x])


@njit(cache=True, nogil=True)
def correlate_separable(
    plane: NDArray[np.float32], kernel: NDArray[np.float32], y0: int, out: NDArray[np.float32]
) -> None:
    """Rows of a plane correlated with a symmetric kernel along y and x; the rim where it does not fit becomes NaN.

    Parameters
    ----------
    plane : ndarray of float32, shape (height, width)
        Input.
    kernel : ndarray of float32, shape (2 h + 1,)
        Symmetric.
    y0 : int
        Row of the plane that ``out`` begins with.
    out : ndarray of float32, shape (rows, width)
        Output, not ``plane``.
    """
    column = np.empty(plane.shape[1] + kernel.size, np.float32)
    for y in range(out.shape[0]):
        correlated_row(plane, kernel, y0 + y, 0, column, out[y])


@njit(cache=True, nogil=True)
def correlated_at(
    plane: NDArray[np.float32], kernel: NDArray[np.float32], points: NDArray[np.int32]
) -> NDArray[np.float32]:
    """What `correlate_separable` gives at some pixels ``(x, y)`` inside the plane."""
    out = np.empty(points.shape[0], np.float32)
    column = np.empty(kernel.size, np.float32)
    for i in range(points.shape[0]):
        correlated_row(plane, kernel, points[i, 1], points[i, 0], column, out[i : i + 1])
    return out


@njit(cache=True, nogil=True)
def spread_bits(mask: NDArray[np.int32], bits: np.int32, h: int) -> NDArray[np.bool_]:
    """Where any of ``bits`` is set within a square of half-width ``h``; bool of the mask's shape."""
    height, width = mask.shape
    rows = np.zeros((height, width), np.bool_)
    for y in range(height):
        end = 0  # of what is filled in this row
        for x in range(width):
            if mask[y, x] & bits:
                rows[y, max(end, x - h) : x + h + 1] = True
                end = x + h + 1
    out = np.zeros((height, width), np.bool_)
    for y in range(height):
        for v in range(max(0, y - h), min(height, y + h + 1)):
            for x in range(width):
                out[y, x] |= rows[v, x]
    return out
