from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from service.jobs import states
from service.jobs.outcome import JobError, JobOutcome
from service.jobs.publish import publish
from tests.api.conftest import House, fits_bytes, open_house
from tests.api.tenants import bearer

#: 2026-11-21, 03:00 UTC, at Cerro Pachon: the night of the 20th.
START = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
USUAL = {
    "psfSigma": 2.0,
    "pixelScale": 0.2,
    "zeroPoint": 28.0,
    "skyBg": 100.0,
    "magLim": 24.0,
    "astromOffsetMean": 0.005,
    "nPsfStar": 41,
}


class Sky:
    """Jobs of nights on a house, taken in as files are and ended by hand."""

    def __init__(self, house: House) -> None:
        self.house = house
        self._number = 0

    def submit(
        self, *, days: float = 0.0, minutes: float = 0.0, headers: Any = None, run_id: str | None = None, **cards: Any
    ) -> str:
        """A job of an exposure with a header of its own."""
        self._number += 1
        moment = START + timedelta(days=days, minutes=minutes)
        known = {"OBJECT": "M31", "INSTRUME": "Cam", "FILTER": "r", "EXPTIME": 30.0, "VISIT": self._number}
        known |= {"DATE-AVG": moment.strftime("%Y-%m-%dT%H:%M:%S"), "OBS-LONG": -70.75, "DETECTOR": 3}
        content = fits_bytes(value=float(self._number), **{k: v for k, v in (known | cards).items() if v is not None})
        client = self.house.client
        upload = client.put("/v1/exposures", content=content, headers=headers)
        job = {"exposures": [upload.json()["id"]], "force": True, "run_id": run_id}
        answer = client.post("/v1/jobs", json=job, headers=headers)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def finish(self, job_id: str, stats: dict[str, float] | None = None, **outcome: Any) -> str:
        """End a job with statistics."""
        fence = self.house.claim(job_id)
        result = JobOutcome(summary=USUAL | (stats or {}), **outcome)
        storage = self.house.services.storage
        assert publish(storage, fence, result, [], states.Report(None, 1.0, (), 2)) is not None
        return job_id

    def fail(self, job_id: str, message: str = "no star is bright enough") -> str:
        """End a job without a result."""
        return self.finish(job_id, error=JobError("psf.no_stars", "NoPsfStarsError", message, "psf.measure"))

    def done(self, stats: dict[str, float] | None = None, **header: Any) -> str:
        return self.finish(self.submit(**header), stats)

    def before(self, nights: int = 3, each: int = 4) -> None:
        """Nights of exposures that say what is usual."""
        for number in range(nights * each):
            offset = 0.004 * (number - (nights * each - 1) / 2)
            stats = {"zeroPoint": 28.0 + offset, "psfSigma": 2.0 + 5 * offset, "astromOffsetMean": 0.005 + offset / 20}
            self.done(stats, days=-1 - number % nights, minutes=number)


@pytest.fixture
def sky(house: House) -> Sky:
    return Sky(house)


def get(sky: Sky, path: str, **query: Any) -> Any:
    answer = sky.house.client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_job_has_its_night_before_it_runs(sky: Sky) -> None:
    job = sky.submit(OBJECT="NGC 253")
    [night] = get(sky, "/v1/nights")["items"]
    assert night == {"night": "2026-11-20", "jobs": 1, "active": 1, "failed": 0}
    [exposure] = get(sky, "/v1/nights/latest")["exposures"]
    expected = {"job_id": job, "state": "waiting", "target": "NGC 253", "instrument": "Cam", "band": "r", "visit": 1}
    expected |= {"detector": 3, "exposure_time": 30.0, "figures": {}, "stars": None, "error": None}
    assert {name: exposure[name] for name in expected} == expected
    assert exposure["observed_at"] == "2026-11-21T03:00:00Z"


