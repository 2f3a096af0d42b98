"""The background of the adaptive variant: fitted afresh with a well-chosen part of the image masked."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from service.calibration.background import subtract_background
from service.calibration.config.adaptive import adapted
from service.calibration.detection import detect_in, smooth_for_detection
from service.calibration.kernels.detected_fraction import bit_runs, counted_good
from service.calibration.kernels.footprints import dilated, painted_bits
from service.calibration.star_background_search import (
    BackgroundDetection,
    SearchLimits,
    search_background_threshold,
)
from service.calibration.statistics import plane_median

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config import CalibrateImageConfig
    from service.calibration.detection import SmoothedImage
    from service.exposure.background import BackgroundList
    from service.exposure.exposure import Exposure
    from service.exposure.geometry import Box
    from service.exposure.masked_image import MaskedImage

__all__ = ["StarBackground", "remeasure_star_background"]

_LOG = logging.getLogger(__name__)
_DETECTED = ("DETECTED", "DETECTED_NEGATIVE")
_BAD = ("BAD", "EDGE", "NO_DATA")

_LEAST_START = 2.0
_START_SHARE = 0.2  # of the median background
_RECOVERY_PIXELS = 2
_PEDESTAL_RELATIVE, _PEDESTAL_ABSOLUTE = 0.05, 0.5  # of the level before; counts


@dataclass(frozen=True, slots=True)
class StarBackground:
    """Outcome of `remeasure_star_background`.

    Parameters
    ----------
    threshold : float
        Of the detections that masked the fit; NaN where the PSF stage's detections had to do.
    detected_fraction : float
        Share of the good pixels that was masked.
    n_searches : int
        Detections made.
    pedestal : float
        Sum of the constants subtracted last, counts.
    """

    threshold: float
    detected_fraction: float
    n_searches: int
    pedestal: float


def remeasure_star_background(
    exposure: Exposure,
    backgrounds: BackgroundList,
    config: CalibrateImageConfig,
    *,
    ratio: NDArray[np.float32] | None = None,
) -> StarBackground:
    """Put all backgrounds back and subtract a new one, fitted away from the sources' far wings, and a constant.

    Clears DETECTED and DETECTED_NEGATIVE at the end.

    Parameters
    ----------
    exposure : Exposure
        Background-subtracted counts with the final PSF and the PSF stage's detections in its mask; changed in place.
    backgrounds : BackgroundList
        What was subtracted so far; afterwards the new models.
    config : CalibrateImageConfig
        Its ``star_background``, ``star_background_*`` and ``star_detection`` count.
    ratio : ndarray of float32, optional
        Illumination correction, see `subtract_background`.

    Returns
    -------
    StarBackground

    Raises
    ------
    PsfGenerationError
        See `detect_sources`.
    TooManyMaskedPixelsError, ConstantBackgroundError
        See `fit_background`.
    """
    masked = exposure.masked_image
    total = backgrounds.image()
    median = plane_median(total)
    if config.star_background.do_apply_flat_background_ratio and ratio is not None:
        total /= ratio
    masked.image += total
    del total
    backgrounds.clear()
    search = _MaskSearch(exposure, config, _start_threshold(median, config))
    threshold = search.run()
    subtract_background(exposure, backgrounds, config.star_background, ratio=ratio)
    fraction = _fraction(masked)
    if fraction < 0.5:
        _paint(masked, _grown(_detected_runs(masked), masked.shape, _RECOVERY_PIXELS))
    pedestal = _subtract_pedestal(exposure, backgrounds, config, ratio)
    masked.clear_planes(_DETECTED)
    _LOG.info("star background: median %.2f before, pedestal %.4f", median, pedestal)
    return StarBackground(threshold, fraction, search.n_searches, pedestal)


def _start_threshold(median: float, config: CalibrateImageConfig) -> float:
    start = max(_LEAST_START, _START_SHARE * median)
    bound = config.star_background_search.max_start_threshold
    return start if bound is None else min(start, bound)


class _MaskSearch:
    """The search on an image: leaves in its mask what is to be left out of the fit."""

    def __init__(self, exposure: Exposure, config: CalibrateImageConfig, start: float) -> None:
        self.exposure = exposure
        self.masked = exposure.masked_image
        self.start = start
        limits = config.star_background_search
        amplifiers = exposure.detector.amplifiers if exposure.detector else ()
        self.boxes = (
            [a.bbox for a in amplifiers if self.masked.bbox.intersection(a.bbox) == a.bbox]
            if len(amplifiers) > 1
            else []
        )
        self.limits = SearchLimits(
            limits.min_detected_fraction,
            limits.max_detected_fraction,
            config.star_background_min_footprints,
            config.star_background_peak_fraction,
            limits.max_iter,
            len(amplifiers),
        )
        self.detection_config = adapted(
            config.star_detection,
            inherit=config.psf_adaptive_threshold_detection.inherit_detection,
            threshold_type="pixel_stdev",
            threshold_polarity="positive",
            include_threshold_multiplier=1.0,
            n_sigma_to_grow=limits.n_sigma_to_grow,
            do_temp_local_background=False,
            do_temp_wide_background=False,
            re_estimate_background=False,
        )
        self.smoothed: SmoothedImage | None = None
        self.kept = self._dilated_detections(limits.dilation)
        self.n_searches = 0

    def run(self) -> float:
        """Search; returns the threshold, NaN where the PSF stage's detections had to do."""
        threshold, detection, self.n_searches = search_background_threshold(self._detect, self.start, self.limits)
        self.smoothed = None
        if detection.fraction > self.limits.max_fraction:
            _LOG.warning("no threshold leaves enough of the image: falling back to the PSF stage's detections")
            self.masked.clear_planes(_DETECTED)
            _paint(self.masked, self.kept)
            return math.nan
        return threshold

    def _dilated_detections(self, radius: int) -> dict[str, NDArray[np.int32]]:
        """The present detections grown as far as leaves enough of the image; the mask is left alone."""
        original = _detected_runs(self.masked)
        while True:
            grown = _grown(original, self.masked.shape, radius)
            _paint(self.masked, grown)
            fraction = _fraction(self.masked)
            self.masked.clear_planes(_DETECTED)
            if fraction < self.limits.max_fraction or radius <= 1:
                _paint(self.masked, original)
                return grown
            radius -= 1

    def _detect(self, threshold: float, keep_masked: bool) -> BackgroundDetection:
        if self.smoothed is None:
            self.smoothed = smooth_for_detection(self.exposure, self.detection_config)
        config = self.detection_config.model_copy(update={"threshold_value": threshold})
        found = detect_in(self.exposure, self.smoothed, config)
        if keep_masked:
            _paint(self.masked, self.kept)
        fractions = tuple(_fraction(self.masked, box) for box in self.boxes)
        return BackgroundDetection(found.n_positive, found.n_positive_peaks, _fraction(self.masked), fractions)


