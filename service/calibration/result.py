"""What a calibration hands back, complete or partial."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from service.exposure.background import BackgroundList
from service.exposure.summary import ExposureSummaryStats

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.errors import AlgorithmError
    from service.exposure.catalog import SourceCatalog
    from service.exposure.exposure import Exposure
    from service.exposure.photo_calib import PhotoCalib

__all__ = ["CalibrationResult"]


@dataclass(slots=True)
class CalibrationResult:
    """Products of one exposure; what was not reached is None.

    Parameters
    ----------
    exposure : Exposure
        Background-subtracted; in nJy when ``unit`` of it says so, else in instrumental counts.
    background : BackgroundList
        Everything that was subtracted, in the exposure's unit: image x ratio + background = calibration x input.
    psf_stars, stars : SourceCatalog or None
        ``single_visit_psf_star`` and ``single_visit_star_unstandardized``, with footprints.
    astrometry_matches, photometry_matches : SourceCatalog or None
        Denormalised match lists.
    mask : ndarray of int32 or None
        The mask plane of a completed run.
    background_to_photometric_ratio : ndarray of float32 or None
        Image times this is background-flattened, which is the unit of the background; None without an illumination
        correction, where both are the same.
    applied_photo_calib : PhotoCalib or None
        Calibration that was applied to the pixels.
    summary : ExposureSummaryStats
        Statistics in instrumental units.
    metadata : dict
        Task metadata: flat numbers, and ``failure`` where there was one.
    warnings : list of str
        What a person should know.
    failure : AlgorithmError or None
        Why the run ended early.
    """

    exposure: Exposure
    background: BackgroundList = field(default_factory=BackgroundList)
    psf_stars: SourceCatalog | None = None
    stars: SourceCatalog | None = None
    astrometry_matches: SourceCatalog | None = None
    photometry_matches: SourceCatalog | None = None
    mask: NDArray[np.int32] | None = None
    background_to_photometric_ratio: NDArray[np.float32] | None = None
    applied_photo_calib: PhotoCalib | None = None
    summary: ExposureSummaryStats = field(default_factory=ExposureSummaryStats)
    metadata: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    failure: AlgorithmError | None = None
