"""Standard errors of centroids: how the noise of the pixels moves the maximum of the smoothed image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["QUARTIC", "maximum_gradients", "propagated_errors", "upstream_error"]

#: Factor of the quartic term that a Gaussian has.
QUARTIC = 1.33
_TINY = 1e-30


@njit(cache=True, nogil=True, error_model="numpy")
def upstream_error(
    sky: float, source: float, peak: float, sigma: float, slope: float, curvature: float, quartic: float
) -> float:
    """Standard error of the maximum of three smoothed values by upstream's formula; NaN where its square is negative.

    It holds for a Gaussian PSF, counts the noise of the sky once more as that of the source, and has the square of the
    slope where the derivative has its cube, so that it depends on the unit of the image.

    Method: Rubin SdssCentroid.

    Parameters
    ----------
    sky, source : float
        Variance of one pixel around the source and at its centre, counts squared.
    peak, slope, curvature : float
        Of the smoothed image, counts.
    sigma : float
        Of the PSF, px.
    quartic : float
        `QUARTIC`, or 0 where the term was not used.
    """
    if abs(peak) < _TINY or abs(curvature) < _TINY:
        return 1e3
    s2 = sigma * sigma
    e1, e3, e4 = np.exp(-1.0 / s2), np.exp(-1.0 / (3.0 * s2)), np.exp(-1.0 / (4.0 * s2))
    of_slope = sky / (8.0 * np.pi * s2) * (1.0 - e1) + source / (12.0 * np.pi * s2) * (e3 - e1)
    of_curvature = sky / (2.0 * np.pi * s2) * (3.0 - 4.0 * e4 + e1) + source / (3.0 * np.pi * s2) * (
        2.0 - 3.0 * e3 + e1
    )
    square = slope * slope
    by_slope = 1.0 / curvature + quartic / (4.0 * peak) * (1.0 - 12.0 * square / curvature**2)
    by_curvature = slope / curvature**2 - quartic / (4.0 * peak) * 8.0 * square / curvature**3
    variance = of_slope * by_slope * by_slope + of_curvature * by_curvature * by_curvature
    return np.sqrt(variance) if variance >= 0.0 else np.nan


@njit(cache=True, nogil=True, error_model="numpy")
def _stripe_gradient(below: float, middle: float, above: float, quartic: float) -> tuple[float, float, float, float]:
    """Maximum of three equidistant values and its derivatives by them."""
    s_above, s_below = middle - above, middle - below
    d = s_above + s_below
    first = 0.5 * (above - below) / d
    term = quartic * s_above * s_below / (d * middle)
    more = 1.0 + term
    unit = quartic / (d * middle)
    by_below = (first / d - 0.5 / d) * more + first * (term / d - unit * s_above)
    by_above = (first / d + 0.5 / d) * more + first * (term / d - unit * s_below)
    by_middle = -2.0 * first / d * more + first * (unit * d - 2.0 * term / d - term / middle)
    return first * more, by_below, by_middle, by_above


@njit(cache=True, nogil=True, error_model="numpy")
def _row_gradient(v: NDArray[np.float64], quartic: bool, gradient: NDArray[np.float64]) -> None:
    """Derivatives of the maximum along the rows by the 3x3 values."""
    start, a, b, c = _stripe_gradient(v[1, 0], v[1, 1], v[1, 2], 0.0)
    gradient[:] = 0.0
    if not quartic:
        gradient[1, 0], gradient[1, 1], gradient[1, 2] = a, b, c
        return
    # the position along the columns at which the line of maxima along the rows is taken, and its derivatives
    n0, p0, q0, r0 = _stripe_gradient(v[0, 0], v[1, 0], v[2, 0], QUARTIC)
    n1, p1, q1, r1 = _stripe_gradient(v[0, 1], v[1, 1], v[2, 1], QUARTIC)
    n2, p2, q2, r2 = _stripe_gradient(v[0, 2], v[1, 2], v[2, 2], QUARTIC)
    half, bend = 0.5 * (n2 - n0), n1 - 0.5 * (n0 + n2)
    across = n1 + start * (half - start * bend)
    w0, w1, w2 = 0.5 * start * (start - 1.0), 1.0 - start * start, 0.5 * start * (start + 1.0)
    by_start = half - 2.0 * start * bend
    # the maxima of the three rows
    m0, d0, e0, f0 = _stripe_gradient(v[0, 0], v[0, 1], v[0, 2], QUARTIC)
    m1, d1, e1, f1 = _stripe_gradient(v[1, 0], v[1, 1], v[1, 2], QUARTIC)
    m2, d2, e2, f2 = _stripe_gradient(v[2, 0], v[2, 1], v[2, 2], QUARTIC)
    by_across = 0.5 * (m2 - m0) - 2.0 * across * (m1 - 0.5 * (m0 + m2))
    u0, u1, u2 = 0.5 * across * (across - 1.0), 1.0 - across * across, 0.5 * across * (across + 1.0)
    w0, w1, w2 = by_across * w0, by_across * w1, by_across * w2
    by_start *= by_across
    gradient[0, 0] = u0 * d0 + w0 * p0
    gradient[0, 1] = u0 * e0 + w1 * p1
    gradient[0, 2] = u0 * f0 + w2 * p2
    gradient[1, 0] = u1 * d1 + w0 * q0 + by_start * a
    gradient[1, 1] = u1 * e1 + w1 * q1 + by_start * b
    gradient[1, 2] = u1 * f1 + w2 * q2 + by_start * c
    gradient[2, 0] = u2 * d2 + w0 * r0
    gradient[2, 1] = u2 * e2 + w1 * r1
    gradient[2, 2] = u2 * f2 + w2 * r2


@njit(cache=True, nogil=True, error_model="numpy")
def maximum_gradients(v: NDArray[np.float64], quartic: bool, gradients: NDArray[np.float64]) -> None:
    """Derivatives of the position of the maximum by the smoothed values around it.

    Parameters
    ----------
    v : ndarray of float64, shape (3, 3)
        Smoothed image.
    quartic : bool
        The position has the quartic term; else it is slope over curvature.
    gradients : ndarray of float64, shape (2, 3, 3)
        Filled with those of x and of y, px per count.
    """
    _row_gradient(v, quartic, gradients[0])
    turned = np.empty((3, 3))
    for j in range(3):
        for i in range(3):
            turned[j, i] = v[i, j]
    _row_gradient(turned, quartic, gradients[1])
    for j in range(3):
        for i in range(j):
            gradients[1, j, i], gradients[1, i, j] = gradients[1, i, j], gradients[1, j, i]


@njit(cache=True, nogil=True, error_model="numpy")
def _nine(v):  # type: ignore[no-untyped-def]
    return (v[0, 0], v[0, 1], v[0, 2]), (v[1, 0], v[1, 1], v[1, 2]), (v[2, 0], v[2, 1], v[2, 2])


# reassociation lets the sums run in vector registers
@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def propagated_errors(
    variance: NDArray[np.float64], kernel: NDArray[np.float64], gradients: NDArray[np.float64]
) -> tuple[float, float]:
    """Standard errors of x and y, px: linear propagation of the noise of each pixel through smoothing and maximum.

    A pixel adds its variance times the square of its weight, which is the combination of the nine shifted kernels with
    the derivatives by the nine smoothed values.

    Parameters
    ----------
    variance : ndarray of float64, shape (h + 2, w + 2)
        Of the pixels, counts squared; they are independent.
    kernel : ndarray of float64, shape (h, w)
        With which the image is correlated.
    gradients : ndarray of float64, shape (2, 3, 3)
        See `maximum_gradients`.
    """
    height, width = kernel.shape
    padded = np.zeros((height + 4, width + 4))
    padded[2:-2, 2:-2] = kernel
    (x00, x01, x02), (x10, x11, x12), (x20, x21, x22) = _nine(gradients[0])
    (y00, y01, y02), (y10, y11, y12), (y20, y21, y22) = _nine(gradients[1])
    var_x = var_y = 0.0
    for j in range(height + 2):
        above, here, below, row = padded[j + 2], padded[j + 1], padded[j], variance[j]
        for i in range(width + 2):
            k00, k01, k02 = above[i + 2], above[i + 1], above[i]
            k10, k11, k12 = here[i + 2], here[i + 1], here[i]
            k20, k21, k22 = below[i + 2], below[i + 1], below[i]
            weight_x = (
                (x00 * k00 + x01 * k01 + x02 * k02)
                + (x10 * k10 + x11 * k11 + x12 * k12)
                + (x20 * k20 + x21 * k21 + x22 * k22)
            )
            weight_y = (
                (y00 * k00 + y01 * k01 + y02 * k02)
                + (y10 * k10 + y11 * k11 + y12 * k12)
                + (y20 * k20 + y21 * k21 + y22 * k22)
            )
            var_x += row[i] * weight_x * weight_x
            var_y += row[i] * weight_y * weight_y
    return np.sqrt(var_x) if var_x >= 0.0 else np.nan, np.sqrt(var_y) if var_y >= 0.0 else np.nan
