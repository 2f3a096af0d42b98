"""Detection of sources on the smoothed image."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from service import threads
from service.calibration.background import fit_background, subtract_background
from service.calibration.errors import PsfGenerationError
from service.calibration.kernels.footprints import connected, dilated, painted_bits, threshold_runs
from service.calibration.kernels.peaks import find_peaks, merged_peaks, redetected_peaks
from service.calibration.kernels.smoothing import correlate_separable, correlated_at, spread_bits
from service.calibration.statistics import plane_median, plane_statistics
from service.exposure.background import BackgroundList
from service.exposure.footprint import FootprintSet

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from service.calibration.config.detection import SourceDetectionConfig
    from service.exposure.background import BackgroundModel
    from service.exposure.exposure import Exposure
    from service.exposure.masked_image import MaskedImage

    _Peaks = tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int64]]  # peaks, values, first of each footprint

__all__ = [
    "DetectionResult",
    "SmoothedImage",
    "detect_in",
    "detect_sources",
    "smooth_for_detection",
    "smoothing_kernel",
]

_PLANES = {1: "DETECTED", -1: "DETECTED_NEGATIVE"}


@dataclass(frozen=True, slots=True)
class DetectionResult:
    """What one detection found.

    Parameters
    ----------
    positive, negative : FootprintSet or None
        Grown footprints of each sign in upstream's order (roughly bottom to top); None for a sign not asked for.
    n_positive, n_negative, n_positive_peaks, n_negative_peaks : int
        Footprints and peaks, counted also for a sign that only served to mask the background fit.
    sigma : float
        Sigma of the smoothing Gaussian, px.
    kernel_width : int
        Size of its stamp, px; 0 without smoothing.
    n_grow : int
        Radius of the growth, px.
    """

    positive: FootprintSet | None
    negative: FootprintSet | None
    n_positive: int
    n_negative: int
    n_positive_peaks: int
    n_negative_peaks: int
    sigma: float
    kernel_width: int
    n_grow: int

    @property
    def footprints(self) -> FootprintSet:
        """All footprints in the order of the catalogue: negative ones first."""
        return FootprintSet.concatenate([s for s in (self.negative, self.positive) if s is not None])


@dataclass(slots=True)
class SmoothedImage:
    """What one or more detections search: everything that does not depend on the threshold.

    Parameters
    ----------
    image : ndarray of float32, shape of the exposure
        Smoothed counts, NaN in the rim.
    variance : ndarray of float32, shape of the exposure
        Variance of the counts before smoothing.
    variance_kernel : ndarray of float32, shape (2 rim + 1,)
        Correlates it along both axes to the variance of ``image``.
    rim : int
        Width of the border that is not searched, px.
    sigma : float
        Size of the PSF, px.
    unit : float
        Counts of one unit of the threshold unless it is per pixel.
    smoothed : bool
        False where the image is searched as it is.
    local_background : BackgroundModel or None
        Temporary background above which the peaks of blends are found again.
    above_local : ndarray of float32 or None
        ``image`` above it, kept for the next detection.
    """

    image: NDArray[np.float32]
    variance: NDArray[np.float32]
    variance_kernel: NDArray[np.float32]
    rim: int
    sigma: float
    unit: float
    smoothed: bool
    local_background: BackgroundModel | None = None
    above_local: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class _Levels:
    """Threshold and the level that one pixel of a footprint has to reach."""

    threshold: float
    include: float
    per_pixel: bool


@dataclass(slots=True)
class _Found:
    """Footprints of one sign in array coordinates."""

    spans: NDArray[np.int32]
    offsets: NDArray[np.int64]
    peaks: NDArray[np.int32]
    values: NDArray[np.float32]
    peak_offsets: NDArray[np.int64]


def smoothing_kernel(sigma: float, n_sigma: float) -> NDArray[np.float64]:
    """Gaussian sampled at integers over about ``n_sigma`` sigma, unit sum, odd width; shape (width,)."""
    half = int(n_sigma * sigma + 0.5) // 2
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
    return np.asarray(kernel / kernel.sum())


def detect_sources(
    exposure: Exposure,
    config: SourceDetectionConfig,
    *,
    backgrounds: BackgroundList | None = None,
    ratio: NDArray[np.float32] | None = None,
    do_smooth: bool = True,
    sigma: float | None = None,
) -> DetectionResult:
    """Find sources above a threshold of the image smoothed with a Gaussian of the PSF's size.

    Sets the planes DETECTED and DETECTED_NEGATIVE afresh and adds the rim that the smoothing loses to EDGE. Where
    ``config.re_estimate_background`` is on, a new background is subtracted from the image and appended to
    ``backgrounds``.

    Parameters
    ----------
    exposure : Exposure
        Background-subtracted counts with a PSF; modified in place.
    config : SourceDetectionConfig
        Settings.
    backgrounds : BackgroundList, optional
        Receives the re-estimated background.
    ratio : ndarray of float32, optional
        Illumination correction for the background, see `subtract_background`.
    do_smooth : bool
        Search the image itself when False.
    sigma : float, optional
        Size of the smoothing and growing instead of the PSF's, px.

    Returns
    -------
    DetectionResult
        Footprints with their peaks, positions in the parent frame.

    Raises
    ------
    PsfGenerationError
        The exposure has no PSF, or its width is not finite and positive.

    Notes
    -----
    Method: Rubin SourceDetectionTask. Differences: where a temporary wide background and re-estimation are both on,
    the wide background is restored first, so that the re-estimated one stays subtracted (upstream loses it).
    """
    smoothed = smooth_for_detection(exposure, config, do_smooth=do_smooth, sigma=sigma)
    return _search(exposure, smoothed, config, backgrounds=backgrounds, ratio=ratio, last=True)


def smooth_for_detection(
    exposure: Exposure, config: SourceDetectionConfig, *, do_smooth: bool = True, sigma: float | None = None
) -> SmoothedImage:
    """Prepare detections that differ in their threshold only.

    Clears DETECTED and DETECTED_NEGATIVE and adds the rim to EDGE; the image is left alone.

    Parameters
    ----------
    exposure, config, do_smooth, sigma
        As for `detect_sources`; thresholds and polarity are not used.

    Returns
    -------
    SmoothedImage

    Raises
    ------
    PsfGenerationError
        See `detect_sources`.
    TooManyMaskedPixelsError
        No pixel is left for a temporary background.
    """
    masked = exposure.masked_image
    if sigma is None:
        sigma = _psf_sigma(exposure)
    masked.clear_planes(_PLANES.values())
    original = masked.image.copy() if config.do_temp_wide_background else None
    try:
        if original is not None:
            _subtract_wide_background(masked, config)
        smoothed = _smooth(masked, config, sigma, do_smooth=do_smooth)
        if config.do_temp_local_background:
            smoothed.local_background = fit_background(masked, config.temp_local_background)
    finally:
        if original is not None:
            masked.image = original
    return smoothed


def detect_in(exposure: Exposure, smoothed: SmoothedImage, config: SourceDetectionConfig) -> DetectionResult:
    """Find sources in a smoothed image; what `detect_sources` finds, if nothing but thresholds has changed since.

    Parameters
    ----------
    exposure : Exposure
        As it was when it was smoothed, but for DETECTED and DETECTED_NEGATIVE, which are set afresh.
    smoothed : SmoothedImage
        May serve again.
    config : SourceDetectionConfig
        As for the smoothing, but for thresholds and polarity.

    Returns
    -------
    DetectionResult

    Raises
    ------
    ValueError
        The background is to be estimated again, which would change the image.
    """
    if config.re_estimate_background:
        raise ValueError("a detection that changes the image cannot share its smoothing")
    exposure.masked_image.clear_planes(_PLANES.values())
    return _search(exposure, smoothed, config, backgrounds=None, ratio=None, last=False)


def _search(
    exposure: Exposure,
    smoothed: SmoothedImage,
    config: SourceDetectionConfig,
    *,
    backgrounds: BackgroundList | None,
    ratio: NDArray[np.float32] | None,
    last: bool,
) -> DetectionResult:
    """Threshold, peaks, growth; the ``last`` search may spoil the smoothed image."""
    masked, signs = exposure.masked_image, _signs(config)
    threshold = config.threshold_value * smoothed.unit
    include = threshold * config.include_threshold_multiplier
    levels = _Levels(threshold, include, config.threshold_type == "pixel_stdev")
    found = _threshold(smoothed, levels, signs, config.min_pixels)
    if smoothed.local_background is not None:
        image = _above_local(smoothed, in_place=last)
        found = {s: _found_again(image, smoothed, found[s], levels, s, config) for s in signs}
    n_grow = int(config.n_sigma_to_grow * smoothed.sigma + 0.5)
    sets = {sign: _finish(masked, smoothed, found[sign], sign, n_grow, config) for sign in signs}
    if config.re_estimate_background:
        backgrounds = BackgroundList() if backgrounds is None else backgrounds
        subtract_background(exposure, backgrounds, config.background, ratio=ratio, record=False)
    wanted = {1: config.threshold_polarity != "negative", -1: config.threshold_polarity != "positive"}
    if config.re_estimate_background:
        masked.clear_planes([_PLANES[sign] for sign in signs if not wanted[sign]])
    counts = {s: (len(sets[s]), len(sets[s].peaks)) if s in sets else (0, 0) for s in (1, -1)}
    return DetectionResult(
        positive=sets[1] if wanted[1] else None,
        negative=sets[-1] if wanted[-1] else None,
        n_positive=counts[1][0],
        n_negative=counts[-1][0],
        n_positive_peaks=counts[1][1],
        n_negative_peaks=counts[-1][1],
        sigma=smoothed.sigma,
        kernel_width=2 * smoothed.rim + 1 if smoothed.smoothed else 0,
        n_grow=n_grow,
    )


def _above_local(smoothed: SmoothedImage, *, in_place: bool) -> NDArray[np.float32]:
    assert smoothed.local_background is not None  # noqa: S101 -- the caller asked
    if smoothed.above_local is None:
        image = smoothed.image if in_place else smoothed.image.copy()
        smoothed.local_background.subtract_from(image)
        smoothed.above_local = image
    return smoothed.above_local


def _psf_sigma(exposure: Exposure) -> float:
    sigma = float("nan") if exposure.psf is None else exposure.psf.determinant_radius()
    if not (np.isfinite(sigma) and sigma > 0):
        raise PsfGenerationError("detection needs a PSF with a finite width", sigma=sigma)
    return sigma


def _signs(config: SourceDetectionConfig) -> tuple[int, ...]:
    """Signs to search; both where the background fit needs all sources masked."""
    if config.re_estimate_background or config.threshold_polarity == "both":
        return (1, -1)
    return (1,) if config.threshold_polarity == "positive" else (-1,)


def _subtract_wide_background(masked: MaskedImage, config: SourceDetectionConfig) -> None:
    fit_background(masked, config.temp_wide_background).subtract_from(masked.image)
    empty = masked.is_set(["NO_DATA"])
    if empty.any():
        ignored = masked.planes.bitmask(["NO_DATA", *config.stats_mask])
        median = plane_median(masked.image, masked.mask, ignored)
        masked.image[empty] = median if np.isfinite(median) else 0


def _smooth(masked: MaskedImage, config: SourceDetectionConfig, sigma: float, *, do_smooth: bool) -> SmoothedImage:
    """Smooth the image, or copy it, and mark the rim as EDGE."""
    kernel = np.ones(1)
    rim = 0
    if not do_smooth:
        image = masked.image.copy()
    else:
        kernel = smoothing_kernel(sigma, config.n_sigma_for_kernel)
        rim = len(kernel) // 2
        image = _correlated(masked.image, kernel.astype(np.float32))
        edge = np.int32(1 << masked.planes["EDGE"])
        for part in (np.s_[:rim], np.s_[-rim:], np.s_[:, :rim], np.s_[:, -rim:]):
            if rim:
                masked.mask[part] |= edge
    if config.exclude_mask_planes:
        image[spread_bits(masked.mask, np.int32(masked.planes.bitmask(config.exclude_mask_planes)), rim)] = 0
    unit = 1.0
    if config.threshold_type == "stdev":
        unit = plane_statistics(image, masked.mask, masked.planes.bitmask(config.stats_mask)).stdev
    return SmoothedImage(image, masked.variance, (kernel**2).astype(np.float32), rim, sigma, unit, do_smooth)


def _correlated(plane: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    out = np.empty_like(plane)
    threads.each(lambda rows: correlate_separable(plane, kernel, rows.start, out[rows]), threads.bands(len(plane)))
    return out


def _runs(smoothed: SmoothedImage, levels: _Levels) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Runs beyond the threshold above and below zero, as `threshold_runs` has them."""

    def runs_in(rows: slice) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        found = threshold_runs(
            smoothed.image[rows],
            smoothed.variance,
            smoothed.variance_kernel,
            (rows.start, 0),
            levels.threshold,
            levels.include,
            levels.per_pixel,
        )
        for runs in found:
            runs[:, 0] += rows.start
        return found

    positive, negative = zip(*threads.each(runs_in, threads.bands(len(smoothed.image))), strict=True)
    return np.concatenate(positive), np.concatenate(negative)