def test_an_exposure_without_a_time_belongs_to_the_night_of_its_submission(sky: Sky) -> None:
    sky.submit(**{"DATE-AVG": None, "OBS-LONG": None})
    [night] = get(sky, "/v1/nights")["items"]
    now = datetime.now(UTC)
    assert abs((datetime.fromisoformat(night["night"]).replace(hour=12, tzinfo=UTC) - now).total_seconds()) <= 86_400


def test_what_the_job_says_goes_before_the_header(sky: Sky) -> None:
    exposure = sky.house.upload(fits_bytes(OBJECT="flat?"))
    body = {"exposures": [exposure], "metadata": {"target": "M33", "band": "z", "mjd": 61000.1, "longitude": 0.0}}
    assert sky.house.client.post("/v1/jobs", json=body).status_code == 202
    [found] = get(sky, "/v1/nights/2025-11-20")["exposures"]
    assert (found["target"], found["band"]) == ("M33", "z")


def test_what_reading_tells_takes_the_place_of_what_headers_promised(sky: Sky) -> None:
    job = sky.submit()
    read = {"band": "u", "target": "M101", "mjd": 61364.1, "longitude": -70.75, "unit": "adu"}
    values = {name: {"value": value, "origin": "header"} for name, value in read.items()}
    sky.finish(job, metadata={"inputs": [{"metadata": values}]})
    [found] = get(sky, "/v1/nights/2026-11-19")["exposures"]
    assert (found["job_id"], found["band"], found["target"]) == (job, "u", "M101")


def test_clouds_and_failures_are_told(sky: Sky) -> None:
    sky.before()
    fine = sky.done(minutes=1)
    clouded = sky.done({"zeroPoint": 27.6}, minutes=2)
    failed = sky.fail(sky.submit(minutes=3))
    night = get(sky, "/v1/nights/latest")
    assert [exposure["job_id"] for exposure in night["exposures"]] == [failed, clouded, fine]
    assert night["counts"] == {"waiting": 0, "running": 0, "done": 2, "failed": 1, "aborted": 0, "outside": 1}
    assert night["worst"] == {"job_id": clouded, "quantity": "zero_point"}
    assert night["verdict"].startswith("2 exposures calibrated, 1 failed. 1 outside the limits; farthest is the zero")
    figure = night["exposures"][1]["figures"]["zero_point"]
    assert figure["standing"] == "outside"
    assert figure["value"] - figure["expected"] == pytest.approx(-0.4, abs=1e-5)
    assert night["exposures"][0]["error"]["message"] == "no star is bright enough"
    assert (night["previous"], night["following"], len(night["baseline"])) == ("2026-11-19", None, 3)
    [limits] = [item for item in night["limits"] if item["quantity"] == "seeing"]
    assert limits["n"] == 12
    assert limits["low"] < 0.9419 < limits["high"]


def test_choices_narrow_what_is_shown(sky: Sky) -> None:
    sky.before()
    red = sky.done({"zeroPoint": 27.0}, OBJECT="M31")
    green = sky.done(OBJECT="M33", FILTER="g", INSTRUME="Other")
    waiting = sky.submit(OBJECT="M33")

    def shown(**query: Any) -> set[str]:
        return {exposure["job_id"] for exposure in get(sky, "/v1/nights/latest", **query)["exposures"]}

    assert shown() == {red, green, waiting}
    assert shown(target="M33") == {green, waiting}
    assert shown(target="M33", band="r") == {waiting}
    assert shown(instrument="Other") == {green}
    assert shown(state="waiting") == {waiting}
    assert shown(outside=True) == {red}
    assert shown(target="M3") == set()
    assert get(sky, "/v1/nights/latest", target="M33")["counts"]["done"] == 1


def test_a_run_is_of_its_own_newest_night(sky: Sky) -> None:
    sky.submit(days=-1, run_id="twilight")
    flat, _ = sky.submit(days=-1, minutes=1, run_id="survey"), sky.submit()
    night = get(sky, "/v1/nights/latest", run_id="survey")
    assert [exposure["job_id"] for exposure in night["exposures"]] == [flat]
    assert night["choices"]["run_id"] == ["survey", "twilight"]
    assert night["following"] == get(sky, "/v1/nights/latest")["night"]
    assert get(sky, "/v1/nights/latest", run_id="none")["exposures"] == []


