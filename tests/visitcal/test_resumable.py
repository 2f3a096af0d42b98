"""Large files over lines that break and to services that die."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import threading
import time
from io import BytesIO
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from astropy.io import fits

from service.settings import Settings
from tests.api.test_hostile_uploads import listening
from tests.cutting_proxy import cutting_proxy
from visitcal.client import Client
from visitcal.errors import FetchFailedError, RequestRefusedError, ServiceUnreachableError, VisitcalError
from visitcal.resumable import ResumableUpload
from visitcal.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.visitcal.conftest import Clock, Kind


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 MiB that no compression would make smaller."""
    path = tmp_path_factory.mktemp("files") / "large.fits"
    pixels = np.random.default_rng(5).normal(100.0, 5.0, (2048, 2048)).astype(np.float32)
    fits.PrimaryHDU(pixels).writeto(path)
    return path


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with listening(Settings(data_dir=tmp_path_factory.mktemp("service") / "data")) as port:
        yield port


def test_a_line_that_breaks_at_random_places(kind: Kind, port: int, large: Path) -> None:
    size, chance = large.stat().st_size, random.Random(3)
    cuts = [chance.randrange(2000, size // 4) for _ in range(8)]
    seen: list[int] = []
    with cutting_proxy(port, cuts) as proxy:
        client = kind.connect(proxy.url)
        document = kind(client.upload(large, resumable=True, on_progress=lambda done, _: seen.append(done)))
    assert proxy.done >= 4
    assert document["sha256"] == hashlib.sha256(large.read_bytes()).hexdigest()
    assert seen[-1] == size
    # What had come did not travel again, but for what was in the buffers of the line.
    assert proxy.sent < size + 8 * (1 << 20)
    with Client(f"http://127.0.0.1:{port}") as client:
        before: list[int] = []
        assert client.upload(large, resumable=True, on_progress=lambda done, _: before.append(done)) == document
        assert before == [size]  # nothing of it was sent
        client.delete_exposure(document["id"])


def test_another_client_goes_on(kind: Kind, port: int, large: Path) -> None:
    size = large.stat().st_size
    with cutting_proxy(port, [size // 2]) as proxy, pytest.raises(ServiceUnreachableError):
        kind(kind.connect(proxy.url, retries=0).upload(large, resumable=True))
    seen: list[int] = []
    client = kind.connect(f"http://127.0.0.1:{port}")
    document = kind(client.upload(large, resumable=True, on_progress=lambda done, _: seen.append(done)))
    assert seen[0] > size // 4
    kind(client.delete_exposure(document["id"]))


def test_large_files_are_sent_so_by_themselves(
    kind: Kind, port: int, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    run = ResumableUpload.run
    monkeypatch.setattr(ResumableUpload, "run", lambda self: asked.append("run") or run(self))
    client = kind.connect(f"http://127.0.0.1:{port}")
    kind(client.upload(large))
    monkeypatch.setattr("visitcal.exposures.LARGE_BYTES", large.stat().st_size)
    kind(client.upload(large))
    kind(client.upload(large, resumable=False))
    assert asked == ["run"]


def test_what_the_service_refuses_is_not_tried_again(port: int, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"no FITS file at all " * 1000)
    with Client(f"http://127.0.0.1:{port}") as client, pytest.raises(RequestRefusedError) as caught:
        client.upload(path, resumable=True)
    assert caught.value.code == "upload.not_fits"


@pytest.mark.parametrize("code", ["upload.not_found", "upload.elsewhere"])
def test_an_upload_that_was_lost_is_begun_anew(kind: Kind, large: Path, code: str) -> None:
    begun: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        match request.method, request.url.path:
            case "GET", "/v1/exposures" | "/v1/uploads":
                return httpx.Response(200, json={"items": []})
            case "POST", _:
                begun.append(f"upl_{len(begun)}")
                return httpx.Response(201, json={"id": begun[-1]})
            case "GET", _:
                return httpx.Response(200, json={"exposure_id": None}, headers={"Upload-Offset": "0"})
            case _:
                request.read()
                if request.url.path.endswith("upl_0"):
                    return httpx.Response(404 if code == "upload.not_found" else 409, json={"code": code})
                return httpx.Response(201, json={"id": "exp_1"})

    assert kind(kind.connect(answer).upload(large, resumable=True))["id"] == "exp_1"
    assert begun == ["upl_0", "upl_1"]


def test_a_sender_before_that_is_not_seen_to_be_dead_is_waited_for(kind: Kind, clock: Clock, large: Path) -> None:
    busy = [True] * 20

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "PATCH":
            request.read()
            if busy:
                busy.pop()
                return httpx.Response(409, json={"code": "upload.busy"})
            return httpx.Response(201, json={"id": "exp_1"})
        if request.url.path.endswith("/upl_1"):
            return httpx.Response(200, json={"exposure_id": None}, headers={"Upload-Offset": "7"})
        mine = [{"id": "upl_1", "phase": "PENDING", "size": large.stat().st_size}]
        return httpx.Response(200, json={"items": mine if request.url.path == "/v1/uploads" else []})

    assert kind(kind.connect(answer).upload(large, resumable=True))["id"] == "exp_1"
    assert clock.pauses == [2.0] * 20


@pytest.mark.end_to_end
def test_a_service_that_is_killed_while_bytes_come(tmp_path: Path) -> None:
    stream = BytesIO()
    fits.PrimaryHDU(np.random.default_rng(1).normal(0, 1, (2800, 2800)).astype(np.float32)).writeto(stream)
    path = tmp_path / "large.fits"
    path.write_bytes(stream.getvalue())
    size = path.stat().st_size
    data, log = tmp_path / "data", tmp_path / "log"
    killed = threading.Event()

    with ServerProcess(data, log, ("--no-worker",)) as server:
        pid = server.pid

        def kill_half_way(done: int, _: int) -> None:
            if done > size // 2 and not killed.is_set():
                os.kill(pid, signal.SIGKILL)
                killed.set()
                time.sleep(0.2)

        with Client(server.url, retries=0) as client, pytest.raises(VisitcalError):
            client.upload(path, resumable=True, on_progress=kill_half_way)
    assert killed.is_set()
    (partial,) = (data / "blobs" / "partial").iterdir()
    there = partial.stat().st_size
    assert there > size // 4
    assert partial.read_bytes() == path.read_bytes()[:there]
    seen: list[int] = []
    with ServerProcess(data, log, ("--no-worker",)) as server, Client(server.url) as client:
        document = client.upload(path, resumable=True, on_progress=lambda done, _: seen.append(done))
    assert there < seen[0] <= there + (1 << 20)
    assert document["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_service_fetches_for_the_client(kind: Kind) -> None:
    phases = ["QUEUED", "EXECUTING", "COMPLETED"]
    seen: list[tuple[int, int]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/exposures/exp_1":
            return httpx.Response(200, json={"id": "exp_1"})
        phase = phases.pop(0)
        upload: dict[str, Any] = {"id": "upl_1", "phase": phase, "offset": 5, "size": 10, "source": "https://host/x"}
        upload |= {"exposure_id": "exp_1" if phase == "COMPLETED" else None}
        upload |= {"error": {"code": "source.dns", "message": "Its name is not known."} if phase == "ERROR" else None}
        return httpx.Response(202 if request.method == "POST" else 200, json=upload)

    client = kind.connect(answer)
    document = kind(client.fetch("https://host/x", poll=0.0, on_progress=lambda *now: seen.append(now)))
    assert document["id"] == "exp_1"
    assert seen == [(5, 10), (5, 10)]
    phases[:] = ["QUEUED", "ERROR"]
    with pytest.raises(FetchFailedError, match=r"https://host/x: Its name is not known\. \[source\.dns\]"):
        kind(client.fetch("https://host/x", poll=0.0))
