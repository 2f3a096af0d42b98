"""Searches for detection thresholds, as logic on the counts of detections that someone else makes."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.calibration.config.adaptive import AdaptiveThresholdDetectionConfig, StarThresholdSearchConfig
    from service.calibration.detection import DetectionResult

__all__ = ["DetectionCounts", "Thresholds", "search_psf_threshold", "search_star_threshold"]

_LOG = logging.getLogger(__name__)


class Thresholds(NamedTuple):
    """Where to detect.

    Parameters
    ----------
    value : float
        Threshold of footprints, in the unit of the detection's ``threshold_type``.
    multiplier : float
        A pixel of each footprint reaches this multiple of it.
    """

    value: float
    multiplier: float


@dataclass(frozen=True, slots=True)
class DetectionCounts:
    """What a search looks at.

    Parameters
    ----------
    n_footprints : int
        Footprints of the polarities asked for.
    n_positive_peaks, n_negative_peaks : int
        Their peaks by sign.
    n_isolated : int
        Footprints with one peak.
    n_peaks_max : int
        Peaks of the footprint with most.
    """

    n_footprints: int
    n_positive_peaks: int
    n_negative_peaks: int
    n_isolated: int
    n_peaks_max: int

    @classmethod
    def of(cls, result: DetectionResult) -> DetectionCounts:
        """Count a detection."""
        peaks = result.footprints.n_peaks
        return cls(
            n_footprints=len(peaks),
            n_positive_peaks=result.n_positive_peaks,
            n_negative_peaks=result.n_negative_peaks,
            n_isolated=int(np.count_nonzero(peaks == 1)),
            n_peaks_max=int(peaks.max(initial=0)),
        )

    @property
    def n_peaks(self) -> int:
        """Peaks of both signs."""
        return self.n_positive_peaks + self.n_negative_peaks

    @property
    def peaks_per_footprint(self) -> float:
        """Their mean number in a footprint, 0 without footprints."""
        return self.n_peaks / self.n_footprints if self.n_footprints else 0.0


def search_psf_threshold(
    detect: Callable[[Thresholds], DetectionCounts],
    start: Thresholds,
    config: AdaptiveThresholdDetectionConfig,
    max_num_peak: int,
) -> tuple[Thresholds, int]:
    """Find thresholds that give neither too many nor too few sources.

    Method: Rubin AdaptiveThresholdDetectionTask.

    Parameters
    ----------
    detect : callable
        Detects both polarities at given thresholds.
    start : Thresholds
        Where to begin.
    config : AdaptiveThresholdDetectionConfig
        Limits.
    max_num_peak : int
        Most peaks wanted.

    Returns
    -------
    thresholds : Thresholds
        Those to use; the last ones where no round was satisfied.
    n_searches : int
        Rounds made.
    """
    search = _PsfSearch(config, max_num_peak, start)
    for iteration in range(1, config.max_adaptive_det_iter + 1):
        counts = detect(search.thresholds)
        _LOG.info("threshold search %d at %s: %s", iteration, search.thresholds, counts)
        if search.is_over(counts, iteration):
            break
    return search.thresholds, iteration


class _PsfSearch:
    """State of the search: thresholds, the factor last used and the allowance for negative peaks."""

    def __init__(self, config: AdaptiveThresholdDetectionConfig, max_num_peak: int, start: Thresholds) -> None:
        self.config = config
        self.most = max_num_peak
        self.thresholds = start
        self.factor = 1.0
        self.negative_allowance = 1.0

    def is_over(self, counts: DetectionCounts, iteration: int) -> bool:
        """Judge a detection, and change the thresholds if it does not do."""
        config, most = self.config, self.most
        max_negative = max(15, int(0.025 * counts.n_positive_peaks)) * self.negative_allowance
        if config.reset_factor:
            self.factor = 1.0
        if self._suffices(counts, iteration, max_negative):
            return True
        if counts.n_footprints == 0 or counts.n_positive_peaks == 0:
            self.negative_allowance *= 10
            return self._scale(0.25)
        merged = counts.peaks_per_footprint > config.max_peak_to_foot_ratio and counts.n_isolated < config.min_isolated
        if merged or counts.n_negative_peaks > max_negative:
            factor = 1.5 if counts.n_negative_peaks > 2 * max_negative else 1.25
            return self._scale(factor * self.thresholds.multiplier, multiplier=1.0)
        few = counts.n_footprints <= config.min_footprint
        if counts.n_peaks > most or counts.n_peaks_max > 0.25 * most:
            factor = self._crowding_factor(counts, iteration) * self.thresholds.multiplier
            return self._scale(factor, multiplier=max(1.0, 0.5 * self.thresholds.multiplier))
        if few:
            self.negative_allowance *= 10
            return self._scale(min(0.85, 0.4 * math.log10(10 * (counts.n_footprints + 1))))
        if counts.n_peaks_max > 0.2 * most:
            return config.reset_factor or self._scale(self.factor)  # no factor: no other detection to come
        return True

    def _suffices(self, counts: DetectionCounts, iteration: int, max_negative: float) -> bool:
        config, most = self.config, self.most
        if not (
            counts.n_isolated > config.sufficient_isolated
            and counts.n_isolated / counts.n_footprints > config.sufficient_fraction_isolated
            and (iteration > 1 or config.max_adaptive_det_iter == 1)
        ):
            return False
        peaks, negative = counts.n_peaks, counts.n_negative_peaks
        many = counts.n_isolated > 5 * config.sufficient_isolated
        return (many and peaks < 2.5 * most and negative < 100 * max_negative) or (
            negative < 5 * max_negative and peaks < 1.2 * most
        )

    def _crowding_factor(self, counts: DetectionCounts, iteration: int) -> float:
        if iteration >= 10:
            return 1.2
        if counts.n_peaks > 3 * self.most or counts.n_peaks_max > self.most:
            return 1.7
        return 1.4 if counts.n_peaks > 2 * self.most or counts.n_peaks_max > 0.5 * self.most else 1.2

    def _scale(self, factor: float, multiplier: float | None = None) -> bool:
        self.factor = factor
        value = self.thresholds.value * factor
        self.thresholds = Thresholds(value, self.thresholds.multiplier if multiplier is None else multiplier)
        return False


def search_star_threshold(
    detect: Callable[[Thresholds], DetectionCounts],
    psf_thresholds: Thresholds,
    floor: Thresholds,
    n_astrometry: int,
    config: StarThresholdSearchConfig,
) -> Thresholds:
    """Find the threshold of the stars.

    Method: Rubin CalibrateImageTask.

    Parameters
    ----------
    detect : callable
        Detects at given thresholds.
    psf_thresholds : Thresholds
        Outcome of `search_psf_threshold`.
    floor : Thresholds
        Lowest threshold, and the multiplier.
    n_astrometry : int
        Number of astrometric matches.
    config : StarThresholdSearchConfig
        Limits.

    Returns
    -------
    Thresholds
        Those of the last detection.
    """
    level = psf_thresholds.value * psf_thresholds.multiplier / floor.multiplier
    factor = config.start_factor
    for iteration in range(1, config.max_iter + 1):
        thresholds = Thresholds(max(floor.value, factor * level), floor.multiplier)
        counts = detect(thresholds)
        _LOG.info("star threshold search %d at %s: %s", iteration, thresholds, counts)
        min_isolated = min(400, max(3, 0.005 * counts.n_peaks, 0.6 * n_astrometry))
        if counts.n_footprints == 0:
            factor *= 0.75
        elif counts.peaks_per_footprint > config.max_peak_to_foot_ratio or counts.n_isolated < min_isolated:
            factor = max(0.01, 1.5 * factor)
        else:
            break
    return thresholds
