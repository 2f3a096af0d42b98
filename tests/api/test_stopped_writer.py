"""A process that is stopped in the middle of a write holds the lock of a SQLite file: readers and clients are told."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from api import lifespan
from tests.api.conftest import open_house

WRITER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE jobs SET priority = priority + 1")
print("writing", flush=True)
time.sleep(600)
"""


def test_writes_are_refused_soon_and_reads_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifespan, "_WRITE_PATIENCE", 0.5)
    with open_house(tmp_path) as house:
        job_id = house.submit()["id"]
        body = {"exposures": [house.upload()], "force": True}
        file = house.settings.data_dir / "visitcal.sqlite"
        with subprocess.Popen([sys.executable, "-c", WRITER, str(file)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            writer.send_signal(signal.SIGSTOP)
            for method, path, json in (("POST", "/v1/jobs", body), ("POST", f"/v1/jobs/{job_id}/abort", None)):
                begin = time.monotonic()
                answer = house.client.request(method, path, json=json)
                assert time.monotonic() - begin < 3.0
                assert (answer.status_code, answer.json()["code"]) == (503, "service.unavailable")
                assert int(answer.headers["Retry-After"]) > 0
                assert house.client.get(f"/v1/jobs/{job_id}").json()["phase"] == "QUEUED"
            writer.kill()
        assert house.client.post("/v1/jobs", json=body).status_code == 202
        assert house.client.get(f"/v1/jobs/{job_id}").json()["priority"] == 50  # what was left is not there
