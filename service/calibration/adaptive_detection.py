"""Detection at a threshold that is searched for, of PSF-stage sources and of stars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from service.calibration.config.adaptive import adapted
from service.calibration.detection import DetectionResult, detect_in, detect_sources, smooth_for_detection
from service.calibration.threshold_search import (
    DetectionCounts,
    Thresholds,
    search_psf_threshold,
    search_star_threshold,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.adaptive import AdaptiveThresholdDetectionConfig, StarThresholdSearchConfig
    from service.calibration.config.detection import SourceDetectionConfig
    from service.calibration.detection import SmoothedImage
    from service.exposure.background import BackgroundList
    from service.exposure.exposure import Exposure
    from service.exposure.ids import IdGenerator

__all__ = [
    "AdaptiveDetection",
    "detect_adaptively",
    "detect_stars_adaptively",
    "start_threshold",
]


@dataclass(frozen=True, slots=True)
class AdaptiveDetection:
    """A detection and the thresholds found for it.

    Parameters
    ----------
    detection : DetectionResult
        The last one.
    thresholds : Thresholds
        Of that detection.
    n_searches : int
        Detections made to find them.
    """

    detection: DetectionResult
    thresholds: Thresholds
    n_searches: int


def start_threshold(exposure: Exposure) -> Thresholds:
    """Thresholds to start from where none are given: 5 (or the largest S/N of a pixel) and 2."""
    masked = exposure.masked_image
    largest = 0.0
    for image, variance in zip(masked.image, masked.variance, strict=True):
        ok = (variance > 0) & np.isfinite(image)
        if ok.any():
            largest = max(largest, float(np.max(image[ok] / np.sqrt(variance[ok]))))
    return Thresholds(min(5.0, largest) if largest > 0 else 5.0, 2.0)


def detect_adaptively(
    exposure: Exposure,
    detection_config: SourceDetectionConfig,
    config: AdaptiveThresholdDetectionConfig,
    ids: IdGenerator | None = None,
    *,
    start: Thresholds | None = None,
) -> AdaptiveDetection:
    """Detect PSF-stage sources at a threshold that suits the field.

    The image stays as it is; DETECTED is that of the last detection, and EDGE gains the rim.

    Parameters
    ----------
    exposure : Exposure
        Background-subtracted counts with a PSF; the band chooses the number of peaks wanted.
    detection_config : SourceDetectionConfig
        ``psf_detection``.
    config : AdaptiveThresholdDetectionConfig
        Limits of the search.
    ids : IdGenerator, optional
        Gives each footprint of the search an id, as upstream, so that those of the last detection go on from there.
    start : Thresholds, optional
        Instead of those of ``detection_config``.

    Returns
    -------
    AdaptiveDetection
        With positive footprints only.

    Raises
    ------
    PsfGenerationError
        See `detect_sources`.
    """
    base = adapted(
        detection_config,
        inherit=config.inherit_detection,
        threshold_polarity="both",
        do_temp_local_background=True,
        do_temp_wide_background=True,
        re_estimate_background=False,
    )
    detect = _Repeated(exposure, base)

    def counted(thresholds: Thresholds) -> DetectionCounts:
        counts = DetectionCounts.of(detect(thresholds))
        if ids is not None:
            ids.take(counts.n_footprints)
        return counts

    first = start or Thresholds(detection_config.threshold_value, detection_config.include_threshold_multiplier)
    band = exposure.filter.band
    thresholds, n_searches = search_psf_threshold(counted, first, config, config.most_peaks(band))
    return AdaptiveDetection(detect(thresholds, polarity="positive"), thresholds, n_searches)


class _Repeated:
    """Detections on one image, which smooth it twice at most.

    The temporary wide background ignores the rim that the first detection marks, so that the second smoothing may
    differ from the first; all later ones are equal to it.
    """

    def __init__(self, exposure: Exposure, config: SourceDetectionConfig) -> None:
        self.exposure = exposure
        self.config = config
        self.smoothed: SmoothedImage | None = None
        self.is_settled = False

    def __call__(self, thresholds: Thresholds, polarity: str | None = None) -> DetectionResult:
        config = self.config.model_copy(
            update={
                "threshold_value": thresholds.value,
                "include_threshold_multiplier": thresholds.multiplier,
                "threshold_polarity": polarity or self.config.threshold_polarity,
            }
        )
        if not self.is_settled:
            edge = self.exposure.masked_image.count("EDGE")
            self.smoothed = None  # frees its planes before the next ones are made
            self.smoothed = smooth_for_detection(self.exposure, config)
            grown = edge != self.exposure.masked_image.count("EDGE")
            self.is_settled = not (config.do_temp_wide_background and grown)
        assert self.smoothed is not None  # noqa: S101 -- made above
        return detect_in(self.exposure, self.smoothed, config)


def detect_stars_adaptively(
    exposure: Exposure,
    detection_config: SourceDetectionConfig,
    config: StarThresholdSearchConfig,
    psf_thresholds: Thresholds,
    n_astrometry: int,
    ids: IdGenerator | None = None,
    *,
    inherit_detection: bool = True,
    re_estimate_background: bool = False,
    backgrounds: BackgroundList | None = None,
    ratio: NDArray[np.float32] | None = None,
) -> AdaptiveDetection:
    """Detect stars at a threshold that suits the field.

    Parameters
    ----------
    exposure : Exposure
        Background-subtracted counts with the final PSF.
    detection_config : SourceDetectionConfig
        ``star_detection``: its threshold is the lowest tried.
    config : StarThresholdSearchConfig
        Limits of the search.
    psf_thresholds : Thresholds
        Outcome of `detect_adaptively`.
    n_astrometry : int
        Number of astrometric matches.
    ids : IdGenerator, optional
        Gives each footprint of detections before the last one an id, as upstream.
    inherit_detection : bool
        Take all settings of ``detection_config``, not only its thresholds.
    re_estimate_background : bool
        Each detection subtracts a background and appends it to ``backgrounds``.
    backgrounds, ratio
        See `detect_sources`.

    Returns
    -------
    AdaptiveDetection

    Raises
    ------
    PsfGenerationError
        See `detect_sources`.
    """
    base = adapted(detection_config, inherit=inherit_detection, re_estimate_background=re_estimate_background)
    repeated = _Repeated(exposure, base)
    results: list[DetectionResult] = []

    def counted(thresholds: Thresholds) -> DetectionCounts:
        if ids is not None and results:
            ids.take(len(results[-1].footprints))
        if re_estimate_background:
            changed = base.model_copy(update={"threshold_value": thresholds.value})
            found = detect_sources(exposure, changed, backgrounds=backgrounds, ratio=ratio)
        else:
            found = repeated(thresholds)
        results.append(found)
        return DetectionCounts.of(found)

    floor = Thresholds(detection_config.threshold_value, detection_config.include_threshold_multiplier)
    thresholds = search_star_threshold(counted, psf_thresholds, floor, n_astrometry, config)
    return AdaptiveDetection(results[-1], thresholds, len(results))
