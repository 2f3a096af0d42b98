"""Calibrations of small exposures through the API: what a failure leaves, and how the tables of a job join.

The work is the real one, done here instead of in a worker's child process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import scenes
from astropy.io import fits

from service import formats
from service.calibration import calibrate_image
from service.calibration.psf.measure_psf import measure_psf
from service.exposure.psf import PsfexPsf
from service.jobs.webhook_sender import signed_headers
from service.storage.records import WebhookSecret
from tests.api.conftest import House, open_house
from tests.documentation.blocks import World
from visitcal import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

SHAPE = (256, 256)
IMAGE = {"preliminary_visit_image"}
BACKGROUND = IMAGE | {"preliminary_visit_image_background"}
PSF_STARS = BACKGROUND | {"single_visit_psf_star", "single_visit_psf_star_footprints"}
MATCHED = PSF_STARS | {"initial_astrometry_match_detector"}
STARS = MATCHED | {"single_visit_star_unstandardized", "single_visit_star_footprints"}
ALL = STARS | {"initial_photometry_match_detector", "preliminary_visit_mask", "initial_photoCalib_detector"}


@dataclass
class Row:
    """A row of the table of partial outputs, and what provokes it."""

    code: str
    type: str
    stage: str
    products: set[str]
    components: set[str]
    numbers: set[str] = field(default_factory=set)
    config: dict[str, Any] = field(default_factory=dict)
    references: str = "sim"
    n_psf_star: bool = False  # the summary has seen the star catalogue


ROWS = {
    "psf": Row(
        "repair.too_many_cosmic_rays",
        "TooManyCosmicRays",
        "psf.first_pass",
        BACKGROUND,
        set(),
        {"maxCosmicRays"},
        {"psf_repair": {"cosmicray": {"n_cr_pixel_max": 1}}},
    ),
    "centroids": Row(
        "psf.all_centroids_flagged",
        "AllCentroidsFlaggedError",
        "psf.measure",
        PSF_STARS,
        {"psf"},
        {"shapelets_iq_score", "n_sources", "psf_shape_ixx", "psf_shape_iyy", "psf_shape_ixy", "psf_size"},
        {"psf_repair": {"do_cosmic_ray": False}},
    ),
    "aperture correction": Row(
        "aperture_correction.too_few_stars",
        "MeasureApCorrError",
        "aperture_correction",
        PSF_STARS,
        {"psf"},
        {"name", "nSources", "ndof"},
        {"measure_aperture_correction": {"signal_to_noise_min": 1e6}},
    ),
    "astrometry": Row(
        "astrometry.matcher_failure",
        "MatcherFailure",
        "astrometry",
        PSF_STARS,
        {"psf", "ap_corr_map"},
        {"iterations"},
        references="elsewhere",
    ),
    "stars": Row(
        "background.too_many_masked_pixels",
        "TooManyMaskedPixelsError",
        "stars.detect",
        MATCHED,
        {"psf", "ap_corr_map"},
        config={"star_detection": {"threshold_value": 1e-3, "include_threshold_multiplier": 1.0}},
    ),
    "cross-match": Row(
        "stars.no_psf_star_match",
        "NoPsfStarsToStarsMatchError",
        "stars.match",
        STARS,
        {"psf", "ap_corr_map"},
        {"n_psf_stars", "n_stars"},
        {"star_selector": {"signal_to_noise_min": 1e6}, "star_sky_sources": {"n_sources": 0}},
    ),
    "check": Row(
        "astrometry.bad_fit",
        "BadAstrometryFit",
        "astrometry",
        STARS,
        {"psf", "ap_corr_map"},
        {"nMatches", "distMean"},
        {"astrometry": {"max_mean_distance_arcsec": 1e-9}},
        n_psf_star=True,
    ),
    "photometry": Row(
        "photometry.matcher_failure",
        "MatcherFailure",
        "photometry",
        STARS,
        {"psf", "ap_corr_map", "wcs"},
        {"goodSrc", "goodRef"},
        {"photometry": {"reference_selector": {"mag_max": 1.0}}},
        n_psf_star=True,
    ),
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A service that has one exposure with 25 stars and a cosmic ray, and two catalogues."""
    directory = tmp_path_factory.mktemp("house")
    rng = np.random.default_rng(12)
    stars = scenes.random_stars(SHAPE, 25, rng)
    exposure = scenes.make_exposure(SHAPE, stars, rng, origin=(30, 50))
    others = scenes.random_stars(SHAPE, 40, np.random.default_rng(99), rim=5)
    with open_house(directory) as house:
        for name, positions in (("sim", stars), ("elsewhere", others)):
            table = scenes.reference_table(exposure, positions)
            pq.write_table(table, directory / f"{name}.parquet")
            put = house.client.put(f"/v1/refcats/{name}", content=(directory / f"{name}.parquet").read_bytes())
            assert put.status_code == 201, put.text
        exposure.masked_image.image[40::50, 40::50] += 4000
        formats.write_exposure(directory / "exposure.fits", exposure)
        yield house


