"""Background fits against simulated truth and against the cells that Rubin's code computed."""

from __future__ import annotations

import numpy as np
import pytest

from service import threads
from service.calibration.background import fit_background, subtract_background
from service.calibration.config.background import SubtractBackgroundConfig
from service.calibration.errors import ConstantBackgroundError, TooManyMaskedPixelsError
from service.calibration.statistics import clipped_statistics
from service.exposure.background import BackgroundList
from service.exposure.exposure import Exposure
from service.exposure.mask import MaskPlanes
from service.exposure.masked_image import MaskedImage

CONFIG = SubtractBackgroundConfig()


def masked(
    image: np.ndarray, mask: np.ndarray | None = None, planes: MaskPlanes | None = None, **origin
) -> MaskedImage:
    image = np.asarray(image, np.float32)
    mask = np.zeros(image.shape, np.int32) if mask is None else mask
    return MaskedImage(image, mask, np.ones_like(image), planes or MaskPlanes(), **origin)


def sky(shape: tuple[int, int], level: float = 2000.0, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).poisson(level, shape).astype(np.float32)


def test_flat_sky_is_found_and_a_second_pass_adds_little() -> None:
    # noise of 10: the mean of the surface scatters by 0.02 from field to field
    exposure = Exposure(masked(np.random.default_rng(1).normal(2000, 10, (1024, 1024))))
    backgrounds = BackgroundList()
    for passes in (1, 2):
        subtract_background(exposure, backgrounds, CONFIG)
        assert len(backgrounds) == passes
        assert backgrounds.image().mean() == pytest.approx(2000, abs=0.1)
        assert exposure.masked_image.image.mean(dtype=np.float64) == pytest.approx(0, abs=0.1)
    assert exposure.metadata["BGMEAN"] == pytest.approx([2000, 2000], abs=0.1)
    assert exposure.metadata["BGVAR"][1] == pytest.approx(backgrounds.image().var(ddof=1, dtype=np.float64), rel=1e-5)


def test_background_numbers_go_behind_those_of_the_header() -> None:
    """Exposures that were calibrated before have one number there, or several."""
    for before in (0.3, [0.3]):
        exposure = Exposure(masked(sky((64, 64))), metadata={"BGMEAN": before, "BGVAR": before})
        subtract_background(exposure, BackgroundList(), CONFIG)
        assert exposure.metadata["BGMEAN"] == pytest.approx([0.3, 2000], abs=5)
        assert len(exposure.metadata["BGVAR"]) == 2


def test_ratio_puts_the_model_in_flattened_units() -> None:
    config = SubtractBackgroundConfig(do_apply_flat_background_ratio=True)
    ratio = np.full((1024, 1024), 2.0, np.float32)
    ratio[:, :500] = 1.0
    exposure = Exposure(masked(sky((1024, 1024), 4000) / ratio))
    backgrounds = BackgroundList()
    subtract_background(exposure, backgrounds, config, ratio=ratio)
    assert backgrounds.image().mean() == pytest.approx(4000, abs=0.2)
    assert exposure.masked_image.image.mean(dtype=np.float64) == pytest.approx(0, abs=0.1)
    with pytest.raises(RuntimeError, match="ratio"):
        subtract_background(exposure, backgrounds, config)
    with pytest.raises(ValueError, match="shape"):
        subtract_background(exposure, backgrounds, config, ratio=ratio[1:])
    assert len(backgrounds) == 1


def test_gradient_under_stars_is_removed_to_a_hundredth_of_the_noise() -> None:
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:1536, :1400]
    truth = 2500 * (1 + 0.25 * (x / 1400) * (y / 1536) ** 2)
    image = rng.normal(truth, 50)
    mask = np.zeros(image.shape, np.int32)
    planes = MaskPlanes()
    for cx, cy, flux in zip(
        rng.uniform(0, 1400, 400), rng.uniform(0, 1536, 400), 10 ** rng.uniform(2, 5, 400), strict=True
    ):
        cut = np.s_[max(int(cy) - 20, 0) : int(cy) + 21, max(int(cx) - 20, 0) : int(cx) + 21]
        r2 = (x[cut] - cx) ** 2 + (y[cut] - cy) ** 2
        image[cut] += flux * np.exp(-r2 / 8)
        mask[cut] |= np.where(r2 < 13**2, planes.bitmask(["DETECTED"]), 0).astype(np.int32)
    for weight_power in (1, 2):
        config = SubtractBackgroundConfig(weight_power=weight_power)
        residual = fit_background(masked(image, mask), config).image() - truth
        assert abs(np.median(residual)) < 0.02 * 50
        assert residual.std() < 0.03 * 50


