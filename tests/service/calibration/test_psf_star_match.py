from __future__ import annotations

import numpy as np
import pyarrow.parquet
import pytest

from service.calibration.errors import NoPsfStarsToStarsMatchError
from service.calibration.psf_star_match import COPIED_FLAGS, match_psf_stars
from service.exposure.catalog import SourceCatalog
from service.exposure.star_schema import psf_star_schema, star_schema


def at(schema, positions) -> SourceCatalog:
    catalog = SourceCatalog.allocate(schema, len(positions))
    catalog["id"] = np.arange(len(positions)) + 101
    xy = np.array(positions, dtype=float)
    catalog["slot_Centroid_x"], catalog["slot_Centroid_y"] = xy.T
    return catalog


def test_the_closest_childless_star_takes_over_flags_id_and_value():
    psf_stars = at(psf_star_schema(), [(10, 10), (50, 50), (np.nan, 90), (90, 90)])
    psf_stars["calib_psf_used"] = np.array([True, False, True, True])
    psf_stars["apcorr_base_PsfFlux_used"] = np.array([False, True, True, True])
    psf_stars["psf_max_value"] = np.array([7.0, np.nan, 8.0, 9.0])
    stars = at(star_schema(), [(12, 10), (11, 10), (10, 10), (50, 52.9), (np.nan, 90), (90, 93)])
    stars["deblend_nChild"][2] = 2  # the parent sits on the PSF star
    for name in COPIED_FLAGS:
        stars[name] = True  # stale
    stars["psf_id"] = 5
    assert match_psf_stars(psf_stars, stars, 3.0) == 2
    assert stars["psf_id"].tolist() == [0, 101, 0, 102, 0, 0]  # 3 px is not below 3 px
    assert stars["calib_psf_used"].tolist() == [False, True, False, False, False, False]
    assert stars["apcorr_base_PsfFlux_used"].tolist() == [False, False, False, True, False, False]
    assert not stars["calib_psf_candidate"].any()
    np.testing.assert_array_equal(stars["psf_max_value"], [np.nan, 7, np.nan, np.nan, np.nan, np.nan])


def test_ties_go_to_the_last_star_and_a_shared_star_to_the_last_psf_star():
    psf_stars = at(psf_star_schema(), [(10, 10), (50, 50), (51, 50)])
    psf_stars["calib_psf_candidate"] = np.array([True, True, False])
    stars = at(star_schema(), [(11, 10), (9, 10), (50.4, 50)])
    assert match_psf_stars(psf_stars, stars, 3.0) == 3
    assert stars["psf_id"].tolist() == [0, 101, 103]
    assert stars["calib_psf_candidate"].tolist() == [False, True, False]


@pytest.mark.parametrize("positions", [[(30, 10)], [(np.nan, 10)], [(10.0, 13.0)]])
def test_no_match_at_all_is_an_error_with_the_numbers(positions):
    stars = at(star_schema(), positions)
    stars["psf_id"] = 4
    with pytest.raises(NoPsfStarsToStarsMatchError) as caught:
        match_psf_stars(at(psf_star_schema(), [(10, 10), (90, 90)]), stars, 3.0)
    assert caught.value.numbers == {"n_psf_stars": 2, "n_stars": 1}
    assert stars["psf_id"].tolist() == [4]


@pytest.mark.parametrize("field", ["typical1k", "crowded1k", "sharp1k", "undersampled1k"])
def test_recorded_matches_are_reproduced(parity_run, parity_dir, field):
    run = parity_run(field)
    folder = parity_dir / field / "rubin_classic"

    def opened(name, schema):
        table = pyarrow.parquet.read_table(folder / f"{name}.parquet")
        catalog = SourceCatalog.allocate(schema, table.num_rows)
        for column in schema.names:
            catalog[column] = table[column].to_numpy()
        return catalog

    psf_stars, expected = opened("psf_stars", psf_star_schema()), opened("stars", star_schema())
    stars = expected.copy()
    for name in COPIED_FLAGS:
        stars[name] = False
    radius = max(3.0, run.psf("psf_determiner_2").determinant_radius(511.5, 511.5))
    matched = match_psf_stars(psf_stars, stars, radius)
    metadata = (folder / "task_metadata.json").read_text()
    assert f'"matched_psf_star_count": {matched}' in metadata
    np.testing.assert_array_equal(stars["psf_id"], expected["psf_id"])
    np.testing.assert_array_equal(stars["psf_max_value"], expected["psf_max_value"])
    for name in COPIED_FLAGS:
        np.testing.assert_array_equal(stars[name], expected[name], err_msg=name)
