"""Adaptive moments: the elliptical Gaussian weight that matches the image best."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

from service.calibration.kernels.gaussian_sums import LANES, WORK_ROWS, gaussian_sums

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "MAX_MOMENT",
    "MOMENTS_FLAGS",
    "SourceMoments",
    "measure_psf_moments",
    "measure_source_moments",
    "moments_work",
]

#: Columns of the flag array.
MOMENTS_FLAGS = (
    "flag",
    "flag_no_pixels",
    "flag_not_contained",
    "flag_parent_source",
    "flag_galsim",
    "flag_invalid_param",
    "flag_edge",
    "flag_no_psf",
)
_FAILURE, _NO_PIXELS, _NOT_CONTAINED, _PARENT, _GALSIM, _INVALID, _EDGE, _NO_PSF = range(8)
_MAX_ITERATIONS = 400
#: An iteration that goes beyond fails; px^2.
MAX_MOMENT = 8000.0
_MAX_SHIFT = 15.0
_MAX_STEP = 0.25
_MAX_REACH = 672  # px: no weight of an iteration that can succeed goes beyond, whatever the footprint


@njit(cache=True, nogil=True, error_model="numpy")
def _clamp(value: float) -> float:
    return min(max(value, -_MAX_STEP), _MAX_STEP)


@njit(cache=True, nogil=True, error_model="numpy")
def _adapt(
    stamp: NDArray[np.float64],
    finite: bool,
    x_start: float,
    y_start: float,
    sigma: float,
    precision: float,
    work: NDArray[np.float64],
    sums: NDArray[np.float64],
    out: NDArray[np.float64],
) -> bool:
    """Iterate to the fixed point; ``out`` gets x, y, xx, yy, xy. False where the iteration fails.

    The weighted flux may be negative, as that of half the sky sources is: their statistics would be biased without.
    """
    x, y = x_start, y_start
    xx = yy = sigma * sigma
    xy = 0.0
    first_scale = 0.0
    for iteration in range(_MAX_ITERATIONS):
        determinant = xx * yy - xy * xy
        if not (determinant > 0.0 and xx > 0.0):
            return False
        inverse = (yy / determinant, xx / determinant, -xy / determinant)
        gaussian_sums(stamp, finite, x, y, inverse, work, sums)
        if sums[0] == 0.0 or not np.isfinite(sums[0]):
            return False
        minor = 0.5 * (xx + yy - np.hypot(xx - yy, 2.0 * xy))
        if not minor > 0.0:
            return False
        scale = np.sqrt(minor)
        if iteration == 0:
            first_scale = scale
        dx, dy = _clamp(2.0 * sums[1] / (sums[0] * scale)), _clamp(2.0 * sums[2] / (sums[0] * scale))
        dxx = _clamp(4.0 * (sums[3] / sums[0] - 0.5 * xx) / minor)
        dyy = _clamp(4.0 * (sums[4] / sums[0] - 0.5 * yy) / minor)
        dxy = _clamp(4.0 * (sums[5] / sums[0] - 0.5 * xy) / minor)
        change = max(dx * dx, dy * dy, abs(dxx), abs(dyy), abs(dxy)) * max(1.0, first_scale / scale)
        x += dx * scale
        y += dy * scale
        xx += dxx * minor
        yy += dyy * minor
        xy += dxy * minor
        if max(abs(xx), abs(yy), abs(xy)) > MAX_MOMENT or max(abs(x - x_start), abs(y - y_start)) > _MAX_SHIFT:
            return False
        if change < precision:
            out[0], out[1], out[2], out[3], out[4] = x, y, xx, yy, xy
            return True
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def _store(
    found: bool, out: NDArray[np.float64], x: float, y: float, values: NDArray[np.float64], flags: NDArray[np.bool_]
) -> None:
    if not found:
        flags[_GALSIM] = flags[_FAILURE] = True
    elif not out[2] * out[3] > out[4] * out[4]:
        flags[_INVALID] = flags[_FAILURE] = True
    else:
        values[:] = out
        values[0] -= x
        values[1] -= y


@njit(cache=True, nogil=True, error_model="numpy")
def _blank(height: int, width: int) -> NDArray[np.float64]:
    """Zeros of the next larger size that `gaussian_sums` takes."""
    return np.zeros(((height + 1) // 2 * 2, (width + LANES - 1) // LANES * LANES))


@njit(cache=True, nogil=True, error_model="numpy")
def _stamp(
    image: NDArray[np.float32], mask: NDArray[np.int32], bad_bits: int, x0: int, y0: int, x1: int, y1: int
) -> tuple[NDArray[np.float64], bool]:
    """Copy of a box, ends included, with 0 in place of bad pixels, and whether it is finite."""
    stamp = _blank(y1 - y0 + 1, x1 - x0 + 1)
    excess = 0.0
    for row in range(y0, y1 + 1):
        values, bits, line = image[row, x0 : x1 + 1], mask[row, x0 : x1 + 1], stamp[row - y0]
        for k in range(len(values)):
            value = np.float64(0.0 if bits[k] & bad_bits else values[k])
            line[k] = value
            excess += value - value  # NaN from the first pixel on that is not finite
    return stamp, excess == 0.0


class SourceMoments(NamedTuple):
    """Adaptive moments of sources over their footprints' bounding boxes.

    Method: Hirata and Seljak (2003), as GalSim's ``FindAdaptiveMom``.

    Attributes
    ----------
    bad_bits : int
        Pixels with any of these mask bits do not count.
    boxes : ndarray of int32, shape (n, 4)
        Inclusive ``(x0, y0, x1, y1)``, array coordinates.
    sigmas : ndarray of float64, shape (n,)
        Sizes to start with, px.
    precision : float
        Relative change at which to stop.
    values : ndarray of float64, shape (n, 5)
        x, y, xx, yy, xy; left alone where the measurement fails.
    flags : ndarray of bool, shape (n, 8)
        Set as named by `MOMENTS_FLAGS`.
    """

    bad_bits: int
    boxes: NDArray[np.int32]
    sigmas: NDArray[np.float64]
    precision: float
    values: NDArray[np.float64]
    flags: NDArray[np.bool_]


@njit(cache=True, nogil=True, error_model="numpy")
def moments_work() -> NDArray[np.float64]:
    """Work space for sources of any size."""
    return np.empty((WORK_ROWS, 2 * (_MAX_REACH + LANES)))


@njit(cache=True, nogil=True, error_model="numpy")
def measure_source_moments(
    image: NDArray[np.float32],
    mask: NDArray[np.int32],
    moments: SourceMoments,
    source: int,
    x: float,
    y: float,
    work: NDArray[np.float64],
) -> None:
    """Fill the values and flags of one source, starting at (x, y)."""
    height, width = image.shape
    box, sigma, flags = moments.boxes[source], moments.sigmas[source], moments.flags[source]
    x_low, y_low = max(box[0], 0), max(box[1], 0)
    x_high, y_high = min(box[2], width - 1), min(box[3], height - 1)
    if x_low > x_high or y_low > y_high:
        flags[_NO_PIXELS] = flags[_FAILURE] = True
    elif not (x_low - 0.5 <= x < x_high + 0.5 and y_low - 0.5 <= y < y_high + 0.5):  # also where it is not finite
        flags[_NOT_CONTAINED] = flags[_FAILURE] = True
    elif not sigma > 0.0:
        flags[_NO_PSF] = flags[_FAILURE] = True
    else:
        x_low, y_low = max(x_low, int(x) - _MAX_REACH), max(y_low, int(y) - _MAX_REACH)
        x_high, y_high = min(x_high, int(x) + _MAX_REACH), min(y_high, int(y) + _MAX_REACH)
        stamp, finite = _stamp(image, mask, moments.bad_bits, x_low, y_low, x_high, y_high)
        sums, out = np.empty(6), np.empty(5)
        found = _adapt(stamp, finite, x - x_low, y - y_low, sigma, moments.precision, work, sums, out)
        _store(found, out, -x_low, -y_low, moments.values[source], flags)


@njit(cache=True, nogil=True, error_model="numpy")
def measure_psf_moments(
    rows: NDArray[np.int64],
    stamps: NDArray[np.float32],
    sigmas: NDArray[np.float64],
    precision: float,
    values: NDArray[np.float64],
    flags: NDArray[np.bool_],
) -> None:
    """Adaptive moments of centred stamps (m, h, w); the centroid is given relative to the centre pixel.

    ``stamps`` belong to ``rows`` (m,); ``sigmas`` (n,), ``values`` (n, 5) and ``flags`` (n, 8) cover the catalogue, as
    in `SourceMoments`.
    """
    height, width = stamps.shape[1:]
    x, y = float(width // 2), float(height // 2)
    stamp = _blank(height, width)
    work, sums, out = np.empty((WORK_ROWS, stamp.shape[1])), np.empty(6), np.empty(5)
    for k in range(len(rows)):
        i = rows[k]
        if not sigmas[i] > 0.0:
            flags[i, _NO_PSF] = flags[i, _FAILURE] = True
            continue
        stamp[:height, :width] = stamps[k]
        finite = np.isfinite(stamps[k]).all()
        found = _adapt(stamp, finite, x, y, sigmas[i], precision, work, sums, out)
        _store(found, out, x, y, values[i], flags[i])
