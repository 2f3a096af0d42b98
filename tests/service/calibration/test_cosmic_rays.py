"""Cosmic rays against injected tracks, a plain reading of the pixel test, and what Rubin's code found."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from service import threads
from service.calibration.config.cosmic_rays import CosmicRayConfig, RepairConfig
from service.calibration.cosmic_rays import CosmicRays, psf_ratios, repair
from service.calibration.errors import TooManyCosmicRays
from service.calibration.kernels.cosmic_rays import label_runs
from service.exposure.exposure import Exposure
from service.exposure.mask import MaskPlanes
from service.exposure.masked_image import MaskedImage
from service.exposure.psf import GaussianPsf

SIGMA, NOISE = 4 / 2.3548, 30.0


def exposure_of(image: np.ndarray, variance: np.ndarray | None = None, **options) -> Exposure:
    image = np.asarray(image, np.float32)
    variance = np.full_like(image, NOISE**2) if variance is None else variance.astype(np.float32)
    masked = MaskedImage(image, np.zeros(image.shape, np.int32), variance, **options)
    return Exposure(masked, psf=GaussianPsf(SIGMA, 11, 11))


def config(**options) -> RepairConfig:
    return RepairConfig(cosmicray=CosmicRayConfig(**options))


class Field:
    """Stars of a Gaussian PSF on noise, with tracks of cosmic rays whose electrons per pixel are known."""

    def __init__(self, fwhm: float, seed: int, n_stars: int = 150, n_tracks: int = 100, size: int = 1024) -> None:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:size, :size]
        stars = np.zeros((size, size))
        s2 = (fwhm / 2.3548) ** 2
        self.x, self.y = rng.uniform(30, size - 30, (2, n_stars))
        self.flux = 10 ** rng.uniform(3.8, 5.5, n_stars)
        for cx, cy, flux in zip(self.x, self.y, self.flux, strict=True):
            cut = np.s_[int(cy) - 25 : int(cy) + 26, int(cx) - 25 : int(cx) + 26]
            r2 = (x[cut] - cx) ** 2 + (y[cut] - cy) ** 2
            stars[cut] += flux / (2 * np.pi * s2) * np.exp(-0.5 * r2 / s2)
        self.tracks = np.zeros((size, size))
        for _ in range(n_tracks):
            x0, y0 = rng.uniform(20, size - 40, 2)
            angle, length = rng.uniform(0, np.pi), rng.uniform(1, 12)
            for step in np.arange(0, length, 0.5):
                self.tracks[int(y0 + step * np.sin(angle)), int(x0 + step * np.cos(angle))] += rng.uniform(400, 900)
        self.truth = stars
        expected = NOISE**2 + stars + self.tracks
        self.image = (rng.normal(0, NOISE, expected.shape) + rng.poisson(stars + self.tracks)).astype(np.float32)
        self.exposure = exposure_of(self.image.copy(), expected)


@pytest.fixture(scope="module", params=[2.7, 4.5])
def field(request: pytest.FixtureRequest) -> Field:
    return Field(request.param, seed=11)


@pytest.mark.parametrize("fill", ["lpc", "noise"])
def test_tracks_are_found_and_star_cores_spared(fill: str) -> None:
    field = Field(3.5, seed=11)
    masked = field.exposure.masked_image
    result = repair(field.exposure, config(fill=fill), keep_cosmic_rays=False)
    found = masked.is_set(["CR"])
    labels, n = ndimage.label(field.tracks > 0, np.ones((3, 3)))
    index = np.arange(1, n + 1)
    charge = ndimage.sum_labels(field.tracks, labels, index)
    peak = ndimage.maximum(field.tracks / np.sqrt(masked.variance), labels, index)
    clear = (charge > 150) & (peak > 10)
    hit = ndimage.maximum(found, labels, index) > 0
    assert hit[clear].mean() > 0.95
    assert clear.sum() > 60
    near_track = ndimage.binary_dilation(field.tracks > 0, iterations=4)
    core = near_track[field.y.round().astype(int), field.x.round().astype(int)]
    lost = found[field.y.round().astype(int), field.x.round().astype(int)] & ~core
    assert not lost.any()
    assert result.pixel_count == found.sum() == masked.count("CR") == masked.count("INTRP")
    assert result.cosmic_ray_count == len(result.cosmic_rays) <= 1.05 * n
    false = found & ~near_track
    assert false.sum() < 0.02 * found.sum()
    np.testing.assert_array_equal(masked.image[~found], field.image[~found])


def test_fills_restore_what_the_track_covered() -> None:
    rms = {}
    for fill in ("lpc", "noise"):
        field = Field(4.5, seed=5, n_stars=300)
        masked = field.exposure.masked_image
        repair(field.exposure, config(fill=fill), keep_cosmic_rays=False)
        found = masked.is_set(["CR"])
        error = (masked.image - field.truth)[found]
        sky = found & (field.truth < 1)
        assert abs((masked.image - field.truth)[sky].mean()) < 0.25 * NOISE
        rms[fill] = np.sqrt(np.mean(np.clip(error, -3000, 3000) ** 2))
    assert rms["lpc"] < 0.6 * rms["noise"]


def test_lpc_is_right_to_a_quarter_of_the_noise_on_blank_sky() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(0, NOISE, (600, 600))
    image[10:590:9, 10:590:9] += 1000  # single pixels: all four directions are free
    exposure = exposure_of(image)
    repair(exposure, config(niteration=0), keep_cosmic_rays=False)
    filled = exposure.masked_image.image[10:590:9, 10:590:9]
    # predictions below -2 sigma are not acceptable, which leaves the rest a little high
    assert abs(filled.mean()) < 0.25 * NOISE
    assert filled.std() < NOISE


def test_kept_cosmic_rays_are_marked_only(field: Field) -> None:
    masked = field.exposure.masked_image
    masked.image[:] = field.image
    masked.clear_planes(["INTRP"])
    stale = masked.planes.bitmask(["CR"])
    masked.mask[3, :] |= stale  # of an earlier call
    result = repair(field.exposure, config(), keep_cosmic_rays=True)
    np.testing.assert_array_equal(masked.image, field.image)
    assert masked.count("INTRP") == 0
    assert masked.count("CR") == result.pixel_count > 0
    assert not (masked.mask[3, 500:] & stale).all()
    again = repair(field.exposure, config(), keep_cosmic_rays=True)
    np.testing.assert_array_equal(again.cosmic_rays.pixels, result.cosmic_rays.pixels)


def test_search_follows_origin_planes_and_scale_of_nothing_else(field: Field) -> None:
    masked = field.exposure.masked_image
    reference = repair(
        exposure_of(field.image, masked.variance), config(fill="noise"), keep_cosmic_rays=True
    ).cosmic_rays
    planes = MaskPlanes({"CR": 0, "INTRP": 9, "BAD": 3})
    moved = exposure_of(field.image, masked.variance, planes=planes, x0=-40, y0=900)
    result = repair(moved, config(fill="noise"), keep_cosmic_rays=True)
    np.testing.assert_array_equal(result.cosmic_rays.pixels, reference.pixels)
    assert moved.masked_image.count("CR") == result.pixel_count
    scaled = exposure_of(field.image * 2, masked.variance * 4)
    doubled = repair(scaled, config(fill="noise", min_dn=300), keep_cosmic_rays=True)
    np.testing.assert_array_equal(
        doubled.first_scan.pixels,
        repair(exposure_of(field.image, masked.variance), config(), keep_cosmic_rays=True).first_scan.pixels,
    )


def test_flat_image_has_none() -> None:
    exposure = exposure_of(np.full((200, 200), 5.0), np.ones((200, 200)))
    assert repair(exposure, config(), keep_cosmic_rays=False).cosmic_ray_count == 0
    assert not exposure.masked_image.mask.any()


def test_nan_pixels_are_neither_found_nor_spread() -> None:
    image = np.random.default_rng(0).normal(0, NOISE, (200, 200))
    image[50:60, 50] = np.nan
    image[55, 100:105] += 2000
    exposure = exposure_of(image)
    result = repair(exposure, config(), keep_cosmic_rays=False)
    assert result.cosmic_ray_count == 1
    assert np.isfinite(exposure.masked_image.image).sum() == image.size - 10


def naive_scan(
    image: np.ndarray, variance: np.ndarray, mask: np.ndarray, planes: MaskPlanes, background: float, ratios: np.ndarray
) -> list[tuple[int, int]]:
    """The pixel test as the specification words it, one pixel after the other."""
    work = image.copy()
    sigma = np.sqrt(variance.astype(np.float64))
    bad, interpolated = planes.bitmask(["BAD", "SAT", "INTRP", "NO_DATA"]), planes.bitmask(["INTRP"])
    found = []
    for y in range(1, image.shape[0] - 1):
        for x in range(1, image.shape[1] - 1):
            pairs = [((-1, 0), (1, 0)), ((0, -1), (0, 1)), ((-1, -1), (1, 1)), ((1, -1), (-1, 1))]
            limits = [ratios[1], ratios[0], ratios[2], ratios[2]]
            v, s = float(work[y, x]), sigma[y, x]
            means = [0.5 * float(work[y + a, x + b] + work[y + c, x + d]) for (a, b), (c, d) in pairs]
            if not (v >= 0 and any(v >= m + 6 * s for m in means)):
                continue
            for ((a, b), (c, d)), m, t in zip(pairs, means, limits, strict=True):
                error = 0.5 * np.sqrt(float(variance[y + a, x + b]) + float(variance[y + c, x + d]))
                if t * (v - background - 2 * s) > m - background + 2 * error:
                    if not mask[y, x] & bad and not (mask[y - 1 : y + 2, x - 1 : x + 2] & interpolated).any():
                        found.append((y, x))
                        work[y, x] = m
                    break
    return found


def test_scan_is_the_sequential_pixel_test() -> None:
    rng = np.random.default_rng(4)
    image = rng.normal(0, NOISE, (120, 110)).astype(np.float32)
    for _ in range(60):
        y, x = rng.integers(0, 112, 1)[0], rng.integers(0, 100, 1)[0]
        image[y : y + rng.integers(1, 4), x : x + rng.integers(1, 9)] += rng.uniform(150, 900)
    variance = NOISE**2 + np.clip(image, 0, None)
    image[rng.random(image.shape) < 0.02] = np.nan
    exposure = exposure_of(image, variance)
    masked = exposure.masked_image
    masked.mask[rng.random(image.shape) < 0.01] = masked.planes.bitmask(["SAT"])
    masked.mask[rng.random(image.shape) < 0.01] = masked.planes.bitmask(["INTRP"])
    result = repair(exposure, config(), keep_cosmic_rays=True)
    ratios = psf_ratios(exposure.psf, 0.35)
    expected = naive_scan(image, masked.variance, masked.mask, masked.planes, float(np.nanmedian(image)), ratios)
    assert len(expected) > 100
    assert sorted(result.first_scan.pixels.tolist()) == [y * 110 + x for y, x in expected]
    charge = [
        image.ravel()[result.first_scan.pixels[a:b]].sum() - (b - a) * np.nanmedian(image)
        for a, b in zip(result.first_scan.offsets[:-1], result.first_scan.offsets[1:], strict=True)
    ]
    assert len(result.accepted) == sum(c >= 150 for c in charge)


@pytest.mark.parametrize("min_sigma", [6.0, -500.0])
def test_threads_find_the_same_pixels(min_sigma: float) -> None:
    """Also where a track crosses from the rows of one thread to those of another."""
    image = np.random.default_rng(9).normal(0, NOISE, (121, 110)).astype(np.float32)
    for row in range(2, 117, 3):
        image[row : row + 5, (7 * row) % 100] += np.arange(300, 800, 100)
    found = []
    for count in (1, 3):
        with threads.at_most(count):
            result = repair(exposure_of(image.copy()), config(min_sigma=min_sigma), keep_cosmic_rays=True)
        found.append(result)
    assert found[0].first_scan.pixels.size > 50
    np.testing.assert_array_equal(found[1].first_scan.pixels, found[0].first_scan.pixels)
    np.testing.assert_array_equal(found[1].cosmic_rays.pixels, found[0].cosmic_rays.pixels)


def test_absolute_threshold_when_min_sigma_is_negative() -> None:
    image = np.zeros((60, 60))
    image[20, 20], image[40, 40] = 400, 700
    result = repair(exposure_of(image), config(min_sigma=-500.0), keep_cosmic_rays=True)
    assert result.first_scan.pixels.tolist() == [40 * 60 + 40]


def test_psf_ratios_of_a_gaussian() -> None:
    neighbour, diagonal = np.exp(-0.5 / SIGMA**2), np.exp(-1 / SIGMA**2)
    np.testing.assert_allclose(
        psf_ratios(GaussianPsf(SIGMA, 11, 11), 0.35), [0.35 * neighbour] * 2 + [0.35 * diagonal], rtol=1e-6
    )


@pytest.mark.parametrize("density", [0.02, 0.2, 0.4])
def test_groups_are_the_eight_connected_ones(density: float) -> None:
    hit = np.random.default_rng(1).random((80, 70)) < density
    labels = label_runs(np.flatnonzero(hit), 70)
    oracle, n = ndimage.label(hit, np.ones((3, 3)))
    pairs = set(zip(labels.tolist(), oracle[hit].tolist(), strict=True))
    assert len(pairs) == len(np.unique(labels)) == n


def test_group_takes_the_number_of_a_late_run() -> None:
    rows = ["#.#..#", "###...", "......", "...#.."]
    pixels = np.flatnonzero(np.array([[c == "#" for c in row] for row in rows]))
    # runs: 0 and 1 join run 3 on the next row; 2 and 4 stay alone, so the order is 2, 3, 4
    labels = label_runs(pixels, 6)
    assert labels.tolist() == [3, 3, 2, 3, 3, 3, 4]
    grouped = CosmicRays.grouped(pixels, labels)
    assert grouped.offsets.tolist() == [0, 1, 6, 7]
    assert grouped.pixels[0] == 5


def test_too_many_pixels_leave_everything_as_it_was() -> None:
    field = Field(4.5, seed=5)
    n_scan = repair(field.exposure, config(), keep_cosmic_rays=True).accepted.pixels.size
    for limit in (20, n_scan + 3):  # in the scan, and only once grown
        exposure = exposure_of(field.image.copy(), field.exposure.masked_image.variance)
        with pytest.raises(TooManyCosmicRays) as failure:
            repair(exposure, config(n_cr_pixel_max=limit), keep_cosmic_rays=False)
        assert failure.value.numbers == {"maxCosmicRays": limit}
        np.testing.assert_array_equal(exposure.masked_image.image, field.image)
        assert not exposure.masked_image.mask.any()


def test_switched_off_and_without_psf() -> None:
    exposure = exposure_of(np.zeros((20, 20)))
    exposure.masked_image.image[10, 10] = 5000
    assert repair(exposure, RepairConfig(do_cosmic_ray=False), keep_cosmic_rays=False).pixel_count == 0
    assert exposure.masked_image.image[10, 10] == 5000
    exposure.psf = None
    with pytest.raises(RuntimeError, match="PSF"):
        repair(exposure, config(), keep_cosmic_rays=False)


class _Core:
    """The 3x3 pixels of a PSF that the search looks at."""

    def __init__(self, core: np.ndarray) -> None:
        self._core = core

    def kernel_image(self) -> np.ndarray:
        return self._core


def _pixels(spans: np.ndarray, width: int) -> dict[int, set[int]]:
    groups: dict[int, set[int]] = {}
    for group, y, x0, x1 in spans.tolist():
        groups.setdefault(group, set()).update(range(y * width + x0, y * width + x1 + 1))
    return groups


@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.parametrize("name", ["typical1k", "crowded1k", "sharp1k", "undersampled1k"])
def test_search_is_upstreams_to_the_pixel(parity_run, name: str, call: int) -> None:
    run = parity_run(name)
    recorded, options = run.arrays(f"repair_{call}"), run.options(f"repair_{call}")
    exposure = run.exposure(f"repair_{call}")
    exposure.psf = _Core(recorded["kernel_center_3x3"])
    masked = exposure.masked_image
    result = repair(exposure, config(fill="noise"), keep_cosmic_rays=options["keep_crs"])
    assert result.background == pytest.approx(options["background"], abs=1e-6)
    assert result.ratios == pytest.approx([options[f"threshold_{k}"] for k in "HVD"], rel=1e-6)

    def groups(found: CosmicRays) -> list[set[int]]:
        return [set(part.tolist()) for part in np.split(found.pixels, found.offsets[1:-1])]

    width = masked.shape[1]
    for found, key in ((result.first_scan, "spans_first_scan"), (result.accepted, "spans_after_charge_cut")):
        assert sorted(map(sorted, groups(found))) == sorted(map(sorted, _pixels(recorded[key], width).values()))
    grown = _pixels(recorded["spans"], width)
    assert groups(result.cosmic_rays) == [grown[g] for g in range(len(grown))]  # also in upstream's order
    assert masked.count("CR") == options["mask_counts_after"]["CR"]
    assert masked.count("INTRP") == options["mask_counts_after"]["INTRP"]
    _, y, x = recorded["pixels"].T
    np.testing.assert_allclose(masked.image[y, x], recorded["value_after"], atol=1e-3)


def test_a_known_median_is_taken_for_the_background_unless_defects_change_the_image() -> None:
    image = np.random.default_rng(8).normal(3, 5, (200, 200))
    defects = {"defects": [{"x0": 20, "y0": 20, "width": 90, "height": 100}]}
    for options, expected in (({}, 7.0), (defects, pytest.approx(3, abs=0.2))):
        found = repair(exposure_of(image), RepairConfig.model_validate(options), keep_cosmic_rays=True, median=7.0)
        assert found.background == expected
