"""Uploads that mean harm: each is refused or ends its job with a reason, and leaves nothing."""

from __future__ import annotations

import base64
import gzip
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import uvicorn

from api.app import create_app
from service.jobs.prepare import prepare
from service.settings import Settings
from tests.api.conftest import House, fits_bytes, open_house
from tests.hostile_files import hopeless, not_fits, readable_at_first_sight
from visitcal.client import Client
from visitcal.server_process import ServerProcess

BLOCK = 2880
MIB = 1 << 20


@pytest.fixture(scope="module")
def hostile_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("house")) as house:
        yield house


def files(house: House) -> list[Path]:
    places = (house.settings.blob_dir, house.settings.scratch_dir)
    return [path for place in places for path in place.rglob("*") if path.is_file()]


@pytest.mark.parametrize("content", [pytest.param(c, id=name) for name, c in not_fits()])
def test_what_is_not_fits(hostile_house: House, content: bytes) -> None:
    answer = hostile_house.client.put("/v1/exposures", content=content)
    assert (answer.status_code, answer.json()["code"]) in (
        (415, "upload.not_fits"),
        (422, "exposure.unreadable"),
    )
    assert files(hostile_house) == []
    assert not Path("/tmp/visitcal-was-here").exists()


@pytest.mark.parametrize(("content", "reason"), [pytest.param(c, r, id=name) for name, c, r in hopeless()])
def test_what_no_job_could_read(hostile_house: House, content: bytes, reason: str) -> None:
    before, begin = psutil.Process().memory_info().rss, time.monotonic()
    answer = hostile_house.client.put("/v1/exposures", content=content)
    assert (answer.status_code, answer.json()["code"]) == (422, "exposure.unreadable")
    assert answer.json()["reason"] == reason
    assert len(answer.json()["detail"]) > 20
    assert time.monotonic() - begin < 5.0
    assert psutil.Process().memory_info().rss - before < 60 * MIB
    assert files(hostile_house) == []


@pytest.mark.parametrize(("content", "code"), [pytest.param(c, r, id=n) for n, c, r in readable_at_first_sight()])
def test_what_only_its_job_finds_out(house: House, content: bytes, code: str) -> None:
    begin = time.monotonic()
    if len(content) > house.settings.max_upload_bytes:
        content = gzip.compress(content, 1)
    assert house.client.put("/v1/exposures", content=content).status_code == 201
    assert time.monotonic() - begin < 5.0
    job = house.calibrate(content)
    assert job["phase"] == "ERROR"
    error = job["error"]
    assert error["code"] == code if code else error["code"].partition(".")[0] != "service"
    assert len(error["message"]) > 20
    assert "Traceback" not in error["message"]
    assert house.client.get("/healthz").status_code == 200
    assert [path for path in files(house) if "incoming" in path.parts] == []