def _threshold(smoothed: SmoothedImage, levels: _Levels, signs: tuple[int, ...], min_pixels: int) -> dict[int, _Found]:
    positive, negative = _runs(smoothed, levels)
    return {sign: _regions(smoothed, positive if sign > 0 else negative, sign, min_pixels) for sign in signs}


def _regions(smoothed: SmoothedImage, runs: NDArray[np.int32], sign: int, min_pixels: int) -> _Found:
    image, margin = smoothed.image, smoothed.rim + 1
    spans, offsets, _ = connected(runs, min_pixels)
    peaks = _shared(lambda part: find_peaks(image, spans, offsets[part], float(sign), margin), offsets)
    return _Found(spans, offsets, *peaks)


def _shared(find: Callable[[slice], _Peaks], offsets: NDArray[np.int64]) -> _Peaks:
    """Peaks that a kernel finds in parts of the footprints, each with about as many spans as the others."""
    starts = np.searchsorted(offsets, [band.start for band in threads.bands(int(offsets[-1]))]).tolist()
    parts = [slice(start, stop + 1) for start, stop in pairwise([*starts, len(offsets) - 1])]
    peaks, values, peak_offsets = zip(*threads.each(find, parts), strict=True)
    counts = np.concatenate([np.diff(each) for each in peak_offsets])
    return np.concatenate(peaks), np.concatenate(values), np.concatenate([[0], np.cumsum(counts)])


