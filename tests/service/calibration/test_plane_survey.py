"""Statistics of large planes against those of sorted arrays, also where the sample misleads."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import Mock

import numpy as np
import pytest

from service import threads
from service.calibration import plane_survey
from service.calibration.kernels.image_statistics import survey_plane
from service.calibration.statistics import clipped_statistics, plane_median, plane_quantiles, plane_statistics

SHAPE = (401, 503)
STRIDE = SHAPE[0] * SHAPE[1] // (1 << 15) | 1
FRACTIONS = (0.0, 0.01, 0.25, 0.5, 0.75, 1.0)

SCENES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "noise": lambda rng: rng.normal(2000, 30, SHAPE),
    "counts": lambda rng: rng.poisson(3, SHAPE),
    "stars": lambda rng: rng.normal(0, 1, SHAPE) + 1e5 * rng.random(SHAPE) ** 20,
    "cauchy": lambda rng: rng.standard_cauchy(SHAPE),
    "constant": lambda rng: np.full(SHAPE, 7.0),
    "half constant": lambda rng: np.where(rng.random(SHAPE) < 0.6, 0.0, rng.normal(0, 1, SHAPE)),
    "two values": lambda rng: np.where(rng.random(SHAPE) < 0.5, -3e38, 3e38),
    "orders of magnitude": lambda rng: rng.normal(0, 1, SHAPE) * 10.0 ** rng.uniform(-35, 35, SHAPE),
    "ramp": lambda rng: np.add.outer(np.arange(SHAPE[0]), 0.25 * np.arange(SHAPE[1])),
}


def holds(image: np.ndarray, mask: np.ndarray | None = None, bad: int = 0) -> None:
    """Compare all answers with those from the sorted good pixels."""
    good = image[np.isfinite(image) & (True if mask is None else mask & bad == 0)].astype(np.float64)
    assert plane_median(image, mask, bad) == np.median(good)
    np.testing.assert_allclose(
        plane_quantiles(image, FRACTIONS, mask, bad), np.quantile(good, FRACTIONS), rtol=1e-12, atol=1e-45
    )
    for num_sigma, num_iter in ((3.0, 3), (1.0, 1), (5.0, 6), (np.inf, 1)):
        found = plane_statistics(image, mask, bad, num_sigma=num_sigma, num_iter=num_iter)
        expected = clipped_statistics(good, num_sigma=num_sigma, num_iter=num_iter)
        assert (found.n_kept, found.median) == (expected.n_kept, expected.median)
        scale = abs(expected.mean) + expected.stdev
        np.testing.assert_allclose(found.mean, expected.mean, atol=1e-9 * scale, rtol=1e-9)
        np.testing.assert_allclose(found.stdev, expected.stdev, atol=1e-9 * scale, rtol=1e-9)


@pytest.mark.parametrize("scene", SCENES)
def test_large_planes(scene: str) -> None:
    image = SCENES[scene](np.random.default_rng(1)).astype(np.float32)
    holds(image)
    holds(image[:, ::-1])


@pytest.mark.parametrize("scene", SCENES)
def test_large_planes_with_pixels_left_out(scene: str) -> None:
    rng = np.random.default_rng(2)
    image = SCENES[scene](rng).astype(np.float32)
    image[rng.random(SHAPE) < 0.05] = np.nan
    image[rng.random(SHAPE) < 0.05] = np.inf
    mask = rng.choice(np.array([0, 0, 0, 1, 2, 3], np.int32), SHAPE)
    mask[100:300] |= 2
    holds(image)
    holds(image, mask, 2)
    holds(image, mask, 0)
    assert np.isnan(plane_median(image, mask | 4, 4))
    assert plane_statistics(image, mask | 4, 4).n_kept == 0
    lone = np.full(SHAPE, np.nan, np.float32)
    lone[3, 4] = 5.0
    assert plane_statistics(lone)[::2] == (5.0, 5.0)


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("misled", [False, True])
def test_threads_change_nothing(scene: str, misled: bool) -> None:
    rng = np.random.default_rng(5)
    image = SCENES[scene](rng).astype(np.float32)
    mask = rng.choice(np.array([0, 0, 0, 1, 2, 3], np.int32), SHAPE)
    if misled:
        image.reshape(-1)[::STRIDE] = 0
    found = []
    for count in (1, 3, 7):
        with threads.at_most(count):
            statistics = plane_statistics(image, mask, 2), plane_statistics(image, num_sigma=1.0, num_iter=5)
            found.append(np.concatenate([*statistics, plane_quantiles(image, FRACTIONS, mask, 2)]).tobytes())
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("sampled", [0.0, 1e4, np.nan, 3e38])
def test_a_sample_that_misleads_costs_no_accuracy(sampled: float) -> None:
    image = np.random.default_rng(3).normal(100, 5, SHAPE).astype(np.float32)
    image.reshape(-1)[::STRIDE] = sampled
    holds(image)


def test_a_second_pass_only_where_the_sample_misleads(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = Mock(wraps=survey_plane)
    monkeypatch.setattr(plane_survey, "survey_plane", passes)
    image = np.random.default_rng(3).normal(100, 5, SHAPE).astype(np.float32)
    plane_statistics(image)
    assert passes.call_count == 1
    image.reshape(-1)[::STRIDE] -= 50
    plane_statistics(image)
    assert passes.call_count == 3


def test_a_limit_that_no_one_expected() -> None:
    """Moments of any interval, whichever the survey was made for."""
    image = np.random.default_rng(4).normal(100, 5, SHAPE).astype(np.float32)
    values = image.astype(np.float64)
    survey = plane_survey.PlaneSurvey(
        image, None, 0, fractions=[0.5], limits=[(100.0, 15.0)], sample=image.reshape(-1)[::STRIDE]
    )
    for center, limit in ((100.0, 15.0), (100.05, 14.9), (100.0, 3.0), (90.0, 15.0), (100.0, 90.0), (0.0, 1.0)):
        kept = values[abs(values - center) <= limit]
        n, mean, stdev = survey.moments(center, limit)
        assert n == kept.size
        if n:
            assert mean == pytest.approx(kept.mean(), rel=1e-10)
            assert stdev == pytest.approx(kept.std(ddof=1), rel=1e-9)


def test_values_at_a_limit_whose_bins_are_rounded_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Just below a power of two, one more is the next whole number in float32."""
    passes = Mock(wraps=survey_plane)
    monkeypatch.setattr(plane_survey, "survey_plane", passes)
    image = np.random.default_rng(4).normal(0, 5, SHAPE).astype(np.float32)
    sample = image.reshape(-1)[::STRIDE].copy()
    center = float(np.sort(sample)[sample.size // 2])
    plane_survey.PlaneSurvey(image, None, 0, fractions=[], limits=[(center, 1.0)], sample=sample)
    low, scale = passes.call_args.args[3:5]
    value = np.float32(low + 512 / scale)
    while (value - low) * scale >= 512:
        value = np.nextafter(value, np.float32(-np.inf))
    assert (value - low) * scale + np.float32(1) == 513
    image[::7, ::5] = value
    inner = np.nextafter(center - float(value), 0)
    survey = plane_survey.PlaneSurvey(image, None, 0, fractions=[], limits=[(center, inner / 0.97)], sample=sample)
    limit = 1.01 * inner
    assert survey.moments(center, limit)[0] == np.count_nonzero(abs(image - np.float64(center)) <= limit)
