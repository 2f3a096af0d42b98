from __future__ import annotations

from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from service import threads
from service.calibration.config.background import SubtractBackgroundConfig
from service.calibration.config.detection import SourceDetectionConfig
from service.calibration.detection import detect_sources, smoothing_kernel
from service.calibration.errors import PsfGenerationError, TooManyMaskedPixelsError
from service.calibration.kernels.footprints import connected, dilated, painted_bits, threshold_runs
from service.calibration.kernels.peaks import find_peaks, merged_peaks
from service.calibration.kernels.smoothing import correlate_separable, correlated_at, correlated_row, spread_bits
from service.exposure.background import BackgroundList
from service.exposure.exposure import Exposure
from service.exposure.footprint import FootprintSet
from service.exposure.masked_image import MaskedImage
from service.exposure.psf import GaussianPsf

EIGHT = np.ones((3, 3), bool)
PLAIN = SourceDetectionConfig(do_temp_local_background=False, re_estimate_background=False)
MASKS = arrays(bool, st.tuples(st.integers(1, 24), st.integers(1, 24)))


def add_star(image: np.ndarray, x: float, y: float, flux: float, sigma: float) -> None:
    v, u = np.indices(image.shape)
    image += flux / (2 * np.pi * sigma**2) * np.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * sigma**2))


def star_field(stars, shape=(100, 120), *, sigma=1.5, noise=1.0, seed=1, origin=(0, 0)) -> Exposure:
    image = np.random.default_rng(seed).normal(0, noise, shape)
    for x, y, flux in stars:
        add_star(image, x, y, flux, sigma)
    variance = np.full(shape, noise**2, np.float32)
    masked = MaskedImage(image.astype(np.float32), np.zeros(shape, np.int32), variance, x0=origin[0], y0=origin[1])
    return Exposure(masked, psf=GaussianPsf(sigma, 25, 25))


def runs_of(mask: np.ndarray) -> np.ndarray:
    one = np.ones(mask.shape, np.float32)
    return threshold_runs(np.where(mask, one, 0), one, one[:1, 0], (0, 0), 0.5, 0.5, False)[0]


def painted(spans: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, np.int32)
    painted_bits(mask, np.ascontiguousarray(spans[:, :3]), np.int32(1))
    return mask != 0


def disc(radius: int) -> np.ndarray:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return x**2 + y**2 <= radius**2


def test_smoothing_equals_scipy_where_the_kernel_fits():
    plane = np.random.default_rng(3).normal(100, 10, (40, 31)).astype(np.float32)
    kernel = smoothing_kernel(1.7, 7.0)
    assert len(kernel) == 13
    assert kernel.sum() == pytest.approx(1, abs=1e-15)
    out = np.empty_like(plane)
    correlate_separable(plane, kernel.astype(np.float32), 0, out)
    expected = ndimage.correlate1d(ndimage.correlate1d(plane.astype(float), kernel, axis=0), kernel, axis=1)
    np.testing.assert_allclose(out[6:-6, 6:-6], expected[6:-6, 6:-6], rtol=1e-6)
    rim = np.ones(plane.shape, bool)
    rim[6:-6, 6:-6] = False
    assert np.isnan(out[rim]).all()


def test_smoothing_of_an_image_smaller_than_the_kernel_leaves_nothing_to_search():
    plane = np.ones((9, 40), np.float32)
    out = np.zeros_like(plane)
    correlate_separable(plane, smoothing_kernel(1.7, 7.0).astype(np.float32), 0, out)
    assert np.isnan(out).all()


