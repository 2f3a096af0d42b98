"""Least-squares fits of point sources to the peaks of blends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FITTED", "NO_VALID_PIXELS", "TINY", "fit_point_sources", "footprint_mask"]

#: Outcome of `fit_point_sources` for a peak.
FITTED, TINY, NO_VALID_PIXELS = 0, 1, 2

_UNFIT = 1e30  # chi2 of a fit without a unique solution
_DEGENERATE = 1e-13  # of a pivot of the scaled normal equations
_EPSILON = 2.220446049250313e-16  # smaller against the whole matrix, upstream's solver takes a column for zero
_UNSEEN = 1e-6  # of the norm of a neighbour's column against that of the peak's own


@njit(cache=True, nogil=True)
def footprint_mask(spans: NDArray[np.int32]) -> tuple[NDArray[np.bool_], int, int]:
    """One footprint as a boolean image over its bounding box, and that box's x0 and y0."""
    x0, y0 = spans[:, 1].min(), spans[:, 0].min()
    mask = np.zeros((spans[:, 0].max() - y0 + 1, spans[:, 2].max() - x0 + 1), np.bool_)
    for i in range(spans.shape[0]):
        mask[spans[i, 0] - y0, spans[i, 1] - x0 : spans[i, 2] - x0 + 1] = True
    return mask, int(x0), int(y0)


