"""Compiled loops of the PSFEx fit: small normal equations, one system for each pixel of the PSF grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["fit_grid_pixels", "fit_refinement"]

_BLOCK = 64  # grid pixels whose sums are accumulated side by side
_STARS = 4  # added to the sums at a time


@njit(cache=True, nogil=True)
def _solve(matrix, right, terms):  # type: ignore[no-untyped-def]
    """Solve a symmetric positive definite system in place; the lower triangle of ``matrix`` is read."""
    for i in range(terms):
        for j in range(i + 1):
            value = matrix[i, j]
            for k in range(j):
                value -= matrix[i, k] * matrix[j, k]
            if i == j:
                matrix[i, i] = np.sqrt(value)
            else:
                matrix[i, j] = value / matrix[j, j]
    for i in range(terms):
        for k in range(i):
            right[i] -= matrix[i, k] * right[k]
        right[i] /= matrix[i, i]
    for i in range(terms - 1, -1, -1):
        for k in range(i + 1, terms):
            right[i] -= matrix[k, i] * right[k]
        right[i] /= matrix[i, i]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz"})
def _solve_block(normal, moment, terms):  # type: ignore[no-untyped-def]
    """Solve one such system a column; ``normal`` (pairs, columns) holds lower triangles row by row, both are spent."""
    columns = moment.shape[1]
    for i in range(terms):
        for j in range(i + 1):
            value = normal[i * (i + 1) // 2 + j]
            for k in range(j):
                left, right = normal[i * (i + 1) // 2 + k], normal[j * (j + 1) // 2 + k]
                for b in range(columns):
                    value[b] -= left[b] * right[b]
            if i == j:
                for b in range(columns):
                    value[b] = 1.0 / np.sqrt(value[b])
            else:
                scale = normal[j * (j + 1) // 2 + j]
                for b in range(columns):
                    value[b] *= scale[b]
    for i in range(terms):
        own, scale = moment[i], normal[i * (i + 1) // 2 + i]
        for k in range(i):
            factor, other = normal[i * (i + 1) // 2 + k], moment[k]
            for b in range(columns):
                own[b] -= factor[b] * other[b]
        for b in range(columns):
            own[b] *= scale[b]
    for i in range(terms - 1, -1, -1):
        own, scale = moment[i], normal[i * (i + 1) // 2 + i]
        for k in range(i + 1, terms):
            factor, other = normal[k * (k + 1) // 2 + i], moment[k]
            for b in range(columns):
                own[b] -= factor[b] * other[b]
        for b in range(columns):
            own[b] *= scale[b]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz"})
def _accumulate(factors, values, sums):  # type: ignore[no-untyped-def]
    """Add four rows of values, by their factors (4, m), to each row of sums (m, columns)."""
    first, second, third, fourth = values[0], values[1], values[2], values[3]
    for t in range(len(sums)):
        f0, f1, f2, f3 = factors[0, t], factors[1, t], factors[2, t], factors[3, t]
        line = sums[t]
        for b in range(len(line)):
            line[b] += f0 * first[b] + f1 * second[b] + f2 * third[b] + f3 * fourth[b]


@njit(cache=True, nogil=True, error_model="numpy")
def fit_grid_pixels(
    profiles: NDArray[np.float32],
    known: NDArray[np.bool_],
    part: tuple[int, int],
    rows: NDArray[np.int64],
    flux: NDArray[np.float64],
    basis: NDArray[np.float64],
    sky_variance: float,
    gain: float,
    accuracy: float,
    ridge: float,
) -> NDArray[np.float64]:
    """Weighted least squares over stars of the spatial polynomial of every grid pixel.

    Parameters
    ----------
    profiles : ndarray of float32, shape (stars, pixels)
        Stamps of unit flux resampled to the grid.
    known : ndarray of bool, shape (stars, pixels) or (0, 0)
        Grid pixels that count; all do where it is empty.
    part : tuple of int
        First of the grid pixels to be fitted, and the one after the last.
    rows : ndarray of int64, shape (used,)
        The stars that count.
    flux : ndarray of float64, shape (stars,)
        Flux of each star, counts.
    basis : ndarray of float64, shape (stars, terms)
        Spatial polynomial at each star.
    sky_variance, gain : float
        Counts squared, and electrons per count.
    accuracy : float
        Relative error of a pixel, added in quadrature.
    ridge : float
        Added to the diagonal of the normal equations.

    Returns
    -------
    ndarray of float64, shape (terms, pixels of the part)
        Coefficients.
    """
    begin, end = part
    stars, terms = len(rows), basis.shape[1]
    pairs = terms * (terms + 1) // 2
    padded = -(-stars // _STARS) * _STARS  # stars that fill up have no weight
    products, single = np.zeros((padded, pairs)), np.zeros((padded, terms))
    for k in range(stars):
        single[k] = basis[rows[k]]
        t = 0
        for i in range(terms):
            for j in range(i + 1):
                products[k, t] = single[k, i] * single[k, j]
                t += 1
    result = np.empty((terms, end - begin))
    normal, moment = np.empty((pairs, _BLOCK)), np.empty((terms, _BLOCK))
    weight, weighted = np.zeros((_STARS, _BLOCK)), np.zeros((_STARS, _BLOCK))
    for start in range(begin, end, _BLOCK):
        width = min(_BLOCK, end - start)
        normal[:] = 0.0
        moment[:] = 0.0
        weight[:] = 0.0
        weighted[:] = 0.0
        for first in range(0, stars, _STARS):
            for k in range(_STARS):
                if first + k >= stars:
                    weight[k] = 0.0
                    weighted[k] = 0.0
                    continue
                s = rows[first + k]
                variance_scale = 1.0 / (flux[s] * flux[s])
                floor = sky_variance * variance_scale
                poisson = variance_scale / gain
                values = profiles[s, start : start + width]
                for b in range(width):
                    q = np.float64(values[b])
                    w = 1.0 / (floor + accuracy * accuracy * q * q + max(q, 0.0) * poisson)
                    weight[k, b] = w
                    weighted[k, b] = w * q
                if known.shape[0] > 0:
                    counts = known[s, start : start + width]
                    for b in range(width):
                        weight[k, b] = weight[k, b] if counts[b] else 0.0
                        weighted[k, b] = weighted[k, b] if counts[b] else 0.0
            _accumulate(products[first : first + _STARS], weight, normal)
            _accumulate(single[first : first + _STARS], weighted, moment)
        for i in range(terms):
            normal[i * (i + 1) // 2 + i] += ridge
        _solve_block(normal, moment, terms)
        result[:, start - begin : start - begin + width] = moment[:, :width]
    return result


@njit(cache=True, nogil=True)
def fit_refinement(
    residual: NDArray[np.float32],
    weight: NDArray[np.float32],
    flux: NDArray[np.float64],
    shift: NDArray[np.float64],
    basis: NDArray[np.float64],
    pixels: NDArray[np.int64],
    grid: int,
    step: int,
    ridge: float,
) -> NDArray[np.float64]:
    """Corrections of selected grid pixels from the residuals of the stamps, each grid pixel by itself.

    Parameters
    ----------
    residual, weight : ndarray of float32, shape (stars, size, size)
        Data minus model in counts, and inverse variance.
    flux : ndarray of float64, shape (stars,)
        Counts.
    shift : ndarray of float64, shape (stars, 2)
        Position (x, y) of the star relative to the centre pixel of its stamp, px.
    basis : ndarray of float64, shape (stars, terms)
        Spatial polynomial at each star.
    pixels : ndarray of int64, shape (k, 2)
        (y, x) of the grid pixels.
    grid, step : int
        Size of the grid, and grid pixels a stamp pixel.
    ridge : float
        Added to the diagonal of the normal equations.

    Returns
    -------
    ndarray of float64, shape (k, terms)
        What to add to the coefficients of each pixel.
    """
    stars, height, width = residual.shape
    terms = basis.shape[1]
    result = np.zeros((len(pixels), terms))
    matrix = np.empty((terms, terms))
    for k in range(len(pixels)):
        matrix[:] = 0.0
        right = result[k]
        for s in range(stars):
            # the grid pixel in the frame of the stamp, and the stamp pixels less than two grid pixels away
            y = (pixels[k, 0] - grid // 2) / step + height // 2 + shift[s, 1]
            x = (pixels[k, 1] - grid // 2) / step + width // 2 + shift[s, 0]
            normal = 0.0
            moment = 0.0
            for row in range(max(0, int(np.floor(y - 2.0 / step))), min(height, int(np.ceil(y + 2.0 / step)) + 1)):
                ty = max(0.0, 2.0 - step * abs(row - y))
                for col in range(max(0, int(np.floor(x - 2.0 / step))), min(width, int(np.ceil(x + 2.0 / step)) + 1)):
                    t = ty * max(0.0, 2.0 - step * abs(col - x))
                    w = np.float64(weight[s, row, col]) * flux[s] * t
                    normal += w * flux[s] * t
                    moment += w * residual[s, row, col]
            for i in range(terms):
                right[i] += moment * basis[s, i]
                for j in range(i + 1):
                    matrix[i, j] += normal * basis[s, i] * basis[s, j]
        for i in range(terms):
            matrix[i, i] += ridge
        _solve(matrix, right, terms)
    return result
