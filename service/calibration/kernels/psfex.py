"""Compiled loops of the PSFEx fit: small normal equations, one system for each pixel of the PSF grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["fit_grid_pixels", "fit_refinement"]

_BLOCK = 64  # grid pixels whose sums are accumulated side by side


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


@njit(cache=True, nogil=True)
def fit_grid_pixels(
    profiles: NDArray[np.float32],
    known: NDArray[np.bool_],
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
    ndarray of float64, shape (terms, pixels)
        Coefficients.
    """
    stars, pixels = profiles.shape
    terms = basis.shape[1]
    pairs = terms * (terms + 1) // 2
    products = np.empty((stars, pairs))
    for s in range(stars):
        t = 0
        for i in range(terms):
            for j in range(i + 1):
                products[s, t] = basis[s, i] * basis[s, j]
                t += 1
    result = np.empty((terms, pixels))
    normal = np.empty((pairs, _BLOCK))
    moment = np.empty((terms, _BLOCK))
    weight = np.empty(_BLOCK)
    weighted = np.empty(_BLOCK)
    matrix = np.empty((terms, terms))
    right = np.empty(terms)
    for start in range(0, pixels, _BLOCK):
        width = min(_BLOCK, pixels - start)
        normal[:] = 0.0
        moment[:] = 0.0
        weight[:] = 0.0
        weighted[:] = 0.0
        for s in range(stars):
            variance_scale = 1.0 / (flux[s] * flux[s])
            floor = sky_variance * variance_scale
            poisson = variance_scale / gain
            for b in range(width):
                q = np.float64(profiles[s, start + b])
                w = 1.0 / (floor + accuracy * accuracy * q * q + max(q, 0.0) * poisson)
                weight[b] = w
                weighted[b] = w * q
            if known.shape[0] > 0:
                for b in range(width):
                    if not known[s, start + b]:
                        weight[b] = 0.0
                        weighted[b] = 0.0
            for t in range(pairs):
                factor = products[s, t]
                for b in range(_BLOCK):
                    normal[t, b] += factor * weight[b]
            for t in range(terms):
                factor = basis[s, t]
                for b in range(_BLOCK):
                    moment[t, b] += factor * weighted[b]
        for b in range(width):
            t = 0
            for i in range(terms):
                for j in range(i + 1):
                    matrix[i, j] = normal[t, b]
                    t += 1
                matrix[i, i] += ridge
                right[i] = moment[i, b]
            _solve(matrix, right, terms)
            for i in range(terms):
                result[i, start + b] = right[i]
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
