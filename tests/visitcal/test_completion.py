"""Waiting for many jobs: in a simulated world where time costs nothing, and on a real server."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.api.test_events import running
from visitcal.completion import as_completed
from visitcal.errors import NotFoundError, RequestRefusedError, WaitTimeoutError
from visitcal.steps import Close, Item, Open, Opened, Pause, Read, Send
from visitcal.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.visitcal.conftest import Kind

KEEPALIVE_S = 15.0


@dataclass
class Stream:
    """What a stream has told, and how long it may be silent."""

    since: float
    silence: float
    told: set[str] = field(default_factory=set)


@dataclass
class World:
    """A service whose jobs end at certain times and whose streams break at others; does the steps of a flow."""

    ends: dict[str, float]
    breaks: list[float] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)
    listed: int = 1000  # so many of the newest are in the list
    now: float = 0.0
    requests: int = 0
    open_streams: int = 0
    given_at: dict[str, list[float]] = field(default_factory=dict)

    def document(self, job_id: str) -> dict[str, Any]:
        phase = "COMPLETED" if self.ends[job_id] <= self.now else "EXECUTING"
        return {"id": job_id, "phase": phase, "owner": "local"}

    def run(self, jobs: list[Any], timeout: float | None = None, **policy: Any) -> list[str]:
        found = []
        with pytest.MonkeyPatch.context() as patch:
            clock = SimpleNamespace(monotonic=lambda: self.now)
            for module in ("waiting", "transport"):
                patch.setattr(f"visitcal.{module}.time", clock)
            flow = as_completed(Transport(**policy), jobs, timeout)
            step: Any = next(flow, None)
            while step is not None:
                try:
                    if isinstance(step, Item):
                        found.append(step.value.document["id"])
                        self.given_at.setdefault(found[-1], []).append(self.now)
                        step = next(flow)
                    else:
                        step = self.resumed(flow, step)
                except StopIteration:
                    break
        assert self.open_streams == 0
        return found

    def resumed(self, flow: Any, step: Any) -> Any:
        try:
            value = self.done(step)
        except httpx.TransportError as error:
            return flow.throw(error)
        return flow.send(value)

    def done(self, step: Any) -> Any:
        match step:
            case Pause(seconds):
                self.now += seconds
            case Send(request):
                return self.answer(request)
            case Open(request):
                self.requests += 1
                self.open_streams += 1
                if self.refusals:
                    return Opened(httpx.Response(self.refusals.pop(), json={"code": "x"}), iter([]))
                stream: Any = Stream(self.now, request.silence)
                return Opened(httpx.Response(200), stream)
            case Close():
                self.open_streams -= 1
            case Read(opened):
                return self.heard(opened.pieces)
        return None

    def answer(self, request: Any) -> httpx.Response:
        self.requests += 1
        if request.path != "/v1/jobs":
            job_id = request.path.rpartition("/")[2]
            if job_id not in self.ends:
                return httpx.Response(404, json={"code": "job.not_found"})
            return httpx.Response(200, json=self.document(job_id))
        newest = sorted(self.ends, reverse=True)[: self.listed]
        start = int(request.params["after"] or 0)
        stop = start + request.params["limit"]
        items = [self.document(job_id) for job_id in newest[start:stop]]
        return httpx.Response(200, json={"items": items, "next": str(stop) if stop < len(newest) else None})

    def heard(self, stream: Any) -> bytes:
        """The next piece: an event, a sign of life, or the break."""
        news = {job_id: end for job_id, end in self.ends.items() if end > stream.since and job_id not in stream.told}
        life = self.now + KEEPALIVE_S
        at, job_id = min([(max(end, self.now), job_id) for job_id, end in news.items()] + [(life, "")])
        broken = min((b for b in self.breaks if b > stream.since), default=float("inf"))
        if min(at, broken) - self.now > stream.silence:
            self.now += stream.silence
            raise httpx.ReadTimeout("silence")
        self.now = min(at, broken)
        if broken <= at:
            raise httpx.ReadError("broken")
        if not job_id:
            return b":\n\n"
        stream.told.add(job_id)
        event = {"seq": 1, "job_id": job_id, "kind": "phase", "at": "", "data": {"phase": "COMPLETED"}}
        return f"event: phase\ndata: {json.dumps(event)}\nid: 1\n\n".encode()


def handles(world: World, count: int) -> list[Any]:
    """Jobs as they were before the world began."""
    ids = [f"job_{number:03d}" for number in range(count)]
    return [SimpleNamespace(document={"id": i, "phase": "QUEUED", "owner": "local"}) for i in ids]


times = st.floats(0.1, 500.0)


@given(st.lists(times, max_size=30), st.lists(times, max_size=4), st.lists(st.sampled_from([429, 503]), max_size=3))
def test_every_job_is_given_once_and_soon(ends: list[float], breaks: list[float], refusals: list[int]) -> None:
    world = World({f"job_{n:03d}": end for n, end in enumerate(ends)}, breaks, list(refusals))
    jobs = handles(world, len(ends))
    found = world.run(jobs)
    assert sorted(found) == sorted(world.ends)
    assert all(job.document["phase"] == "COMPLETED" for job in jobs)
    for job_id, end in world.ends.items():
        (at,) = world.given_at[job_id]
        # At once, or after the pause that follows a break or a refusal.
        assert end <= at <= end + 35.0
    if not breaks and not refusals:
        assert [world.ends[job_id] for job_id in found] == sorted(ends)
        assert all(at == world.ends[job_id] for job_id, (at,) in world.given_at.items())
        # One for the stream, one for the list, one for each job.
        assert world.requests <= 2 + len(ends)


@given(st.floats(0.5, 300.0), st.lists(times, max_size=10))
def test_a_timeout_is_kept_to_the_second(timeout: float, others: list[float]) -> None:
    world = World({f"job_{n:03d}": end for n, end in enumerate([*others, 1e9])})
    with pytest.raises(WaitTimeoutError, match=f"job_{len(others):03d}"):
        world.run(handles(world, len(others) + 1), timeout=timeout, retries=0)
    assert timeout <= world.now <= timeout + 1.001


def test_jobs_that_had_ended_cost_nothing() -> None:
    world = World({})
    jobs = [SimpleNamespace(document={"id": "job_1", "phase": "ERROR"})] * 2
    assert world.run(jobs) == ["job_1", "job_1"]
    assert world.requests == 0


def test_a_job_that_is_there_twice_is_given_twice() -> None:
    world = World({"job_000": 5.0})
    jobs = handles(world, 1) + handles(world, 1)
    assert world.run(jobs) == ["job_000", "job_000"]
    assert {id(job.document) for job in jobs} == {id(jobs[0].document)}


@pytest.mark.parametrize("listed", [0, 7, 45, 100])
def test_old_jobs_are_found_beyond_the_list(listed: int) -> None:
    world = World({f"job_{number:03d}": 0.0 for number in range(100)}, listed=listed)
    world.now = 1.0
    mine = handles(world, 60)  # the oldest
    assert sorted(world.run(mine)) == [f"job_{number:03d}" for number in range(60)]


def test_a_job_that_was_deleted_is_an_error() -> None:
    world = World({"job_001": 5.0})
    with pytest.raises(NotFoundError):
        world.run(handles(world, 1))


def test_what_the_service_refuses_is_an_error() -> None:
    world = World({"job_000": 5.0}, refusals=[422])
    with pytest.raises(RequestRefusedError):
        world.run(handles(world, 1))


def test_jobs_of_several_owners_are_asked_for_together() -> None:
    world = World({"job_000": 5.0, "job_001": 6.0})
    jobs = handles(world, 2)
    jobs[0].document["owner"] = "ada"
    asked = []
    heard = world.done

    def listening(step: Any) -> Any:
        if isinstance(step, Open):
            asked.append(step.request.params["owner"])
        return heard(step)

    world.done = listening  # type: ignore[method-assign]
    assert len(world.run(jobs)) == 2
    assert asked == ["*"]


@pytest.fixture
def many(tmp_path: Path) -> Iterator[Any]:
    with running(tmp_path) as server:
        yield server


def test_two_hundred_jobs_of_a_real_service(kind: Kind, many: Any) -> None:
    records = [many.queue() for _ in range(200)]
    fences = [many.claim(record) for record in records]
    for fence in fences[:20]:
        many.abort(fence)
    requests: list[str] = []
    client = kind.connect(many.url)

    def hook(request: httpx.Request) -> None:
        requests.append(request.url.path)

    async def hook_async(request: httpx.Request) -> None:
        hook(request)

    # Their documents are from before the end of the first twenty.
    jobs = [client._job({"id": record.id, "phase": "EXECUTING", "owner": "local"}) for record in records]
    client._http.event_hooks = {"request": [hook_async if kind.is_async else hook]}
    enders = threading.Thread(target=lambda: [many.abort(fence) for fence in fences[20:]])
    enders.start()
    found = kind(client.as_completed(jobs, timeout=60.0))
    enders.join()
    assert sorted(job.id for job in found) == sorted(record.id for record in records)
    assert {job.phase for job in found} == {"ABORTED"}
    # The service lets go of a reader that is too slow; then the list is looked at again, in one page or some.
    streams, lists = requests.count("/v1/events"), requests.count("/v1/jobs")
    assert streams <= 3
    assert lists <= 4 * streams
    assert len(requests) == 200 + streams + lists


def test_a_listener_who_leaves_closes_the_stream(kind: Kind, many: Any) -> None:
    client = kind.connect(many.url)
    record = many.queue()
    fence = many.claim(record)
    many.beat(fence, 0.5)
    (event,) = kind.first(client.events(kinds=["progress"], after=0), 1)
    assert (event.job_id, event.data["progress"]) == (record.id, 0.5)
    deadline = time.monotonic() + 10.0
    while many.services.watcher.streams:
        assert time.monotonic() < deadline
        time.sleep(0.05)