def test_part_of_a_smoothed_row_is_that_part_of_the_smoothed_plane():
    rng = np.random.default_rng(4)
    plane = rng.normal(100, 10, (23, 31)).astype(np.float32)
    kernel = smoothing_kernel(1.7, 7.0).astype(np.float32)
    whole = ndimage.correlate1d(ndimage.correlate1d(plane.astype(float), kernel, axis=0), kernel, axis=1)
    whole[:6] = whole[-6:] = whole[:, :6] = whole[:, -6:] = np.nan
    for y, x0, x1 in [
        (0, 0, 31),
        (6, 0, 31),
        (16, 0, 31),
        (17, 3, 9),
        (11, 0, 6),
        (11, 4, 7),
        (11, 24, 26),
        (9, 25, 31),
    ]:
        row = np.zeros(x1 - x0, np.float32)
        correlated_row(plane, kernel, y, x0, np.zeros(x1 - x0 + 12, np.float32), row)
        np.testing.assert_allclose(row, whole[y, x0:x1], rtol=1e-6)
    y, x = np.mgrid[:23, :31]
    points = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int32)
    np.testing.assert_allclose(correlated_at(plane, kernel, points), whole.ravel(), rtol=1e-6)


@pytest.mark.parametrize("sigma", [None, 0.6, 1.7])
def test_runs_beyond_a_threshold_equal_those_of_smoothed_planes(sigma):
    rng = np.random.default_rng(5)
    smooth = rng.normal(0, 2, (30, 67)).astype(np.float32)
    variance = rng.uniform(0.5, 2, (41, 80)).astype(np.float32)
    smooth[3, 5:9] = np.nan
    smooth[7], smooth[8, ::2] = 9, -np.inf
    variance[20:25, 20:40] = 0
    variance[30, 50], variance[33, 60] = np.nan, -50
    smooth[15, 15:30] = 0  # no variance either: both above and below
    kernel = np.ones(1) if sigma is None else smoothing_kernel(sigma, 7.0) ** 2
    rim = len(kernel) // 2
    expected = ndimage.correlate1d(ndimage.correlate1d(variance.astype(float), kernel, axis=0), kernel, axis=1)
    for part in np.s_[:rim], np.s_[len(expected) - rim :], np.s_[:, :rim], np.s_[:, expected.shape[1] - rim :]:
        expected[part] = np.nan
    reach = ndimage.maximum_filter(np.isnan(variance), 2 * rim + 1)
    expected[reach] = np.nan
    squares = expected[6:36, 10:77]
    with np.errstate(invalid="ignore"):
        levels = [k * np.sqrt(np.where(squares >= 0, squares, np.nan)) for k in (1.0, 2.0)]
    for per_pixel in (True, False):
        low, high = levels if per_pixel else (1.0, 2.0)
        got = threshold_runs(smooth, variance, kernel.astype(np.float32), (6, 10), 1.0, 2.0, per_pixel)
        for runs, values in zip(got, (smooth, -smooth), strict=True):
            above, above_high = (values >= low) & (values >= 0), values >= high
            np.testing.assert_array_equal(painted(runs, smooth.shape), above)
            around = np.pad(above, ((0, 0), (1, 1)))
            for y, x0, x1, reached in runs:
                assert reached == above_high[y, x0 : x1 + 1].any()
                assert not around[y, x0]
                assert not around[y, x1 + 2]
            assert (np.diff(runs[:, 0] * 1000 + runs[:, 1]) > 0).all()


@settings(deadline=None, max_examples=150)
@given(MASKS, st.integers(1, 4))
def test_connected_regions_equal_scipy_labels(mask, min_pixels):
    labels, n = ndimage.label(mask, EIGHT)
    runs = runs_of(mask)
    spans, offsets, owner = connected(runs, min_pixels)
    regions = {frozenset(np.flatnonzero(labels == k)) for k in range(1, n + 1) if (labels == k).sum() >= min_pixels}
    ours = [frozenset(np.flatnonzero(painted(spans[a:b], mask.shape))) for a, b in pairwise(offsets)]
    assert len(ours) == len(regions)
    assert set(ours) == regions
    for run, region in zip(runs, owner, strict=True):
        pixel = run[0] * mask.shape[1] + run[1]
        assert (region >= 0) == any(pixel in r for r in regions)
        assert region < 0 or pixel in ours[region]


def test_regions_are_ordered_by_their_label():
    # the left region starts first, but its first label is redirected to the one that its second row gets
    mask = np.array([[0, 0, 0, 1, 0, 1], [1, 1, 1, 0, 0, 0]], bool)
    spans, offsets, _ = connected(runs_of(mask), 1)
    assert spans.tolist() == [[0, 5, 5], [0, 3, 3], [1, 0, 2]]
    assert offsets.tolist() == [0, 1, 3]