@njit(cache=True, nogil=True)
def _sample(stamp: NDArray[np.float32], x: int, y: int) -> float:
    """Value of a stamp at one of its pixels, 0 beside it."""
    if 0 <= y < stamp.shape[0] and 0 <= x < stamp.shape[1]:
        return np.float64(stamp[y, x])
    return 0.0


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _dot(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    total = 0.0
    for i in range(a.shape[0]):
        total += a[i] * b[i]
    return total


@njit(cache=True, nogil=True)
def _solve(
    rows: NDArray[np.float64], data: NDArray[np.float64], first: int, solution: NDArray[np.float64]
) -> tuple[float, float]:
    """Least squares with the first ``first`` and with all terms by one Cholesky factor.

    Parameters
    ----------
    rows : ndarray of float64, shape (terms, pixels)
        Weighted design matrix, transposed.
    data : ndarray of float64, shape (pixels,)
        Weighted data.
    first : int
        Terms of the smaller fit.
    solution : ndarray of float64, shape (2, terms)
        Receives both solutions.

    Returns
    -------
    chi2_first, chi2_all : float
        1e30 where the system has no unique solution or no degree of freedom.
    """
    terms, n_pixels = rows.shape
    scale = np.empty(terms)
    for j in range(terms):
        scale[j] = np.sqrt(_dot(rows[j], rows[j]))
    factor = np.zeros((terms, terms))
    z = np.empty(terms)
    solvable = 0
    least = _EPSILON * np.sqrt(_dot(scale, scale))
    for j in range(terms):
        if not scale[j] > least:
            break
        for i in range(j + 1):
            value = _dot(rows[j], rows[i]) / (scale[j] * scale[i])
            for k in range(i):
                value -= factor[j, k] * factor[i, k]
            if i < j:
                factor[j, i] = value / factor[i, i]
            else:
                factor[j, j] = np.sqrt(value) if value > _DEGENERATE else 0.0
        if factor[j, j] == 0.0:
            break
        value = _dot(rows[j], data) / scale[j]
        for k in range(j):
            value -= factor[j, k] * z[k]
        z[j] = value / factor[j, j]
        solvable = j + 1
    chi2 = _dot(data, data)
    result = np.full(2, _UNFIT)
    for which in range(2):
        size = first if which == 0 else terms
        if solvable < size or n_pixels <= size:
            continue
        for j in range(size - 1, -1, -1):
            value = z[j]
            for k in range(j + 1, size):
                value -= factor[k, j] * solution[which, k] * scale[k]
            solution[which, j] = value / (factor[j, j] * scale[j])
        result[which] = chi2 - _dot(z[:size], z[:size])
    return result[0], result[1]


@njit(cache=True, nogil=True)
def _fit(
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    inside: NDArray[np.bool_],
    box: tuple[int, int],
    center: tuple[int, int],
    radii: tuple[int, int],
    tiny: int,
    own: NDArray[np.float32],
    own_origin: tuple[int, int],
    others: NDArray[np.float32],
    other_peaks: NDArray[np.int32],
    other_origins: NDArray[np.int32],
    derivatives: bool,
    drop_unseen: bool,
    result: NDArray[np.float64],
) -> int:
    """Fit one peak; ``result`` becomes chi2, dof without and with derivatives, flux of either, dx, dy, neighbours."""
    fx0, fy0 = box
    height, width = inside.shape
    cx, cy = center
    r0, r1 = radii
    xlo, xhi = max(cx - r1, fx0), min(cx + r1, fx0 + width - 1)
    ylo, yhi = max(cy - r1, fy0), min(cy + r1, fy0 + height - 1)
    if min(xhi - xlo, yhi - ylo) + 1 <= tiny:
        return TINY
    # the clipped stamp of the PSF: its derivatives exist inside it only
    px0, px1 = max(own_origin[0], fx0), min(own_origin[0] + own.shape[1] - 1, fx0 + width - 1)
    py0, py1 = max(own_origin[1], fy0), min(own_origin[1] + own.shape[0] - 1, fy0 + height - 1)
    reach = r1 + 0.5 * min(own.shape[0], own.shape[1])
    near = np.empty(others.shape[0], np.int64)
    n_near = 0
    for k in range(others.shape[0]):
        dx, dy = other_peaks[k, 0] - cx, other_peaks[k, 1] - cy
        if (dx == 0 and dy == 0) or dx * dx + dy * dy > reach * reach:
            continue
        ox, oy = other_origins[k, 0], other_origins[k, 1]
        if ox <= xhi and ox + others.shape[2] > xlo and oy <= yhi and oy + others.shape[1] > ylo:
            near[n_near] = k
            n_near += 1
    plain = 4 + n_near
    terms = plain + 2 if derivatives else plain
    rows = np.empty((terms, (xhi - xlo + 1) * (yhi - ylo + 1)))
    data, at = np.empty(rows.shape[1]), np.empty((rows.shape[1], 2), np.int64)
    n, weight_sum = 0, 0.0
    for y in range(ylo, yhi + 1):
        for x in range(xlo, xhi + 1):
            r2 = (x - cx) * (x - cx) + (y - cy) * (y - cy)
            if not inside[y - fy0, x - fx0] or r2 > r1 * r1 or not variance[y, x] > 0:
                continue
            ramp = 1.0 if r2 <= r0 * r0 else max(0.0, 1.0 - (np.sqrt(np.float64(r2)) - r0) / (r1 - r0))
            weight_sum += ramp
            w = np.sqrt(ramp / np.float64(variance[y, x]))
            u, v = x - own_origin[0], y - own_origin[1]
            rows[0, n] = w * _sample(own, u, v)
            rows[1, n] = w
            rows[2, n] = w * (x - cx)
            rows[3, n] = w * (y - cy)
            if derivatives:
                rows[plain, n] = 0.0
                rows[plain + 1, n] = 0.0
                if px0 < x < px1 and py0 <= y <= py1:
                    rows[plain, n] = 0.5 * w * (_sample(own, u + 1, v) - _sample(own, u - 1, v))
                if px0 <= x <= px1 and py0 < y < py1:
                    rows[plain + 1, n] = 0.5 * w * (_sample(own, u, v + 1) - _sample(own, u, v - 1))
            data[n] = w * np.float64(image[y, x])
            at[n, 0], at[n, 1] = x, y
            n += 1
    for j in range(n_near):
        stamp, ox, oy = others[near[j]], other_origins[near[j], 0], other_origins[near[j], 1]
        for i in range(n):
            rows[4 + j, i] = rows[1, i] * _sample(stamp, at[i, 0] - ox, at[i, 1] - oy)
    if n == 0:
        return NO_VALID_PIXELS
    if drop_unseen:
        kept = 4
        limit = _UNSEEN**2 * _dot(rows[0, :n], rows[0, :n])
        for j in range(4, terms):
            if j >= plain or _dot(rows[j, :n], rows[j, :n]) > limit:
                rows[kept] = rows[j]
                kept += 1
        plain, terms, n_near = plain - (terms - kept), kept, n_near - (terms - kept)
    solution = np.full((2, terms), np.nan)
    chi2 = _solve(np.ascontiguousarray(rows[:terms, :n]), data[:n], plain, solution)
    result[0], result[1] = chi2[0], weight_sum - plain
    result[4], result[8] = solution[0, 0], n_near
    if derivatives:
        result[2], result[3] = chi2[1], weight_sum - terms
        result[5] = solution[1, 0]
        result[6], result[7] = solution[1, plain], solution[1, plain + 1]
    return FITTED


@njit(cache=True, nogil=True)
def fit_point_sources(
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    spans: NDArray[np.int32],
    offsets: NDArray[np.int64],
    peaks: NDArray[np.int32],
    peak_offsets: NDArray[np.int64],
    stamps: NDArray[np.float32],
    origins: NDArray[np.int32],
    own: NDArray[np.float32],
    own_origins: NDArray[np.int32],
    own_index: NDArray[np.int64],
    radii: NDArray[np.int64],
    tiny: int,
    derivatives: bool,
    drop_unseen: bool,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Fit a PSF, a sloping background and the PSFs of the neighbours around each peak.

    Parameters
    ----------
    image, variance : ndarray of float32, shape (height, width)
        Counts and counts squared.
    spans, offsets, peaks, peak_offsets : ndarray
        Footprints in array coordinates.
    stamps : ndarray of float32, shape (peaks, h, w)
        PSF drawn at each peak.
    origins : ndarray of int32, shape (peaks, 2)
        Lower-left pixel x, y of each stamp.
    own, own_origins : ndarray
        PSF stamps to fit and their lower-left pixels.
    own_index : ndarray of int64, shape (peaks,)
        Which of ``own`` to fit at a peak, -1 to leave the peak out.
    radii : ndarray of int64, shape (footprints, 2)
        Full weight within the first radius, none beyond the second, px.
    tiny : int
        Fit regions no wider are not fitted.
    derivatives : bool
        Make a second fit with the derivatives of the PSF along x and y.
    drop_unseen : bool
        Leave out neighbours of which the fit region sees next to nothing. Otherwise they make the fit fail.

    Returns
    -------
    results : ndarray of float64, shape (peaks, 9)
        chi2 and degrees of freedom of the first fit, the same of the second, flux of the first and the second fit,
        coefficients of the derivatives in x and y, number of neighbours; NaN where there was no fit.
    status : ndarray of int64, shape (peaks,)
        `FITTED`, `TINY` or `NO_VALID_PIXELS`.
    """
    results = np.full((peaks.shape[0], 9), np.nan)
    status = np.zeros(peaks.shape[0], np.int64)
    for f in range(offsets.shape[0] - 1):
        first, last = peak_offsets[f], peak_offsets[f + 1]
        inside, x0, y0 = footprint_mask(spans[offsets[f] : offsets[f + 1]])
        for k in range(first, last):
            i = own_index[k]
            if i < 0:
                continue
            status[k] = _fit(
                image,
                variance,
                inside,
                (x0, y0),
                (int(peaks[k, 0]), int(peaks[k, 1])),
                (radii[f, 0], radii[f, 1]),
                tiny,
                own[i],
                (int(own_origins[i, 0]), int(own_origins[i, 1])),
                stamps[first:last],
                peaks[first:last],
                origins[first:last],
                derivatives,
                drop_unseen,
                results[k],
            )
    return results, status
