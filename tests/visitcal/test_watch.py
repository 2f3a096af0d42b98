"""`visitcal watch`: what has landed, what is remembered, what is waited out."""

from __future__ import annotations

import bz2
import gzip
import json
import os
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from astropy.io import fits

from tests.fits_layouts import plain
from tests.visitcal.test_cli import finished
from visitcal.client import Client
from visitcal.errors import AuthenticationError, RequestRefusedError
from visitcal.options import OptionError
from visitcal.output import Output
from visitcal.watch.folder import Folder, Sight, is_whole
from visitcal.watch.memory import Memory, default_path
from visitcal.watch.watcher import Watcher


def exposure(path: Path, value: float = 1.0) -> Path:
    path.unlink(missing_ok=True)
    return plain(path, np.full((60, 50), value, "f4"))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def nothing(_name: str, _sight: Sight) -> bool:
    return False


# -- what has landed


@pytest.fixture
def night(tmp_path: Path) -> Path:
    (tmp_path / "night").mkdir()
    return tmp_path / "night"


def test_a_file_has_landed_when_it_rests(night: Path) -> None:
    clock = Clock()
    folder = Folder(night, settle=5, clock=clock)
    exposure(night / "a.fits")
    assert folder.landed(nothing) == {}
    clock.now += 4.9
    assert folder.landed(nothing) == {}
    os.utime(night / "a.fits")  # somebody writes into it
    clock.now += 0.2
    assert folder.landed(nothing) == {}
    clock.now += 5
    assert list(folder.landed(nothing)) == ["a.fits"]
    exposure(night / ".b.fits.tmp").rename(night / "b.fits")
    assert "b.fits" not in folder.landed(nothing)
    clock.now += 5
    assert list(folder.landed(lambda name, _: name == "a.fits")) == ["b.fits"]


