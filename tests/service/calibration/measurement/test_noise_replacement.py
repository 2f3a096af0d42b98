"""Neighbours are hidden, each source sees its own pixels, and the exposure stays as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from service.calibration.config.measurement import MeasurementConfig, NoiseReplacerConfig
from service.calibration.kernels.noise_replacement import hide_source, show_source
from service.calibration.kernels.normal_noise import draw_noise, ziggurat_tables
from service.calibration.measurement.measure import measure
from service.calibration.measurement.noise_replacement import noise_replaced_plane
from service.exposure.exposure import Exposure
from service.exposure.footprint import FootprintSet
from service.exposure.psf import GaussianPsf

PSF = GaussianPsf(2.0, 41, 41)


def test_noise_is_normal_and_reproducible(scene: Any) -> None:
    image = scene.stars((400, 400), np.zeros((0, 2)), 0.0, 2.0, 10.0)
    found = scene.boxes(np.array([[200.0, 200.0]]), 190, image.shape)
    with noise_replaced_plane(image, found, NoiseReplacerConfig()) as (plane, pixels):
        pass
    with noise_replaced_plane(image, found, NoiseReplacerConfig()) as (again, _):
        pass
    with noise_replaced_plane(image, found, NoiseReplacerConfig(seed=2, noise_offset=5.0)) as (other, _):
        pass
    assert stats.kstest((plane.noise - pixels.mean) / pixels.stdev, "norm").pvalue > 0.01
    np.testing.assert_array_equal(plane.noise, again.noise)
    assert abs(np.corrcoef(plane.noise, other.noise)[0, 1]) < 0.02
    assert other.noise.mean() - pixels.mean == pytest.approx(5.0, abs=0.2)
    rows = plane.noise.reshape(381, 381)
    assert abs(np.corrcoef(rows[:-1].ravel(), rows[1:].ravel())[0, 1]) < 0.02


def test_noise_follows_the_generator_word_by_word() -> None:
    """One deviate for each pixel of the bounding box, from numpy's words of the same twister."""
    limits, widths, heights = ziggurat_tables()
    words = iter(np.random.RandomState(7).randint(0, 2**32, 200_000, dtype=np.uint32).tolist())

    def deviate() -> float:
        while True:
            word = next(words)
            strip, x = word & 127, (word >> 8) * widths[word & 127]
            if word >> 8 >= limits[strip]:
                u = next(words) / 2**32
                height = heights[strip + 1] * (1.0 - u) + heights[strip] * u if strip < 127 else 0.0
                if strip == 127:
                    x = 3.44428647676 - np.log(1.0 - u) / 3.44428647676
                    height = np.exp(-3.44428647676 * (x - 0.5 * 3.44428647676)) * next(words) / 2**32
                if height >= np.exp(-0.5 * x * x):
                    continue
            return float(x if word & 128 else -x)

    spans = np.array([[y, *((3, 11) if y % 2 else (0, 19))] for y in range(5000)], np.int32)
    deviates = np.array([[deviate() for _ in range(20)] for _ in spans])
    inside = [deviates[y, x0 : x1 + 1] for y, x0, x1 in spans.tolist()]
    offsets = np.array([0, sum(map(len, inside))])
    state = np.random.RandomState(7).get_state(legacy=False)["state"]["key"]
    noise = draw_noise(
        spans,
        np.array([0, 5000]),
        offsets,
        np.array(state, np.uint32),
        limits,
        widths,
        heights,
        np.float32(3),
        np.float32(2),
    )
    np.testing.assert_allclose(noise, 3.0 + 2.0 * np.concatenate(inside), atol=1e-5)


def test_show_and_hide(scene: Any) -> None:
    centers = np.array([[30.0, 30.0], [60.0, 30.0]])
    image = scene.stars((80, 100), centers, 1e5, 2.0, 3.0)
    found = scene.boxes(centers, 8, image.shape)
    true = image.image.copy()
    first, second = np.s_[22:39, 22:39], np.s_[22:39, 52:69]
    outside = np.ones(image.shape, bool)
    outside[first] = outside[second] = False
    with noise_replaced_plane(image, found, NoiseReplacerConfig()) as (plane, _):
        np.testing.assert_array_equal(plane.work[outside], true[outside])
        hidden = plane.work.copy()
        assert hidden[first].max() < 30.0
        assert hidden[second].max() < 30.0
        show_source(plane, 1)
        np.testing.assert_array_equal(plane.work[second], true[second])
        np.testing.assert_array_equal(plane.work[first], hidden[first])
        hide_source(plane, 1)
        np.testing.assert_array_equal(plane.work, hidden)
    np.testing.assert_array_equal(image.image, true)


def test_footprints_over_the_border_are_cut(scene: Any) -> None:
    image = scene.stars((50, 50), np.zeros((0, 2)), 0.0, 2.0, 1.0)
    true = image.image.copy()
    spans = np.array([[-2, 10, 12], [3, -5, 4], [3, 45, 60], [49, 20, 22], [70, 1, 2]], np.int32)
    found = FootprintSet.build(spans, np.array([0, 5]), np.array([[20, 20]], np.int32), peak_offsets=np.array([0, 1]))
    with noise_replaced_plane(image, found, NoiseReplacerConfig()) as (plane, _):
        changed = np.argwhere(plane.work != true)
        expected = {(3, x) for x in [*range(5), *range(45, 50)]} | {(49, x) for x in (20, 21, 22)}
        assert {tuple(pixel) for pixel in changed.tolist()} == expected
        show_source(plane, 0)
        np.testing.assert_array_equal(plane.work, true)


