"""Sources are measured in parts as in one walk: neighbours hidden, and the same noise on top where they overlap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service import threads
from service.calibration.config.measurement import (
    CircularApertureFluxConfig,
    MeasurementConfig,
    NoiseReplacerConfig,
    SdssCentroidConfig,
)
from service.calibration.kernels.centroid import CENTROID_FLAGS, measure_centroids
from service.calibration.measurement.columns import configured_columns
from service.calibration.measurement.context import MeasurementContext
from service.calibration.measurement.measure import measure
from service.calibration.measurement.noise_replacement import noise_replaced_plane
from service.calibration.measurement.walk import walk
from service.exposure.catalog import SourceCatalog
from service.exposure.exposure import Exposure
from service.exposure.footprint import FootprintSet
from service.exposure.psf import GaussianPsf
from service.exposure.star_schema import star_schema

PSF = GaussianPsf(2.0, 25, 25)
CONFIG = MeasurementConfig(
    circular_aperture=CircularApertureFluxConfig(radii=(6.0, 12.0)), centroid=SdssCentroidConfig(binmax=4)
)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MeasurementContext, "chunk_size", 8)


def crowd(scene: Any) -> tuple[SourceCatalog, Exposure]:
    """A tall image of stars row by row, places anywhere, a broad source, and children; most overlap."""
    rng = np.random.default_rng(3)
    shape = 2000, 90
    centers = np.column_stack([rng.uniform(10, 80, 80), np.sort(rng.uniform(0, 2000, 80))])
    image = scene.stars(shape, centers, rng.uniform(2e3, 1e5, 80), 2.0, 5.0)
    image.image += scene.stars(shape, np.array([[40.0, 900.0]]), 1e6, 12.0, 0.0).image
    children = np.repeat(centers[::2], 2, axis=0) + rng.uniform(-8, 8, (80, 2))
    light, broad = (
        scene.boxes(np.concatenate([centers, rng.uniform(9, (80, 1990), (9, 2))]), 12, shape),
        [[40.0, 900.0]],
    )
    heavy = scene.boxes(children, 9, shape)
    heavy.pixels = rng.normal(20.0, 5.0, heavy.areas.sum()).astype(np.float32)
    heavy.pixel_offsets = np.concatenate([[0], np.cumsum(heavy.areas)])
    footprints = FootprintSet.concatenate([light, scene.boxes(np.array(broad), 40, shape), heavy])
    schema = star_schema().extended(configured_columns(CONFIG, calibrated=False))
    catalog = SourceCatalog.allocate(schema, len(footprints), footprints)
    catalog["id"] = np.arange(1, len(catalog) + 1)
    catalog["parent"][-len(heavy) :] = np.repeat(catalog["id"][:80:2], 2)
    catalog["base_SdssCentroid_x"][4] = catalog["base_SdssCentroid_y"][4] = -50.0
    return catalog, Exposure(image, psf=PSF)


@pytest.mark.parametrize("replaced", [True, False])
@pytest.mark.parametrize("count", [2, 3, 40])
@pytest.mark.usefixtures("small_chunks")
def test_threads_change_no_bit(scene: Any, count: int, replaced: bool) -> None:
    config = CONFIG.model_copy(update={"do_replace_with_noise": replaced})
    one, exposure = crowd(scene)
    many, before = one.copy(), exposure.masked_image.image.copy()
    measure(one, exposure, config)
    with threads.at_most(count):
        measure(many, exposure, config)
    np.testing.assert_array_equal(exposure.masked_image.image, before)
    assert np.isfinite(one["base_CircularApertureFlux_6_0_instFlux"]).mean() > 0.9
    assert np.isfinite(one["base_GaussianFlux_instFlux"]).mean() > 0.5
    for name in one.schema.names:
        np.testing.assert_array_equal(many[name], one[name], err_msg=name)


@pytest.mark.usefixtures("small_chunks")
def test_every_chunk_finds_the_plane_of_a_single_walk(scene: Any) -> None:
    """In the rows that it may look at, and without copies of many others."""
    catalog, exposure = crowd(scene)
    image = exposure.masked_image
    assert catalog.footprints is not None
    found: list[dict[int, Any]] = []
    for count in (1, 4):
        planes: dict[int, Any] = {}
        with noise_replaced_plane(image, catalog.footprints, NoiseReplacerConfig()) as (plane, _):
            context = MeasurementContext(catalog, image, PSF, plane)
            centers = context.first_peaks()

            def look(plane: Any, rows: Any, centers: Any = centers, planes: Any = planes) -> None:
                for row, y in zip(rows, centers[rows, 1].astype(int), strict=True):
                    planes[row] = plane.work[max(y - 20, 0) : y + 21].copy()
                measure_nothing(plane, rows)

            with threads.at_most(count):
                walk(context, centers, 20.0, look)
                walk(context, centers, 20.0, look)
        found.append(planes)
    assert found[0].keys() == found[1].keys() == set(range(len(catalog)))
    for row in found[0]:
        np.testing.assert_array_equal(found[1][row], found[0][row])
    assert len(context.parts) == 4
    assert sum(part.end - part.first for part in context.parts) < 1.2 * len(image.image)


def measure_nothing(plane: Any, rows: Any, off: float = -99.0, sigma: float = 1.0) -> None:
    """Centroids of sources whose start is off the image, or which have no PSF: each leaves its noise."""
    n = len(plane.span_offsets) - 1
    start, flags = np.full((n, 2), off), np.zeros((n, len(CENTROID_FLAGS)), bool)
    kernels, sigmas = np.ones((len(rows), 3, 3), np.float32), np.full(len(rows), sigma)
    variance, values = np.ones_like(plane.work), np.empty((n, 4))
    options = 4, 1.5, -1.0, 1.0, True, False
    measure_centroids(plane, variance, rows, kernels, sigmas, start, start, *options, values, flags)
    assert flags[rows, CENTROID_FLAGS.index("flag")].all()


@pytest.mark.parametrize(("start", "sigma"), [(-99.0, 1.0), (30.0, np.nan)])
def test_noise_of_what_cannot_be_measured_comes_on_top_as_any(scene: Any, start: float, sigma: float) -> None:
    image = scene.stars((60, 60), np.zeros((0, 2)), 0.0, 2.0, 5.0)
    found = scene.boxes(np.array([[28.0, 30.0], [32.0, 30.0]]), 8, image.shape)
    both = np.s_[22:39, 24:37]
    with noise_replaced_plane(image, found, NoiseReplacerConfig()) as (plane, _):
        noise = [plane.noise[plane.noise_offsets[i] : plane.noise_offsets[i + 1]].reshape(17, 17) for i in range(2)]
        np.testing.assert_array_equal(plane.work[both], noise[1][:, :13])
        measure_nothing(plane, np.array([0]), start, sigma)
        np.testing.assert_array_equal(plane.work[both], noise[0][:, 4:])