def test_what_is_subtracted_is_the_model() -> None:
    image = sky((400, 300), 900)
    exposure = Exposure(masked(image.copy(), x0=7, y0=-9))
    backgrounds = BackgroundList()
    subtract_background(exposure, backgrounds, CONFIG.model_copy(update={"bin_size": 50}))
    np.testing.assert_array_equal(exposure.masked_image.image, image - backgrounds.image())
    subtract_background(exposure, backgrounds, CONFIG.model_copy(update={"bin_size": 60, "use_approx": False}))
    np.testing.assert_allclose(image - exposure.masked_image.image, backgrounds.image(), atol=2e-4)
    assert backgrounds[0].bbox == exposure.bbox


@pytest.mark.parametrize("statistic", ["MEAN", "MEDIAN", "MEANCLIP"])
def test_cells_hold_the_statistic_of_their_good_pixels(statistic: str) -> None:
    image = np.random.default_rng(6).normal(10, 2, (90, 130)).astype(np.float32)
    image[5, 7] = np.nan
    image[50, 60] = -np.inf
    image[20:25, 20] = 1e6
    planes = MaskPlanes()
    mask = np.zeros(image.shape, np.int32)
    mask[20:25, 20] = planes.bitmask(["EDGE"])
    mask[60:, 90:] = planes.bitmask(["DETECTED_NEGATIVE"])
    mask[0, 0] = planes.bitmask(["INTRP"])  # not ignored
    config = SubtractBackgroundConfig(bin_size=45, statistics_property=statistic, use_approx=False)
    model = fit_background(masked(image, mask), config)
    assert model.value.shape == (2, 3)
    ignored = (mask & ~planes.bitmask(["INTRP"])) != 0
    for j, rows in enumerate((slice(0, 45), slice(45, 90))):
        for i, columns in enumerate((slice(0, 43), slice(43, 87), slice(87, 130))):
            good = image[rows, columns][~ignored[rows, columns] & np.isfinite(image[rows, columns])].astype(np.float64)
            expected = np.median(good) if statistic == "MEDIAN" else good.mean()
            error = good.std(ddof=1) / good.size**0.5 * (1.2533141 if statistic == "MEDIAN" else 1)
            if statistic == "MEANCLIP":
                expected, error = clipped_statistics(good).mean, clipped_statistics(good).stderr
            assert model.value[j, i] == pytest.approx(expected, rel=1e-6)
            assert model.stderr[j, i] == pytest.approx(error, rel=1e-6)


def test_fit_does_not_depend_on_origin_or_bit_numbers_and_follows_the_scale() -> None:
    rng = np.random.default_rng(2)
    image = rng.normal(500, 20, (512, 512)).astype(np.float32)
    usual = MaskPlanes()
    mask = np.where(rng.random(image.shape) < 0.1, usual.bitmask(["DETECTED"]), 0).astype(np.int32)
    image[mask > 0] += 1e4
    reference = fit_background(masked(image, mask), SubtractBackgroundConfig(bin_size=64)).image()
    other = MaskPlanes({"DETECTED": 0, "BAD": 20})
    moved = masked(image * 4, usual.remap(mask, other), other, x0=-100, y0=3000)
    np.testing.assert_allclose(
        fit_background(moved, SubtractBackgroundConfig(bin_size=64)).image(), 4 * reference, rtol=1e-6
    )


@pytest.mark.parametrize("statistic", ["MEAN", "MEDIAN", "MEANCLIP"])
@pytest.mark.parametrize("with_ratio", [False, True])
def test_threads_change_no_cell(statistic: str, with_ratio: bool) -> None:
    rng = np.random.default_rng(6)
    image = sky((611, 430))
    image[rng.random(image.shape) < 0.02] = np.nan
    ratio = rng.normal(1, 0.1, image.shape).astype(np.float32) if with_ratio else None
    config = SubtractBackgroundConfig(bin_size=60, statistics_property=statistic)
    alone = fit_background(masked(image), config, ratio=ratio)
    with threads.at_most(3):
        together = fit_background(masked(image), config, ratio=ratio)
    assert alone.value.shape[0] == 11
    np.testing.assert_array_equal(together.value, alone.value)
    np.testing.assert_array_equal(together.stderr, alone.stderr)


