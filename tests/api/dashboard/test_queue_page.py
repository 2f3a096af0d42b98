"""The queue as a person sees it."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from bs4 import BeautifulSoup

from api.dashboard.queue import worker_rows
from service.jobs.queue_view import QueueView
from service.storage.records import Scope, utc_now
from service.storage.repositories.operations import WorkerSign
from tests.api.conftest import OWNER, fits_bytes
from tests.api.dashboard.conftest import ORIGIN, log_in, token_of

if TYPE_CHECKING:
    from tests.api.conftest import House


def page_of(house: House, path: str = "/queue") -> BeautifulSoup:
    answer = house.client.get(path)
    assert answer.status_code == 200, answer.text
    return BeautifulSoup(answer.text, "html.parser")


def rows(page: BeautifulSoup, table: str = "#jobs") -> list[list[str]]:
    return [
        [" ".join(cell.get_text(" ").split()) for cell in row.find_all(["th", "td"])]
        for row in page.select(f"{table} tbody tr")
    ]


def figures(page: BeautifulSoup) -> dict[str, str]:
    return {" ".join(item.dt.text.split()): " ".join(item.dd.text.split()) for item in page.select(".figures > div")}  # type: ignore[union-attr]


def submit(house: House, target: str, **parameters: Any) -> str:
    exposure = house.upload(fits_bytes(OBJECT=target))
    body = {"exposures": [exposure], "force": True, **parameters}
    job_id: str = house.client.post("/v1/jobs", json=body).json()["id"]
    return job_id


def test_nothing_waits(house: House) -> None:
    page = page_of(house)
    assert rows(page) == []
    assert "Nothing of yours waits" in page.text
    assert page.select_one("a[href='/upload']") is not None
    assert figures(page)["Waiting"] == "0"
    assert "No worker gives a sign of life" in page.text


def test_jobs_stand_in_the_order_of_their_turn(house: House) -> None:
    running = submit(house, "M 31")
    for target, priority in (("late", 10), ("first", 90), ("second", 50), ("third", 50)):
        submit(house, target, priority=priority, run_id="night-7")
    fence = house.claim(running)
    house.report(fence, "psf.measure", 0.4)
    shown = rows(page_of(house))
    assert [row[0].split(" ")[0] for row in shown] == ["M", "first", "second", "third", "late"]
    assert shown[0][1].startswith("▸ running psf: measure")
    assert [row[2] for row in shown] == ["–", "0", "1", "2", "3"]
    assert [row[4] for row in shown] == ["50", "90", "50", "50", "10"]
    assert "night-7" in shown[1][0]
    progress = page_of(house).select_one("#jobs progress")
    assert progress is not None
    assert float(str(progress["value"])) == pytest.approx(0.4)


def test_places_without_a_question_each_are_those_with_one(house: House) -> None:
    for number in range(6):
        submit(house, f"t{number}", priority=50 if number % 2 else 60)
    house.claim(submit(house, "runs"))
    storage = house.services.storage
    view = QueueView(storage, house.settings, seconds=60.0)
    jobs = [item.job for item in storage.turns.active_of(OWNER, 100)]
    assert len(jobs) == 7
    for job, place in zip(jobs, view.places(jobs), strict=True):
        alone = view.place(job)
        assert (place.position, place.eta_s) == (alone.position, pytest.approx(alone.eta_s, abs=1.0))


def test_a_job_is_aborted_from_the_queue(house: House) -> None:
    job = submit(house, "unwanted")
    answer = house.client.post(f"/queue/{job}/abort", headers=ORIGIN, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/queue")
    assert house.client.get(f"/v1/jobs/{job}").json()["phase"] == "ABORTED"
    part = house.client.post(f"/queue/{job}/abort", headers={**ORIGIN, "HX-Request": "true"})
    assert part.status_code == 409
    assert BeautifulSoup(part.text, "html.parser").select_one("[role=alert]") is not None
    other = submit(house, "unwanted too")
    part = house.client.post(f"/queue/{other}/abort", headers={**ORIGIN, "HX-Request": "true"})
    assert part.status_code == 200
    assert "<html" not in part.text
    assert rows(BeautifulSoup(part.text, "html.parser")) == []


def test_what_a_header_says_is_text(house: House) -> None:
    submit(house, "<b onclick=x>&amp;")
    page = page_of(house)
    assert page.select_one("#jobs b") is None
    assert "<b onclick=x>&amp;" in rows(page)[0][0]


def test_workers_are_shown_to_the_operator_with_their_last_sign(house: House) -> None:
    sign = {"version": "1.2", "slots": 4, "busy": 3, "resident_bytes": 2_500_000_000}
    house.services.storage.operations.sign("node7:4711:abc", host="node7", **sign)
    page = page_of(house)
    (worker,) = rows(page, "#workers")
    assert worker[0] == "node7 process 4711"
    assert worker[1] == "● alive"
    assert worker[2].startswith("3 of 4")
    assert worker[3] == "2.5 GB"
    assert figures(page)["Running"] == "0 of 4 places"
    assert "No worker gives a sign of life" not in page.text


def test_a_worker_that_fell_silent_is_said_to_be() -> None:
    now = utc_now()
    signs = [
        WorkerSign(f"h:{age}:x", "h", "1", 1, 0, 1, now - timedelta(hours=1), now - timedelta(seconds=age))
        for age in (600, 3)
    ]
    assert [(row.process, row.is_alive) for row in worker_rows(signs, now)] == [("3:x", True), ("600:x", False)]


def test_others_are_counted_and_not_shown_and_readers_abort_nothing(guarded: House) -> None:
    storage = guarded.services.storage
    storage.operations.sign("node7:1:a", host="secret-host", version="1", slots=1, busy=0, resident_bytes=1)
    exposure = guarded.fits_bytes(OBJECT="target-of-eve")
    eve = {"Authorization": f"Bearer {token_of(guarded, 'eve')}"}
    given = guarded.client.put("/v1/exposures", content=exposure, headers=eve).json()["id"]
    assert guarded.client.post("/v1/jobs", json={"exposures": [given]}, headers=eve).status_code == 202
    log_in(guarded, token_of(guarded, "eve", "read"))
    page = page_of(guarded)
    assert len(rows(page)) == 1
    assert page.select("form[action$='/abort'], button.danger") == []
    log_in(guarded, token_of(guarded, "mallory", "submit"))
    deadline = time.monotonic() + 10.0  # the numbers of all are up to some seconds old
    while not figures(page := page_of(guarded))["Waiting"].startswith("1"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "target-of-eve" not in page.text
    assert "secret-host" not in page.text
    assert storage.turns.active_of(Scope("mallory"), 100) == []
