"""Search for a threshold whose grown detections mask a well-chosen part of an image."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BackgroundDetection", "SearchLimits", "search_background_threshold"]

_LOG = logging.getLogger(__name__)


class BackgroundDetection(NamedTuple):
    """One detection of the search.

    Parameters
    ----------
    n_footprints, n_peaks : int
        Grown footprints and their peaks.
    fraction : float
        Share of the good pixels that is masked.
    amplifier_fractions : tuple of float
        The same in each amplifier inside the image; empty where amplifiers are not known.
    """

    n_footprints: int
    n_peaks: int
    fraction: float
    amplifier_fractions: tuple[float, ...] = ()


class SearchLimits(NamedTuple):
    """What the search accepts.

    Parameters
    ----------
    min_fraction, max_fraction : float
        Share of the good pixels that is masked.
    min_footprints : int
        Least number of footprints.
    peak_fraction : float
        The same as a share of the peaks, which counts up to 200.
    max_iter : int
        Detections tried.
    n_amplifiers : int
        Amplifiers of the detector; with fewer than two their fractions do not count.
    """

    min_fraction: float = 0.02
    max_fraction: float = 0.93
    min_footprints: int = 3
    peak_fraction: float = 0.01
    max_iter: int = 40
    n_amplifiers: int = 0

    def footprints_needed(self, n_peaks: int) -> int:
        """Least number of footprints among so many peaks."""
        return min(200, max(self.min_footprints, int(self.peak_fraction * n_peaks)))


def search_background_threshold(
    detect: Callable[[float, bool], BackgroundDetection], start: float, limits: SearchLimits
) -> tuple[float, BackgroundDetection, int]:
    """Find a threshold whose grown detections leave enough of the image, in all its parts, and mask enough of it.

    Method: Rubin CalibrateImageTask.

    Parameters
    ----------
    detect : callable
        Detects at a threshold (S/N); the flag says whether the PSF stage's detections stay masked, too.
    start : float
        S/N; the first detection is 7 % above it.
    limits : SearchLimits
        What is accepted.

    Returns
    -------
    threshold : float
        The last one set.
    detection : BackgroundDetection
        The last one made.
    n_searches : int
        Their number.
    """
    search = _BackgroundSearch(start, limits)
    detection = BackgroundDetection(0, 0, 1.0)
    for n in range(1, limits.max_iter + 1):
        keep_masked = search.next_threshold()
        detection = detect(search.threshold, keep_masked)
        _LOG.info("star background search %d at %.2f: %s", n, search.threshold, detection)
        if search.accepts(detection, keep_masked=keep_masked):
            break
    return search.threshold, detection, n


class _BackgroundSearch:
    """State of the search."""

    def __init__(self, start: float, limits: SearchLimits) -> None:
        self.limits = limits
        self.threshold = start
        self.before = start
        self.fraction = 1.0
        self.n_footprints = 10**12
        self.n_above = -99
        self.needed = limits.min_footprints

    def next_threshold(self) -> bool:
        """Set the next threshold; returns whether the PSF stage's detections stay masked."""
        limits, self.before = self.limits, self.threshold
        if self.n_footprints == 0:
            self.threshold *= 0.9
            return False
        factor = 1.0
        if self.fraction > limits.max_fraction or self.n_footprints <= self.needed:
            factor = 1.07
            if self.n_footprints < self.needed and self.fraction > 0.9 * limits.max_fraction:
                factor = 1.4 if self.n_footprints == 1 else 1.2
        if self.n_above > 1:
            factor = 1.1
        if self.fraction < limits.min_fraction:
            factor = 0.8
        self.threshold *= factor
        return True

    def accepts(self, detection: BackgroundDetection, *, keep_masked: bool) -> bool:
        """Judge a detection; a part of the image that is masked too much or not at all changes the threshold."""
        limits = self.limits
        self.needed = limits.footprints_needed(detection.n_peaks)
        if not keep_masked:
            self.n_footprints = detection.n_footprints if detection.n_footprints >= self.needed else 0
            return self.n_footprints > 0
        self.n_footprints, self.fraction = detection.n_footprints, detection.fraction
        enough, few, empty = self._judged_amplifiers(detection.amplifier_fractions)
        if empty:
            self.threshold = 0.95 * self.before
            return False
        inside = limits.min_fraction < self.fraction < limits.max_fraction
        if not (inside and enough and self.n_footprints >= self.needed):
            return False
        if few or self.fraction < 0.85 * limits.max_fraction:
            return True
        self.threshold = 1.05 * self.before
        return False

    def _judged_amplifiers(self, fractions: tuple[float, ...]) -> tuple[bool, bool, bool]:
        """Whether enough amplifiers are free, few are full, and more than two are empty."""
        n_amplifiers = self.limits.n_amplifiers
        if n_amplifiers < 2:  # int(0.75 * 1) would forbid any end
            return True, True, False
        full = min(0.998, max(0.8, 3 * self.fraction))
        self.n_above, n_empty, largest = 0, 0, -math.inf
        for fraction in fractions:
            if fraction < 0.002:
                n_empty += 1
                if n_empty > 2:
                    return False, False, True
            largest = max(largest, fraction)  # one full amplifier counts again with each that follows
            self.n_above += largest > full
            if self.n_above > 2:
                break
        return self.n_above < int(0.75 * n_amplifiers), self.n_above < max(1, int(0.15 * n_amplifiers)), False