def test_image_is_as_it_was_after_a_measurement_that_fails(scene: Any) -> None:
    """Also where footprints overlap, have pixels of their own, or hold what is no number."""
    catalog, exposure = blend(scene)
    exposure.masked_image.image[60, 60:63] = np.nan
    true = exposure.masked_image.image.copy()
    plain = noise_replaced_plane(exposure.masked_image, catalog.footprints, NoiseReplacerConfig())
    with pytest.raises(RuntimeError, match="broken"), plain as (plane, _):  # noqa: PT012 -- the failure follows
        show_source(plane, 1)
        raise RuntimeError("broken")
    np.testing.assert_array_equal(exposure.masked_image.image, true)


def test_bright_neighbour_does_not_count(scene: Any) -> None:
    """A star 1e4 times brighter 14 px away changes fluxes by no more than the noise that replaces it."""
    faint, bright = np.array([60.3, 60.1]), np.array([74.0, 60.0])
    alone = scene.stars((120, 140), faint[None], 1e4, 2.0, 5.0)
    both = scene.stars((120, 140), np.array([faint, bright]), [1e4, 1e8], 2.0, 5.0)
    spans = [(0, y, 51, 66) for y in range(50, 71)] + [(1, y, 67, 110) for y in range(20, 101)]
    found = scene.footprints(np.array(spans), np.array([[0, 60, 60], [1, 74, 60]]))
    catalog = scene.catalog_of(found)
    both.image[:, :67] = alone.image[:, :67]  # the bright star ends where its footprint ends
    outside = np.ones(both.shape, bool)
    outside[20:101, 67:111] = False
    both.image[outside] = alone.image[outside]
    exposure = Exposure(both, psf=PSF)
    before = both.image.copy()
    measure(catalog, exposure, MeasurementConfig())
    np.testing.assert_array_equal(both.image, before)
    for name in ("base_PsfFlux", "base_GaussianFlux", "base_CircularApertureFlux_12_0"):
        error = catalog[f"{name}_instFluxErr"][0]
        assert abs(catalog[f"{name}_instFlux"][0] - 1e4) < 5 * error, name
    visible = scene.catalog_of(found)
    measure(visible, exposure, MeasurementConfig(do_replace_with_noise=False))
    assert visible["base_CircularApertureFlux_12_0_instFlux"][0] > 2e4


def blend(scene: Any) -> tuple[Any, Any]:
    """A parent (id 1) of two stars 9 px apart whose children (ids 2, 3) own the true share of each pixel."""
    truth = np.array([[55.2, 60.1], [64.4, 59.8]])
    shares = [scene.stars((120, 120), truth[i : i + 1], [3e4, 1e4][i], 2.0, 0.0) for i in range(2)]
    image = scene.stars((120, 120), truth, [3e4, 1e4], 2.0, 1.0)
    parent = scene.footprints(np.array([(0, y, 40, 80) for y in range(45, 76)]), np.array([[0, 55, 60], [0, 64, 60]]))
    cut = np.s_[45:76, 40:81]
    children = [
        FootprintSet.build(
            parent.spans,
            np.array([0, len(parent.spans)]),
            parent.peaks[i : i + 1],
            peak_offsets=np.array([0, 1]),
            pixels=shares[i].image[cut].ravel(),
            pixel_offsets=np.array([0, 31 * 41]),
        )
        for i in range(2)
    ]
    catalog = scene.catalog_of(FootprintSet.concatenate([parent, *children]))
    catalog["parent"] = [0, 1, 1]
    return catalog, Exposure(image, psf=PSF)


def test_children_see_their_own_pixels(scene: Any) -> None:
    catalog, exposure = blend(scene)
    measure(catalog, exposure, MeasurementConfig())
    np.testing.assert_allclose(catalog["base_PsfFlux_instFlux"][1:], [3e4, 1e4], rtol=0.01)
    np.testing.assert_allclose(catalog["base_CircularApertureFlux_12_0_instFlux"][1:], [3e4, 1e4], rtol=0.02)
    np.testing.assert_allclose(catalog["slot_Centroid_x"][1:], [55.2, 64.4], atol=0.01)
    assert catalog["base_CircularApertureFlux_12_0_instFlux"][0] > 3.9e4


def test_order_of_rows_does_not_decide_what_a_source_sees(scene: Any) -> None:
    """Children are measured before their parent wherever they stand, and unknown parents are no error."""
    catalog, exposure = blend(scene)
    measure(catalog, exposure, MeasurementConfig())
    orphans, _ = blend(scene)
    orphans["parent"] = [0, 77, 77]
    measure(orphans, exposure, MeasurementConfig())
    np.testing.assert_allclose(orphans["base_PsfFlux_instFlux"], catalog["base_PsfFlux_instFlux"], rtol=0.01)
    turned, _ = blend(scene)
    turned = turned.select(np.array([2, 0, 1]))
    measure(turned, exposure, MeasurementConfig())
    np.testing.assert_allclose(turned["base_PsfFlux_instFlux"], catalog["base_PsfFlux_instFlux"][[2, 0, 1]], rtol=0.01)