def calibrate(house: House, **parameters: Any) -> dict[str, Any]:
    """The document of a job that has been done."""
    return house.calibrate((house.directory / "exposure.fits").read_bytes(), **parameters)


def fetch_table(house: House, job: dict[str, Any], product: str) -> dict[str, np.ndarray]:
    """Columns of a catalogue as the API gives it in Parquet."""
    answer = house.client.get(f"/v1/jobs/{job['id']}/catalogs/{product}", params={"format": "parquet"})
    assert answer.status_code == 200, answer.text
    table = pq.read_table(BytesIO(answer.content))
    return {name: table[name].to_numpy() for name in table.column_names}


def _ring(psf: PsfexPsf) -> PsfexPsf:
    """The PSF of a telescope out of focus: in its light no star has a peak."""
    r = np.arange(83.0) - 41
    ring = np.exp(-0.5 * ((np.hypot(r, r[:, None]) / 2 - 5) / 1.5) ** 2) * np.clip(1 + 0.005 * r, 0, None)
    return PsfexPsf((ring / ring.sum())[None].astype(np.float32), (0.0, 0.0), (1.0, 1.0), psf.average_position)


def _out_of_focus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the second fit of the PSF end in a ring."""
    calls = []

    def measured(catalog: Any, exposure: Any, config: Any, **known: Any) -> Any:
        found = measure_psf(catalog, exposure, config, **known)
        calls.append(found)
        if len(calls) == 2:
            exposure.psf = _ring(found.psf)
        return found

    monkeypatch.setattr(calibrate_image.measure_psf, "measure_psf", measured)


@pytest.mark.parametrize("name", ROWS)
def test_products_of_each_failure(house: House, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every row of the specification's table of partial outputs, as the ``parity`` preset follows it."""
    row = ROWS[name]
    if name == "centroids":
        _out_of_focus(monkeypatch)
    job = calibrate(house, references=row.references, preset="parity", config=row.config)
    assert job["phase"] == "ERROR"
    _check_error(house, job, row)
    assert {product["id"] for product in job["products"]} == row.products
    for product in job["products"]:
        for kind, link in product["links"].items():
            answer = house.client.get(link)
            assert answer.status_code == 200, (product["id"], kind, answer.text[:200])
            assert answer.content
    for absent in ALL - row.products:
        answer = house.client.get(f"/v1/jobs/{job['id']}/products/{absent}")
        assert (answer.status_code, answer.json()["code"]) == (404, "product.not_made")

    path = tmp_path / "image.fits"
    path.write_bytes(house.client.get(f"/v1/jobs/{job['id']}/images/image").content)
    exposure = formats.read_exposure(path).exposure
    components = ("psf", "ap_corr_map", "wcs", "photo_calib")
    assert {part for part in components if getattr(exposure, part)} == row.components
    assert exposure.unit == "electron"
    header = fits.getheader(path)
    assert header["FAILURE.TYPE"] == row.type
    assert header["FAILURE.MESSAGE"] == job["error"]["message"]
    assert all(f"FAILURE.METADATA.{number.upper()}" in header for number in row.numbers)
    _check_summary(job["summary"], row)