def test_pages_have_every_exposure_once(sky: Sky) -> None:
    jobs = [sky.submit(minutes=number) for number in range(7)]
    seen: list[str] = []
    after: dict[str, str] = {}
    for _ in range(4):
        answer = sky.house.client.get("/v1/nights/2026-11-20", params={"limit": 2, **after})
        page = answer.json()
        seen += [exposure["job_id"] for exposure in page["exposures"]]
        assert ("link" in answer.headers) == (page["next"] is not None)
        after = {"after": page["next"]}
    assert seen == jobs[::-1]
    assert page["next"] is None
    assert get(sky, "/v1/nights/2026-11-20", after="job_unknown")["exposures"] == []


def test_nights_come_in_pages(sky: Sky) -> None:
    for days in range(3):
        sky.submit(days=-days)
    first = get(sky, "/v1/nights", limit=2)
    assert [item["night"] for item in first["items"]] == ["2026-11-20", "2026-11-19"]
    rest = get(sky, "/v1/nights", limit=2, after=first["next"])
    assert [item["night"] for item in rest["items"]] == ["2026-11-18"]
    assert rest["next"] is None


def test_trends_have_every_value_in_the_order_of_time(sky: Sky) -> None:
    sky.before()
    late, early = sky.done({"psfSigma": 9.0}, minutes=9), sky.done(minutes=1)
    sky.fail(sky.submit(minutes=5))
    trends = get(sky, "/v1/nights/latest/trends")
    [series] = trends["series"]
    assert (series["instrument"], series["band"]) == ("Cam", "r")
    assert series["job_id"] == [early, late]  # and not the failed one
    assert series["time"] == sorted(series["time"])
    seeing = series["trends"]["seeing"]
    assert seeing["value"][series["job_id"].index(early)] == pytest.approx(0.94193, abs=1e-5)
    assert seeing["outside"] == [series["job_id"].index(late)]
    assert len(seeing["before"]) == len(trends["baseline"]) == 3
    assert series["trends"]["zero_point"]["value"][series["job_id"].index(early)] == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/nights/2020-01-01", 404, "night.not_found"),
        ("/v1/nights/latest", 404, "night.not_found"),
        ("/v1/nights/latest/trends", 404, "night.not_found"),
        ("/v1/nights/yesterday", 422, "request.invalid"),
        ("/v1/nights/2026-13-01", 422, "request.invalid"),
        ("/v1/nights?after=x", 422, "request.invalid"),
        ("/v1/nights/2020-01-01?state=sad", 422, "request.invalid"),
        ("/v1/nights/2020-01-01?colour=r", 422, "request.invalid"),
    ],
)
def test_refusals(client: Any, path: str, status: int, code: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_summaries_know_the_target(sky: Sky) -> None:
    sky.done(OBJECT="M31")
    wanted = sky.done(OBJECT="M33")
    [item] = get(sky, "/v1/summaries", target="M33", fields="psfSigma")["items"]
    assert (item["job_id"], item["target"]) == (wanted, "M33")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Sky]:
    with open_house(tmp_path, require_tokens=True) as house:
        yield Sky(house)


def test_the_nights_of_others_are_not_there(guarded: Sky) -> None:
    ada, grace = (bearer(guarded.house, name) for name in ("ada", "grace"))
    guarded.submit(headers=ada)
    client = guarded.house.client
    assert client.get("/v1/nights", headers=grace).json()["items"] == []
    for path in ("/v1/nights/latest", "/v1/nights/2026-11-20", "/v1/nights/2026-11-20/trends"):
        assert client.get(path, headers=grace).status_code == 404
        assert client.get(path, headers=ada).status_code == 200
        assert client.get(path).status_code == 401