@settings(deadline=None, max_examples=150)
@given(MASKS, st.integers(0, 7))
def test_growth_equals_scipy_dilation_by_the_disc(mask, radius):
    runs = runs_of(mask)
    grown = dilated(np.ascontiguousarray(runs[:, :3]), *mask.shape, radius)
    expected = ndimage.binary_dilation(mask, disc(radius)) if mask.any() else mask
    np.testing.assert_array_equal(painted(grown, mask.shape), expected)
    assert grown.tolist() == runs_of(expected).tolist()


@settings(deadline=None, max_examples=50)
@given(arrays(np.float32, (17, 19), elements=st.integers(0, 6).map(float)), st.sampled_from([1, -1]))
def test_peaks_equal_the_pixels_that_a_maximum_filter_leaves_alone(image, sign):
    mask = image >= 3
    spans, offsets, _ = connected(runs_of(mask), 1)
    peaks, values, peak_offsets = find_peaks(image, spans, offsets, float(sign), 1)
    maxima = (sign * image >= ndimage.maximum_filter(sign * image, 3)) & mask
    maxima[[0, -1]] = maxima[:, [0, -1]] = False
    for f in range(len(offsets) - 1):
        inside = painted(spans[offsets[f] : offsets[f + 1]], image.shape)
        expected = [(x, y) for y, x in np.argwhere(maxima & inside)]
        ours = [tuple(p) for p in peaks[peak_offsets[f] : peak_offsets[f + 1]]]
        if expected:
            assert ours == sorted(expected, key=lambda p: (-image[p[1], p[0]], *p))
        else:
            ((x, y),) = ours
            assert inside[y, x]
            assert sign * image[y, x] == (sign * image[inside]).max()
    np.testing.assert_array_equal(values, image[peaks[:, 1], peaks[:, 0]])


def test_merging_sorted_peak_lists_sorts_and_unsorted_ones_keep_upstreams_order():
    spans = np.array([[0, 0, 0], [0, 2, 2]], np.int32)
    offsets = np.array([0, 1, 2])
    runs = np.array([[0, 0, 2, 1]], np.int32)

    def merged(*lists):
        values = np.array([v for part in lists for v in part], np.float32)
        peaks = np.stack([np.arange(len(values)), np.zeros(len(values))], axis=1).astype(np.int32)
        peak_offsets = np.cumsum([0, *map(len, lists)])
        order, _ = merged_peaks(spans, offsets, peaks, values, peak_offsets, runs, np.zeros(1, np.int64), 1)
        return values[order].tolist()

    assert merged([9, 5, 1], [7, 5]) == [9, 7, 5, 5, 1]
    # values of a blend in a recorded run: the longer first list is merged from the back
    assert merged([50, 4434, 2379, 1139, 362], [58042, 404, 177, 133]) == [
        58042, 50, 4434, 2379, 1139, 404, 362, 177, 133
    ]  # fmt: skip
    assert merged([50, 4434], [58042, 404, 177]) == [58042, 404, 177, 50, 4434]


def test_very_many_unsorted_lists_are_sorted_because_merging_them_would_take_minutes():
    n = 60_000
    rows = np.arange(n, dtype=np.int32)
    spans = np.stack([rows, np.zeros_like(rows), np.full_like(rows, 3)], axis=1)
    runs = np.concatenate([spans, np.ones((n, 1), np.int32)], axis=1)
    rng = np.random.default_rng(2)
    peaks = np.stack([rng.integers(0, 4, 2 * n), np.repeat(rows, 2)], axis=1).astype(np.int32)
    values = rng.normal(size=2 * n).astype(np.float32)
    order, offsets = merged_peaks(
        spans, np.arange(n + 1), peaks, values, 2 * np.arange(n + 1), runs, np.zeros(n, np.int64), 1
    )
    np.testing.assert_array_equal(values[order], np.sort(values)[::-1])
    assert offsets.tolist() == [0, 2 * n]


