"""The detectors of a visit, consolidated."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from api.schemas.visits import VisitSummaryDocument
from service.jobs import states
from service.jobs.outcome import JobError, JobOutcome
from service.jobs.publish import publish
from service.storage.records import Scope

if TYPE_CHECKING:
    from tests.api.conftest import House

# What a 0.2 arcsec/pixel detector at 0.0 deg has that is turned by no angle, with x to the west.
CORNERS = {
    "raCorners": [0.05, 359.95, 359.95, 0.05],
    "decCorners": [-0.06, -0.06, 0.04, 0.04],
}


def finish(house: House, detector: int, summary: dict[str, Any], error: JobError | None = None, **identity: Any) -> str:
    """A job of visit 42 that ends with a summary."""
    job_id: str = house.submit(run_id=identity.pop("run_id", None))["id"]
    what = {"instrument": "Sim", "band": "r", "visit": 42, "detector": detector, **identity}
    outcome = JobOutcome(error=error, summary=summary, identity=what)
    storage = house.services.storage
    assert publish(storage, house.claim(job_id), outcome, [], states.Report(None, 1.0, (), 2)) is not None
    return job_id


def visit(house: House, query: str = "") -> dict[str, Any]:
    answer = house.client.get(f"/v1/visits/42/summary{query}")
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def test_newest_result_of_each_detector(house: House) -> None:
    """A rerun stands in for what it repeats, and a failed detector stays with what it has."""
    finish(house, 5, {"psfSigma": 9.0}, run_id="first")
    finish(house, 2, {"psfSigma": 1.5, "zeroPoint": 31.0})
    again = finish(house, 5, {"psfSigma": 2.5, "zeroPoint": 31.5, "nPsfStar": 40}, run_id="second")
    error = JobError("astrometry.bad_fit", "BadAstrometryFit", "too far", "astrometry", {"distMean": 0.7})
    finish(house, 9, {"psfSigma": 1.75, "zeroPoint": math.nan}, error)
    finish(house, 1, {"psfSigma": 7.0}, visit=43)

    document = visit(house)
    assert (document["visit"], document["instrument"]) == (42, "Sim")
    assert (document["n_detectors"], document["n_partial"]) == (3, 1)
    rows = document["detectors"]
    assert [row["detector"] for row in rows] == [2, 5, 9]
    assert (rows[1]["job_id"], rows[1]["run_id"], rows[1]["summary"]["psfSigma"]) == (again, "second", 2.5)
    assert rows[2]["phase"] == "ERROR"
    assert (rows[2]["error"]["code"], rows[2]["error"]["numbers"]) == ("astrometry.bad_fit", {"distMean": 0.7})
    assert rows[2]["summary"]["zeroPoint"] is None
    assert rows[0]["catalog_id"] == 42 * 256 + 2
    names = [item["name"] for item in house.client.get("/v1/schema/summary").json()["items"]]
    assert list(rows[0]["summary"]) == names
    for link in rows[1]["links"].values():
        assert link.startswith(f"/v1/jobs/{again}")
    assert house.client.get(rows[1]["links"]["summary"]).json() == rows[1]["summary"]

    assert document["statistics"]["psfSigma"] == {"min": 1.5, "median": 1.75, "max": 2.5, "n": 3}
    assert document["statistics"]["zeroPoint"] == {"min": 31.0, "median": 31.25, "max": 31.5, "n": 2}
    assert document["statistics"]["magLim"] is None
    assert "raCorners" not in document["statistics"]

    (first,) = visit(house, "?run_id=first")["detectors"]
    assert first["summary"]["psfSigma"] == 9.0


def test_what_follows_from_a_row(house: House) -> None:
    box = {"bbox_min_x": 100, "bbox_min_y": 0, "bbox_max_x": 2147, "bbox_max_y": 4095}
    times = {"observed_at": "2026-01-02T03:04:20+00:00", "dark_time": 31.5, "sky_rotation": 12.0}
    finish(house, 0, CORNERS | {"psfSigma": 2.0, "pixelScale": 0.2, "expTime": 30.0}, **box, **times)
    document = visit(house)
    (row,) = document["detectors"]
    assert {name: row[name] for name in box} == box
    assert (row["x_size"], row["y_size"]) == (2048, 4096)
    assert (row["started_at"], row["observed_at"]) == ("2026-01-02T03:04:05Z", "2026-01-02T03:04:20Z")
    assert (row["dark_time"], row["sky_rotation"]) == (31.5, 12.0)
    assert row["seeing"] == pytest.approx(2.0 * 0.2 * 2.354820045, rel=1e-6)
    assert document["statistics"]["seeing"]["median"] == row["seeing"]
    assert row["corners"] == {
        "ll": {"ra": 0.05, "dec": -0.06},
        "lr": {"ra": 359.95, "dec": -0.06},
        "ur": {"ra": 359.95, "dec": 0.04},
        "ul": {"ra": 0.05, "dec": 0.04},
    }


def test_nothing_known_is_null(house: House) -> None:
    finish(house, 0, {"raCorners": [math.nan] * 4, "decCorners": [math.nan] * 4})
    (row,) = visit(house)["detectors"]
    assert row["corners"] == dict.fromkeys(("ll", "lr", "ur", "ul"))
    for name in ("seeing", "x_size", "y_size", "started_at", "observed_at", "dark_time"):
        assert row[name] is None


def test_right_ascension_across_the_meridian(house: House) -> None:
    for detector, ra in enumerate((359.5, 0.25, 0.5)):
        finish(house, detector, {"ra": ra, "dec": float(detector)})
    statistics = visit(house)["statistics"]
    found = [statistics["ra"][name] for name in ("min", "median", "max")]
    assert found == pytest.approx([359.5, 0.25, 0.5], abs=1e-9)
    assert statistics["dec"] == {"min": 0.0, "median": 1.0, "max": 2.0, "n": 3}


def test_visits_that_are_not_there_or_not_one(house: House) -> None:
    finish(house, 1, {"psfSigma": 1.0})
    for path in ("43", "0"):
        answer = house.client.get(f"/v1/visits/{path}/summary")
        assert (answer.status_code, answer.json()["code"]) == (404, "visit.not_found")
    for path in ("x", "-1", str(1 << 63)):
        assert house.client.get(f"/v1/visits/{path}/summary").json()["code"] == "request.invalid"
    finish(house, 1, {"psfSigma": 2.0}, instrument="Other")
    both = house.client.get("/v1/visits/42/summary")
    assert (both.status_code, both.json()["errors"][0]["parameter"]) == (422, "instrument")
    assert "Other, Sim" in both.json()["detail"]
    (row,) = visit(house, "?instrument=Other")["detectors"]
    assert row["summary"]["psfSigma"] == 2.0


def test_visits_of_others_are_not_seen(house: House) -> None:
    job = house.submit()["id"]
    storage = house.services.storage
    with storage.database.write() as transaction:
        record = storage.jobs.get(Scope("local"), job)
        storage.summaries.insert(transaction, replace(record, owner="eve"), {"psfSigma": 1.0}, {"visit": 42})
    assert storage.summaries.newest_of_visit(Scope("eve"), 42)[0]["psfSigma"] == 1.0
    assert house.client.get("/v1/visits/42/summary").status_code == 404


def test_example_fits_the_schema(house: House) -> None:
    schema = house.client.get("/openapi.json").json()["components"]["schemas"]["VisitSummaryDocument"]
    extra: Any = VisitSummaryDocument.model_config["json_schema_extra"]
    (example,) = extra["examples"]
    assert schema["examples"][0]["detectors"][0]["corners"] == example["detectors"][0]["corners"]
    document = VisitSummaryDocument.model_validate(example)
    assert document.detectors[0].corners.ul is not None
    assert set(example) == set(schema["properties"])
