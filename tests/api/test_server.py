"""The server as a process would run it, without one."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import httpx

from api.app import create_app
from api.server import Server
from service.jobs.prepare import prepare
from service.settings import Settings
from tests.api.conftest import fits_bytes

if TYPE_CHECKING:
    from pathlib import Path


def test_the_end_does_not_wait_for_long_polls(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    prepare(settings)
    answers: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = Server(create_app(settings), settings)
        running = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        running.start()
        with httpx.Client(base_url=url, timeout=30.0) as client:
            exposure = client.put("/v1/exposures", content=fits_bytes()).json()["id"]
            job = client.post("/v1/jobs", json={"exposures": [exposure]}).json()["id"]
            poll = threading.Thread(target=lambda: answers.append(client.get(f"/v1/jobs/{job}?wait=30").status_code))
            poll.start()
            time.sleep(0.5)
            before = time.monotonic()
            server.should_exit = True
            poll.join()
            running.join()
    assert answers == [200]
    assert time.monotonic() - before < 5.0