def test_another_digest_than_announced(hostile_house: House) -> None:
    digest = base64.b64encode(bytes(32)).decode()
    headers = {"Content-Digest": f"sha-256=:{digest}:"}
    answer = hostile_house.client.put("/v1/exposures", content=fits_bytes(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "upload.digest_mismatch")
    assert files(hostile_house) == []


NAMES = [
    "../../../etc/passwd",
    "..\\..\\windows\\system.ini",
    "/etc/cron.d/evil",
    "a\x00b\r\nX-Evil: 1.fits",
    "." * 900,
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", [True, False])
def test_a_path_in_a_name_is_a_label(house: House, name: str, form: bool) -> None:
    if form:
        answer = house.client.post("/v1/exposures", files={"file": (name, fits_bytes())})
    else:
        answer = house.client.put("/v1/exposures", content=fits_bytes(), params={"filename": name})
    assert answer.status_code == 201
    label = answer.json()["filename"]
    assert not set(label) & set("/\\\x00\r\n")
    assert len(label) <= 200
    assert "x-evil" not in answer.headers
    sha256 = answer.json()["sha256"]
    assert [str(path.relative_to(house.settings.blob_dir)) for path in files(house)] == [
        f"{sha256[:2]}/{sha256[2:4]}/{sha256}"
    ]


@pytest.mark.parametrize(
    "part",
    [
        b"Content-Disposition: form-data; name=file; filename=" + b"x" * 700_000,
        b"X-Padding: y\r\n" * 50_000 + b"Content-Disposition: form-data; name=file; filename=x",
        b"Content-Disposition: form-data; name=" + b"x" * 700_000,
    ],
    ids=["endless name", "endless headers", "endless field"],
)
def test_form_with_endless_headers(hostile_house: House, part: bytes) -> None:
    body = b"--x\r\n" + part + b"\r\n\r\n" + fits_bytes() + b"\r\n--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    begin = time.monotonic()
    answer = hostile_house.client.post("/v1/exposures", content=body, headers=headers)
    assert 400 <= answer.status_code < 500
    assert time.monotonic() - begin < 3.0
    assert files(hostile_house) == []


@contextmanager
def listening(settings: Settings) -> Iterator[int]:
    """The API behind a real socket; its port."""
    prepare(settings)
    server = uvicorn.Server(uvicorn.Config(create_app(settings), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize("pause", [0.05, 3600.0], ids=["drop by drop", "silence"])
def test_slow_loris(tmp_path: Path, pause: float) -> None:
    settings = Settings(data_dir=tmp_path / "data", upload_silence=0.5, min_upload_rate=1000)
    content = fits_bytes()
    head = f"PUT /v1/exposures HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n\r\n"
    with listening(settings) as port, socket.create_connection(("127.0.0.1", port)) as link:
        link.sendall(head.encode() + content[:BLOCK])
        link.settimeout(min(pause, 5.0))
        begin, answer, sent = time.monotonic(), b"", BLOCK
        while time.monotonic() - begin < 5.0 and b"upload.incomplete" not in answer:
            try:
                answer += link.recv(65536)
            except TimeoutError:
                link.sendall(content[sent : sent + 1])
                sent += 1
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"upload.incomplete" in answer
        assert 0.4 < time.monotonic() - begin < 3.0
    assert [path for path in settings.blob_dir.rglob("*") if path.is_file()] == []


@pytest.mark.long
@pytest.mark.end_to_end
def test_real_processes_outlive_all_of_it(tmp_path: Path) -> None:
    """API, worker and child as they run in earnest: alive, small, and able to do an honest job afterwards."""
    from service.simulation import SimulationConfig, simulate, write_simulation

    written = write_simulation(simulate(SimulationConfig(size=700, seed=11, n_stars=350, n_galaxies=20)), tmp_path)
    cache = str(Path(__file__).parents[2] / ".numba_cache")
    limit = 1024 * MIB
    environment = {"VISITCAL_KERNEL_CACHE_DIR": cache, "VISITCAL_MEMORY_LIMIT_BYTES": str(limit)}
    with ServerProcess(tmp_path / "data", tmp_path / "log", environment=environment) as server:
        process = psutil.Process(server.pid)

        def children() -> list[psutil.Process]:
            return [p for p in process.children(recursive=True) if "service.jobs.child" in p.cmdline()]

        with Client(server.url, retries=0) as client:
            client.put_refcat("sim", written["references"])
            client.submit(written["exposure"], references="sim").wait(timeout=300)
            (child,) = children()
            worker, idle = child.parent(), child.memory_info().rss
            refused = [*((n, c) for n, c in not_fits()), *((n, c) for n, c, _ in hopeless())]
            path = tmp_path / "upload"
            for _, content in refused:
                path.write_bytes(content)
                with pytest.raises(Exception, match=r"upload\.|exposure\.|FITS|file"):
                    client.upload(path)
            blobs = tmp_path / "data/blobs"
            kept = {p for p in blobs.rglob("*") if p.is_file()}
            phases, most = [], 0
            for _, content, _ in readable_at_first_sight():
                path.write_bytes(content)
                job = client.submit(path, references="sim")
                while (document := job.refresh())["phase"] in ("QUEUED", "EXECUTING"):
                    most = max([most, *(c.memory_info().rss for c in children())])
                    time.sleep(0.05)
                phases.append(document["phase"])
            assert set(phases) == {"ERROR"}
            assert len(phases) == 7
            assert worker is not None
            assert worker.is_running()
            assert most < idle + limit
            assert not [p for p in kept if not p.exists()]
            assert list((tmp_path / "data/scratch").glob("job_*")) == []
            assert list((blobs / "incoming").iterdir()) == []
            client.submit(written["exposure"], references="sim", force=True).wait(timeout=300)
        status = Path(f"/proc/{server.pid}/status").read_text()
        peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024
        print(f"API peak {peak / MIB:.0f} MiB, child idle {idle / MIB:.0f} MiB, most {most / MIB:.0f} MiB")
        assert peak < 250 * MIB
