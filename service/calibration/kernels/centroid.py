"""Centroids from the peak of the PSF-smoothed image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from service.calibration.kernels.centroid_errors import (
    QUARTIC,
    maximum_gradients,
    propagated_errors,
    upstream_error,
)
from service.calibration.kernels.noise_replacement import NoiseReplacedPlane, hide_source, show_source

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CENTROID_FLAGS", "NARROW_SIZE", "measure_centroids"]

#: Columns of the flag array.
CENTROID_FLAGS = (
    "flag",
    "flag_edge",
    "flag_noSecondDerivative",
    "flag_almostNoSecondDerivative",
    "flag_notAtMaximum",
    "flag_near_edge",
    "flag_resetToPeak",
    "flag_badError",
)
_FAILURE, _EDGE, _NO_SECOND, _ALMOST, _NOT_MAXIMUM, _NEAR_EDGE, _RESET, _BAD_ERROR = range(8)
_NARROW_SIGMA = 0.5
#: Of the PSF in px where the true one does not fit.
NARROW_SIZE = 5


@njit(cache=True, nogil=True, error_model="numpy")
def _narrow_gaussian() -> NDArray[np.float64]:
    """The small PSF for sources that are too close to the border for the true one."""
    kernel = np.empty((NARROW_SIZE, NARROW_SIZE))
    half = NARROW_SIZE // 2
    for j in range(NARROW_SIZE):
        for i in range(NARROW_SIZE):
            kernel[j, i] = np.exp(-((i - half) ** 2 + (j - half) ** 2) / (2 * _NARROW_SIGMA**2))
    return kernel / kernel.sum()


@njit(cache=True, nogil=True, error_model="numpy")
def _fits(shape: tuple[int, int], size: tuple[int, int], x: int, y: int, bin_x: int, bin_y: int) -> bool:
    """Whether the box that the smoothing needs lies inside the image."""
    x_low, y_low = x - bin_x * (2 + size[1] // 2), y - bin_y * (2 + size[0] // 2)
    x_end, y_end = x_low + bin_x * (size[1] + 4), y_low + bin_y * (size[0] + 4)
    return x_low >= 0 and y_low >= 0 and x_end <= shape[1] and y_end <= shape[0]


@njit(cache=True, nogil=True, error_model="numpy")
def _bin(
    plane: NDArray[np.float32], size: tuple[int, int], x: int, y: int, bin_x: int, bin_y: int
) -> NDArray[np.float64]:
    """Means over bins; the pixel is the lower-left one of the middle bin."""
    height, width = size
    result = np.zeros(size)
    x_low, y_low = x - bin_x * (width // 2), y - bin_y * (height // 2)
    for j in range(height * bin_y):
        row, line = plane[y_low + j, x_low : x_low + width * bin_x], result[j // bin_y]
        for first in range(bin_x):
            for i in range(width):
                line[i] += row[first + i * bin_x]
    return result if bin_x == bin_y == 1 else result / (bin_x * bin_y)


# reassociation lets the sums run in vector registers, all nine at once
@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _smooth(plane: NDArray[np.float64], kernel: NDArray[np.float64], smoothed: NDArray[np.float64]) -> None:
    """Correlation with the kernel at the central 3x3 pixels."""
    height, width = kernel.shape
    smoothed[:] = 0.0
    for j in range(height):
        below, here, above, weights = plane[j], plane[j + 1], plane[j + 2], kernel[j]
        s00 = s01 = s02 = s10 = s11 = s12 = s20 = s21 = s22 = 0.0
        for i in range(width):
            weight = weights[i]
            s00 += weight * below[i]
            s01 += weight * below[i + 1]
            s02 += weight * below[i + 2]
            s10 += weight * here[i]
            s11 += weight * here[i + 1]
            s12 += weight * here[i + 2]
            s20 += weight * above[i]
            s21 += weight * above[i + 1]
            s22 += weight * above[i + 2]
        for k, total in enumerate((s00, s01, s02, s10, s11, s12, s20, s21, s22)):
            smoothed[k // 3, k % 3] += total


@njit(cache=True, nogil=True, error_model="numpy")
def _stripe_maximum(below: float, middle: float, above: float) -> tuple[bool, float]:
    """Maximum of three equidistant values, with the quartic term that a Gaussian has."""
    s_above, s_below = middle - above, middle - below
    d = s_above + s_below
    if not (d > 0.0 and middle > 0.0):
        return False, 0.0
    center = 0.5 * (above - below) / d * (1.0 + QUARTIC * s_above * s_below / (d * middle))
    return abs(center) < 1.0, center


@njit(cache=True, nogil=True, error_model="numpy")
def _quartic_maximum(v: NDArray[np.float64], dx0: float, dy0: float) -> tuple[bool, float, float]:
    """Intersection of the lines of maxima along the three rows and the three columns."""
    ok0, m0x = _stripe_maximum(v[0, 0], v[0, 1], v[0, 2])
    ok1, m1x = _stripe_maximum(v[1, 0], v[1, 1], v[1, 2])
    ok2, m2x = _stripe_maximum(v[2, 0], v[2, 1], v[2, 2])
    ok3, m0y = _stripe_maximum(v[0, 0], v[1, 0], v[2, 0])
    ok4, m1y = _stripe_maximum(v[0, 1], v[1, 1], v[2, 1])
    ok5, m2y = _stripe_maximum(v[0, 2], v[1, 2], v[2, 2])
    if not (ok0 and ok1 and ok2 and ok3 and ok4 and ok5):
        return False, dx0, dy0
    smx, smy = 0.5 * (m2x - m0x), 0.5 * (m2y - m0y)
    qx, qy = m1x - 0.5 * (m0x + m2x), m1y - 0.5 * (m0y + m2y)
    dx = m1x + dy0 * (smx - dy0 * qx)
    dy = m1y + dx0 * (smy - dx0 * qy)
    return True, m1x + dy * (smx - dy * qx), m1y + dx * (smy - dx * qy)


@njit(cache=True, nogil=True, error_model="numpy")
def _parabola(v: NDArray[np.float64]) -> tuple[float, float, float, float, float]:
    """Slopes and curvatures along x and y, and the peak's height, of the parabola through the central cross."""
    sx, sy = 0.5 * (v[1, 2] - v[1, 0]), 0.5 * (v[2, 1] - v[0, 1])
    d2x, d2y = 2.0 * v[1, 1] - v[1, 0] - v[1, 2], 2.0 * v[1, 1] - v[0, 1] - v[2, 1]
    return sx, sy, d2x, d2y, abs(v[1, 1] + 0.5 * (sx * (sx / d2x) + sy * (sy / d2y)))