def _found_again(
    image: NDArray[np.float32],
    smoothed: SmoothedImage,
    found: _Found,
    levels: _Levels,
    sign: int,
    config: SourceDetectionConfig,
) -> _Found:
    """Footprints with the peaks of blends found again on the changed image."""

    def find(part: slice) -> _Peaks:
        again: _Peaks = redetected_peaks(
            image,
            smoothed.variance,
            smoothed.variance_kernel,
            found.spans,
            found.offsets[part],
            found.peaks,
            found.values,
            found.peak_offsets[part],
            levels.threshold,
            levels.include,
            float(sign),
            levels.per_pixel,
            config.min_pixels,
            config.n_peaks_max_simple,
        )
        return again

    return _Found(found.spans, found.offsets, *_shared(find, found.offsets))


def _finish(
    masked: MaskedImage,
    smoothed: SmoothedImage,
    found: _Found,
    sign: int,
    n_grow: int,
    config: SourceDetectionConfig,
) -> FootprintSet:
    """Grow and merge footprints, paint them and give their peaks a significance."""
    runs = dilated(found.spans, *masked.shape, n_grow)
    spans, offsets, owner = connected(runs, 1)
    painted_bits(masked.mask, spans, np.int32(1 << masked.planes[_PLANES[sign]]))
    peaks, values, peak_offsets = found.peaks, found.values, found.peak_offsets
    if config.return_original_footprints:
        spans, offsets = found.spans, found.offsets
    else:
        order, peak_offsets = merged_peaks(
            found.spans, found.offsets, peaks, values, peak_offsets, runs, owner, len(offsets) - 1
        )
        peaks, values = peaks[order], values[order]
    variance = correlated_at(smoothed.variance, smoothed.variance_kernel, peaks)
    with np.errstate(divide="ignore", invalid="ignore"):
        significance = (sign * values / np.sqrt(variance)).astype(np.float32)
    origin = np.array([masked.x0, masked.y0], np.int32)
    return FootprintSet.build(
        spans + origin[[1, 0, 0]],
        offsets,
        peaks=peaks + origin,
        peak_values=values,
        peak_significance=significance,
        peak_offsets=peak_offsets,
    )