@pytest.mark.parametrize("do_smooth", [True, False])
def test_grid_of_stars_gives_one_footprint_each(do_smooth):
    stars = [(24 + 28 * i, 22 + 28 * j, 500.0) for i in range(5) for j in range(5)]
    exposure = star_field(stars, (156, 160))
    result = detect_sources(exposure, SourceDetectionConfig(threshold_polarity="both"), do_smooth=do_smooth)
    assert (result.n_positive, result.n_negative) == (25, 0)
    assert result.sigma == pytest.approx(1.5, abs=0.1)
    assert result.n_grow == int(2.4 * result.sigma + 0.5)
    found = result.positive
    assert found is not None
    distance = np.abs(found.first_peaks[:, None] - [s[:2] for s in stars]).max(axis=2)
    assert (np.sort(distance.min(axis=0)) <= 1).all()
    assert len(set(distance.argmin(axis=1))) == 25
    x, y = found.peaks.T
    noise = np.sqrt(exposure.masked_image.variance[y, x])
    if do_smooth:
        noise = noise * (smoothing_kernel(result.sigma, 7.0) ** 2).sum()
    np.testing.assert_allclose(found.peak_significance, found.peak_values / noise, rtol=3e-7)
    np.testing.assert_array_equal(
        exposure.masked_image.is_set(["DETECTED"]), painted(found.spans, exposure.masked_image.shape)
    )
    rim = result.kernel_width // 2
    assert exposure.masked_image.count("EDGE") == 156 * 160 - (156 - 2 * rim) * (160 - 2 * rim)


@pytest.mark.parametrize("threshold_type", ["pixel_stdev", "stdev"])
def test_threads_change_no_detection(threshold_type):
    rng = np.random.default_rng(8)
    stars = np.column_stack([rng.uniform(0, 200, (90, 2)), rng.choice([-300, 300], 90)])
    config = SourceDetectionConfig(threshold_polarity="both", threshold_type=threshold_type)
    found = []
    for count in (1, 3):
        exposure = star_field(stars, (203, 200))
        backgrounds = BackgroundList()
        with threads.at_most(count):
            footprints = detect_sources(exposure, config, backgrounds=backgrounds).footprints
        parts = [footprints.spans, footprints.span_offsets, footprints.peaks, footprints.peak_values]
        found.append([*parts, footprints.peak_significance, exposure.masked_image.mask, exposure.masked_image.image])
    assert len(found[0][1]) > 40
    for alone, together in zip(*found, strict=True):
        np.testing.assert_array_equal(together, alone)


def test_every_detected_pixel_is_within_the_growth_of_one_above_threshold():
    exposure = star_field([(30, 30, 800), (37, 30, 500), (80, 60, 300)])
    image = exposure.masked_image.image.copy()
    result = detect_sources(exposure, PLAIN)
    kernel = smoothing_kernel(result.sigma, 7.0)
    smooth = ndimage.correlate1d(ndimage.correlate1d(image.astype(float), kernel, axis=0), kernel, axis=1)
    above = smooth >= 5.0 * (kernel**2).sum()
    rim = result.kernel_width // 2
    above[:rim] = above[-rim:] = above[:, :rim] = above[:, -rim:] = False
    np.testing.assert_array_equal(
        exposure.masked_image.is_set(["DETECTED"]), ndimage.binary_dilation(above, disc(result.n_grow))
    )


def test_include_multiplier_drops_faint_footprints_and_keeps_faint_peaks():
    stars = [(30, 30, 60), (80, 60, 400), (88, 60, 60)]
    both = detect_sources(star_field(stars), PLAIN)
    bright = detect_sources(star_field(stars), PLAIN.model_copy(update={"include_threshold_multiplier": 3.0}))
    assert (both.n_positive, bright.n_positive) == (2, 1)
    assert bright.n_positive_peaks == 2