def _subtract_pedestal(
    exposure: Exposure, backgrounds: BackgroundList, config: CalibrateImageConfig, ratio: NDArray[np.float32] | None
) -> float:
    """Subtract constants, fitted with ever larger bins, until one changes little; returns their sum in counts."""
    pedestal = config.star_background_search.pedestal
    size = max(exposure.masked_image.shape)
    bin_size = min(pedestal.bin_size, math.ceil(size / 4))
    total = 0.0
    while True:
        changes = {
            "bin_size": bin_size,
            "do_apply_flat_background_ratio": config.star_background.do_apply_flat_background_ratio,
        }
        model = subtract_background(exposure, backgrounds, pedestal.model_copy(update=changes), ratio=ratio)
        level, before = float(model.coefficients[0, 0]), total
        total += level
        if abs(level) < _PEDESTAL_RELATIVE * abs(before) or abs(level) < _PEDESTAL_ABSOLUTE:
            return total
        if bin_size >= size:
            _LOG.warning("the pedestal of the background changed by %.3f to %.3f at the last bin size", level, total)
            return total
        bin_size *= 2


def _fraction(masked: MaskedImage, box: Box | None = None) -> float:
    """Share of the good pixels that is detected, 0 without good pixels."""
    rows, columns = (box or masked.bbox).slices(masked.bbox)
    planes = masked.planes
    detected, good = counted_good(
        masked.mask,
        rows.start,
        rows.stop,
        columns.start,
        columns.stop,
        np.int32(planes.bitmask(_DETECTED)),
        np.int32(planes.bitmask(_BAD)),
    )
    return detected / good if good else 0.0


def _detected_runs(masked: MaskedImage) -> dict[str, NDArray[np.int32]]:
    return {name: bit_runs(masked.mask, np.int32(1 << masked.planes[name])) for name in _DETECTED}


def _grown(runs: dict[str, NDArray[np.int32]], shape: tuple[int, int], radius: int) -> dict[str, NDArray[np.int32]]:
    """Runs of each plane grown by a disc."""
    return {name: np.ascontiguousarray(dilated(spans, *shape, radius)[:, :3]) for name, spans in runs.items()}


def _paint(masked: MaskedImage, runs: dict[str, NDArray[np.int32]]) -> None:
    for name, spans in runs.items():
        painted_bits(masked.mask, spans, np.int32(1 << masked.planes[name]))