def test_nothing_to_fit_is_an_error_with_its_reason() -> None:
    planes = MaskPlanes()
    covered = np.full((200, 200), planes.bitmask(["NO_DATA"]), np.int32)
    with pytest.raises(TooManyMaskedPixelsError) as failure:
        fit_background(masked(sky((200, 200)), covered), CONFIG)
    assert failure.value.numbers == {"pixels": 40000, "masked": 40000}
    with pytest.raises(TooManyMaskedPixelsError):
        fit_background(masked(np.full((200, 200), np.nan)), CONFIG)
    with pytest.raises(ConstantBackgroundError, match="scatter"):
        fit_background(masked(np.full((900, 900), 5.0)), CONFIG)
    unweighted = fit_background(masked(np.full((900, 900), 5.0)), SubtractBackgroundConfig(weighting=False))
    np.testing.assert_allclose(unweighted.image(), 5, rtol=1e-6)


def test_small_images_lower_the_order_or_enlarge_the_grid() -> None:
    image = masked(sky((181, 201), 500))
    lowered = fit_background(image, CONFIG)
    assert (lowered.value.shape, lowered.approx_order) == ((2, 2), 1)
    enlarged = fit_background(image, SubtractBackgroundConfig(undersample_style="INCREASE_NXNYSAMPLE"))
    assert (enlarged.value.shape, enlarged.approx_order) == ((7, 7), 6)
    with pytest.raises(ValueError, match="2 x 2 cells needs at least 7"):
        fit_background(image, SubtractBackgroundConfig(undersample_style="THROW_EXCEPTION"))
    with pytest.raises(ValueError, match="needs at least 5"):
        fit_background(image, SubtractBackgroundConfig(undersample_style="THROW_EXCEPTION", use_approx=False))
    with pytest.raises(ValueError, match="differ"):
        fit_background(image, SubtractBackgroundConfig(approx_order_y=4))


def test_filter_fills_empty_cells_and_takes_out_single_ones() -> None:
    image = np.random.default_rng(0).normal(100, 1, (640, 640))
    image[64:128, 64:128] += 500
    image[192:256, 384:448] = np.nan
    config = SubtractBackgroundConfig(bin_size=64, use_approx=False)
    raw = fit_background(masked(image), config).value
    assert np.isnan(raw[3, 6])
    filtered = fit_background(masked(image), config.model_copy(update={"do_filter_super_pixels": True})).value
    np.testing.assert_allclose(filtered, 100, atol=0.2)


STAGES = ["psf_subtract_background_1", "psf-background_1", "psf-background_2", "star-background_1"]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("field", ["typical1k", "crowded1k", "sharp1k", "undersampled1k"])
def test_cells_are_upstreams(parity_run, field: str, stage: str) -> None:
    run = parity_run(field)
    name = f"background_{stage}"
    recorded = run.arrays(name)
    image = run.masked_image(name)
    image.mask[:] = np.unpackbits(recorded["ignored_packed"])[: image.mask.size].reshape(image.shape)
    image.planes = MaskPlanes({"BAD": 0})
    model = fit_background(image, CONFIG)
    difference = abs(model.value - recorded["stats_value"])
    # a pixel at the clipping limit may fall on either side where the input was rebuilt to float32 rounding only
    assert (difference > 3e-5).sum() <= 2
    assert difference.max() < 0.05
    assert np.median(abs(model.stderr / recorded["stats_stderr"] - 1)) < 1e-6
    assert abs(model.image() - run.background(run.path(name, ".npz"))).max() < (
        2e-4 if difference.max() < 3e-5 else 0.05
    )


@pytest.mark.parametrize("field", ["typical1k", "crowded1k", "sharp1k", "undersampled1k"])
def test_temporary_local_background_is_upstreams(parity_run, field: str) -> None:
    run = parity_run(field)
    name = "tempbackground_star-tempLocalBackground_1"
    recorded, options = run.arrays(name), run.options(name)
    image = run.masked_image(name)
    ignored = image.is_set(options["ignored_planes"])
    assert np.count_nonzero(ignored) == options["n_ignored_pixels"]
    model = fit_background(image, SubtractBackgroundConfig(bin_size=64, use_approx=False))
    difference = abs(model.value - recorded["stats_value"])
    assert (difference > 3e-5).sum() <= 2
    if difference.max() < 3e-5:
        np.testing.assert_allclose(model.image()[::8, ::8], recorded["model_every_8px"], atol=1e-4)


SIZE, NOISE = 1536, 30.0


