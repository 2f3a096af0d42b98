"""Orthonormal Gauss-Hermite functions in two dimensions, Cartesian and polar."""

from __future__ import annotations

from functools import lru_cache
from math import factorial
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import eval_genlaguerre

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["cartesian_basis", "cartesian_to_polar", "n_terms"]


def n_terms(order: int) -> int:
    """Number of functions up to an order."""
    return (order + 1) * (order + 2) // 2


def cartesian_basis(order: int, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Products ``phi_i(x) phi_j(y)`` with ``i + j <= order``, at positions in units of the scale.

    Parameters
    ----------
    order : int
        Largest ``i + j``.
    x, y : ndarray of float64, shape (m,)
        Positions.

    Returns
    -------
    ndarray of float64, shape (m, terms)
        Orders one after the other; within order n from ``i = 0`` to ``i = n``.
    """
    along_x, along_y = _functions(order, x), _functions(order, y)
    return np.stack([along_x[i] * along_y[n - i] for n in range(order + 1) for i in range(n + 1)], axis=1)


@lru_cache(maxsize=8)
def cartesian_to_polar(order: int) -> NDArray[np.float64]:
    """Matrix that turns Cartesian coefficients into Gauss-Laguerre ones.

    A polar coefficient is the overlap with ``psi_pq = (-1)^q sqrt(q!/(pi p!)) z^m L_q^m(|z|^2) exp(-|z|^2/2)``,
    ``m = p - q``. Order ``n = p + q`` holds m = n, n - 2, ...: for each the real part and the imaginary part of the
    conjugate overlap; the radial function (m = 0) comes last in an even order and has no imaginary part.

    Parameters
    ----------
    order : int
        Largest order.

    Returns
    -------
    ndarray of float64, shape (terms, terms)
        Read-only; made by a Gauss-Hermite quadrature that is exact for these products.
    """
    nodes, weights = np.polynomial.hermite.hermgauss(order + 2)
    x, y = (axis.ravel() for axis in np.meshgrid(nodes, nodes))
    weight = np.outer(weights, weights).ravel() * np.exp(x**2 + y**2)
    matrix: NDArray[np.float64] = (_polar(order, x, y) * weight) @ cartesian_basis(order, x, y)
    matrix.setflags(write=False)
    return matrix


def _polar(order: int, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Real and conjugate imaginary parts of the Gauss-Laguerre functions, shape (terms, m)."""
    z = x + 1j * y
    r2 = x**2 + y**2
    parts = []
    for n in range(order + 1):
        for q in range(n // 2 + 1):
            m = n - 2 * q
            norm = (-1) ** q * np.sqrt(factorial(q) / (np.pi * factorial(n - q)))
            wave = norm * z**m * eval_genlaguerre(q, m, r2) * np.exp(-0.5 * r2)
            parts += [wave.real] if m == 0 else [wave.real, -wave.imag]
    return np.stack(parts)


def _functions(order: int, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """One-dimensional orthonormal Gauss-Hermite functions 0 to ``order``, shape (order + 1, m)."""
    values = np.empty((order + 1, len(x)))
    values[0] = np.pi**-0.25 * np.exp(-0.5 * x**2)
    if order > 0:
        values[1] = np.sqrt(2.0) * x * values[0]
    for n in range(2, order + 1):
        values[n] = np.sqrt(2.0 / n) * x * values[n - 1] - np.sqrt((n - 1) / n) * values[n - 2]
    return values
