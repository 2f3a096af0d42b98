"""Both clients through one set of tests, and a clock that nobody waits for."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from visitcal import AsyncClient, Client

Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    """Take back where the logs go: a command of the service sends all to a standard error that ends with its test."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


class Kind:
    """One of the two clients; called with what it returned, it gives the result."""

    def __init__(self, client: type[Client] | type[AsyncClient]) -> None:
        self.client = client
        self.is_async = client is AsyncClient
        self._runner = asyncio.Runner()
        self._open: list[Any] = []

    def connect(self, target: str | Handler, **options: Any) -> Any:
        """A client of a service at an address, or of a script."""
        if isinstance(target, str):
            client = self.client(target, **options)
        else:
            options = {"base_url": "http://service"} | options
            client = self.client(transport=httpx.MockTransport(target), **options)
        self._open.append(client)
        return client

    def __call__(self, value: Any) -> Any:
        if inspect.iscoroutine(value):
            return self._runner.run(value)
        if isinstance(value, AsyncIterator):
            return self._runner.run(self._all(value))
        return list(value) if isinstance(value, Iterator) else value

    def load(self, thing: Any, name: str) -> Any:
        """Something of a result: an attribute of one kind, a coroutine method of the other."""
        return self(getattr(thing, name)()) if self.is_async else getattr(thing, name)

    def first(self, values: Any, count: int) -> list[Any]:
        """The first of an iterator, which is closed then."""
        if not self.is_async:
            found = [next(values) for _ in range(count)]
            values.close()
            return found

        async def take() -> list[Any]:
            taken = [await anext(values) for _ in range(count)]
            await values.aclose()
            return taken

        return self._runner.run(take())

    def close(self) -> None:
        for client in self._open:
            self(client.close())
        self._runner.close()

    @staticmethod
    async def _all(values: AsyncIterator[Any]) -> list[Any]:
        return [value async for value in values]


@pytest.fixture(params=[Client, AsyncClient], ids=["blocking", "awaiting"])
def kind(request: pytest.FixtureRequest) -> Iterator[Kind]:
    kind = Kind(request.param)
    yield kind
    kind.close()


@dataclass
class Clock:
    """Time that passes in pauses only."""

    now: float = 1000.0
    pauses: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    time = SimpleNamespace(monotonic=clock.monotonic, sleep=clock.sleep)
    for module in ("drivers", "transport", "waiting"):
        monkeypatch.setattr(f"visitcal.{module}.time", time)
    monkeypatch.setattr("visitcal.drivers.anyio.sleep", clock.sleep_async)
    return clock
