"""Sums under a Gaussian weight against the exponential of every pixel."""

from __future__ import annotations

import numpy as np
import pytest

from service.calibration.kernels.gaussian_sums import WORK_ROWS, gaussian_sums


def expected(stamp: np.ndarray, x0: float, y0: float, w: tuple[float, float, float]) -> np.ndarray:
    """The sums over all pixels, and those of their absolute values."""
    y, x = np.mgrid[: stamp.shape[0], : stamp.shape[1]].astype(np.float64)
    x, y = x - x0, y - y0
    value = np.exp(-0.5 * (w[0] * x * x + 2.0 * w[2] * x * y + w[1] * y * y)) * stamp
    terms = np.stack([value, value * x, value * y, value * x * x, value * y * y, value * x * y])
    return np.stack([terms.sum(axis=(1, 2)), np.abs(terms).sum(axis=(1, 2))])


def measured(stamp: np.ndarray, x0: float, y0: float, w: tuple[float, float, float]) -> np.ndarray:
    sums = np.full(6, np.nan)
    finite = bool(np.isfinite(stamp).all())
    gaussian_sums(stamp, finite, x0, y0, w, np.full((WORK_ROWS, stamp.shape[1]), np.nan), sums)
    return sums


@pytest.mark.parametrize("axis_ratio", [1.0, 0.5, 0.15, 0.03])  # the slimmest has weights that underflow at corners
@pytest.mark.parametrize("sigma", [0.3, 1.5, 6.0, 90.0])
def test_sums_equal_those_of_the_exponential(sigma: float, axis_ratio: float) -> None:
    rng = np.random.default_rng(5)
    stamp = rng.normal(1.0, 1.0, (50, 48))
    for angle in np.linspace(0.0, np.pi, 7):
        c, s = np.cos(angle), np.sin(angle)
        a, b = sigma**-2, (sigma * axis_ratio) ** -2
        w = (a * c * c + b * s * s, a * s * s + b * c * c, (a - b) * c * s)
        for x0, y0 in ((23.4, 25.8), (0.3, 48.9), (40.0, 2.0)):
            sums, sizes = expected(stamp, x0, y0, w)
            np.testing.assert_array_less(np.abs(measured(stamp, x0, y0, w) - sums), 1e-6 * sizes + 1e-7)


def test_the_weights_of_a_tiny_slim_ellipse_do_not_overflow() -> None:
    # from row to row by more than 1e154 at a corner of the box, so that the square of the ratio is infinite
    stamp = np.ones((14, 32))
    w = (22.100863828422796, 1087.1399996032892, -127.47355153570084)
    sums, sizes = expected(stamp, 22.41581140936297, 6.238134610962097, w)
    found = measured(stamp, 22.41581140936297, 6.238134610962097, w)
    np.testing.assert_array_less(np.abs(found - sums), 1e-6 * sizes + 1e-7)


def test_pixels_that_are_not_finite_count_only_where_they_have_weight() -> None:
    stamp = np.ones((30, 32))
    stamp[2, 3] = np.nan
    w = (0.25, 0.25, 0.0)
    good = np.ones((30, 32))
    np.testing.assert_allclose(measured(stamp, 20.0, 18.0, w), measured(good, 20.0, 18.0, w), rtol=1e-6, atol=1e-5)
    assert np.isnan(measured(stamp, 5.0, 6.0, w)[0])


def test_a_weight_beside_the_stamp_sums_to_nothing() -> None:
    np.testing.assert_array_equal(measured(np.ones((8, 8)), 30.0, 4.0, (1.0, 1.0, 0.0)), 0.0)
