from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from lxml import html

import service.calibration
from api.dashboard.failure import explain
from api.dashboard.failure_words import LIMITS, NUMBERS, reason_of
from service.calibration.errors import algorithm_errors
from service.calibration.input_errors import CalibrationInputError
from service.jobs.configuration import complete_config
from service.jobs.errors import JOB_FAILURES
from service.jobs.expected_references import NothingExpectedError, expected_references
from service.jobs.outcome import JobError
from service.storage.records import Scope
from tests.api.conftest import open_house

OWNER = Scope("local")
FORMATS = ["format.corrupt", "format.shape_mismatch", "format.no_image"]


def all_errors() -> dict[str, JobError]:
    """One error of every code that a job may end in."""
    errors = {
        kind.code: JobError(kind.code, kind.__name__, "said so", None, {}, kind.hint, dict(kind.suggested_config))
        for kind in algorithm_errors()
    }
    plain = [*JOB_FAILURES, *(kind.code for kind in CalibrationInputError.__subclasses__()), *FORMATS]
    return {code: JobError(code, "Other", "said so", None, {"what": 1}) for code in plain} | errors


def failed(house, error, **parameters):
    job_id = house.submit(**parameters)["id"]
    house.finish(house.claim(job_id), error)
    return job_id


def test_every_code_of_the_registry_has_its_own_words(house):
    listed = {one["code"] for one in house.client.get("/v1/schema/errors").json()["job_errors"]}
    assert listed <= all_errors().keys()
    nothing = reason_of("calibration.failed")
    assert [code for code in all_errors() if reason_of(code) is nothing] == ["calibration.failed"]
    assert reason_of("format.of_tomorrow").picture == "headers"
    assert reason_of("unheard.of") is nothing


def test_every_code_has_a_page_that_says_what_failed_and_what_to_try(house):
    for code, error in all_errors().items():
        job_id = failed(house, error)
        answer = house.client.get(f"/parts/jobs/{job_id}/failure")
        assert answer.status_code == 200, code
        section = html.fromstring(answer.text).xpath("//section[@class='failure']")[0]
        text = " ".join(section.text_content().split())
        assert reason_of(code).title in text
        assert code in text
        assert section.xpath(f".//a[@href='/jobs/{job_id}/rerun']")
        buttons = section.xpath(".//form[@method='post']//button/text()")
        assert bool(error.suggested_config) <= bool(buttons), code
        for line in section.xpath(".//ul[@class='diff']/li"):
            assert line.xpath("string(del)") != line.xpath("string(ins)"), code


