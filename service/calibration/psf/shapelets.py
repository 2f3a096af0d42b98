"""Rough shapelet decomposition of the brightest stars, which tells whether the exposure is in focus."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from service.calibration.errors import NoStarsForShapeletsError
from service.calibration.psf.gauss_hermite import cartesian_basis, cartesian_to_polar, n_terms
from service.calibration.psf.raw_moments import footprint_pixels, raw_moments
from service.calibration.psf.robust_covariance import robust_distances

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.psf import ShapeletsConfig
    from service.calibration.psf.raw_moments import RawMoments
    from service.exposure.catalog import SourceCatalog
    from service.exposure.exposure import Exposure
    from service.exposure.summary import ExposureSummaryStats

__all__ = ["ShapeletsResult", "compute_rough_shapelets", "finish_shapelets_iq", "radius_mode"]

_BASE = "RoughPsfShapelets"
_MIN_CENTROIDS = 3


@dataclass(frozen=True, slots=True)
class ShapeletsResult:
    """Coefficients and scores.

    Parameters
    ----------
    coefficients : ndarray of float64, shape (terms,)
        Gauss-Laguerre coefficients of the mean star of unit flux; a perfect Gaussian has 0.2821 first and 0 else.
    n_star : int
        Stars in the fit.
    only_iq_score : float
        Part of the power in coefficients that are neither Gaussian nor atmospheric, 0 (best) to 1.
    iq_score : float
        The same with the offset between centroids and raw centres counted in; NaN until `finish_shapelets_iq`.
    centroid_diff_median : float
        Median distance of the measured centroids from the raw centres in px; NaN until `finish_shapelets_iq`.
    star_e_median : float
        Median ellipticity ``sqrt(e1^2 + e2^2)`` of the raw moments of the stars.
    star_unnormalized_e_median : float
        Median of ``sqrt((xx - yy)^2 + (2 xy)^2)`` in px^2.
    iq_indices : tuple of int
        Coefficients that are neither Gaussian nor atmospheric.
    max_offset : float
        Offset that counts as much as all the power, px.
    """

    coefficients: NDArray[np.float64]
    n_star: int
    only_iq_score: float
    star_e_median: float
    star_unnormalized_e_median: float
    iq_indices: tuple[int, ...]
    max_offset: float
    iq_score: float = np.nan
    centroid_diff_median: float = np.nan

    def fill(self, summary: ExposureSummaryStats) -> None:
        """Write the shapelet numbers to the summary statistics."""
        summary.nShapeletsStar = self.n_star
        summary.shapeletsOnlyIqScore = self.only_iq_score
        summary.shapeletsIqScore = self.iq_score
        summary.shapeletsCoeffs = [float(value) for value in self.coefficients]
        summary.centroidDiffShapeletsVsSlotMedian = self.centroid_diff_median
        summary.shapeletsStarEMedian = self.star_e_median
        summary.shapeletsStarUnNormalizedEMedian = self.star_unnormalized_e_median


def compute_rough_shapelets(
    catalog: SourceCatalog, exposure: Exposure, config: ShapeletsConfig, *, seed: int = 0
) -> ShapeletsResult:
    """Decompose the mean profile of the brightest stars, before any centroid or PSF is known.

    Method: Rubin ``ComputeRoughPsfShapelets``.

    Parameters
    ----------
    catalog : SourceCatalog
        Detections with footprints; the ``RoughPsfShapelets_*`` columns are set in place.
    exposure : Exposure
        Background-subtracted.
    config : ShapeletsConfig
        Cuts and order.
    seed : int
        Of the robust mean shape's random starts.

    Returns
    -------
    ShapeletsResult
        Without the part of the score that needs centroids.

    Raises
    ------
    NoStarsForShapeletsError
        Too few sources, or no typical radius among them.
    """
    if catalog.footprints is None:
        raise ValueError("the shapelet decomposition needs footprints")
    moments = raw_moments(exposure.masked_image, catalog.footprints, catalog["parent"], config)
    _record(catalog, moments)
    measured = np.flatnonzero(~moments.flag)
    if not measured.size:
        raise NoStarsForShapeletsError("no source has usable raw moments", n_sources=len(catalog))
    candidates, stars = _select(moments, measured, config, seed)
    catalog[f"{_BASE}_candidate"][candidates] = True
    catalog[f"{_BASE}_used"][stars] = True
    coefficients = _fit(exposure, catalog, moments, stars, config)
    xx, yy, xy = moments.shape[stars].T
    elongation = np.hypot(xx - yy, 2 * xy)
    indices = tuple(i for i in config.shapelet_iq_indices if i < len(coefficients))
    power = coefficients**2
    return ShapeletsResult(
        coefficients=coefficients,
        n_star=len(stars),
        only_iq_score=float(power[list(indices)].sum() / power.sum()),
        star_e_median=float(np.median(elongation / (xx + yy))),
        star_unnormalized_e_median=float(np.median(elongation)),
        iq_indices=indices,
        max_offset=0.5 * config.max_footprint_area**0.5,
    )


def finish_shapelets_iq(result: ShapeletsResult, catalog: SourceCatalog) -> ShapeletsResult:
    """Complete the score with the offset of the measured centroids from the raw centres.

    Parameters
    ----------
    result : ShapeletsResult
        From `compute_rough_shapelets`.
    catalog : SourceCatalog
        The same catalogue, measured.

    Returns
    -------
    ShapeletsResult
        Unchanged where fewer than three of the stars have a finite centroid.
    """
    used = catalog[f"{_BASE}_used"]
    dx = catalog["slot_Centroid_x"][used] - catalog[f"{_BASE}_x"][used]
    dy = catalog["slot_Centroid_y"][used] - catalog[f"{_BASE}_y"][used]
    offset = np.hypot(dx, dy)
    offset = offset[np.isfinite(offset)]
    if len(offset) < _MIN_CENTROIDS:
        return result
    median = float(np.median(offset))
    power, extra = result.coefficients**2, (median / result.max_offset) ** 2
    score = (power[list(result.iq_indices)].sum() + extra) / (power.sum() + extra)
    return replace(result, iq_score=float(score), centroid_diff_median=median)


def radius_mode(radius: NDArray[np.float64], minimum: float, bandwidth: float) -> float:
    """First local maximum, from small to large, of the density of radii at the radii themselves.

    Parameters
    ----------
    radius : ndarray of float64, shape (n,)
        In px.
    minimum : float
        Smaller radii are left out.
    bandwidth : float
        Standard deviation of the Gaussian kernel, px.

    Returns
    -------
    float
        The mode; NaN where the density has no maximum inside the range.
    """
    r = np.sort(radius[radius >= minimum])
    window = np.searchsorted(r, r + 9.0 * bandwidth)  # beyond, a Gaussian is below 1e-17 of its peak
    density = np.zeros(len(r))
    for i, stop in enumerate(window):
        weight = np.exp(-0.5 * ((r[i:stop] - r[i]) / bandwidth) ** 2)
        density[i] += weight.sum()
        density[i + 1 : stop] += weight[1:]
    peaks = np.flatnonzero((density[1:-1] > density[:-2]) & (density[1:-1] > density[2:])) + 1
    return float(r[peaks[0]]) if peaks.size else np.nan


def _record(catalog: SourceCatalog, moments: RawMoments) -> None:
    """Write the raw moments; second moments of flagged rows stay empty."""
    catalog[f"{_BASE}_flux"] = moments.flux
    catalog[f"{_BASE}_fluxErr"] = moments.flux_err
    for k, axis in enumerate("xy"):
        catalog[f"{_BASE}_{axis}"] = moments.center[:, k]
    for k, axes in enumerate(("xx", "yy", "xy")):
        catalog[f"{_BASE}_{axes}"] = np.where(moments.flag, np.nan, moments.shape[:, k])
    catalog[f"{_BASE}_flag"] = moments.flag
    catalog[f"{_BASE}_candidate"] = False
    catalog[f"{_BASE}_used"] = False


def _select(
    moments: RawMoments, rows: NDArray[np.intp], config: ShapeletsConfig, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Bright sources of the typical radius, and those of them nearest to the robust mean shape."""
    noise = np.where(moments.flux_err[rows] > 0, moments.flux_err[rows], np.inf)
    rows = _cut(rows, -moments.flux[rows] / noise, -config.min_snr, config)
    radius = np.sqrt(0.5 * (moments.shape[rows, 0] + moments.shape[rows, 1]))
    mode = radius_mode(radius, config.radius_mode_min, config.radius_mode_bandwidth)
    if not np.isfinite(mode):
        raise NoStarsForShapeletsError("the radii of the sources have no mode", n_sources=len(rows))
    candidates = _cut(rows, radius, config.max_radius_factor * mode, config)
    _, distance2 = robust_distances(moments.shape[candidates], seed)
    stars = _cut(candidates, distance2, config.max_shape_distance, config)
    return candidates, stars[: config.max_n_stars]


