"""Sums over footprints and stamps against the same in a few lines of numpy."""

from __future__ import annotations

import numpy as np
import pytest

from service.calibration.config.psf import ShapeletsConfig
from service.calibration.kernels.psf_stamps import largest_pixels
from service.calibration.kernels.star_stamps import far_from_masked, reduced_chi2
from service.calibration.psf.raw_moments import raw_moments
from service.exposure.footprint import FootprintSet
from service.exposure.mask import DEFAULT_PLANES
from service.exposure.masked_image import MaskedImage

N, SIZE = 12, 15
X0, Y0 = 1000, -50


@pytest.fixture
def stamps() -> dict[str, np.ndarray]:
    """Noisy stars with masked pixels, the last one wholly masked."""
    rng = np.random.default_rng(8)
    shift = rng.uniform(-0.5, 0.5, (N, 2))
    r = np.arange(SIZE) - SIZE // 2
    dx, dy = r - shift[:, :1], r - shift[:, 1:]
    distance2 = dx[:, None, :] ** 2 + dy[:, :, None] ** 2
    models = np.exp(-0.5 * distance2 / 2.0**2) / (2 * np.pi * 2.0**2)
    flux = rng.uniform(1e3, 1e5, N)
    image = flux[:, None, None] * models + rng.normal(0, 10, models.shape)
    weight = rng.uniform(0.005, 0.02, models.shape) * (rng.random(models.shape) > 0.1)
    weight[-1] = 0.0
    single = {"image": image * (weight > 0), "weight": weight, "models": models}
    planes = {name: values.astype(np.float32) for name, values in single.items()}
    return planes | {"shift": shift, "flux": flux, "distance2": distance2}


def test_chi2_is_that_of_the_best_amplitude(stamps: dict[str, np.ndarray]) -> None:
    rows = np.array([0, 3, 4, 9])
    image, weight, model, distance2 = (
        stamps[name][rows].astype(float) for name in ("image", "weight", "models", "distance2")
    )
    found = reduced_chi2(stamps["image"], stamps["weight"], stamps["shift"], rows, stamps["models"][rows], 0.05)
    amplitude = (weight * model * image).sum((1, 2)) / (weight * model**2).sum((1, 2))
    expected = amplitude[:, None, None] * model
    counted = (weight > 0) & (distance2 < (SIZE / 2) ** 2)
    with np.errstate(divide="ignore"):
        terms = (image - expected) ** 2 / (1 / weight + (0.05 * expected) ** 2)
    chi2 = (terms * counted).sum((1, 2)) / (counted.sum((1, 2)) - 1)
    assert np.ptp(counted.sum((1, 2))) > 0
    np.testing.assert_allclose(found, chi2, rtol=1e-5)


def test_grid_pixels_that_touch_a_masked_pixel() -> None:
    weight = np.ones((3, 5, 5), np.float32)
    weight[0, 0, 4] = weight[2, 2, 2] = 0.0
    places = np.array([0, 0, 1, 2, 3, 3, 4])
    known = np.empty((3, 7, 7), np.bool_)
    far_from_masked(weight, np.tile(places, (3, 1)), np.tile(places, (3, 1)), known)
    for star, (y, x) in ((0, (0, 4)), (2, (2, 2))):
        touches = (np.abs(places - y) <= 1)[:, None] & (np.abs(places - x) <= 1)
        np.testing.assert_array_equal(known[star], ~touches)
    assert known[1].all()


def scene() -> tuple[MaskedImage, FootprintSet]:
    """Footprints of random discs of noise, some of them beyond the image, with bad pixels."""
    rng = np.random.default_rng(9)
    height, width = 90, 120
    image = rng.gamma(2.0, 50.0, (height, width)).astype(np.float32)
    mask = np.where(rng.random(image.shape) < 0.01, 1 << DEFAULT_PLANES.index("SAT"), 0).astype(np.int32)
    image[rng.random(image.shape) < 0.005] = np.nan
    planes = MaskedImage(image, mask, image + np.float32(20), x0=X0, y0=Y0)
    spans, offsets = [], [0]
    for _ in range(60):
        x, y, radius = rng.integers(X0 - 4, X0 + width + 4), rng.integers(Y0 - 4, Y0 + height + 4), rng.integers(2, 9)
        for dy in range(-radius, radius + 1):
            half = int((radius**2 - dy**2) ** 0.5)
            spans.append((y + dy, x - half, x + half))
        offsets.append(len(spans))
    return planes, FootprintSet.build(np.array(spans, np.int32), np.array(offsets, np.int64))


def test_raw_moments_are_those_of_the_good_pixels() -> None:
    planes, footprints = scene()
    config = ShapeletsConfig()
    parent = np.zeros(len(footprints), np.int64)
    parent[7] = 3
    found = raw_moments(planes, footprints, parent, config)
    bad = (planes.mask != 0) | ~np.isfinite(planes.image)
    n_measured = n_near = 0
    for i in range(len(footprints)):
        own = footprints.spans[footprints.span_offsets[i] : footprints.span_offsets[i + 1]] - [Y0, X0, X0]
        inside = np.zeros(planes.shape, bool)
        for y, x0, x1 in own:
            if 0 <= y < planes.shape[0]:
                inside[y, max(x0, 0) : max(x1 + 1, 0)] = True
        y, x = np.nonzero(inside & ~bad)
        value, variance = planes.image[y, x].astype(float), planes.variance[y, x].astype(float)
        if i == 7 or not value.size:
            assert found.flag[i]
            assert np.isnan(found.flux[i])
            continue
        cx, cy = np.average(x, weights=value), np.average(y, weights=value)
        xx, yy, xy = (np.average(p, weights=value) for p in ((x - cx) ** 2, (y - cy) ** 2, (x - cx) * (y - cy)))
        np.testing.assert_allclose(found.flux[i], value.sum(), rtol=1e-12)
        np.testing.assert_allclose(found.flux_err[i], variance.sum() ** 0.5, rtol=1e-12)
        np.testing.assert_allclose(found.center[i], [cx + X0, cy + Y0], rtol=1e-12)
        np.testing.assert_allclose(found.shape[i], [xx, yy, xy], rtol=1e-9, atol=1e-9)
        y, x = np.nonzero(inside & bad)
        near = bool(np.any((x - cx) ** 2 + (y - cy) ** 2 <= config.bad_pixel_exclusion_radius**2))
        many = len(x) > config.bad_pixel_max_fraction * inside.sum()
        holds = inside[int(np.floor(cy + 0.5)), int(np.floor(cx + 0.5))]
        assert found.flag[i] == (near or many or not holds or not xx * yy > xy**2)
        n_measured, n_near = n_measured + (not found.flag[i]), n_near + near
    assert n_measured > 10
    assert n_near > 3


def test_largest_pixels_ignore_what_is_not_a_number() -> None:
    image = np.random.default_rng(1).normal(size=(30, 40)).astype(np.float32)
    image[5:8, 5:8] = np.nan
    image[20, 21], image[10, 30] = np.inf, np.nan
    corners = np.array([[5, 5], [3, 4], [20, 19], [29, 9], [37, 27]])
    expected = [np.fmax.reduce(image[y : y + 3, x : x + 3], axis=None) for x, y in corners]
    assert np.isnan(expected[0])
    assert np.isinf(expected[2])
    np.testing.assert_array_equal(largest_pixels(image, corners, 3), expected)