@njit(cache=True, nogil=True, error_model="numpy")
def _fit_maximum(v: NDArray[np.float64], sigma: float, out: NDArray[np.float64]) -> int:
    """Centroid and size of the source in binned pixels, or the flag of the failure."""
    sx, sy, d2x, d2y, peak = _parabola(v)
    if d2x == 0.0 or d2y == 0.0:
        return _NO_SECOND
    if not (d2x > 0.0 and d2y > 0.0):  # also where a pixel is not finite
        return _NOT_MAXIMUM
    dx0, dy0 = sx / d2x, sy / d2y
    if abs(dx0) > 10.0 or abs(dy0) > 10.0:
        return _NO_SECOND
    good, out[0], out[1] = _quartic_maximum(v, dx0, dy0)
    size_x, size_y = peak / d2x, peak / d2y
    if good:
        size_x -= (1.0 + 6.0 * dx0 * dx0) / 4.0
        size_y -= (1.0 + 6.0 * dy0 * dy0) / 4.0
    s2 = sigma * sigma
    out[4], out[5] = max(size_x - s2, s2), max(size_y - s2, s2)
    return -1


@njit(cache=True, nogil=True, error_model="numpy")
def _errors(
    v: NDArray[np.float64],
    variance: NDArray[np.float64],
    kernel: NDArray[np.float64],
    sigma: float,
    n_binned: int,
    upstream: bool,
) -> tuple[float, float]:
    """Standard errors of the maximum of the smoothed image in binned pixels; variances are means over bins."""
    sx, sy, d2x, d2y, peak = _parabola(v)
    good = _quartic_maximum(v, sx / d2x, sy / d2y)[0]
    if not upstream:
        gradients = np.empty((2, 3, 3))
        maximum_gradients(v, good, gradients)
        error_x, error_y = propagated_errors(variance, kernel, gradients)
        return error_x / np.sqrt(n_binned), error_y / np.sqrt(n_binned)
    smoothed = np.empty((3, 3))
    _smooth(variance, kernel * kernel, smoothed)
    smoothed *= 4.0 * np.pi * sigma * sigma  # variance of one unbinned, unsmoothed pixel
    sky = (smoothed.sum() - smoothed[1, 1]) / 8.0
    quartic = QUARTIC if good else 0.0
    return (
        upstream_error(sky, smoothed[1, 1], peak, sigma, sx, d2x, quartic),
        upstream_error(sky, smoothed[1, 1], peak, sigma, sy, d2y, quartic),
    )


