"""What one job asks of others: statements of the database, by who sends them, and requests of a client that waits.

The API is the real one, and so are the client and what a worker does with a job it takes, but the work of the child is
done here, and everything happens in turn: the client asks again before the job goes on, as if each step took longer
than an answer. Statements of threads that look at the database every so often belong to no job and are not counted,
nor those of the delivery engine, which has a database of its own.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from service.jobs import publish, states
from service.jobs.attempt import Attempt
from service.jobs.outcome import JobOutcome
from service.jobs.pipeline import run_job
from service.jobs.runner import Finished
from service.jobs.spec import child_spec
from service.jobs.task import Reporter, Task
from service.jobs.turns import take
from service.simulation import simulate, write_simulation
from service.storage.json_values import clean_json
from service.storage.records import JobRecord
from tests.api.conftest import House, open_house
from tests.regression.exposures import CASES
from visitcal.client import Client

_ID = re.compile(r"/[a-z]+_[0-9a-z]{26}")
_SENDER: ContextVar[str] = ContextVar("sender", default="")


@contextmanager
def sending(name: str) -> Iterator[None]:
    """Statements from in here are those of a sender."""
    token = _SENDER.set(name)
    try:
        yield
    finally:
        _SENDER.reset(token)


class CountedTransport(httpx.BaseTransport):
    """Passes requests on, and counts those that were answered with news by what they ask for.

    A poll that ends without any after half a minute is the clock's, not the job's.
    """

    def __init__(self, transport: httpx.BaseTransport) -> None:
        self._transport = transport
        self._change = threading.Condition()
        self._under_way: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        name = f"{request.method} {_ID.sub('/{id}', request.url.path)}"
        self._count(self._under_way, name, 1)
        with sending(name):
            response = self._transport.handle_request(request)
        self._count(self._under_way, name, -1)
        if response.status_code != httpx.codes.NOT_MODIFIED:
            self._count(self.requests, name, 1)
        return response

    def wait_for(self, name: str, answered: int) -> None:
        """Return when so many had an answer and one waits for it."""
        with self._change:
            assert self._change.wait_for(lambda: self.requests[name] == answered and self._under_way[name], timeout=300)

    def _count(self, counter: Counter[str], name: str, step: int) -> None:
        with self._change:
            counter[name] += step
            self._change.notify_all()


class ChildHere:
    """Does the work of a child process in this one, with one heartbeat of the worker in its middle."""

    def __init__(self, between: Callable[[], None], beat: Callable[[], None]) -> None:
        self._between, self._beat = between, beat

    def run(self, spec: dict[str, Any], directory: Path, *, on_message: Any, **limits: Any) -> Finished:
        self._between()
        outcome = run_job(Task(spec, directory, Reporter(on_message)))
        self._beat()
        self._between()
        return Finished(JobOutcome.from_json(json.loads(json.dumps(clean_json(outcome.to_json())))))


def work_of_a_job(directory: Path) -> dict[str, dict[str, int]]:
    """Statements by sender and requests by route, from the submission of an uploaded exposure to its result."""
    files = write_simulation(simulate(CASES["sharp"].scene), directory / "input")
    with open_house(directory, max_upload_bytes=1 << 26) as house, pytest.MonkeyPatch.context() as patch:
        transport = CountedTransport(house.client._transport)
        with Client(house.client.base_url, transport=transport) as client:
            client.put_refcat("sim", files["references"])
            exposure = client.upload(files["exposure"])["id"]
            transport.requests.clear()
            with counted_statements(house.services.storage.database.engine) as statements:
                job = client.submit(exposure, references="sim")
                waiting = threading.Thread(target=job.wait)
                waiting.start()
                work(house, lambda answered: transport.wait_for("GET /v1/jobs/{id}", answered), patch)
                waiting.join()
            assert job.phase == "COMPLETED"
    return {"statements": dict(sorted(statements.items())), "requests": dict(sorted(transport.requests.items()))}


def work(house: House, until_asked: Callable[[int], None], patch: pytest.MonkeyPatch) -> None:
    """What a worker does with the job that waits."""
    storage, settings = house.services.storage, house.settings
    publishing = publish.publish

    def named(*arguments: Any) -> Any:
        with sending("worker: publish"):
            return publishing(*arguments)

    patch.setattr(publish, "publish", named)
    until_asked(0)
    with sending("worker: take"):
        job = take(storage, settings, "worker")
    assert isinstance(job, JobRecord)
    attempt = Attempt(storage, settings, job)

    def beat() -> None:
        with sending("worker: heartbeat"):
            assert states.beat(storage, attempt.fence, settings.lease, attempt.progress.report()) is not None

    answered = iter((1, 2))
    child: Any = ChildHere(lambda: until_asked(next(answered)), beat)
    with sending("worker: attempt"):
        attempt.run(child, lambda: child_spec(storage, settings, job, attempt.directory))


@contextmanager
def counted_statements(engine: sa.Engine) -> Iterator[Counter[str]]:
    """Statements by sender; many rows of one statement are one."""
    statements: Counter[str] = Counter()

    def count(*_: object) -> None:
        if sender := _SENDER.get():
            statements[sender] += 1

    sa.event.listen(engine, "before_cursor_execute", count)
    try:
        yield statements
    finally:
        sa.event.remove(engine, "before_cursor_execute", count)
