"""Truncated adaptive moments of many small centred images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["measure_shapes"]

_START = 1.5  # px^2
_MAX_EXPONENT = 14.0
_MAX_ITERATIONS = 100
_ELLIPTICITY_TOLERANCE = 1e-5
_SIZE_TOLERANCE = 1e-4
_NARROWEST = 0.25  # px^2: narrower weights need more than one sample a pixel


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz"})
def _weighted_moments(stamp, wxx, wyy, wxy):  # type: ignore[no-untyped-def]
    """Moments xx, yy, xy under the Gaussian weight of a covariance, cut at its exponent; NaN where impossible."""
    height, width = stamp.shape
    det = wxx * wyy - wxy * wxy
    if not det > 0.0:
        return np.nan, np.nan, np.nan
    ixx, iyy, ixy = wyy / det, wxx / det, -wxy / det
    middle_x, middle_y = width // 2, height // 2
    reach = int(min(np.sqrt(_MAX_EXPONENT * wyy), middle_y))
    ratio_step = np.exp(-ixx)
    flux = sxx = syy = sxy = 0.0
    for y in range(-reach, reach + 1):
        # along a row the logarithm of the weight is quadratic: the weight follows from two multiplications a pixel
        center = -ixy * y / ixx
        spread = np.sqrt(center * center - (iyy * y * y - _MAX_EXPONENT) / ixx)
        if not spread >= 0.0:
            continue
        first = max(int(np.ceil(center - spread)), -middle_x)
        last = min(int(np.floor(center + spread)), middle_x)
        if last < first:
            continue
        weight = np.exp(-0.5 * (ixx * first * first + iyy * y * y + 2.0 * ixy * first * y))
        ratio = np.exp(-(ixx * (first + 0.5) + ixy * y))
        s0 = s1 = s2 = 0.0
        for x in range(first, last + 1):
            value = weight * stamp[y + middle_y, x + middle_x]
            s0 += value
            value *= x
            s1 += value
            s2 += value * x
            weight *= ratio
            ratio *= ratio_step
        flux += s0
        sxx += s2
        syy += s0 * (y * y)
        sxy += s1 * y
    if not flux > 0.0:
        return np.nan, np.nan, np.nan
    return sxx / flux, syy / flux, sxy / flux


@njit(cache=True, nogil=True, error_model="numpy")
def _adapted(stamp, shape):  # type: ignore[no-untyped-def]
    """Whether the weight came to match the image; ``shape`` is then its covariance xx, yy, xy."""
    wxx, wyy, wxy = _START, _START, 0.0
    e1_before = e2_before = size_before = 1e6
    for iteration in range(_MAX_ITERATIONS):
        if min(wxx, wyy) < _NARROWEST:
            return False
        xx, yy, xy = _weighted_moments(stamp, wxx, wyy, wxy)
        if not (np.isfinite(xx) and np.isfinite(yy) and np.isfinite(xy) and xx > 0.0 and yy > 0.0):
            return False
        e1, e2 = (xx - yy) / (xx + yy), 2.0 * xy / (xx + yy)
        still = max(abs(e1 - e1_before), abs(e2 - e2_before)) < _ELLIPTICITY_TOLERANCE
        if iteration > 0 and still and abs(xx - size_before) < _SIZE_TOLERANCE * size_before:
            shape[0], shape[1], shape[2] = wxx, wyy, wxy
            return True
        e1_before, e2_before, size_before = e1, e2, xx
        # what is left of the image when the weight is taken out of the product
        det, det_weight = xx * yy - xy * xy, wxx * wyy - wxy * wxy
        if not det > 0.0:
            return False
        jxx, jyy, jxy = yy / det - wyy / det_weight, xx / det - wxx / det_weight, wxy / det_weight - xy / det
        det = jxx * jyy - jxy * jxy
        if not (det > 0.0 and jxx > 0.0 and jyy > 0.0):
            return False
        wxx, wyy, wxy = jyy / det, jxx / det, -jxy / det
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def measure_shapes(stamps: NDArray[np.float32], shapes: NDArray[np.float64]) -> None:
    """Adaptive moments of centred stamps.

    Method: `service.exposure.psf.moments.adaptive_moments`, which is the oracle of the tests.

    Parameters
    ----------
    stamps : ndarray of float32, shape (n, height, width)
        Centred images, odd sizes.
    shapes : ndarray of float64, shape (n, 3)
        Filled with Ixx, Iyy, Ixy in px^2; NaN where the weight does not settle or becomes too narrow for one sample a
        pixel.
    """
    for i in range(len(stamps)):
        known = True
        for value in stamps[i].flat:
            known &= np.isfinite(value)
        if not (known and _adapted(stamps[i], shapes[i])):
            shapes[i] = np.nan
