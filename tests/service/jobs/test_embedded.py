"""The worker beside the API."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from service.jobs.embedded import WorkerProcess
from service.storage.records import Phase
from tests.service.jobs.conftest import REPO, House

pytestmark = pytest.mark.end_to_end


def test_worker_that_dies_is_replaced_and_ended_with_us(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)
    worker = WorkerProcess(house.settings)
    worker.start()
    try:
        assert house.wait(house.submit()).phase is Phase.COMPLETED
        first = worker.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert house.wait(house.submit()).phase is Phase.COMPLETED
        second = worker.pid
        assert second is not None
        assert second != first
        children = psutil.Process(second).children(recursive=True)
        assert children
    finally:
        worker.stop()
    assert not psutil.pid_exists(second)
    assert not any(child.is_running() for child in children)


def test_worker_does_not_outlive_a_killed_server(house: House, tmp_path: Path) -> None:
    """It hands its job back in order, so that the next server need not wait for the lease."""
    script = tmp_path / "server.py"
    script.write_text(
        "import time\n"
        "from service.jobs.embedded import WorkerProcess\n"
        "from service.settings import Settings\n"
        "worker = WorkerProcess(Settings()); worker.start()\n"
        "while worker.pid is None: time.sleep(0.05)\n"
        "print(worker.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    server = subprocess.Popen(
        [sys.executable, str(script)],
        env=os.environ | house.settings.environment() | {"PYTHONPATH": str(REPO)},
        stdout=subprocess.PIPE,
        cwd=REPO,
    )
    assert server.stdout is not None
    worker = psutil.Process(int(server.stdout.readline()))
    job = house.submit("sleep", seconds=20.0)
    house.wait(job, Phase.EXECUTING)
    server.kill()
    server.wait()
    server.stdout.close()
    house.until(lambda: None if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE else True, 10.0)
    after = house.job(job)
    assert (after.phase, after.losses) == (Phase.QUEUED, 0)


def test_worker_can_be_stopped_while_it_warms_up(house: House) -> None:
    house.settings = house.settings.model_copy(update={"task": "tests.service.jobs.slow_start:run"})
    worker = house.start_worker()
    house.until(lambda: psutil.Process(worker.pid).children() or None)
    time.sleep(0.5)
    worker.terminate()
    assert worker.wait(10) == 0
