"""Starting, stopping and killing the service's processes."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from visitcal.client import Client
from visitcal.server_process import ServerDidNotStartError, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.end_to_end

END = 240.0


def until(condition: Callable[[], bool], timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)


def test_sigterm_ends_server_worker_and_children(tmp_path: Path, environment: dict[str, str]) -> None:
    server = ServerProcess(tmp_path / "data", tmp_path / "log", environment=environment)
    server.start()
    with Client(server.url) as client:
        assert client.is_ready()
    parent = psutil.Process(server.pid)
    until(lambda: len(parent.children(recursive=True)) >= 2)
    family = parent.children(recursive=True)
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 30
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []


def test_job_survives_the_death_of_the_whole_service(
    tmp_path: Path, environment: dict[str, str], files: dict[str, Path]
) -> None:
    server = ServerProcess(tmp_path / "data", tmp_path / "log", environment=environment)
    server.start()
    family = psutil.Process(server.pid).children(recursive=True)
    with Client(server.url) as client:
        client.put_refcat("sim", files["references"])
        job = client.submit(files["exposure"], references="sim")
    server.kill()
    # The worker dies with the server that started it.
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
    server.stop()
    with (
        ServerProcess(tmp_path / "data", tmp_path / "log", environment=environment) as again,
        Client(again.url) as client,
    ):
        client.job(job.id).wait(END)
        assert len(list(client.jobs())) == 1


def test_running_job_is_aborted_and_its_processor_time_ends(
    tmp_path: Path, environment: dict[str, str], files: dict[str, Path]
) -> None:
    with (
        ServerProcess(tmp_path / "data", tmp_path / "log", environment=environment) as server,
        Client(server.url) as client,
    ):
        jobs = [client.submit(files["exposure"], references="none") for _ in range(4)]
        until(lambda: any(job.refresh()["phase"] == "EXECUTING" for job in jobs), END)
        for job in jobs:
            if job.refresh()["phase"] in ("QUEUED", "EXECUTING"):
                job.abort()
        until(lambda: all(job.refresh()["phase"] not in ("QUEUED", "EXECUTING") for job in jobs))
        phases = [job.phase for job in jobs]
        assert "ABORTED" in phases
        assert set(phases) <= {"ABORTED", "COMPLETED"}


def test_public_address_is_refused_without_tokens(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "visitcal.cli", "serve", "--host", "0.0.0.0", "--data-dir", str(tmp_path / "data")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert "reached from other machines" in result.stderr
    assert not (tmp_path / "data" / "visitcal.sqlite").exists()


def test_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the directory should be")
    server = ServerProcess(tmp_path / "data", tmp_path / "log")
    with pytest.raises(ServerDidNotStartError, match=r"File exists|Not a directory"):
        server.start()
