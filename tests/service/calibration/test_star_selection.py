from __future__ import annotations

import numpy as np
import pyarrow.parquet
import pytest

from service.calibration.config.star_selection import StarSelectionConfig
from service.calibration.star_selection import downsampled_rows, select_stars, set_primary_flags
from service.exposure.catalog import SourceCatalog
from service.exposure.star_schema import star_schema


def good_stars(n: int) -> SourceCatalog:
    catalog = SourceCatalog.allocate(star_schema(), n)
    catalog["id"] = np.arange(1, n + 1)
    catalog["base_ClassificationSizeExtendedness_value"] = 0.01
    catalog["slot_CalibFlux_instFlux"] = 1000.0
    catalog["slot_CalibFlux_instFluxErr"] = 10.0
    return catalog


def test_primary_flags_of_isolated_parent_child_and_sky_rows():
    catalog = good_stars(4)
    catalog["deblend_nChild"] = np.array([0, 1, 0, 0])
    catalog["parent"] = np.array([0, 0, 2, 0])
    catalog["sky_source"] = np.array([False, False, False, True])
    catalog["detect_isPrimary"] = True  # stale
    set_primary_flags(catalog)
    assert catalog["detect_fromBlend"].tolist() == [False, False, True, False]
    assert catalog["detect_isIsolated"].tolist() == [True, False, False, True]
    assert catalog["detect_isDeblendedSource"].tolist() == [True, False, True, True]
    assert catalog["detect_isPrimary"].tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("base_PixelFlags_flag_edge", True),
        ("base_PixelFlags_flag_nodata", True),
        ("base_PixelFlags_flag_saturated", True),
        ("base_PsfFlux_flag", True),
        ("base_ClassificationSizeExtendedness_value", 0.1),
        ("base_ClassificationSizeExtendedness_value", np.nan),
        ("slot_CalibFlux_instFlux", 100.0),
        ("slot_CalibFlux_instFlux", np.nan),
        ("slot_CalibFlux_instFluxErr", np.nan),
        ("slot_CalibFlux_instFluxErr", -1.0),
    ],
)
def test_each_cut_drops_its_row_unless_it_is_sky(column, value):
    catalog = good_stars(3)
    catalog[column][1:] = value
    catalog["sky_source"][2] = True
    assert select_stars(catalog, StarSelectionConfig()).tolist() == [True, False, True]


def test_cuts_are_settings():
    catalog = good_stars(4)
    catalog["base_ClassificationSizeExtendedness_value"][0] = 1.0
    catalog["slot_CalibFlux_instFlux"][1] = 50.0
    catalog["slot_CalibFlux_instFlux"][2] = 1e6
    catalog["deblend_nChild"][3] = 2
    set_primary_flags(catalog)
    assert select_stars(catalog, StarSelectionConfig()).tolist() == [False, False, True, True]
    loose = StarSelectionConfig(do_unresolved=False, do_signal_to_noise=False)
    assert select_stars(catalog, loose).all()
    strict = StarSelectionConfig(signal_to_noise_max=1000.0, require_primary=True)
    assert not select_stars(catalog, strict).any()


def test_downsampling_keeps_the_sky_the_order_and_upstreams_choice():
    catalog = good_stars(50)
    catalog["sky_source"][45:] = True
    rows = downsampled_rows(catalog, 10, seed=2**40 + 7)
    expected = np.sort(np.random.RandomState(7).choice(np.arange(45), 10, replace=False))
    np.testing.assert_array_equal(rows, [*expected, *range(45, 50)])
    np.testing.assert_array_equal(downsampled_rows(catalog, 45, seed=7), np.arange(50))


@pytest.mark.parametrize(
    ("field", "variant"),
    [
        *[(f, "rubin_classic") for f in ("typical1k", "crowded1k", "sharp1k", "undersampled1k")],
        ("typical1k", "rubin_adaptive"),
    ],
)
def test_recorded_selection_and_primary_flags_are_reproduced(parity_run, field, variant):
    run = parity_run(field, variant)
    table = pyarrow.parquet.read_table(run.path("select_star_selector_1_stars_before_selection", ".parquet"))
    catalog = SourceCatalog.allocate(star_schema(), table.num_rows)
    for name in catalog.schema.names:
        catalog[name] = table[name].to_numpy()
    flags = [name for name in catalog.schema.names if name.startswith("detect_is") or name == "detect_fromBlend"]
    expected = {name: catalog[name].copy() for name in flags}
    for name in flags:
        catalog[name] = False
    set_primary_flags(catalog)
    for name in flags:
        np.testing.assert_array_equal(catalog[name], expected[name], err_msg=name)
    after = pyarrow.parquet.read_table(
        run.path("select_star_selector_1_stars_after_selection", ".parquet"), columns=["id"]
    )
    selected = catalog["id"][select_stars(catalog, StarSelectionConfig())]
    np.testing.assert_array_equal(selected, after["id"].to_numpy())
