"""pyvo drives jobs over a socket: start, wait, results, abort, delete, and the list."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from pyvo.dal.exceptions import DALQueryError, DALServiceError
from pyvo.dal.tap import AsyncTAPJob
from pyvo.io.uws import parse_job_list

from service.jobs import states
from service.jobs.outcome import JobError, JobOutcome, ProductFile
from service.jobs.publish import publish, store_files
from service.storage.records import Fence, Phase, Scope
from tests.api.conftest import fits_bytes
from tests.api.test_events import Running, running
from tests.documentation.blocks import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


def make(server: Running, **fields: str) -> AsyncTAPJob:
    """A job as any HTTP library makes it, in the hands of pyvo, which follows the 303."""
    with requests.Session() as session:
        answer = session.post(
            f"{server.url}/uws/calibrate", data=fields, files={"UPLOAD": ("a.fits", fits_bytes(len(fields)))}
        )
    assert answer.status_code == 200, answer.text
    assert answer.url.startswith(f"{server.url}/uws/calibrate/job_")
    return AsyncTAPJob(answer.url)


def finish(server: Running, fence: Fence, directory: Path, error: JobError | None = None) -> None:
    image = directory / "image.fits"
    image.write_bytes(fits_bytes())
    file = ProductFile("preliminary_visit_image", "fits", "application/fits", str(image))
    outcome = JobOutcome(error=error, summary={"psfSigma": 1.5}, products=(file,))
    report = states.Report(None, 1.0)
    assert publish(server.storage, fence, outcome, store_files(server.storage, outcome), report) is not None


def claim(server: Running, job: AsyncTAPJob) -> Fence:
    assert states.claim(server.storage, job.job_id, 1, "w", 60.0) is not None
    return Fence(job.job_id, 1, "w")


def later(act: Callable[..., object], *arguments: object) -> threading.Timer:
    timer = threading.Timer(0.7, act, arguments)
    timer.start()
    return timer


def test_run_wait_and_results(server: Running, tmp_path: Path) -> None:
    job = make(server, RUNID="by pyvo")
    assert (job.phase, job.owner, job.uws_version, job.job.runid) == ("PENDING", "local", "1.1", "by pyvo")
    assert job.quote is None
    assert job.execution_duration.to_value("s") == pytest.approx(900)
    job.execution_duration = 77
    assert job.execution_duration.to_value("s") == pytest.approx(77)
    end = datetime.now(UTC) + timedelta(days=3)
    job.destruction = end
    assert abs(job.destruction.to_datetime(UTC) - end) < timedelta(milliseconds=1)
    job.run()
    assert job.phase == "QUEUED"
    fence = claim(server, job)
    timer = later(finish, server, fence, tmp_path)
    began = time.monotonic()
    job.wait(timeout=30.0)
    assert 0.5 < time.monotonic() - began < 4.0  # one long poll; pyvo's own pauses are a second and more
    timer.join()
    assert job.phase == "COMPLETED"
    job.raise_if_error()
    results = {result.id_: result for result in job.results}
    assert {"links", "summary", "log", "preliminary_visit_image"} == set(results)
    image = requests.get(results["preliminary_visit_image"].href, timeout=10)
    assert image.content == fits_bytes()
    assert requests.get(results["summary"].href, timeout=10).json()["psfSigma"] == 1.5
    assert job.result_uris == [result.href for result in job.results]


def test_an_error_is_raised(server: Running, tmp_path: Path) -> None:
    job = make(server, PHASE="RUN")
    finish(server, claim(server, job), tmp_path, JobError("psf.no_stars", "NoStars", "There are no stars.", "psf"))
    job.wait(timeout=30.0)
    with pytest.raises(DALQueryError, match=r"psf.no_stars: There are no stars\."):
        job.raise_if_error()


@pytest.mark.parametrize("started", [False, True])
def test_abort(server: Running, started: bool) -> None:
    job = make(server, PRIORITY="10", **({"PHASE": "RUN"} if started else {}))
    fence = claim(server, job) if started else None
    job.abort()
    if fence is not None:
        timer = later(server.abort, fence)
        with pytest.raises(DALServiceError, match="not active"):  # so pyvo calls what has been aborted
            job.wait(timeout=30.0)
        timer.join()
    assert job.phase == "ABORTED"
    assert job.results == []


def test_delete(server: Running) -> None:
    job = make(server, PRIORITY="11")
    url = job.url
    job.delete()
    assert AsyncTAPJob(url).phase == "ARCHIVED"
    AsyncTAPJob(url).delete()
    with pytest.raises(DALServiceError):
        AsyncTAPJob(url)
    with make(server, PRIORITY="12") as job:
        url = job.url
    assert AsyncTAPJob(url).phase == "ARCHIVED"


def test_the_list(server: Running) -> None:
    job = make(server, PRIORITY="13", RUNID="listed")
    jobs = parse_job_list(f"{server.url}/uws/calibrate?PHASE=PENDING&LAST=5")
    assert (jobs[0].jobid, jobs[0].phase, jobs[0].runid) == (job.job_id, "PENDING", "listed")
    assert len(parse_job_list(f"{server.url}/uws/calibrate?AFTER=2099-01-01T00:00:00.000Z")) == 0


def test_examples_of_the_documentation_run(server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "exposure.fits").write_bytes(fits_bytes(42.0))
    monkeypatch.chdir(tmp_path)

    def work() -> None:
        """A worker that does one job."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for job in server.storage.jobs.list(Scope("local"), phases=[Phase.QUEUED], run_id="night").items:
                assert states.claim(server.storage, job.id, 1, "w", 60.0) is not None
                finish(server, Fence(job.id, 1, "w"), tmp_path)
                return
            time.sleep(0.05)

    worker = threading.Thread(target=work)
    worker.start()
    found: dict[str, Any] = {"service": server.url}
    with World(tmp_path, {}, found) as world:
        assert world.run_page("docs/vo.md") == 2
    worker.join()
    assert found["image"].access_url == found["results"]["preliminary_visit_image"]
