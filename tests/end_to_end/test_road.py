"""The whole road: a server and a worker as processes, driven as a user does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from visitcal import CalibrationFailedError, Job, cli

if TYPE_CHECKING:
    from pathlib import Path

    from visitcal.client import Client
    from visitcal.server_process import ServerProcess

pytestmark = pytest.mark.end_to_end

END = 240.0


@pytest.fixture(scope="module")
def job(client: Client, files: dict[str, Path]) -> Job:
    """The exposure calibrated by the service."""
    job = client.submit(files["exposure"], references="sim", run_id="road")
    job.wait(END)
    return job


def test_exposure_goes_in_and_a_calibrated_one_comes_out(job: Job, truth: dict[str, Any]) -> None:
    document = job.document
    assert document["phase"] == "COMPLETED"
    assert document["attempt"] == 1
    names = [stage["name"] for stage in document["stages"]]
    assert names.index("psf.measure") < names.index("astrometry") < names.index("photometry")
    summary = job.result.summary
    assert summary["zeroPoint"] == pytest.approx(truth["truth"]["aperture_zero_point"], abs=0.01)
    assert summary["pixelScale"] == pytest.approx(truth["config"]["pixel_scale"], rel=1e-3)
    assert summary["astromOffsetMean"] < 0.05
    assert summary["nPsfStar"] > 10


def test_stars_are_where_they_truly_are(job: Job, files: dict[str, Path]) -> None:
    stars = job.result.stars
    true = pq.read_table(files["truth"]).to_pydict()
    x, y = np.asarray(stars["base_SdssCentroid_x"], float), np.asarray(stars["base_SdssCentroid_y"], float)
    bright = np.asarray(stars["base_PsfFlux_instFlux"], float) > 50 * np.asarray(
        stars["base_PsfFlux_instFluxErr"], float
    )
    assert bright.sum() > 50
    tx, ty = np.array(true["x"]), np.array(true["y"])
    distance2 = (x[bright, None] - tx) ** 2 + (y[bright, None] - ty) ** 2
    nearest = distance2.argmin(axis=1)
    close = np.sqrt(distance2.min(axis=1)) < 0.5
    assert close.mean() > 0.9
    ra = np.asarray(stars["coord_ra"].to("deg"), float)[bright][close]
    dec = np.asarray(stars["coord_dec"].to("deg"), float)[bright][close]
    true_ra, true_dec = np.array(true["ra"])[nearest][close], np.array(true["dec"])[nearest][close]
    offsets = np.hypot((ra - true_ra) * np.cos(np.radians(true_dec)), dec - true_dec) * 3.6e6
    assert np.median(offsets) < 20  # mas


def test_rows_table_and_file_are_the_same_catalog(job: Job, tmp_path: Path) -> None:
    rows = list(job.result.rows("stars", columns=["id", "base_PsfFlux_instFlux"]))
    table = pq.read_table(job.result.download("stars", tmp_path)).to_pydict()
    assert [row["id"] for row in rows] == table["id"]
    for row, value in zip(rows, table["base_PsfFlux_instFlux"], strict=True):
        assert (row["base_PsfFlux_instFlux"] is None) == (value is None or np.isnan(value))
    assert len(job.result.stars) == len(rows)
    assert all(
        row["base_PsfFlux_flag"] is False for row in job.result.rows("stars", where="base_PsfFlux_flag=false", limit=30)
    )


def test_image_is_calibrated_and_keeps_its_parts(job: Job, tmp_path: Path) -> None:
    with fits.open(job.result.download("image", tmp_path)) as hdus:
        assert {"IMAGE", "MASK", "VARIANCE"} <= {hdu.name for hdu in hdus}
        assert hdus["IMAGE"].data.shape == (800, 800)
        assert hdus["IMAGE"].header["BUNIT"] == "nJy"
        finite = np.isfinite(hdus["VARIANCE"].data)
        assert finite.mean() > 0.9
    png = job.result.download("image", tmp_path, file_format="png")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert {product["id"] for product in job.result.products()} >= {
        "preliminary_visit_image",
        "preliminary_visit_image_background",
        "preliminary_visit_mask",
        "single_visit_star_unstandardized",
        "single_visit_psf_star",
        "initial_astrometry_match_detector",
        "initial_photometry_match_detector",
    }


def test_every_link_of_every_product_leads_somewhere(job: Job, server: ServerProcess) -> None:
    with httpx.Client(base_url=server.url, timeout=60) as http:
        for product in job.result.products():
            for kind, link in product["links"].items():
                answer = http.get(link)
                assert answer.status_code == 200, (product["id"], kind, answer.text[:300])
                assert len(answer.content) > 50, (product["id"], kind)
        for part, link in job.document["links"].items():
            assert http.get(link).status_code == 200, part


def test_job_can_be_traced(job: Job, client: Client) -> None:
    exposure = client.exposure(job.document["exposures"][0])
    assert exposure["sha256"] in json.dumps(job.result.provenance)
    assert job.result.config["psf_detection"]["threshold_value"] == 10.0
    assert job.result.metadata
    lines = job.result.log().splitlines()
    assert any("visitcal: psf.measure: " in line for line in lines)
    assert any("zero_point=" in line for line in lines)
    assert [other.id for other in client.jobs(run_id="road")] == [job.id]


def test_without_references_what_needs_none_is_there(client: Client, files: dict[str, Path]) -> None:
    job = client.submit(files["exposure"], references="none")
    job.wait(END)
    assert job.document["warnings"]
    summary = job.result.summary
    assert summary["psfSigma"] > 0
    assert summary["zeroPoint"] is None
    assert {"psf_stars", "stars"} <= {alias for product in job.result.products() for alias in product["aliases"]}


def test_an_empty_catalog_is_a_named_failure_with_products(client: Client, files: dict[str, Path]) -> None:
    client.put_refcat("empty", files["empty"])
    job = client.submit(files["exposure"], references="empty")
    with pytest.raises(CalibrationFailedError) as caught:
        job.wait(END)
    error = caught.value.error
    assert error is not None
    assert error["code"].startswith("astrometry.")
    assert error["message"]
    assert job.result.summary["psfSigma"] > 0
    assert "psf_stars" in {alias for product in job.result.products() for alias in product["aliases"]}


def test_command_line_gives_the_same_result_without_a_service(
    job: Job, files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert cli.main(["calibrate", str(files["exposure"]), "--refcat", str(files["references"]), "--out", str(out)]) == 0
    assert "psfSigma" in capsys.readouterr().out
    for name in ("summary.json", "metadata.json", "config.json", "provenance.json", "job.json"):
        assert json.loads((out / name).read_text())
    assert json.loads((out / "job.json").read_text())["phase"] == "COMPLETED"
    assert (out / "preliminary_visit_image.fits").is_file()
    here = pq.read_table(out / "single_visit_star_unstandardized.parquet")
    there = pq.read_table(job.result.download("stars", tmp_path))
    assert here.column_names == there.column_names
    for name in ("id", "base_SdssCentroid_x", "base_PsfFlux_instFlux", "coord_ra"):
        np.testing.assert_allclose(here[name].to_numpy(), there[name].to_numpy(), rtol=1e-9, atol=1e-9, err_msg=name)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["zeroPoint"] == pytest.approx(job.result.summary["zeroPoint"], abs=1e-5)


def test_command_line_exit_code_of_a_failure(files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli.main(["calibrate", str(files["exposure"]), "--refcat", str(files["empty"]), "--out", str(out)]) == 3
    document = json.loads((out / "job.json").read_text())
    assert document["phase"] == "ERROR"
    assert document["error"]["code"].startswith("astrometry.")
    assert (out / "single_visit_psf_star.parquet").is_file()


def test_submit_and_wait_on_the_command_line(
    server: ServerProcess, client: Client, files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["submit", str(files["exposure"]), "--refcat", "sim", "--wait", "--url", server.url]
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert "psf.measure" in out
    assert "zeroPoint" in out
    job_id = next(word for word in out.split() if word.startswith("job_"))
    assert cli.main(["fetch", job_id, "stars", "--format", "csv", "--out", str(tmp_path), "--url", server.url]) == 0
    assert (tmp_path / "single_visit_star_unstandardized.csv").stat().st_size > 1000
    assert cli.main(["status", job_id, "--url", server.url]) == 0
    assert "COMPLETED" in capsys.readouterr().out