@pytest.mark.parametrize("sources", [0, 1, 300])
def test_threads_change_no_bit(sources):
    rng = np.random.default_rng(6)
    stars = [(x, y, 10 ** rng.uniform(2, 4)) for x, y in rng.uniform(15, 265, (sources, 2))]
    config = SourceDetectionConfig(threshold_polarity="both", re_estimate_background=False)

    def detected(count):
        with threads.at_most(count):
            found = detect_sources(star_field(stars, (280, 280)), config).positive
        return {field.name: getattr(found, field.name).tobytes() for field in fields(FootprintSet)}, found.n_peaks

    alone, n_peaks = detected(1)
    assert (n_peaks > 1).sum() >= sources // 50
    for count in (2, 3, 4):
        assert detected(count)[0] == alone


def test_positions_follow_the_origin_of_the_image():
    stars = [(30, 30, 800), (37, 31, 500), (80, 60, 300)]
    config = SourceDetectionConfig(temp_local_background=SubtractBackgroundConfig(bin_size=32, use_approx=False))
    here = detect_sources(star_field(stars), config).positive
    there = detect_sources(star_field(stars, origin=(-700, 4000)), config).positive
    assert here is not None
    assert there is not None
    np.testing.assert_array_equal(there.spans - here.spans, np.tile([4000, -700, -700], (len(here.spans), 1)))
    np.testing.assert_array_equal(there.peaks - here.peaks, np.tile([-700, 4000], (len(here.peaks), 1)))
    np.testing.assert_array_equal(there.peak_values, here.peak_values)


def test_negative_sources_are_positive_ones_of_the_negated_image():
    stars = [(30, 30, 800), (80, 60, -300)]
    exposure, mirrored = star_field(stars), star_field(stars)
    mirrored.masked_image.image *= -1
    result = detect_sources(exposure, PLAIN.model_copy(update={"threshold_polarity": "both"}))
    reverse = detect_sources(mirrored, PLAIN.model_copy(update={"threshold_polarity": "both"}))
    assert result.positive is not None
    assert result.negative is not None
    assert reverse.positive is not None
    assert (result.n_positive, result.n_negative) == (1, 1)
    np.testing.assert_array_equal(result.negative.spans, reverse.positive.spans)
    np.testing.assert_array_equal(result.negative.peak_values, -reverse.positive.peak_values)
    np.testing.assert_array_equal(result.negative.peak_significance, reverse.positive.peak_significance)
    np.testing.assert_array_equal(result.footprints.first_peaks, [[80, 60], [30, 30]])
    negative = exposure.masked_image.is_set(["DETECTED_NEGATIVE"])
    np.testing.assert_array_equal(negative, mirrored.masked_image.is_set(["DETECTED"]))


def test_reestimated_background_masks_both_signs_and_is_appended():
    stars = [(30, 30, 3000), (80, 60, -3000)]
    exposure = star_field(stars)
    before = exposure.masked_image.image.copy()
    backgrounds = BackgroundList()
    config = SourceDetectionConfig(background=SubtractBackgroundConfig(bin_size=20, approx_order_x=1))
    result = detect_sources(exposure, config, backgrounds=backgrounds)
    assert (result.n_positive, result.n_negative) == (1, 1)
    assert result.negative is None
    assert exposure.masked_image.count("DETECTED_NEGATIVE") == 0
    assert len(backgrounds) == 1
    np.testing.assert_array_equal(exposure.masked_image.image, before - backgrounds.image())
    assert np.abs(backgrounds.image()).max() < 0.2  # the sources would raise cells by 7 counts
    assert "BGMEAN" not in exposure.metadata


def test_wide_background_is_restored_bit_by_bit():
    exposure = star_field([(30, 30, 800), (80, 60, 300)])
    exposure.masked_image.image += np.linspace(0, 40, 120, dtype=np.float32)
    before = exposure.masked_image.image.copy()
    wide = SubtractBackgroundConfig(bin_size=30, use_approx=False, ignored_pixel_mask=("BAD", "EDGE", "NO_DATA"))
    config = PLAIN.model_copy(update={"do_temp_wide_background": True, "temp_wide_background": wide})
    result = detect_sources(exposure, config)
    np.testing.assert_array_equal(exposure.masked_image.image, before)
    assert result.n_positive == 2
    assert detect_sources(exposure, PLAIN).n_positive == 1  # the ramp is one footprint