def _check_error(house: House, job: dict[str, Any], row: Row) -> None:
    error = job["error"]
    assert (error["code"], error["type"], error["stage"]) == (row.code, row.type, row.stage)
    assert error["message"]
    assert error["hint"]
    assert row.numbers <= set(error["numbers"])
    assert row.code in [known["code"] for known in house.client.get("/v1/schema/errors").json()["job_errors"]]
    failure = house.client.get(f"/v1/jobs/{job['id']}/metadata").json()["failure"]
    assert failure["message"].startswith(error["message"])
    assert (failure["type"], failure["stage"]) == (row.type, row.stage)
    assert failure.get("metadata", {}) == error["numbers"]


def _check_summary(summary: dict[str, Any], row: Row) -> None:
    """Statistics of what is left, null for the rest."""
    assert summary["expTime"] == 30.0
    assert summary["meanVar"] == pytest.approx(100.0)
    assert summary["skyBg"] is not None
    assert (summary["psfSigma"] is not None) == ("psf" in row.components)
    assert (summary["ra"] is not None) == ("wcs" in row.components)
    assert (summary["nPsfStar"] > 0) == row.n_psf_star
    assert (summary["astromOffsetMean"] is not None) == ("initial_astrometry_match_detector" in row.products)
    assert summary["zeroPoint"] is None


def test_nothing_of_an_image_that_is_all_masked(house: House, tmp_path: Path) -> None:
    """The one failure before there is a background."""
    exposure = scenes.make_exposure(SHAPE, np.zeros((0, 3)), np.random.default_rng(1))
    exposure.masked_image.mask |= np.int32(exposure.masked_image.planes.bitmask(["BAD"]))
    formats.write_exposure(tmp_path / "exposure.fits", exposure)
    place, house.directory = house.directory, tmp_path
    try:
        job = calibrate(house, references="sim", preset="parity")
    finally:
        house.directory = place
    assert job["error"]["code"] == "background.too_many_masked_pixels"
    assert {product["id"] for product in job["products"]} == IMAGE
    assert job["summary"]["skyBg"] is None


@pytest.mark.parametrize("name", ["astrometry", "cross-match"])
def test_the_default_keeps_no_less(house: House, name: str) -> None:
    """With the defaults stars are found after a failed fit, too."""
    row = ROWS[name]
    job = calibrate(house, references=row.references, config=row.config)
    assert job["error"]["code"] == row.code
    assert {product["id"] for product in job["products"]} >= row.products | {"single_visit_star_unstandardized"}


@pytest.fixture(scope="module")
def completed(house: House) -> dict[str, Any]:
    job = calibrate(house, references="sim")
    assert job["phase"] == "COMPLETED", job["error"]
    assert {product["id"] for product in job["products"]} == ALL
    return job


def test_stars_join_the_psf_stars(house: House, completed: dict[str, Any]) -> None:
    """``stars.psf_id`` is ``psf_stars.id``; the ids of the two tables are not each other's."""
    stars, psf_stars = fetch_table(house, completed, "stars"), fetch_table(house, completed, "psf_stars")
    matched = np.flatnonzero(stars["psf_id"] != 0)
    order = np.argsort(psf_stars["id"])
    rows = order[np.searchsorted(psf_stars["id"][order], stars["psf_id"][matched])]
    np.testing.assert_array_equal(psf_stars["id"][rows], stars["psf_id"][matched])
    metadata = house.client.get(f"/v1/jobs/{completed['id']}/metadata").json()
    assert len(matched) == metadata["matched_psf_star_count"] > 10
    used = psf_stars["calib_psf_used"][rows]
    assert used.sum() > 10
    for axis in "xy":
        one, other = (table[f"slot_Centroid_{axis}"] for table in (stars, psf_stars))
        np.testing.assert_allclose(one[matched], other[rows], atol=3.0)
        np.testing.assert_allclose(one[matched][used], other[rows][used], atol=0.01)
    for flag in ("calib_psf_used", "calib_psf_candidate", "calib_astrometry_used"):
        np.testing.assert_array_equal(stars[flag][matched], psf_stars[flag][rows])
        assert not np.delete(stars[flag], matched).any()