@njit(cache=True, nogil=True, error_model="numpy")
def _measure(
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    kernel: NDArray[np.float64],
    sigma: float,
    x: int,
    y: int,
    bin_max: int,
    width_factor: float,
    peak_minimum: float,
    upstream_errors: bool,
    out: NDArray[np.float64],
    flags: NDArray[np.bool_],
) -> bool:
    """Binning ladder around one pixel; the position is relative to that pixel."""
    bin_x, bin_y, step = 1, 1, 1
    smoothed = np.empty((3, 3))
    last = False
    while step <= bin_max and not last:
        if not _fits(image.shape, kernel.shape, x, y, bin_x, bin_y):
            flags[_FAILURE] = last = True
            kernel, sigma = _narrow_gaussian(), _NARROW_SIGMA
            if not _fits(image.shape, kernel.shape, x, y, bin_x, bin_y):
                flags[_EDGE] = True
                return False
            flags[_NEAR_EDGE] = True
        size = (kernel.shape[0] + 2, kernel.shape[1] + 2)
        _smooth(_bin(image, size, x, y, bin_x, bin_y), kernel, smoothed)
        failure = _fit_maximum(smoothed, sigma, out)
        if failure >= 0:
            flags[failure] = flags[_FAILURE] = True
            return False
        if step > 1:
            out[0], out[1] = (out[0] + 0.5) * bin_x - 0.5, (out[1] + 0.5) * bin_y - 0.5
            out[4] *= bin_x * bin_x
            out[5] *= bin_y * bin_y
        limit = width_factor * (1.0 + sigma * sigma)
        good_x = out[4] < limit * bin_x * bin_x and out[0] * out[0] < limit * bin_x * bin_x
        good_y = out[5] < limit * bin_y * bin_y and out[1] * out[1] < limit * bin_y * bin_y
        if good_x and good_y and (step > 1 or peak_minimum < 0.0 or smoothed[1, 1] > peak_minimum):
            last = True
        step *= 2
        if last or step > bin_max:
            binned = _bin(variance, size, x, y, bin_x, bin_y)
            out[2], out[3] = _errors(smoothed, binned, kernel, sigma, bin_x * bin_y, upstream_errors)
            out[2] *= bin_x
            out[3] *= bin_y
        bin_x *= 1 if good_x else 2
        bin_y *= 1 if good_y else 2
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def _in_footprint(plane: NoiseReplacedPlane, source: int, x: float, y: float) -> bool:
    column, row = np.floor(x + 0.5), np.floor(y + 0.5)
    for s in range(plane.span_offsets[source], plane.span_offsets[source + 1]):
        if plane.spans[s, 0] == row and plane.spans[s, 1] <= column <= plane.spans[s, 2]:
            return True
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def measure_centroids(
    plane: NoiseReplacedPlane,
    variance: NDArray[np.float32],
    rows: NDArray[np.int64],
    kernels: NDArray[np.float32],
    sigmas: NDArray[np.float64],
    start: NDArray[np.float64],
    peaks: NDArray[np.float64],
    bin_max: int,
    width_factor: float,
    peak_minimum: float,
    max_distance: float,
    check_footprint: bool,
    upstream_errors: bool,
    values: NDArray[np.float64],
    flags: NDArray[np.bool_],
) -> None:
    """Centroids of some sources, each with its neighbours hidden.

    Method: Rubin SdssCentroid; quartic interpolation of the image correlated with the PSF.

    Parameters
    ----------
    plane : NoiseReplacedPlane
        Image and footprints, array coordinates.
    variance : ndarray of float32, shape (h, w)
        Counts squared.
    rows : ndarray of int64, shape (m,)
        Sources in the order in which they are measured; ``kernels`` and ``sigmas`` belong to them, all other arrays
        cover the catalogue.
    kernels : ndarray of float32, shape (m, kh, kw)
        PSF images at the start pixels, centred.
    sigmas : ndarray of float64, shape (m,)
        Determinant radii of these, px.
    start, peaks : ndarray of float64, shape (n, 2)
        Where to look, and the first peaks; array coordinates, NaN where there is none.
    bin_max, width_factor, peak_minimum, max_distance, check_footprint
        As in `SdssCentroidConfig`.
    upstream_errors : bool
        Errors by upstream's formula instead of propagated noise.
    values : ndarray of float64, shape (n, 4)
        Filled with x, y and their errors; array coordinates.
    flags : ndarray of bool, shape (n, 8)
        Set as named by `CENTROID_FLAGS`.
    """
    height, width = plane.work.shape
    out = np.empty(6)
    for k in range(len(rows)):
        i = rows[k]
        x, y = start[i, 0], start[i, 1]
        values[i, 0], values[i, 1] = x, y
        if not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):  # also where it is not finite
            flags[i, _EDGE] = flags[i, _FAILURE] = True
            hide_source(plane, i)  # its noise comes to lie on top, as of one that is measured
            continue
        if not sigmas[k] > 0.0:  # no valid PSF here
            flags[i, _FAILURE] = True
            hide_source(plane, i)
            continue
        column, row = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
        show_source(plane, i)
        measured = _measure(
            plane.work,
            variance,
            kernels[k].astype(np.float64),
            sigmas[k],
            column,
            row,
            bin_max,
            width_factor,
            peak_minimum,
            upstream_errors,
            out,
            flags[i],
        )
        hide_source(plane, i)
        if not measured:
            continue
        values[i, 0], values[i, 1], values[i, 2], values[i, 3] = out[0] + column, out[1] + row, out[2], out[3]
        if np.isnan(out[2]) or np.isnan(out[3]):
            flags[i, _BAD_ERROR] = flags[i, _FAILURE] = True
        distance = np.hypot(values[i, 0] - peaks[i, 0], values[i, 1] - peaks[i, 1])
        outside = check_footprint and not _in_footprint(plane, i, values[i, 0], values[i, 1])
        if np.isfinite(peaks[i, 0]) and (distance > max_distance or outside):
            values[i, 0], values[i, 1] = peaks[i, 0], peaks[i, 1]
            flags[i, _RESET] = flags[i, _FAILURE] = True
