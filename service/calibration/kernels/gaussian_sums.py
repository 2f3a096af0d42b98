"""Moments of a stamp under an elliptical Gaussian weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LANES", "WORK_ROWS", "gaussian_sums"]

#: Widths of stamps and work space are multiples of it, heights of stamps of 2.
LANES = 8
#: Rows of the work space.
WORK_ROWS = 5
_MAX_EXPONENT = 40.0  # the weight is below 3e-9 beyond
_TINIEST = 700.0  # exponent up to which ratios of weights can be squared, in any order: exp(350) is 1e152


@njit(cache=True, nogil=True, error_model="numpy")
def _exponent(w: tuple[float, float, float], dx: float, dy: float) -> float:
    return w[0] * dx * dx + 2.0 * w[2] * dx * dy + w[1] * dy * dy


@njit(cache=True, nogil=True, error_model="numpy")
def _sums_of_ellipse(
    stamp: NDArray[np.float64],
    x0: float,
    y0: float,
    w: tuple[float, float, float],
    sums: NDArray[np.float64],
) -> None:
    """Sums over the pixels within the largest exponent, one after the other."""
    height, width = stamp.shape
    sums[:] = 0.0
    half_height = np.sqrt(_MAX_EXPONENT * w[0] / (w[0] * w[1] - w[2] * w[2]))
    step = np.exp(-w[0])
    for row in range(max(0, int(np.ceil(y0 - half_height))), min(height - 1, int(np.floor(y0 + half_height))) + 1):
        dy = row - y0
        middle = -w[2] * dy / w[0]
        spread = np.sqrt(max(middle * middle - (w[1] * dy * dy - _MAX_EXPONENT) / w[0], 0.0))
        first = max(0, int(np.ceil(x0 + middle - spread)))
        last = min(width - 1, int(np.floor(x0 + middle + spread)))
        if first > last:
            continue
        # along a row the logarithm of the weight is quadratic, so the weight follows from two multiplications a pixel
        dx = first - x0
        weight = np.exp(-0.5 * _exponent(w, dx, dy))
        ratio = np.exp(-(w[0] * (dx + 0.5) + w[2] * dy))
        s0 = sx = sxx = 0.0
        line = stamp[row, first : last + 1]
        for k in range(len(line)):
            value = weight * line[k]
            s0 += value
            sx += value * dx
            sxx += value * dx * dx
            dx += 1.0
            weight *= ratio
            ratio *= step
        sums[0] += s0
        sums[1] += sx
        sums[2] += s0 * dy
        sums[3] += sxx
        sums[4] += s0 * dy * dy
        sums[5] += sx * dy


@njit(cache=True, nogil=True, error_model="numpy")
def _first_row(
    w: tuple[float, float, float], dx: float, dy: float, weights: NDArray[np.float64], ratios: NDArray[np.float64]
) -> None:
    """Weights of the row that starts at (dx, dy), and the next row's in units of them."""
    weight, down = np.exp(-0.5 * _exponent(w, dx, dy)), np.exp(-(w[2] * dx + w[1] * (dy + 0.5)))
    along, bend, shear = np.exp(-(w[0] * (dx + 0.5) + w[2] * dy)), np.exp(-w[0]), np.exp(-w[2])
    for k in range(len(weights)):
        weights[k], ratios[k] = weight, down
        weight *= along
        along *= bend
        down *= shear


# reassociation lets the sums run in vector registers, here over columns and down the rows, two at a time
@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _sums_of_box(
    stamp: NDArray[np.float64],
    box: tuple[int, int, int, int],
    dx: float,
    dy: float,
    w: tuple[float, float, float],
    work: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None:
    """Sums over all pixels of a box with an even number of rows: top, rows, left, columns; it starts at (dx, dy)."""
    top, rows, left, width = box
    weights, ratios = work[0, :width], work[1, :width]
    plain, linear, square = work[2, :width], work[3, :width], work[4, :width]
    _first_row(w, dx, dy, weights, ratios)
    step = np.exp(-w[1])
    plain[:] = linear[:] = square[:] = 0.0
    for row in range(0, rows, 2):
        lower, upper = stamp[top + row, left : left + width], stamp[top + row + 1, left : left + width]
        y = dy + row
        y2, odd = y * y, 2.0 * y + 1.0
        for k in range(width):
            weight, ratio = weights[k], ratios[k]
            below = weight * lower[k]
            weight *= ratio
            ratio *= step
            above = weight * upper[k]
            weights[k], ratios[k] = weight * ratio, ratio * step
            both = below + above
            plain[k] += both
            linear[k] += y * both + above
            square[k] += y2 * both + odd * above
    s0 = sx = sy = sxx = syy = sxy = 0.0
    for k in range(width):
        x = dx + k
        s0 += plain[k]
        sx += x * plain[k]
        sy += linear[k]
        sxx += x * x * plain[k]
        syy += square[k]
        sxy += x * linear[k]
    sums[0], sums[1], sums[2], sums[3], sums[4], sums[5] = s0, sx, sy, sxx, syy, sxy


@njit(cache=True, nogil=True, error_model="numpy")
def gaussian_sums(
    stamp: NDArray[np.float64],
    finite: bool,
    x0: float,
    y0: float,
    w: tuple[float, float, float],
    work: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None:
    """Sums of weight times value times 1, x, y, xx, yy, xy about (x0, y0).

    Where its exponent is beyond 40 the weight is below 3e-9: some of these pixels count, the others do not.

    Parameters
    ----------
    stamp : ndarray of float64, shape (h, w)
        Even height, and width a multiple of `LANES`, made so by zeros.
    finite : bool
        All its pixels are finite.
    x0, y0 : float
        Centre of the weight.
    w : tuple of float
        Inverse of its covariance, positive definite: xx, yy, xy.
    work : ndarray of float64, shape (WORK_ROWS, at least w)
        Work space.
    sums : ndarray of float64, shape (6,)
        Filled.
    """
    height, width = stamp.shape
    determinant = w[0] * w[1] - w[2] * w[2]
    half_width, half_height = np.sqrt(_MAX_EXPONENT * w[1] / determinant), np.sqrt(_MAX_EXPONENT * w[0] / determinant)
    left, top = max(0, int(np.ceil(x0 - half_width))), max(0, int(np.ceil(y0 - half_height)))
    columns = min(width, int(np.floor(x0 + half_width)) + 1) - left
    rows = min(height, int(np.floor(y0 + half_height)) + 1) - top
    if columns <= 0 or rows <= 0:
        sums[:] = 0.0
        return
    columns, rows = (columns + LANES - 1) // LANES * LANES, (rows + 1) // 2 * 2
    left, top = min(left, width - columns), min(top, height - rows)
    x_low, x_high, y_low, y_high = left - x0, left + columns - 1 - x0, top - y0, top + rows - 1 - y0
    low = max(_exponent(w, x_low, y_low), _exponent(w, x_high, y_low))
    high = max(_exponent(w, x_low, y_high), _exponent(w, x_high, y_high))
    if finite and low < _TINIEST and high < _TINIEST:
        _sums_of_box(stamp, (top, rows, left, columns), x_low, y_low, w, work, sums)
    else:  # a pixel that is not finite counts only where it has weight; the weights of a slim ellipse underflow
        _sums_of_ellipse(stamp, x0, y0, w, sums)
