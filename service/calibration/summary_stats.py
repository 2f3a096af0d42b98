"""Summary statistics of an exposure, in instrumental units; what cannot be computed stays NaN.

Method: Rubin ComputeExposureSummaryStatsTask.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import erfa  # type: ignore[import-untyped]
import numpy as np

from service.calibration.statistics import plane_statistics
from service.calibration.summary_depth import fill_depth
from service.calibration.summary_psf import fill_psf, fill_psf_variation, fill_stars
from service.exposure.summary import ExposureSummaryStats

if TYPE_CHECKING:
    from service.calibration.config.summary_stats import SummaryStatsConfig
    from service.exposure.background import BackgroundList
    from service.exposure.catalog import SourceCatalog
    from service.exposure.exposure import Exposure, VisitInfo
    from service.exposure.wcs import Wcs

__all__ = ["compute_summary_stats", "zenith_distance"]

_MJD_ZERO = 2400000.5
_FROM_METADATA = {
    "astromOffsetMean": "SFM_ASTROM_OFFSET_MEAN",
    "astromOffsetStd": "SFM_ASTROM_OFFSET_STD",
    "refCatSourceDensity": "REF_CAT_SOURCE_DENSITY",
    "psfAdaptiveThresholdValue": "PSF_ADAPTIVE_THRESHOLD_VALUE",
    "psfAdaptiveIncludeThresholdMultiplier": "PSF_ADAPTIVE_INCLUDE_THRESHOLD_MULTIPLIER",
}


def compute_summary_stats(
    exposure: Exposure, stars: SourceCatalog | None, backgrounds: BackgroundList, config: SummaryStatsConfig
) -> ExposureSummaryStats:
    """Statistics of an exposure whose pixels are still in counts.

    Parameters
    ----------
    exposure : Exposure
        PSF, WCS, photometric calibration and aperture corrections may each be absent.
    stars : SourceCatalog or None
        Star catalogue, with ``calib_psf_used``.
    backgrounds : BackgroundList
        Everything that was subtracted.
    config : SummaryStatsConfig
        Settings.

    Returns
    -------
    ExposureSummaryStats
        Without the shapelet fields.
    """
    summary = ExposureSummaryStats()
    summary.expTime = float(exposure.visit_info.exposure_time)
    if exposure.psf is not None:
        fill_psf(summary, exposure.psf, exposure.bbox.center)
        fill_psf_variation(summary, exposure, exposure.psf, config)
    if stars is not None:
        fill_stars(summary, stars, exposure.masked_image, config)
    if exposure.wcs is not None:
        _fill_wcs(summary, exposure, exposure.wcs, config)
    if exposure.photo_calib is not None:
        summary.zeroPoint = exposure.photo_calib.zero_point
    summary.skyBg = _sky_background(backgrounds)
    _fill_pixels(summary, exposure, config)
    fill_depth(summary, exposure, config)
    for name, key in _FROM_METADATA.items():
        value = exposure.metadata.get(key)
        setattr(summary, name, math.nan if value is None else float(value))
    return summary


def _fill_wcs(summary: ExposureSummaryStats, exposure: Exposure, wcs: Wcs, config: SummaryStatsConfig) -> None:
    center = exposure.bbox.center
    summary.ra, summary.dec = (float(value) for value in wcs.pixel_to_sky(*center))
    corner_ra, corner_dec = wcs.pixel_to_sky(*exposure.bbox.corners)
    summary.raCorners, summary.decCorners = corner_ra.tolist(), corner_dec.tolist()
    summary.pixelScale = wcs.pixel_scale(*center)
    summary.zenithDistance = zenith_distance(
        summary.ra, summary.dec, exposure.visit_info, tai_as_utc=config.zenith_distance_tai_as_utc
    )


def zenith_distance(ra: float, dec: float, visit_info: VisitInfo, *, tai_as_utc: bool = False) -> float:
    """Zenith distance without refraction at mid-exposure.

    UT1 is taken as UTC and the pole as fixed, which is good to 0.004 deg.

    Parameters
    ----------
    ra, dec : float
        ICRS, deg.
    visit_info : VisitInfo
        Date and place.
    tai_as_utc : bool
        Take the TAI date for UTC, as upstream does.

    Returns
    -------
    float
        deg; NaN where date or place are unknown.
    """
    place = (visit_info.longitude, visit_info.latitude, visit_info.elevation)
    if not np.isfinite([visit_info.mjd_mid_tai, ra, dec, *place]).all():
        return math.nan
    date = (_MJD_ZERO, visit_info.mjd_mid_tai)
    utc = date if tai_as_utc else erfa.taiutc(*date)
    longitude, latitude = np.radians(place[:2])
    # No proper motion, parallax or velocity; UT1 - UTC, polar motion and air pressure are zero.
    observed = erfa.atco13(
        *np.radians([ra, dec]), 0, 0, 0, 0, *utc, 0, longitude, latitude, place[2], 0, 0, 0, 0, 0, 0.55
    )
    return float(np.degrees(observed[1]))


def _sky_background(backgrounds: BackgroundList) -> float:
    """Sum of the components' median cells, counts; NaN without a component."""
    medians = [float(np.median(model.value[np.isfinite(model.value)], axis=None)) for model in backgrounds]
    return math.fsum(medians) if medians else math.nan


def _fill_pixels(summary: ExposureSummaryStats, exposure: Exposure, config: SummaryStatsConfig) -> None:
    masked_image = exposure.masked_image
    bad = masked_image.planes.bitmask(config.bad_mask_planes)
    image, variance = (
        plane_statistics(plane, masked_image.mask, bad, num_sigma=config.sigma_clip, num_iter=config.clip_iter)
        for plane in (masked_image.image, masked_image.variance)
    )
    summary.skyNoise, summary.meanVar = image.stdev, variance.mean
