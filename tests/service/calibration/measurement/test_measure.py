"""What the run as a whole promises: clean or kept flags, both schemas, catalogue plugins, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service.calibration.config.measurement import ExtendednessConfig, MeasurementConfig
from service.calibration.measurement.extendedness import classify_extendedness
from service.calibration.measurement.footprint_area import measure_footprint_area
from service.calibration.measurement.measure import measure
from service.exposure.catalog import SourceCatalog
from service.exposure.exposure import Exposure
from service.exposure.psf import GaussianPsf
from service.exposure.star_schema import psf_star_schema, star_schema

PSF = GaussianPsf(2.0, 25, 25)
CENTER = np.array([[60.2, 60.4]])


def test_second_run_starts_with_clean_columns_unless_told_otherwise(scene: Any) -> None:
    good = scene.stars((121, 121), CENTER, 1e5, 2.0, 3.0)
    bad = good.copy()
    bad.image[:] = -good.image
    catalog = scene.catalog_of(scene.boxes(CENTER, 10, good.shape))
    measure(catalog, Exposure(bad, psf=PSF), MeasurementConfig())
    assert catalog["slot_Centroid_flag_notAtMaximum"][0]
    kept = catalog.copy()
    measure(catalog, Exposure(good, psf=PSF), MeasurementConfig())
    assert not catalog["slot_Centroid_flag"][0]
    assert not catalog["base_PsfFlux_flag"][0]
    measure(kept, Exposure(good, psf=PSF), MeasurementConfig(keep_stale_flags=True))
    assert kept["slot_Centroid_flag_notAtMaximum"][0]
    assert kept["base_PsfFlux_flag"][0]
    assert not kept["base_GaussianFlux_flag"][0]  # upstream clears this one
    assert kept["base_PsfFlux_instFlux"][0] == catalog["base_PsfFlux_instFlux"][0]


def test_value_of_an_earlier_run_stays_only_when_told(scene: Any) -> None:
    image = scene.stars((121, 121), CENTER, 1e5, 2.0, 3.0)
    catalog = scene.catalog_of(scene.boxes(CENTER, 10, image.shape))
    measure(catalog, Exposure(image, psf=PSF), MeasurementConfig())
    size, kept = catalog["slot_Shape_xx"][0], catalog.copy()
    image.image[:] = np.nan
    measure(catalog, Exposure(image, psf=PSF), MeasurementConfig())
    assert np.isnan(catalog["slot_Shape_xx"][0])
    measure(kept, Exposure(image, psf=PSF), MeasurementConfig(keep_stale_flags=True))
    assert kept["slot_Shape_xx"][0] == size
    assert kept["slot_Shape_flag"][0]


def test_both_schemas_hold_the_same_numbers(scene: Any) -> None:
    shape, centers = scene.grid(4, 50)
    image = scene.stars(shape, centers, 1e5, 2.0, 10.0)
    found = scene.boxes(centers, 12, shape)
    catalogs = [SourceCatalog.allocate(schema, len(found), found) for schema in (psf_star_schema(), star_schema())]
    numbers = [measure(catalog, Exposure(image, psf=PSF), MeasurementConfig()) for catalog in catalogs]
    assert numbers[0] == numbers[1]
    assert numbers[0].stdev == pytest.approx(10.0, rel=0.02)
    for name in psf_star_schema().names:
        np.testing.assert_array_equal(
            catalogs[0][name], catalogs[1][name] if name in star_schema() else catalogs[0][name]
        )
    assert np.isfinite(catalogs[1]["slot_PsfShape_xx"]).all()


def test_size_extendedness(scene: Any) -> None:
    shape, centers = scene.grid(2, 80)
    image = scene.stars(shape, centers[:2], 1e6, 2.0, 0.0)
    image.image += scene.stars(shape, centers[2:], 1e6, 2.4, 0.0).image
    catalog = scene.catalog_of(scene.boxes(centers, 15, shape))
    measure(catalog, Exposure(image, psf=GaussianPsf(2.0, 41, 41)), MeasurementConfig(do_replace_with_noise=False))
    chi2 = ((2 * 2.4**2 - 2 * 2.0**2) / np.sqrt(2 * 2.0**2)) ** 2
    expected = [0.0, 0.0, 1 - np.exp(-chi2 / 2), 1 - np.exp(-chi2 / 2)]
    np.testing.assert_allclose(catalog["base_ClassificationSizeExtendedness_value"], expected, atol=1e-4)
    assert not catalog["base_ClassificationSizeExtendedness_flag"].any()
    image.image[:] = 0.0
    measure(catalog, Exposure(image, psf=PSF), MeasurementConfig(do_replace_with_noise=False))
    assert catalog["base_ClassificationSizeExtendedness_flag"].all()
    assert np.isnan(catalog["base_ClassificationSizeExtendedness_value"]).all()


def test_extendedness_by_flux_ratio() -> None:
    catalog = SourceCatalog.allocate(star_schema(), 5)
    catalog["slot_ModelFlux_instFlux"] = [100.0, 106.0, 100.0, 100.0, np.nan]
    catalog["slot_PsfFlux_instFlux"] = [100.0, 100.0, 100.0, 100.0, 100.0]
    catalog["slot_PsfFlux_flag"] = [False, False, True, False, False]
    catalog["slot_ModelFlux_flag"] = [False, False, False, True, False]
    classify_extendedness(catalog)
    name = "base_ClassificationExtendedness"
    np.testing.assert_array_equal(catalog[f"{name}_value"], [0.0, 1.0, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(catalog[f"{name}_flag"], [False, False, True, True, True])
    classify_extendedness(catalog, ExtendednessConfig(flux_ratio=0.9))
    assert catalog[f"{name}_value"][1] == 0.0


def test_footprint_area(scene: Any) -> None:
    catalog = scene.catalog_of(scene.boxes(np.array([[30.0, 30.0], [2.0, 50.0]]), 5, (80, 80)))
    measure_footprint_area(catalog)
    np.testing.assert_array_equal(catalog["base_FootprintArea_value"], [121, 8 * 11])
    with pytest.raises(ValueError, match="footprints"):
        measure_footprint_area(SourceCatalog.allocate(star_schema(), 2))


def test_empty_catalogue(scene: Any) -> None:
    image = scene.stars((60, 60), np.zeros((0, 2)), 0.0, 2.0, 4.0)
    empty = scene.boxes(CENTER / 3, 4, image.shape).select(np.zeros(1, bool))
    numbers = measure(scene.catalog_of(empty), Exposure(image, psf=PSF), MeasurementConfig())
    assert numbers.stdev == pytest.approx(4.0, rel=0.05)


def test_refusals(scene: Any) -> None:
    image = scene.stars((60, 60), np.zeros((0, 2)), 0.0, 2.0, 4.0)
    catalog = scene.catalog_of(scene.boxes(CENTER / 3, 4, image.shape))
    with pytest.raises(ValueError, match="PSF"):
        measure(catalog, Exposure(image), MeasurementConfig())
    with pytest.raises(ValueError, match="footprints"):
        measure(SourceCatalog.allocate(star_schema(), 1), Exposure(image, psf=PSF), MeasurementConfig())


class HalfValidPsf(GaussianPsf):
    """Not a number left of x = 100."""

    def _valid(self, x: Any) -> np.ndarray:
        return np.where(np.atleast_1d(x) < 100.0, np.nan, 1.0).astype(np.float32)

    def kernel_images(self, x: Any, y: Any) -> np.ndarray:
        return super().kernel_images(x, y) * self._valid(x)[:, None, None]

    def images(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        stamps, x0, y0 = super().images(x, y)
        return stamps * self._valid(x)[:, None, None], x0, y0

    def shapes(self, x: Any, y: Any) -> np.ndarray:
        return super().shapes(x, y) * self._valid(x)[:, None]


def test_invalid_psf_is_flagged(scene: Any) -> None:
    centers = np.array([[60.2, 60.3], [140.1, 60.4]])
    image = scene.stars((121, 201), centers, 1e5, 2.0, 3.0)
    catalog = scene.catalog_of(scene.boxes(centers, 10, image.shape))
    measure(catalog, Exposure(image, psf=HalfValidPsf(2.0, 25, 25)), MeasurementConfig())
    np.testing.assert_array_equal(catalog["base_InvalidPsf_flag"], [True, False])
    for name in ("base_SdssCentroid", "base_PsfFlux", "ext_shapeHSM_HsmPsfMoments", "ext_shapeHSM_HsmSourceMoments"):
        np.testing.assert_array_equal(catalog[f"{name}_flag"], [True, False], err_msg=name)
    assert catalog["slot_Centroid_x"][0] == 60.0
    assert catalog["ext_shapeHSM_HsmSourceMoments_flag_no_psf"][0]


def test_positions_far_away_are_flags_not_exceptions(scene: Any) -> None:
    image = scene.stars((121, 121), CENTER, 1e5, 2.0, 3.0)
    for position in (1e30, -1e9, 122.0):
        catalog = scene.catalog_of(scene.boxes(CENTER, 10, image.shape))
        catalog["slot_Centroid_x"], catalog["slot_Centroid_y"] = position, 60.0
        measure(catalog, Exposure(image, psf=PSF), MeasurementConfig())
        assert catalog["base_PixelFlags_flag_offimage"][0]
        for name in ("base_SdssCentroid", "base_PsfFlux", "base_CircularApertureFlux_12_0", "slot_Shape"):
            assert catalog[f"{name}_flag"][0], name
