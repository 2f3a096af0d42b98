"""Piecewise cubic interpolation of cell statistics, with a Taylor-extrapolated rim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["INTERPOLATION_STYLES", "PiecewiseCubic", "lowered_style"]

#: Interpolation styles and the number of points that each needs, best first.
INTERPOLATION_STYLES = {"AKIMA_SPLINE": 5, "NATURAL_SPLINE": 3, "LINEAR": 2, "CONSTANT": 1}


def lowered_style(style: str, n_points: int) -> str:
    """Requested interpolation style, or the best one that ``n_points`` points support.

    Parameters
    ----------
    style : str
        One of `INTERPOLATION_STYLES`.
    n_points : int
        Number of points, at least 1.

    Raises
    ------
    ValueError
        There is no point at all.
    """
    if n_points >= INTERPOLATION_STYLES[style]:
        return style
    for lower, needed in INTERPOLATION_STYLES.items():
        if needed <= n_points:
            return lower
    raise ValueError("an interpolation needs at least one point")


@dataclass(frozen=True, slots=True)
class PiecewiseCubic:
    """Cubic polynomials in ``t = position - reference`` on consecutive intervals.

    Parameters
    ----------
    references : ndarray of float64, shape (p,)
        Where each polynomial is expanded.
    edges : ndarray of float64, shape (p - 1,)
        Positions at which the next polynomial takes over.
    coefficients : ndarray of float64, shape (4, p, ...)
        Coefficients of 1, t, t², t³; trailing axes are independent curves.
    """

    references: NDArray[np.float64]
    edges: NDArray[np.float64]
    coefficients: NDArray[np.float64]

    @classmethod
    def through(cls, x: NDArray[np.float64], y: NDArray[np.float64], style: str) -> PiecewiseCubic:
        """Interpolant of points; beyond the outermost ones it is the second-order Taylor polynomial there.

        Parameters
        ----------
        x : ndarray of float64, shape (n,)
            Ascending positions.
        y : ndarray of float64, shape (n, ...)
            Finite values; trailing axes are independent curves.
        style : str
            ``"AKIMA_SPLINE"``, ``"NATURAL_SPLINE"``, ``"LINEAR"`` or ``"CONSTANT"`` (nearest point); n must suffice
            for it, see `lowered_style`.

        Notes
        -----
        Method: GSL's Akima (non-periodic ends) and natural cubic splines; the rim as in Rubin's background.
        """
        if style == "CONSTANT":
            coefficients = np.zeros((4, *y.shape))
            coefficients[0] = y
            return cls(x, 0.5 * (x[1:] + x[:-1]), coefficients)
        step = np.diff(x).reshape((-1,) + (1,) * (y.ndim - 1))
        slope = np.diff(y, axis=0) / step
        if style == "AKIMA_SPLINE":
            inner = _akima(y, step, slope)
        elif style == "NATURAL_SPLINE":
            inner = _natural(y, step, slope)
        else:
            inner = np.stack([y[:-1], slope, np.zeros_like(slope), np.zeros_like(slope)])
        zero = np.zeros_like(y[:1])
        left = np.stack([inner[0, :1], inner[1, :1], inner[2, :1], zero])
        h, (_, b, c, d) = step[-1:], inner[:, -1:]
        right = np.stack([y[-1:], b + h * (2 * c + 3 * d * h), c + 3 * d * h, zero])
        return cls(np.concatenate([x[:1], x]), x, np.concatenate([left, inner, right], axis=1))

    def __call__(self, position: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values at some positions, shape (len(position), ...)."""
        piece = np.searchsorted(self.edges, position, side="right")
        a, b, c, d = self.coefficients[:, piece]
        t = (position - self.references[piece]).reshape((-1,) + (1,) * (a.ndim - 1))
        return np.asarray(a + t * (b + t * (c + t * d)))


def _akima(y: NDArray[np.float64], step: NDArray[np.float64], slope: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients of the inner pieces, shape (4, n-1, ...)."""
    left, right = 2 * slope[:1] - slope[1:2], 2 * slope[-1:] - slope[-2:-1]
    m = np.concatenate([2 * left - slope[:1], left, slope, right, 2 * right - slope[-1:]])  # m[i + 2] is slope i
    change = np.abs(np.diff(m, axis=0))
    before, after = change[:-2], change[2:]  # of the point: |m[i-1] - m[i-2]| and |m[i+1] - m[i]|
    total = before + after
    flat = total == 0
    weight = before / np.where(flat, 1, total)
    tangent = (1 - weight) * m[1:-2] + weight * m[2:-1]
    # where all four slopes around a point agree in pairs the tangent is undefined: the segment stays straight
    start = np.where(flat[:-1], slope, tangent[:-1])
    end = np.where(flat[1:], slope, tangent[1:])
    straight = flat[:-1]
    c = np.where(straight, 0, (3 * slope - 2 * start - end) / step)
    d = np.where(straight, 0, (start + end - 2 * slope) / step**2)
    return np.stack([y[:-1], start, c, d])


def _natural(y: NDArray[np.float64], step: NDArray[np.float64], slope: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients of the inner pieces, shape (4, n-1, ...); second derivatives vanish at both ends."""
    h = step.ravel()
    n = len(y)
    system = np.eye(n)
    rhs = np.zeros_like(y)
    for i in range(1, n - 1):
        system[i, i - 1 : i + 2] = h[i - 1], 2 * (h[i - 1] + h[i]), h[i]
    rhs[1:-1] = 6 * np.diff(slope, axis=0)
    second = np.linalg.solve(system, rhs.reshape(n, -1)).reshape(y.shape)
    b = slope - step * (2 * second[:-1] + second[1:]) / 6
    return np.stack([y[:-1], b, second[:-1] / 2, np.diff(second, axis=0) / (6 * step)])
