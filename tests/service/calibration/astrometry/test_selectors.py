"""Cuts on sources and references."""

from __future__ import annotations

import numpy as np
import pytest

from service.calibration.astrometry.source_selector import select_sources
from service.calibration.config.selectors import (
    LoadReferenceObjectsConfig,
    ReferenceSelectorConfig,
    SourceSelectorConfig,
)
from service.calibration.errors import ReferenceBandError
from service.calibration.reference_selector import reference_band, select_references
from service.exposure.catalog import Column, SourceCatalog
from service.exposure.mask import MaskPlanes
from service.exposure.masked_image import MaskedImage
from service.exposure.reference import ReferenceCatalog, reference_schema
from service.exposure.star_schema import star_schema


def _sources(n=6):
    catalog = SourceCatalog.allocate(star_schema(), n)
    catalog["slot_PsfFlux_instFlux"], catalog["slot_PsfFlux_instFluxErr"] = 100.0, 1.0
    catalog["slot_Centroid_xErr"] = catalog["slot_Centroid_yErr"] = 0.1
    catalog["coord_ra"] = catalog["coord_dec"] = 0.1
    catalog["base_ClassificationSizeExtendedness_value"] = 0.0
    catalog["detect_isPrimary"] = True
    return catalog


def test_nothing_set_selects_everything():
    assert select_sources(_sources(), SourceSelectorConfig()).all()


@pytest.mark.parametrize(
    ("config", "column", "values"),
    [
        ({"good_flags": ["calib_psf_used"]}, "calib_psf_used", [False, True, True, False]),
        ({"bad_flags": ["sky_source"]}, "sky_source", [True, False, False, True]),
        ({"signal_to_noise_min": 100}, "slot_PsfFlux_instFlux", [100.0, 100.1, 1e9, np.nan]),
        ({"signal_to_noise_max": 100}, "slot_PsfFlux_instFlux", [100.0, 99.9, -5.0, np.nan]),
        ({"centroid_error_max": 3.0}, "slot_Centroid_yErr", [3.0, 2.9, 0.0, np.inf]),
        ({"centroid_error_max": 3.0}, "slot_Centroid_xErr", [np.nan, 2.9, 0.0, 4.0]),
        ({"require_isolated": True}, "deblend_nChild", [2, 0, 0, 3]),
        ({"require_isolated": True}, "parent", [2, 0, 0, 3]),
        ({"require_primary": True}, "detect_isPrimary", [False, True, True, False]),
        ({"require_finite_ra_dec": True}, "coord_dec", [np.nan, 0.1, -0.1, np.inf]),
        ({"unresolved_max": 0.1}, "base_ClassificationSizeExtendedness_value", [0.1, 0.0, 0.09, np.nan]),
    ],
)
def test_each_cut_of_sources(config, column, values):
    catalog = _sources(4)
    catalog[column] = np.array(values)
    config = SourceSelectorConfig(flux_field="slot_PsfFlux_instFlux", **config)
    assert select_sources(catalog, config).tolist() == [False, True, True, False]


def test_a_bad_flag_that_does_not_exist_passes_and_a_zero_error_is_infinite_signal():
    catalog = _sources(2)
    catalog["slot_PsfFlux_instFluxErr"] = np.array([0.0, 1.0])
    config = SourceSelectorConfig(
        flux_field="slot_PsfFlux_instFlux", bad_flags=("slot_PsfFlux_instFlux_flag",), signal_to_noise_min=200
    )
    assert select_sources(catalog, config).tolist() == [True, False]


def _references(n=4):
    schema = reference_schema(["g", "r"], [Column("resolved", "f8"), Column("photometric", "?")])
    table = SourceCatalog.allocate(schema, n)
    table["coord_ra"] = table["coord_dec"] = 0.1
    for band in "gr":
        table[f"{band}_flux"], table[f"{band}_fluxErr"] = 3630.78, 36.3078  # magnitude 22.5, S/N 100
    table["resolved"], table["photometric"] = 0.0, True
    return ReferenceCatalog(table, ("g", "r"), "test")


def _flux(magnitude):
    return 10 ** (0.4 * (31.4 - np.array(magnitude)))


@pytest.mark.parametrize(
    ("config", "column", "values"),
    [
        ({}, "coord_ra", [np.nan, 0.0, 1.0, np.inf]),
        ({"mag_min": 15}, "r_flux", _flux([14.99, 15.01, 20.0, np.nan])),
        ({"mag_max": 15}, "r_flux", _flux([15.01, 14.99, 3.0, np.nan])),
        ({"signal_to_noise_min": 10}, "r_fluxErr", [400.0, 300.0, 1.0, np.nan]),
        ({"mag_err_max": 0.1}, "r_fluxErr", [400.0, 300.0, 1.0, np.nan]),
        ({"good_flags": ["photometric"]}, "photometric", [False, True, True, False]),
        ({"bad_flags": ["pm_flag"]}, "pm_flag", [True, False, False, True]),
        ({"resolved_max": 0.5}, "resolved", [0.5, 0.4, 0.0, 1.0]),
        (
            {"color_limits": [{"primary": "g", "secondary": "r", "minimum": 0.4, "maximum": 2.0}]},
            "g_flux",
            _flux([22.8, 23.0, 24.4, 24.6]),
        ),
        ({"color_limits": [{"primary": "g", "secondary": "r", "minimum": 0.4}]}, "g_flux", [-1.0, 10.0, 1.0, np.nan]),
    ],
)
def test_each_cut_of_references(config, column, values):
    references = _references()
    references.table[column] = np.array(values)
    selected = select_references(references, "r", ReferenceSelectorConfig(**config))
    assert selected.tolist() == [False, True, True, False]


def test_masked_region_with_the_margin_judged_by_the_nearest_pixel():
    """Columns 0-9 are NO_DATA in a 100 x 50 image whose first pixel is (1000, 2000)."""
    mask = np.zeros((50, 100), np.int32)
    planes = MaskPlanes()
    mask[:, :10] = planes.bitmask(["NO_DATA"])
    mask[:, 50:60] = planes.bitmask(["EDGE"])
    image = MaskedImage(np.zeros((50, 100), "f4"), mask, np.ones((50, 100), "f4"), planes, 1000, 2000)
    x = np.array([900.0, 1009.99, 1010.0, 1055.0, 1300.0, np.nan])
    y = np.array([2020.0, 1990.0, 2500.0, 2020.0, 2020.0, 2020.0])
    config = ReferenceSelectorConfig(do_cull_from_masked_region=True)
    selected = select_references(_references(6), "r", config, masked_image=image, pixels=(x, y))
    assert selected.tolist() == [False, False, True, True, True, True]


def test_band_of_the_references():
    references = _references()
    assert reference_band(references, "r", LoadReferenceObjectsConfig()) == "r"
    assert reference_band(references, "i", LoadReferenceObjectsConfig(filter_map={"i": "g"})) == "g"
    assert reference_band(references, "r", LoadReferenceObjectsConfig(filter_map={"r": "g"})) == "g"
    assert reference_band(references, None, LoadReferenceObjectsConfig(any_filter_maps_to_this="g")) == "g"
    assert reference_band(references, "r", LoadReferenceObjectsConfig(any_filter_maps_to_this="phot_g_mean")) == "r"
    with pytest.raises(ReferenceBandError, match="filter_map"):
        reference_band(references, "z", LoadReferenceObjectsConfig())
