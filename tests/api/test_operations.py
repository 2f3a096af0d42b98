"""What an operator sees: readiness with its numbers, metrics, the lines of the log."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.identity.principal import Permission
from service.jobs.outcome import JobError
from service.operations import checks
from service.operations.logs import configure_logs, redacted, working_on
from service.settings import Settings
from service.storage.errors import StorageUnavailableError
from service.storage.records import Phase, Scope
from tests.api.conftest import House, open_house
from tests.service.postgresql import postgres_server, service_database

__all__ = ["postgres_server", "service_database"]

TOKEN = "scrape-me-0123456789"


@pytest.fixture(params=["sqlite", "postgresql"])
def house(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(checks, "_FRESH_SECONDS", 0.0)
    monkeypatch.setattr("service.operations.metrics._FRESH_SECONDS", 0.0)
    database = {} if request.param == "sqlite" else {"database_url": request.getfixturevalue("service_database")}
    with open_house(tmp_path, **database) as house:
        yield house


def readiness(house: House) -> tuple[int, dict[str, Any]]:
    answer = house.client.get("/readyz")
    return answer.status_code, answer.json()["checks"]


def test_each_part_is_named_with_its_number(house: House) -> None:
    status, parts = readiness(house)
    assert status == 200
    assert set(parts) == {"database", "migration", "blobs", "disk", "references", "queue"}
    assert parts["migration"]["value"] == 3
    assert parts["disk"]["value"] > 1e6
    assert parts["queue"]["value"] == 0


def test_each_part_can_fail(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = house.services.storage

    def away() -> None:
        raise StorageUnavailableError("postgresql://user:password@10.0.0.7 refuses")

    def fails(part: str, detail: str) -> None:
        status, parts = readiness(house)
        assert status == 503
        assert {name for name, found in parts.items() if found["status"] == "failed"} == {part}
        assert detail in parts[part]["detail"]
        assert "10.0.0.7" not in json.dumps(parts)

    with monkeypatch.context() as patch:
        patch.setattr(storage.job_changes, "now", away)
        fails("database", "StorageUnavailableError")
    with monkeypatch.context() as patch:
        patch.setattr(checks, "head_revision", lambda: "9999")
        fails("migration", "visitcal migrate")
    with monkeypatch.context() as patch:
        patch.setattr(type(storage.blobs), "check", lambda _: away())
        fails("blobs", "StorageUnavailableError")
    with monkeypatch.context() as patch:
        patch.setattr(checks.shutil, "disk_usage", lambda _: type("usage", (), {"free": 5}))
        fails("disk", "free")
    with monkeypatch.context() as patch:
        patch.setattr(storage.refcats, "list", lambda _: away())
        fails("references", "StorageUnavailableError")
    assert readiness(house)[0] == 200


def test_a_queue_that_nobody_works_on(house: House) -> None:
    job = house.submit()
    assert readiness(house)[0] == 200
    storage = house.services.storage
    with storage.database.write() as transaction:
        transaction.connection.exec_driver_sql("UPDATE jobs SET created_at = '2026-01-01 00:00:00.000000'")
    status, parts = readiness(house)
    assert status == 503
    assert parts["queue"]["value"] > 86400
    assert parts["queue"]["detail"] == "1 job(s) under way, 0 worker(s) alive"
    storage.operations.sign("host:1:a", host="host", version="1", slots=2, busy=1, resident_bytes=1000)
    assert readiness(house)[0] == 200, "a long queue is work, not a fault"
    storage.operations.sign_off("host:1:a")
    assert readiness(house)[0] == 503
    house.client.post(f"/v1/jobs/{job['id']}/abort")
    assert readiness(house)[0] == 200


def test_readiness_is_looked_at_once_a_second(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_FRESH_SECONDS", 60.0)
    readiness(house)
    monkeypatch.setattr(house.services.storage.job_changes, "now", lambda: pytest.fail("asked again"))
    assert readiness(house)[0] == 200


def metrics(house: House, **headers: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = house.client.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_metrics_of_jobs(house: House) -> None:
    before = metrics(house)
    assert before["visitcal_database_up", ()] == 1
    waiting = house.submit()
    house.completed()
    failing = house.submit()
    error = JobError("psf.no_candidates", "NoCandidates", "no stars", stage="psf.measure")
    house.finish(house.claim(failing["id"]), error, products=False)
    storage = house.services.storage
    for number in (1, 2):
        worker = f"host:{number}:a"
        storage.operations.sign(worker, host="host", version="1", slots=2, busy=number, resident_bytes=1000 * number)
    now = metrics(house)
    assert now["visitcal_jobs", (("phase", "QUEUED"),)] == 1
    assert now["visitcal_jobs", (("phase", "EXECUTING"),)] == 0
    assert now["visitcal_queue_oldest_wait_seconds", ()] > 0
    assert now["visitcal_jobs_ended_total", (("phase", "COMPLETED"),)] == 1
    assert now["visitcal_jobs_ended_total", (("phase", "ERROR"),)] == 1
    assert now["visitcal_job_failures_total", (("code", "psf.no_candidates"),)] == 1
    assert now["visitcal_job_wait_seconds_count", ()] == 2
    assert now["visitcal_stage_seconds_sum", (("stage", "psf.measure"),)] == pytest.approx(3.0)
    assert now["visitcal_workers", (("host", "host"),)] == 2
    assert now["visitcal_worker_slots", (("host", "host"),)] == 4
    assert now["visitcal_worker_slots_busy", (("host", "host"),)] == 3
    assert now["visitcal_worker_resident_bytes", (("host", "host"),)] == 3000
    assert now["visitcal_upload_bytes_total", (("route", "/v1/exposures"),)] == 3 * len(house.fits_bytes())
    again = metrics(house)
    assert again["visitcal_jobs_ended_total", (("phase", "ERROR"),)] == 1, "counted once"
    house.client.post(f"/v1/jobs/{waiting['id']}/abort")
    assert metrics(house)["visitcal_jobs", (("phase", "QUEUED"),)] == 0


def test_labels_are_of_a_bounded_number(house: House) -> None:
    for number in range(30):
        house.client.get(f"/v1/jobs/job_{number}")
        house.client.get(f"/nothing/{number}")
        house.client.request(f"X{number}", "/v1/jobs")
    house.client.head("/healthz")
    requests = {labels for name, labels in metrics(house) if name == "visitcal_http_request_seconds_count"}
    assert requests == {
        (("method", "GET"), ("route", "/v1/jobs/{job_id}"), ("status", "404")),
        (("method", "GET"), ("route", "unknown"), ("status", "404")),
        (("method", "other"), ("route", "/v1/jobs"), ("status", "405")),
        (("method", "HEAD"), ("route", "/healthz"), ("status", "200")),
    }


def test_codes_that_no_code_is_like(house: House) -> None:
    for number in range(250):
        known = house.services and house.client.app.state.metrics._bounded("code", f"a.b{number}")  # type: ignore[attr-defined]
        assert known == (f"a.b{number}" if number < 200 else "other")
    assert house.client.app.state.metrics._bounded("stage", 'x"\n') == "other"  # type: ignore[attr-defined]


def test_metrics_without_the_database(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise StorageUnavailableError("gone")

    monkeypatch.setattr(house.services.storage.operations, "queue", away)
    assert metrics(house)["visitcal_database_up", ()] == 0


def test_who_may_see_the_metrics(tmp_path: Path) -> None:
    with open_house(tmp_path, require_tokens=True, metrics_token=TOKEN) as house:
        tokens = house.services.identity.tokens
        headers = {}
        for permission in (Permission.READ, Permission.ADMIN):
            _, text = tokens.create(Scope("ada"), name="t", permissions=[permission], days=1.0)
            headers[permission] = {"Authorization": f"Bearer {text}"}
        assert house.client.get("/metrics", headers=headers[Permission.READ]).status_code == 403
        assert house.client.get("/metrics", headers=headers[Permission.ADMIN]).status_code == 200
        assert house.client.get("/metrics").status_code == 401
        for bad in (f"Bearer {TOKEN}x", f"bearer {TOKEN}", "Bearer ", f"Basic {TOKEN}"):
            assert house.client.get("/metrics", headers={"Authorization": bad}).status_code == 401
        assert metrics(house, Authorization=f"Bearer {TOKEN}")["visitcal_database_up", ()] == 1
        assert house.client.get("/v1/jobs", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 401
        assert house.client.get("/readyz").status_code == 200


# -- the log


@pytest.fixture
def lines(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logs(Settings(log_format=getattr(request, "param", "json")), stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)


def documents(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_lines_of_a_request_have_its_id(tmp_path: Path, lines: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_house(tmp_path) as house:

        def fail(_: object) -> None:
            raise RuntimeError("postgresql://me:secret@host/db broke")

        monkeypatch.setattr(house.services.storage.refcats, "list", fail)
        house.client.get("/v1/refcats", headers={"X-Request-Id": "r-17"})
        house.client.get("/v1/jobs/a%0Ab?secret=1")
        house.client.get("/healthz")
        house.client.get("/static/icon.svg")
    access = [line for line in documents(lines) if line["logger"] == "api.access"]
    assert [(line["route"], line["status"]) for line in access] == [("/v1/refcats", 500), ("/v1/jobs/{job_id}", 422)]
    assert "secret" not in access[1]["message"], "no query"
    of_request = [line for line in documents(lines) if line.get("request_id") == "r-17"]
    assert {line["level"] for line in of_request} == {"INFO", "ERROR"}
    assert any("RuntimeError" in line.get("exception", "") for line in of_request)
    assert "me:secret" not in lines.getvalue()
    assert "a%0Ab" in access[1]["message"]


def test_ids_go_with_threads_and_end(lines: io.StringIO) -> None:
    logger = logging.getLogger("test")
    with working_on(request_id="r"), working_on(job_id="job_1"):
        logger.info("inside", extra={"n": 3})
    logger.info("outside")
    inside, outside = documents(lines)
    assert (inside["request_id"], inside["job_id"], inside["n"]) == ("r", "job_1", 3)
    assert "job_id" not in outside


@pytest.mark.parametrize("lines", ["text"], indirect=True)
def test_text_for_people(lines: io.StringIO) -> None:
    with working_on(job_id="job_1"):
        logging.getLogger("test").warning("a\nb")
    (line,) = lines.getvalue().splitlines()
    assert line.endswith("WARNING test: a\\nb job_id=job_1")


@pytest.mark.parametrize(
    "secret",
    [
        "vc_aB3dEfGh1jKlMn0p",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "Authorization: Bearer abcdefgh.ijkl-mnop",
        "postgresql+psycopg://visitcal:hunter22@db/visitcal",
        "https://bucket/x?X-Amz-Signature=0123456789abcdef&X-Amz-Credential=AKIA123456",
    ],
)
def test_what_is_secret_is_not_logged(secret: str) -> None:
    said = redacted(f"it was {secret} indeed")
    for part in ("aB3dEfGh", "MfKQ9r8G", "abcdefgh", "hunter22", "01234567", "AKIA1234"):
        assert part not in said
    assert said.startswith("it was ")
    assert redacted("job_01m3t8k2c4w9x5y7z0a1b2c3d4 at https://host:8470/x?y=1") == (
        "job_01m3t8k2c4w9x5y7z0a1b2c3d4 at https://host:8470/x?y=1"
    )
    assert Phase.ERROR in redacted("a job ended in ERROR")