def test_pixels_without_data_hide_no_neighbour_under_the_wide_background():
    """They are filled with the median of the others, of which one is no number."""
    exposure = star_field([(30, 30, 800), (80, 60, 300)])
    exposure.masked_image.image[80, 10] = np.nan
    exposure.masked_image.image[:, 84:] = -1e4
    exposure.masked_image.mask[:, 84:] |= exposure.masked_image.planes.bitmask(["NO_DATA"])
    config = PLAIN.model_copy(update={"do_temp_wide_background": True})
    result = detect_sources(exposure, config)
    assert result.positive is not None
    assert result.positive.first_peaks.tolist() == [[30, 30], [80, 60]]


def test_wide_background_is_restored_where_the_local_one_cannot_be_fitted():
    exposure = star_field([(30, 30, 800)])
    masked = exposure.masked_image
    exposure.masked_image = MaskedImage(masked.image[:9, :9], masked.mask[:9, :9], masked.variance[:9, :9])
    exposure.masked_image.image += np.arange(9, dtype=np.float32)
    before = exposure.masked_image.image.copy()
    config = PLAIN.model_copy(update={"do_temp_wide_background": True, "do_temp_local_background": True})
    with pytest.raises(TooManyMaskedPixelsError):
        detect_sources(exposure, config)
    np.testing.assert_array_equal(exposure.masked_image.image, before)


def test_bad_values_are_never_detected():
    exposure = star_field([(30, 30, 800), (80, 60, 300)])
    exposure.masked_image.image[60, 80] = np.nan
    exposure.masked_image.variance[20:25, 100:105] = np.nan
    exposure.masked_image.variance[70:, :40] = -1
    result = detect_sources(exposure, PLAIN)
    assert result.positive is not None
    assert result.positive.first_peaks.tolist() == [[30, 30]]


@settings(deadline=None)
@given(MASKS, st.integers(0, 5))
def test_spread_bits_equal_scipy_dilation_by_the_square(mask, half):
    bits = np.where(mask, np.int32(6), np.int32(1)).astype(np.int32)
    expected = ndimage.binary_dilation(mask, np.ones((2 * half + 1, 2 * half + 1), bool))
    np.testing.assert_array_equal(spread_bits(bits, np.int32(2), half), expected)


def test_excluded_planes_hide_what_the_smoothing_spreads():
    exposure = star_field([(30, 30, 800), (80, 60, 300)])
    exposure.masked_image.mask[28:33, 28:33] |= exposure.masked_image.planes.bitmask(["SAT"])
    result = detect_sources(exposure, PLAIN.model_copy(update={"exclude_mask_planes": ("SAT",)}))
    assert result.positive is not None
    assert result.positive.first_peaks.tolist() == [[80, 60]]


def test_threshold_types_agree_where_the_noise_is_what_the_variance_says():
    stars = [(30, 30, 800), (80, 60, 300)]
    kernel = smoothing_kernel(1.5, 7.0)
    level = 5.0 * (kernel**2).sum()
    per_pixel = detect_sources(star_field(stars), PLAIN)
    value = detect_sources(
        star_field(stars), PLAIN.model_copy(update={"threshold_type": "value", "threshold_value": level}), sigma=1.5
    )
    stdev = detect_sources(star_field(stars), PLAIN.model_copy(update={"threshold_type": "stdev"}))
    assert per_pixel.positive is not None
    assert value.positive is not None
    assert stdev.positive is not None
    assert abs(value.positive.areas.sum() - per_pixel.positive.areas.sum()) <= 2
    assert stdev.positive.areas.sum() == pytest.approx(per_pixel.positive.areas.sum(), rel=0.1)


def test_original_footprints_stay_ungrown_while_the_mask_grows():
    exposure = star_field([(30, 30, 800), (80, 60, 300)])
    result = detect_sources(exposure, PLAIN.model_copy(update={"return_original_footprints": True}))
    assert result.positive is not None
    mask = painted(result.positive.spans, exposure.masked_image.shape)
    np.testing.assert_array_equal(
        exposure.masked_image.is_set(["DETECTED"]), ndimage.binary_dilation(mask, disc(result.n_grow))
    )