def test_every_number_that_an_error_is_raised_with_has_words():
    kinds = {kind.__name__ for kind in algorithm_errors()}
    names = set()
    for path in Path(service.calibration.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds:
                names |= {keyword.arg for keyword in node.keywords if keyword.arg}
    assert len(names) > 30
    assert names <= NUMBERS.keys()


def test_limits_name_settings_that_there_are():
    config = complete_config("parity", {}).values
    for bound in LIMITS.values():
        node = config
        for name in filter(None, bound.setting.split(".")):
            if node.get("name") == "affine":  # the other fitter has its limits
                break
            assert name in node, bound
            node = node[name]


@pytest.mark.parametrize(
    ("code", "numbers", "label", "limit", "setting"),
    [
        (
            "psf.no_stars_for_shapelets",
            {"n_sources": 8, "n_required": 10},
            "sources that could be used",
            "at least 10",
            "",
        ),
        (
            "astrometry.bad_fit",
            {"nMatches": 30, "distMean": 7.3, "maxMeanDist": 0.5},
            "mean distance",
            "at most 0.5",
            "",
        ),
        (
            "aperture_correction.too_few_stars",
            {"name": "f", "nSources": 1, "ndof": 0},
            "degrees",
            "at least 1",
            "min_deg",
        ),
    ],
)
def test_the_number_that_decided_stands_first_with_its_limit(house, code, numbers, label, limit, setting):
    job_id = failed(house, JobError(code, "X", "said so", "stage", numbers))
    facts = explain(house.services, house.services.storage.jobs.get(OWNER, job_id)).facts
    assert label in facts[0].label
    assert (facts[0].limit, facts[0].is_broken) == (limit, True)
    assert setting in facts[0].setting
    assert len(facts) == len(numbers) - (limit != "at least 1")


def test_a_limit_that_holds_is_not_called_broken(house):
    job_id = failed(house, JobError("astrometry.fit_failure", "X", "said", None, {"scatter": 0.1, "maxScatter": 10.0}))
    (fact,) = explain(house.services, house.services.storage.jobs.get(OWNER, job_id)).facts
    assert (fact.limit, fact.is_broken) == ("at most 10", False)


def test_one_button_runs_the_suggestion_and_leads_to_the_new_job(house):
    suggested = {"measure_aperture_correction": {"signal_to_noise_min": 50.0}}
    error = JobError("aperture_correction.too_few_stars", "X", "said", None, {}, "hint", suggested)
    job_id = failed(house, error)
    page = html.fromstring(house.client.get(f"/parts/jobs/{job_id}/failure").text)
    (form,) = page.xpath("//section[@class='failure']//form")
    (line,) = page.xpath("//ul[@class='diff']/li")
    assert " ".join(line.text_content().split()) == "measure_aperture_correction.signal_to_noise_min from 200.0 to 50.0"
    first = house.client.post(form.get("action"), follow_redirects=False)
    again = house.client.post(form.get("action"), follow_redirects=False)  # an impatient finger
    assert first.status_code == 303
    assert first.headers["location"] == again.headers["location"]
    new_id = first.headers["location"].removeprefix("/jobs/")
    assert house.client.get(f"/v1/jobs/{new_id}").json()["rerun_of"] == job_id
    config = house.client.get(f"/v1/jobs/{new_id}/config").json()
    assert config["measure_aperture_correction"]["signal_to_noise_min"] == 50.0


def test_a_run_that_took_too_long_is_given_longer(house):
    job_id = failed(house, JobError("job.time_limit", "TimeLimit", "said"), time_limit_s=30)
    answer = house.client.post(f"/jobs/{job_id}/retry", follow_redirects=False)
    new = house.services.storage.jobs.get(OWNER, answer.headers["location"].removeprefix("/jobs/"))
    assert new.time_limit == 120


def test_without_a_suggestion_the_way_leads_to_the_form(house):
    job_id = failed(house, JobError("psf.nonfinite_shape", "X", "said"))
    answer = house.client.post(f"/jobs/{job_id}/retry", follow_redirects=False)
    assert answer.headers["location"] == f"/jobs/{job_id}/rerun"


def test_a_job_that_has_not_failed_has_nothing_to_explain(house):
    assert house.client.get(f"/parts/jobs/{house.completed()}/failure").status_code == 404


def test_nothing_is_expected_of_a_job_without_references(house):
    job_id = failed(house, JobError("astrometry.matcher_failure", "X", "said"))
    job = house.services.storage.jobs.get(OWNER, job_id)
    with pytest.raises(NothingExpectedError, match="no reference catalogue"):
        expected_references(house.services.storage, house.settings, job)
    assert "no reference catalogue" in house.client.get(f"/parts/jobs/{job_id}/field").text


def test_an_image_that_is_too_large_for_the_memory_is_not_read(tmp_path):
    with open_house(tmp_path, max_compressed_pixels=1999) as house:
        remote = {"name": "far", "kind": "tap"}
        job_id = failed(house, JobError("astrometry.matcher_failure", "X", "said"))
        job = house.services.storage.jobs.get(OWNER, job_id)
        spec = {**job.spec, "references": {"astrometry": {"name": "here"}, "photometry": remote}}
        with pytest.raises(NothingExpectedError, match="too large"):
            expected_references(house.services.storage, house.settings, replace(job, spec=spec))


def test_an_image_that_no_job_has_read_is_not_read_beside_the_interface(house):
    """It may be what ended the process of its job."""
    job_id = house.submit()["id"]
    house.finish(house.claim(job_id), JobError("service.fault", "X", "said"), products=False)
    job = house.services.storage.jobs.get(OWNER, job_id)
    spec = {**job.spec, "references": {"astrometry": {"name": "here"}}}
    with pytest.raises(NothingExpectedError, match="not read its image"):
        expected_references(house.services.storage, house.settings, replace(job, spec=spec))


@pytest.mark.parametrize(
    "part", ["/parts/jobs/{0}/field", "/parts/jobs/{0}/layers/stars", "/parts/compare/stars?a={0}&b={0}"]
)
def test_parts_that_take_memory_wait_for_their_turn(house, monkeypatch, part):
    job_id = house.completed()
    monkeypatch.setattr("api.image_work._MAX_WAITING", 0)
    assert house.client.get(part.format(job_id)).status_code == 503


@pytest.fixture
def roomy(tmp_path):
    with open_house(tmp_path, max_upload_bytes=1 << 26) as house:
        yield house


def test_a_pointing_that_is_off_is_seen_in_the_picture(roomy, parity_dir):
    """The header points 150 arcsec (750 px) beside the field: references lie as far from their stars."""
    house, case = roomy, parity_dir / "fail_offset"
    house.client.put("/v1/refcats/refs", content=(case / "refcat.fits").read_bytes()).raise_for_status()
    job = house.calibrate((case / "exposure.fits").read_bytes(), references="refs", preset="parity")
    assert job["error"]["code"] == "astrometry.matcher_failure"
    record = house.services.storage.jobs.get(OWNER, job["id"])
    expected = expected_references(house.services.storage, house.settings, record, margins=[1.0])
    truth = Table.read(case / "truth.fits")
    dx = expected.x[:, None] - np.asarray(truth["x"])
    dy = expected.y[:, None] - np.asarray(truth["y"])
    counts, x_edges, y_edges = np.histogram2d(dx.ravel(), dy.ravel(), bins=200, range=[[-1000, 1000]] * 2)
    row, column = np.unravel_index(counts.argmax(), counts.shape)
    assert np.hypot(x_edges[row] + 5, y_edges[column] + 5) == pytest.approx(750, abs=30)
    page = html.fromstring(house.client.get(f"/parts/jobs/{job['id']}/field").text)
    assert len(page.xpath("//circle")) > 50
    assert "beyond the image" in page.text_content()
