from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from service.jobs.prepare import prepare
from service.jobs.submission import JobRequest, Submissions
from service.settings import Settings
from service.storage import Storage
from service.storage.database import create_queue_engine
from service.storage.records import JobRecord, Phase, Scope
from tests.service.postgresql import postgres_server, postgresql, service_database

__all__ = ["postgres_server", "postgresql", "service_database"]

REPO = Path(__file__).parents[3]
OWNER = Scope("local")

T = TypeVar("T")


class House:
    """A service in a temporary directory: storage, submissions, and workers that can be killed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        prepare(settings)
        self.storage = Storage(settings)
        self.submissions = Submissions(self.storage, settings)
        self.workers: list[subprocess.Popen[bytes]] = []
        self.is_sqlite = settings.jobs_url.startswith("sqlite")
        blob = self.storage.blobs.put_stream([b"SIMPLE  = "])
        exposure, _ = self.storage.exposures.add(OWNER, blob, filename="a.fits", file_format="plain", metadata={})
        self.exposure = exposure.id

    def submit(self, do: str = "finish", *, key: str | None = None, **wishes: object) -> JobRecord:
        request = self.request(do, **wishes)
        return self.submissions.submit(OWNER, request, key)[0]

    def request(self, do: str, **wishes: object) -> JobRequest:
        options = {name: wishes.pop(name) for name in ("priority", "time_limit_s", "run_id") if name in wishes}
        return JobRequest((self.exposure,), metadata={"do": do, **wishes}, **options)

    def start_worker(self, **settings: Any) -> subprocess.Popen[bytes]:
        worker = subprocess.Popen(
            [sys.executable, "-m", "service.jobs.worker", str(os.getpid())],
            env=os.environ | self.settings.model_copy(update=settings).environment(),
            cwd=REPO,
        )
        self.workers.append(worker)
        return worker

    def job(self, job: JobRecord) -> JobRecord:
        found = self.storage.jobs.get(OWNER, job.id)
        assert found is not None
        return found

    def wait(self, job: JobRecord, *phases: Phase, timeout: float = 40.0) -> JobRecord:
        wanted = phases or (Phase.COMPLETED, Phase.ERROR, Phase.ABORTED)
        return self.until(lambda: found if (found := self.job(job)).phase in wanted else None, timeout)

    def until(self, look: Callable[[], T | None], timeout: float = 40.0) -> T:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if (found := look()) is not None:
                return found
            time.sleep(0.05)
        raise AssertionError(f"not within {timeout} s")

    def phases(self, job: JobRecord) -> list[str]:
        events = self.storage.jobs.events(OWNER, job_id=job.id)
        return [event.data["phase"] for event in events if event.kind == "phase"]

    def in_engine(self, sqlite_text: str) -> None:
        """Meddle with the delivery engine's own table."""
        engine = create_queue_engine(self.settings.queue_url)
        table = "workflow_status" if self.is_sqlite else "dbos.workflow_status"
        with engine.begin() as connection:
            connection.exec_driver_sql(sqlite_text.replace("workflow_status", table))
        engine.dispose()

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
            worker.wait()
        self.submissions.close()
        self.storage.close()


def quick_settings(directory: Path, **values: Any) -> Settings:
    """Small, quick and impatient."""
    return Settings(
        data_dir=directory,
        task="tests.service.jobs.tasks:run",
        lease=2.0,
        heartbeat=0.4,
        reconcile=0.4,
        cancel_poll=0.1,
        queue_poll=0.1,
        shutdown_grace=0.5,
        **values,
    )


#: Runs a test on each of the two databases.
on_each_database = pytest.mark.parametrize("settings", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """On SQLite unless the test is `on_each_database`."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return quick_settings(tmp_path / "data")
    return quick_settings(tmp_path / "data", database_url=request.getfixturevalue("service_database"))


@pytest.fixture
def house(settings: Settings) -> Iterator[House]:
    house = House(settings)
    yield house
    house.close()