def test_an_exposure_without_psf_is_refused():
    exposure = star_field([])
    exposure.psf = None
    with pytest.raises(PsfGenerationError):
        detect_sources(exposure, PLAIN)


STAR = {"include_threshold_multiplier": 2.0}
FIRST = {"threshold_value": 10.0, "include_threshold_multiplier": 5.0, "do_temp_local_background": False}
SEARCH = FIRST | {
    "do_temp_local_background": True,
    "do_temp_wide_background": True,
    "re_estimate_background": False,
    "threshold_polarity": "both",
}
CASES = [
    *[(field, "rubin_classic", "detection_star_1", STAR) for field in ("typical1k", "crowded1k", "sharp1k")],
    *[(field, "rubin_classic", "detection_psf_1", FIRST) for field in ("typical1k", "crowded1k", "undersampled1k")],
    ("undersampled1k", "rubin_classic", "detection_star_1", STAR),
    ("crowded1k", "rubin_classic", "detection_psf_2", FIRST),
    ("typical1k", "rubin_adaptive", "detection_psf_adaptive_1", SEARCH),
    ("typical1k", "rubin_adaptive", "detection_psf_adaptive_2", SEARCH | {"threshold_polarity": "positive"}),
    ("typical1k", "rubin_adaptive", "detection_star_adaptive_1", STAR | {"re_estimate_background": False}),
]


@pytest.mark.parametrize(("field", "variant", "stage", "settings_"), CASES)
def test_recorded_detections_are_reproduced_pixel_by_pixel_and_peak_by_peak(
    parity_run, field, variant, stage, settings_
):
    run = parity_run(field, variant)
    expected, options = run.arrays(stage), run.options(stage)
    starts_over = stage == "detection_star_adaptive_1"  # the background was put back and fitted afresh before it
    first = run.number("background_star_background_1") if starts_over else 0
    exposure = run.exposure(stage, first_background=first)
    result = detect_sources(exposure, SourceDetectionConfig(**settings_), sigma=options["sigma"])
    found = result.positive
    assert found is not None
    assert (result.kernel_width, result.n_grow) == (options["kernel_width"], options["n_grow"])
    spans = np.column_stack([np.repeat(np.arange(len(found)), np.diff(found.span_offsets)), found.spans])
    np.testing.assert_array_equal(spans, expected["positive_spans"])
    peaks = np.column_stack([np.repeat(np.arange(len(found)), found.n_peaks), found.peaks])
    np.testing.assert_array_equal(peaks, expected["positive_peaks"])
    # the pedestal is recorded as one rounded number
    tolerance = 1e-4 if starts_over else 1e-6
    np.testing.assert_allclose(found.peak_values, expected["positive_peak_values"][:, 2], rtol=tolerance)
    np.testing.assert_allclose(found.peak_significance, expected["positive_peak_values"][:, 3], rtol=tolerance)
    for plane in ("EDGE", "DETECTED", "DETECTED_NEGATIVE"):
        assert exposure.masked_image.count(plane) == options["mask_counts_after"][plane]


def test_growth_by_70_sigma_reproduces_the_recorded_star_background_search(parity_run):
    run = parity_run("typical1k", "rubin_adaptive")
    first = run.number("background_star_background_1")
    for stage in ("detection_star_background_1", "detection_star_background_12"):
        options = run.options(stage)
        exposure = run.exposure(stage, first_background=first)
        config = PLAIN.model_copy(
            update={"threshold_value": options["threshold_value"], "n_sigma_to_grow": options["n_sigma_to_grow"]}
        )
        result = detect_sources(exposure, config, sigma=options["sigma"])
        assert result.n_grow == options["n_grow"]
        assert result.n_positive == options["num_pos_footprints"]
        assert result.n_positive_peaks == options["num_pos_peaks"]
        assert exposure.masked_image.count("DETECTED") == options["detected_pixels"]