def test_a_writer_that_pauses_is_waited_for(night: Path, tmp_path: Path) -> None:
    """However long: at no length that the file passes through is it taken for whole."""
    whole = exposure(tmp_path / "whole").read_bytes()
    with fits.open(tmp_path / "whole") as hdus:
        hdus.append(fits.ImageHDU(np.ones((60, 50), "f4"), name="MASK"))
        hdus.writeto(tmp_path / "two")
    two = (tmp_path / "two").read_bytes()
    path = night / "a.fits"
    padding = 5 * 2880 - 4 * 60 * 50  # of the last block: some writers leave it out
    unfinished = [*range(1, len(whole) - padding, 997), *range(len(whole) + 1, len(two) - padding, 997)]
    for length in unfinished:
        path.write_bytes(two[:length])
        assert not is_whole(path, Sight.of(path.stat())), length
    for data in (whole, two, whole[:-padding]):
        path.write_bytes(data)
        assert is_whole(path, Sight.of(path.stat()))
    seen = Sight.of(path.stat())
    path.write_bytes(two)
    assert not is_whole(path, seen)  # it is not what was seen to rest


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_a_packed_file_is_read_to_its_end(night: Path, tmp_path: Path, pack: Any) -> None:
    data = pack(exposure(tmp_path / "a").read_bytes())
    path = night / "a.fits.gz"
    for length, expected in ((len(data), True), (len(data) - 1, False), (len(data) // 2, False)):
        path.write_bytes(data[:length])
        assert is_whole(path, Sight.of(path.stat())) is expected


def test_which_files_are_looked_at(night: Path) -> None:
    (night / "inner").mkdir()
    for name in ("a.FITS", "b.fit.gz", ".c.fits", "d.txt", "preliminary_visit_image.fits", "inner/e.fits"):
        (night / name).write_bytes(b"x")
    (night / "empty.fits").touch()
    os.mkfifo(night / "pipe.fits")
    (night / "inner" / "loop").symlink_to(night)
    (night / "link.fits").symlink_to(night / "a.FITS")
    assert set(Folder(night).files()) == {"a.FITS", "b.fit.gz", "link.fits"}
    assert set(Folder(night, is_recursive=True).files()) == {"a.FITS", "b.fit.gz", "link.fits", "inner/e.fits"}
    assert set(Folder(night, ["E*"], is_recursive=True).files()) == {"inner/e.fits"}


# -- what is remembered


def test_memory_outlives_the_program_and_is_of_one(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state.sqlite"
    sight = Sight(10, 20)
    with Memory(path) as memory:
        assert memory.is_new
        memory.keep("a", sight, "job_1")
        memory.keep("b", sight)
        with pytest.raises(OptionError, match="another visitcal watch"):
            Memory(path)
    with Memory(path) as memory:
        assert not memory.is_new
        assert memory.at_work() == {"a": "job_1"}
        assert memory.knows("a", sight)
        assert memory.knows("b", sight)
        assert not memory.knows("a", Sight(11, 20))
        memory.ended("a", "COMPLETED")
        assert memory.at_work() == {}
    (tmp_path / "other").write_text("no database at all")
    with pytest.raises(OptionError):
        Memory(tmp_path / "other")


def test_each_folder_has_a_memory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "link").symlink_to(tmp_path)
    assert default_path(tmp_path) == default_path(tmp_path / "link")
    assert default_path(tmp_path) != default_path(tmp_path / "state")
    assert (tmp_path / "state") in default_path(tmp_path).parents


# -- what is sent


class Service:
    """Jobs end at the second look; `answer` stands in for a service that is not well."""

    def __init__(self) -> None:
        self.answer: httpx.Response | Exception | None = None
        self.keys: list[str] = []
        self.jobs: dict[str, dict[str, Any]] = {}
        self.refuse_upload = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        content = request.read()
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None and request.method == "POST":
            return self.answer
        match request.method, request.url.path:
            case "PUT", _:
                if self.refuse_upload:
                    return httpx.Response(415, json={"code": "upload.not_fits", "detail": "Not FITS."})
                return httpx.Response(201, json={"id": "exp_1"})
            case "POST", _:
                assert json.loads(content)["references"] == {"astrometry": "gaia", "photometry": "gaia"}
                self.keys.append(request.headers["Idempotency-Key"])
                job_id = f"job_{len(self.keys)}"
                self.jobs[job_id] = finished("QUEUED", id=job_id, summary=None, progress=0.0)
                return httpx.Response(202, json=self.jobs[job_id])
            case "GET", "/v1/jobs":
                return httpx.Response(200, json={"items": list(self.jobs.values()), "next": None})
            case _:
                return httpx.Response(200, json=self.jobs[request.url.path.rpartition("/")[2]])

    def finish(self) -> None:
        self.jobs = {job_id: finished(id=job_id) for job_id in self.jobs}


@pytest.fixture
def service() -> Service:
    return Service()


def watcher(service: Service, night: Path, memory: Memory, clock: Clock) -> Watcher:
    client = Client("http://service", transport=httpx.MockTransport(service), retries=0)
    folder = Folder(night, settle=1, clock=clock)
    references = {"references": {"astrometry": "gaia", "photometry": "gaia"}}
    return Watcher(client, night, folder, memory, references, Output(is_json=True))


def events(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str | None]]:
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [(document["event"], document.get("file")) for document in documents]


def rounds(one: Watcher, clock: Clock, count: int = 2) -> None:
    for _ in range(count):
        one.round()
        clock.now += 2


def test_landed_files_become_jobs_once(
    service: Service, night: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    exposure(night / "old.fits")
    with Memory(tmp_path / "state") as memory:
        one = watcher(service, night, memory, clock)
        assert one.leave_alone_what_is_there() == 1
        exposure(night / "a.fits")
        rounds(one, clock, 4)
        assert events(capsys) == [("submitted", "a.fits")]
    exposure(night / "b.fits")  # while nobody watches
    service.finish()
    with Memory(tmp_path / "state") as memory:
        rounds(watcher(service, night, memory, clock), clock)
        assert events(capsys) == [("ended", "a.fits"), ("submitted", "b.fits")]
        assert memory.at_work() == {"b.fits": "job_2"}
    assert len(service.keys) == 2


def test_the_same_file_has_the_same_key(service: Service, night: Path, tmp_path: Path) -> None:
    """The program may die between the answer and remembering it."""
    exposure(night / "a.fits")
    for number in (1, 2):
        with Memory(tmp_path / f"state{number}") as memory:
            clock = Clock()
            rounds(watcher(service, night, memory, clock), clock)
    exposure(night / "a.fits", 2.0)
    with Memory(tmp_path / "state3") as memory:
        clock = Clock()
        rounds(watcher(service, night, memory, clock), clock)
    first, second, third = service.keys
    assert first == second != third


@pytest.mark.parametrize(
    "outage",
    [
        httpx.ConnectError("refused"),
        httpx.Response(503, json={"code": "storage.unavailable", "detail": "Later."}),
        httpx.Response(429, json={"code": "queue.full", "detail": "Full."}),
    ],
)
def test_outages_are_waited_out(
    service: Service, night: Path, tmp_path: Path, outage: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    exposure(night / "a.fits")
    with Memory(tmp_path / "state") as memory:
        one = watcher(service, night, memory, clock)
        service.answer = outage
        rounds(one, clock, 4)
        assert events(capsys) == [("waiting", None)]  # said once
        service.answer = None
        rounds(one, clock, 1)
        assert events(capsys) == [("submitted", "a.fits"), ("back", None)]


def test_a_folder_that_is_away_comes_back(
    service: Service, night: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    with Memory(tmp_path / "state") as memory:
        one = watcher(service, night, memory, clock)
        night.rename(tmp_path / "away")
        rounds(one, clock)
        (tmp_path / "away").rename(night)
        rounds(one, clock, 1)
    assert events(capsys) == [("waiting", None), ("back", None)]


def test_a_refused_file_is_told_once_and_tried_again_when_it_changes(
    service: Service, night: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    exposure(night / "a.fits")
    service.refuse_upload = True
    with Memory(tmp_path / "state") as memory:
        one = watcher(service, night, memory, clock)
        rounds(one, clock, 4)
        (line,) = capsys.readouterr().out.splitlines()
        assert json.loads(line)["problem"]["code"] == "upload.not_fits"
        service.refuse_upload = False
        exposure(night / "a.fits", 3.0)
        rounds(one, clock)
        assert events(capsys) == [("submitted", "a.fits")]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (
            httpx.Response(
                422, json={"code": "job.refcat_not_found", "detail": "None.", "errors": [{"pointer": "/references"}]}
            ),
            RequestRefusedError,
        ),
        (httpx.Response(401, json={"code": "auth.required", "detail": "No token."}), AuthenticationError),
    ],
)
def test_what_no_file_can_change_ends_it(
    service: Service, night: Path, tmp_path: Path, answer: httpx.Response, error: type[Exception]
) -> None:
    clock = Clock()
    path = exposure(night / "a.fits")
    service.answer = answer
    with Memory(tmp_path / "state") as memory:
        one = watcher(service, night, memory, clock)
        one.round()
        clock.now += 2
        with pytest.raises(error):
            one.round()
        assert not memory.knows("a.fits", Sight.of(path.stat()))  # it gets its turn when that is mended


def test_stopping_calls_the_sending_off(service: Service, night: Path, tmp_path: Path) -> None:
    clock = Clock()
    exposure(night / "a.fits")
    with Memory(tmp_path / "state") as memory:
        one = watcher(service, night, memory, clock)
        one.round()
        clock.now += 2
        one.stop.set()
        one.round()
        assert one.run(0.01) == []
        assert service.keys == []


def test_a_name_that_is_no_text_is_a_name(service: Service, night: Path, tmp_path: Path) -> None:
    """As of an archive of another system: it must not stand in the way of all others."""
    clock = Clock()
    name = os.fsdecode(b"nuit_\xe9.fits")
    exposure(night / "a.fits").rename(night / name)
    with Memory(tmp_path / "state") as memory:
        one = watcher(service, night, memory, clock)
        rounds(one, clock)
        assert memory.knows(name, Sight.of((night / name).stat()))
    assert len(service.keys) == 1