def sloped(halo: float, seed: int, *, stars: int = 0) -> tuple[Exposure, np.ndarray, np.ndarray]:
    """A slope, the halo of a star off the middle and, unmasked, the wings of others; sky, distance from the halo."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    truth = 900 * (1 + 0.2 * x / SIZE - 0.1 * (y / SIZE) ** 2)
    distance = np.hypot(x - 1000, y - 900)
    image = truth + halo * np.exp(-distance / 100) + rng.normal(0, NOISE, truth.shape)
    for cx, cy in rng.uniform(0, SIZE, (stars, 2)):
        image += 300 * np.exp(-np.hypot(x - cx, y - cy) / 12)
    return Exposure(masked(image)), truth, distance


def spread_of_cells(error: np.ndarray, where: np.ndarray) -> float:
    """Largest peak-to-peak difference in a cell that lies where it is to be judged, in units of the noise."""
    n = SIZE // 128
    cells = error.reshape(n, 128, n, 128)
    return float(np.ptp(cells, axis=(1, 3))[where.reshape(n, 128, n, 128).all(axis=(1, 3))].max()) / NOISE


@pytest.mark.parametrize("halo", [30.0, 120.0])
def test_halo_does_not_make_the_surface_ring(halo: float) -> None:
    """Six scale lengths away the halo is less than a hundredth of the noise; the surface alone is off by far more."""
    spread = {}
    for limit in (0.0, CONFIG.structure_limit):
        exposure, truth, distance = sloped(halo, 4)
        backgrounds = BackgroundList()
        for _ in range(2):
            subtract_background(exposure, backgrounds, CONFIG.model_copy(update={"structure_limit": limit}))
        spread[limit] = spread_of_cells(backgrounds.image() - truth, distance > 600)
    assert spread[0.0] > 0.2
    assert spread[CONFIG.structure_limit] < 0.1
    near = (distance > 150) & (distance < 400)  # the halo itself is in the model
    expected = truth + halo * np.exp(-distance / 100)
    assert np.abs((backgrounds.image() - expected)[near]).mean() < 0.05 * NOISE
    assert sum(model.approx_order < 0 for model in backgrounds) == len(backgrounds) / 2


def test_structure_is_judged_again_with_what_is_left() -> None:
    """Of a second image with half the noise, more of the halo stands out; neither spline may be lost."""
    exposure, truth, distance = sloped(120.0, 5)
    backgrounds = BackgroundList()
    subtract_background(exposure, backgrounds, CONFIG)
    first = spread_of_cells(backgrounds.image() - truth, distance > 600)
    fresh, _, _ = sloped(120.0, 6)
    mean = 0.1 * fresh.masked_image.image + 0.9 * (truth + 120 * np.exp(-distance / 100))
    exposure = Exposure(masked(mean - backgrounds.image()))
    subtract_background(exposure, backgrounds, CONFIG)
    assert [model.approx_order < 0 for model in backgrounds] == [False, True, False, True]
    assert spread_of_cells(backgrounds.image() - truth, distance > 600) < min(first, 0.05)
    near = (distance > 150) & (distance < 400)
    assert np.abs((backgrounds.image() - truth - 120 * np.exp(-distance / 100))[near]).mean() < 0.03 * NOISE


@pytest.mark.parametrize(("seed", "stars"), [(7, 0), (8, 0), (9, 40), (10, 150)])
def test_surface_alone_where_nothing_stands_out(seed: int, stars: int) -> None:
    """Neither noise nor lone stars are structure: then the model is upstream's."""
    exposure, _, _ = sloped(0.0, seed, stars=stars)
    plain = fit_background(exposure.masked_image, CONFIG)
    backgrounds = BackgroundList()
    subtract_background(exposure, backgrounds, CONFIG)
    assert len(backgrounds) == 1
    np.testing.assert_array_equal(backgrounds[0].value, plain.value)


def test_structure_in_flattened_units() -> None:
    """The surface and the spline are divided by the ratio alike."""
    exposure, truth, distance = sloped(120.0, 4)
    ratio = np.where(np.arange(SIZE) < 700, 1.0, 2.0).astype(np.float32) * np.ones((SIZE, 1), np.float32)
    exposure.masked_image.image /= ratio
    backgrounds = BackgroundList()
    config = CONFIG.model_copy(update={"do_apply_flat_background_ratio": True})
    subtract_background(exposure, backgrounds, config, ratio=ratio)
    assert len(backgrounds) == 2
    near = (distance > 150) & (distance < 400)
    left = exposure.masked_image.image * ratio
    assert abs(left[near & (ratio > 1)].mean()) < 0.05 * NOISE
    assert abs(left[near & (ratio == 1)].mean()) < 0.05 * NOISE
    assert spread_of_cells(backgrounds.image() - truth, distance > 600) < 0.1
