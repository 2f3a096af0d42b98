"""The photometric calibration against the recorded stage and outputs of Rubin's task."""

from __future__ import annotations

import numpy as np
import pytest

from service.calibration.astrometry.coordinates import separation
from service.calibration.astrometry.source_selector import select_sources
from service.calibration.config.photometry import PhotometryConfig
from service.calibration.photometry import calibrated, photometry
from service.calibration.photometry.direct_match import enclosing_circle
from service.exposure.photo_calib import PhotoCalib
from service.exposure.star_schema import star_schema

_SOURCE_ERRORS = {"use_reference_errors": False}
_PARITY = _SOURCE_ERRORS | {
    "guard_first_clip": False,
    "inverse_variance_weights": False,
    "fail_without_good_stars": False,
}
_FITTED = ("calib_photometry_used",)


class CircleLoader:
    """A loader of a catalogue in memory."""

    def __init__(self, references):
        self.references, self.name, self.bands = references, references.name, references.bands

    def load_pixel_box(self, bbox, wcs, *, margin, epoch, parallax=False):
        raise NotImplementedError

    def load_circle(self, ra, dec, radius, *, epoch, parallax=False):
        table = self.references.table
        inside = separation(table["coord_ra"], table["coord_dec"], *np.radians([ra, dec])) < np.radians(radius)
        return type(self.references)(table.select(inside), self.bands, self.name)


def _solve(run, config):
    stars = run.catalog("stars.parquet", star_schema(), without=_FITTED)
    return stars, photometry.solve(run.empty_exposure(None), stars, CircleLoader(run.refcat()), config)


def test_star_selection_is_upstreams(staged_run):
    recorded, _ = staged_run.stage("select_photometry-match-sourceSelection_1")
    stars = staged_run.catalog("stars.parquet", star_schema())
    assert np.array_equal(stars["id"], recorded["id"])
    assert np.array_equal(select_sources(stars, PhotometryConfig().source_selector), recorded["selected"])


def test_circle_holds_upstreams_references(staged_run):
    recorded, _ = staged_run.stage("select_photometry-match-referenceSelection_1")
    stars = staged_run.catalog("stars.parquet", star_schema())
    ra, dec, radius = np.degrees(enclosing_circle(stars["coord_ra"], stars["coord_dec"]))
    loaded = CircleLoader(staged_run.refcat()).load_circle(ra, dec, radius + 0.25 / 3600, epoch=np.nan)
    assert set(loaded.table["id"]) == set(recorded["id"])


@pytest.mark.parametrize("options", [_PARITY, _SOURCE_ERRORS], ids=["parity", "default"])
def test_match_and_zero_point_are_upstreams(staged_run, options):
    """Exact in both modes: on fields without trouble the guard does not act."""
    stars, result = _solve(staged_run, PhotometryConfig(**options))
    arrays, numbers = staged_run.stage("photometry_1")

    position = dict(zip(stars["id"], zip(stars["coord_ra"], stars["coord_dec"], strict=True), strict=True))
    ours = {(r, position[s]) for r, s in zip(result.matches["ref_id"], result.matches["src_id"], strict=True)}
    theirs = {(r, position[s]) for r, s in zip(arrays["reference_id"], arrays["source_id"], strict=True)}
    assert ours == theirs  # twins at one position are one star
    assert len(result.matches) == staged_run.json("task_metadata.json")["photometry_matches_count"]
    arcsec = np.degrees(np.sort(result.matches["distance"])) * 3600
    np.testing.assert_allclose(arcsec, np.sort(arrays["distance_arcsec"]), atol=1e-9)
    used = staged_run.table("stars.parquet")["calib_photometry_used"]
    assert {position[i] for i in stars["id"][stars["calib_photometry_used"]]} == {
        position[i] for i in stars["id"][used]
    }

    assert result.zero_point == pytest.approx(numbers["zp"], abs=1e-12)
    assert result.sigma == pytest.approx(numbers["sigma"], rel=1e-11)
    assert result.n_good == numbers["ngood"]
    assert result.photo_calib.mean == pytest.approx(numbers["calibration_mean_njy"], rel=1e-12)
    assert result.photo_calib.error == pytest.approx(numbers["calibration_err"], rel=1e-11)
    if options:
        for clip, recorded in zip(result.passes, numbers["iterations"], strict=True):
            assert clip.center == pytest.approx(recorded["center"], abs=1e-12)
            assert clip.sigma == pytest.approx(recorded["sig"], abs=1e-12)
            assert clip.n_good == recorded["n_good"]


def test_calibrated_columns_are_upstreams(staged_run):
    _, numbers = staged_run.stage("photometry_1")
    recorded = staged_run.table("stars.parquet")
    names = [name for name in star_schema().names if name.endswith(("_flux", "_fluxErr", "_mag", "_magErr"))]
    assert len(names) == 22
    stars = staged_run.catalog("stars.parquet", star_schema(), without=tuple(names))
    calibrated.add_calibrated_columns(stars, PhotoCalib(numbers["calibration_mean_njy"], numbers["calibration_err"]))
    assert np.any(recorded["base_GaussianFlux_magErr"] < 0)
    for name in names:
        np.testing.assert_allclose(stars[name], recorded[name], rtol=1e-12, atol=1e-12, err_msg=name)


def test_match_list_has_upstreams_columns(upstream):
    run = upstream("typical1k")
    _, result = _solve(run, PhotometryConfig())
    recorded = run.table("photometry_matches.parquet")
    theirs = {name for name in recorded if name.startswith("src_")}
    assert {name for name in result.matches.schema.names if name.startswith("src_")} == {
        name for name in theirs if name in result.matches.schema
    }
    assert not any(name.startswith(("ref_centroid", "ref_hasCentroid")) for name in result.matches.schema.names)
    assert result.matches.metadata["SMATCHV"] == 2
    assert result.matches.metadata["FILTER"] == "r"