def _cut(rows: NDArray[np.intp], score: NDArray[np.float64], limit: float, config: ShapeletsConfig) -> NDArray[np.intp]:
    """Rows below a limit, best first, but no fewer than the minimum."""
    if len(rows) < config.min_n_stars:
        raise NoStarsForShapeletsError(
            "too few sources for the shapelet decomposition", n_sources=len(rows), n_required=config.min_n_stars
        )
    order = np.argsort(score, kind="stable")
    return rows[order[: max(int(np.count_nonzero(score < limit)), config.min_n_stars)]]


def _fit(
    exposure: Exposure,
    catalog: SourceCatalog,
    moments: RawMoments,
    stars: NDArray[np.intp],
    config: ShapeletsConfig,
) -> NDArray[np.float64]:
    """Polar coefficients of the profile that all stars share when scaled by flux and radius."""
    if catalog.footprints is None:
        raise ValueError("the shapelet decomposition needs footprints")
    pixels = footprint_pixels(exposure.masked_image, catalog.footprints, stars, config.bad_mask_planes)
    radius = config.shapelet_scale_factor * np.sqrt(0.5 * (moments.shape[stars, 0] + moments.shape[stars, 1]))
    terms = n_terms(config.shapelet_order)
    normal, right = np.zeros((terms, terms)), np.zeros(terms)
    for k, row in enumerate(stars):
        own = (pixels.owner == k) & ~pixels.bad
        x = (pixels.x[own] - moments.center[row, 0]) / radius[k]
        y = (pixels.y[own] - moments.center[row, 1]) / radius[k]
        design = cartesian_basis(config.shapelet_order, x, y) * (moments.flux[row] / radius[k] ** 2)
        normal += design.T @ design
        right += design.T @ pixels.value[own]
    cartesian = np.linalg.lstsq(normal, right, rcond=None)[0]
    return np.asarray(cartesian_to_polar(config.shapelet_order) @ cartesian)