def test_astrometry_matches_join_photometry_matches(house: House, completed: dict[str, Any]) -> None:
    """``photometry_matches.src_psf_id`` is ``astrometry_matches.src_id``: the same stars with the same references."""
    astrometry = fetch_table(house, completed, "astrometry_matches")
    photometry = fetch_table(house, completed, "photometry_matches")
    _, i, j = np.intersect1d(astrometry["src_id"], photometry["src_psf_id"], return_indices=True)
    assert len(i) > 10
    np.testing.assert_array_equal(astrometry["ref_id"][i], photometry["ref_id"][j])
    for axis in ("ra", "dec"):
        one, other = (table[f"src_coord_{axis}"] for table in (astrometry, photometry))
        np.testing.assert_allclose(one[i], other[j], atol=np.radians(0.01 / 3600))


def test_examples_of_the_documentation_run(
    house: House, completed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks of docs/api.md, one after the other, on the tables that the client fetches."""
    monkeypatch.chdir(tmp_path)
    with Client("http://127.0.0.1:8470", transport=house.client._transport) as client:
        job = client.job(completed["id"])
        found: dict[str, Any] = {"client": client, "job": job, "result": job.result}
        with World(tmp_path, {}, found) as world:
            assert world.run_page("docs/api.md") >= 4
    assert found["sent_once"]
    assert len(found["both"]) == np.count_nonzero(found["stars"]["psf_id"])
    assert np.median(np.abs(np.asarray(found["moved"]))) < 0.01
    assert len(found["used_for_both"]) > 10
    assert found["same_reference"].all()
    assert found["gain"] == {"value": 6.2, "unit": "electron/count", "origin": "instrument preset ztf"}
    assert "companion" in found["lacks"]["variance"]
    assert found["forced"]["base_PsfFlux_flux"][0] == pytest.approx(found["brightest"]["base_PsfFlux_flux"], rel=0.01)
    assert found["forced"]["id"][0] == "brightest"
    assert found["psf"].shape["sigma"] == pytest.approx(4.0 / 2.355, rel=0.1)
    assert found["model"].data.shape[0] == 16
    assert 18 < found["limit"] < 22
    assert len(found["residuals"]) > 10
    assert found["worst"]["detector"] == 3
    assert found["spread"] == 0.0
    assert found["again"].document["rerun_of"] == found["unchanged"].id == completed["id"]
    assert len(found["waiting"]) == 1
    assert found["ended"] == {"ABORTED": 1}
    assert found["ending"].data["phase"] == "COMPLETED"
    assert found["ending"] == found["story"][-1]
    # The fixture reports all stages at once, of which it calls two new.
    assert list(found["stages"]) == [stage["name"] for stage in completed["stages"]][-2:]
    assert found["since"] == found["story"][3:]
    body, now = '{"data":{"id":"job_1"}}', datetime.now(UTC)
    secret = WebhookSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", now, None, None)
    assert found["receive"](body.encode(), signed_headers("msg_1", now, body, secret), secret.secret) == "job_1"


def test_the_zero_point_is_in_the_metadata(house: House, completed: dict[str, Any]) -> None:
    metadata = house.client.get(f"/v1/jobs/{completed['id']}/metadata").json()
    assert metadata["zero_point"] == pytest.approx(scenes.ZERO_POINT, abs=0.02)
    assert metadata["zero_point_scatter"] < 0.05
    assert metadata["zero_point_n_stars"] > 10
    for name in ("color", "color_min", "color_max", "uncolored"):
        assert metadata[f"zero_point_{name}"] is None


def test_the_visit_has_the_box_of_its_exposure(house: House, completed: dict[str, Any]) -> None:
    answer = house.client.get("/v1/visits/7/summary")
    assert answer.status_code == 200, answer.text
    (row,) = answer.json()["detectors"]
    assert (row["bbox_min_x"], row["bbox_min_y"], row["x_size"], row["y_size"]) == (30, 50, *SHAPE)
    assert row["detector"] == 3
    corners = row["corners"]
    assert corners["ll"]["ra"] > corners["lr"]["ra"]  # x runs to the west
    assert corners["ul"]["dec"] > corners["ll"]["dec"]
