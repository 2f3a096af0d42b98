"""Statistics of cells against NumPy and a sorted copy of each cell."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from service.calibration.kernels.background import CLIPPED_MEAN, MEAN, MEDIAN, cell_statistics
from service.calibration.statistics import clipped_statistics
from service.exposure.background import cell_edges

BAD, OTHER = 4, 1
NO_RATIO = np.empty((0, 0), np.float32)


def patchy(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Mask of discs and lone pixels, one cell wholly covered, and a bit that does not count everywhere."""
    y, x = np.indices(shape)
    mask = np.full(shape, OTHER, np.int32)
    for cy, cx, radius in rng.uniform(0, 1, (30, 3)) * [*shape, 9]:
        mask[np.hypot(y - cy, x - cx) < radius] |= BAD
    mask[rng.random(shape) < 0.02] |= BAD
    mask[: shape[0] // 3, : shape[1] // 4] |= BAD
    return mask


def expected_cell(good: np.ndarray, statistic: int) -> tuple[float, float]:
    clipped = clipped_statistics(good, num_sigma=3.0, num_iter=3)
    if statistic == CLIPPED_MEAN:
        return clipped.mean, clipped.stderr
    error = good.std(ddof=1) / good.size**0.5 if good.size > 1 else np.nan
    return (np.median(good), error * (np.pi / 2) ** 0.5) if statistic == MEDIAN else (good.mean(), error)


SCENES: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "noise": lambda rng, shape: rng.normal(2000, 30, shape),
    "counts": lambda rng, shape: rng.poisson(3, shape),
    "stars": lambda rng, shape: rng.normal(0, 1, shape) + 1e4 * (rng.random(shape) < 0.2),
    "constant": lambda rng, shape: np.full(shape, 7.0),
    "mostly constant": lambda rng, shape: np.where(rng.random(shape) < 0.9, 7.0, rng.normal(7, 1, shape)),
    "ramp": lambda rng, shape: np.add.outer(np.arange(shape[0]), 0.25 * np.arange(shape[1])),
}


@pytest.mark.parametrize("statistic", [MEAN, MEDIAN, CLIPPED_MEAN])
@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize(("shape", "masked"), [((211, 301), True), ((211, 301), False), ((7, 9), True)])
def test_cells_against_numpy(scene: str, statistic: int, shape: tuple[int, int], masked: bool) -> None:
    rng = np.random.default_rng(4)
    image = SCENES[scene](rng, shape).astype(np.float32)
    mask = patchy(rng, shape) if masked else np.zeros(shape, np.int32)
    image[rng.random(shape) < 0.01] = np.nan
    image[rng.random(shape) < 0.01] = -np.inf
    y_edges, x_edges = cell_edges(shape[0], 3), cell_edges(shape[1], 4)
    value, stderr, count = cell_statistics(image, mask, np.int32(BAD), NO_RATIO, y_edges, x_edges, statistic, 3.0, 3)
    for j in range(3):
        for i in range(4):
            cell = np.s_[y_edges[j] : y_edges[j + 1], x_edges[i] : x_edges[i + 1]]
            good = image[cell][np.isfinite(image[cell]) & (mask[cell] & BAD == 0)].astype(np.float64)
            assert count[j, i] == good.size
            expected = expected_cell(good, statistic) if good.size else (np.nan, np.nan)
            np.testing.assert_allclose(value[j, i], expected[0], rtol=2e-7, atol=1e-7)
            np.testing.assert_allclose(stderr[j, i], expected[1], rtol=1e-6, atol=1e-7)
    assert (count[0, 0] == 0) == masked


def test_the_ratio_multiplies_the_image() -> None:
    rng = np.random.default_rng(5)
    image, ratio = rng.normal(100, 3, (2, 90, 70)).astype(np.float32)
    ratio[5, 5] = np.nan
    mask, edges = patchy(rng, image.shape), (cell_edges(90, 2), cell_edges(70, 2))
    found = cell_statistics(image, mask, np.int32(BAD), ratio, *edges, CLIPPED_MEAN, 3.0, 3)
    product = cell_statistics(image * ratio, mask, np.int32(BAD), NO_RATIO, *edges, CLIPPED_MEAN, 3.0, 3)
    for one, other in zip(found, product, strict=True):
        np.testing.assert_array_equal(one, other)
