"""The two ways to do what a flow asks for: at once, and without holding up an event loop."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread
import httpx

from visitcal.steps import Close, FileBody, Item, Open, Opened, Pause, Read, Send, Work

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator

    from visitcal.steps import Flow, Listing, Request, Step
    from visitcal.transport import Transport

__all__ = ["AwaitingDriver", "BlockingDriver", "Driver"]

T = TypeVar("T")


class BlockingDriver:
    """Does each step before it goes on.

    Parameters
    ----------
    http : httpx.Client
        With its base URL and headers set.
    transport : Transport
        How requests are made and repeated.
    """

    def __init__(self, http: httpx.Client, transport: Transport) -> None:
        self.http = http
        self.transport = transport

    def run(self, flow: Flow[T]) -> T:
        """The result of an operation."""
        resume: Callable[[], Step] = partial(flow.send, None)
        while True:
            try:
                step = resume()
            except StopIteration as end:
                result: T = end.value
                return result
            resume = self._tried(flow, step)

    def iterate(self, listing: Listing[T]) -> Iterator[T]:
        """The values of a listing; what it holds open is closed where the caller stops early."""
        resume: Callable[[], Step | Item[T]] = partial(listing.send, None)
        while True:
            try:
                step = resume()
            except StopIteration:
                return
            if isinstance(step, Item):
                try:
                    yield step.value
                    resume = partial(listing.send, None)
                except GeneratorExit as error:
                    resume = partial(listing.throw, error)
            else:
                resume = self._tried(listing, step)

    def _tried(self, flow: Generator[Any, Any, Any], step: Step) -> Callable[[], Any]:
        try:
            return partial(flow.send, self._done(step))
        except BaseException as error:  # noqa: BLE001 - the flow says what becomes of it
            return partial(flow.throw, error)

    def _done(self, step: Step) -> Any:
        match step:
            case Send(request):
                return self._sent(request, stream=False)
            case Open(request, chunk):
                response = self._sent(request, stream=True)
                if response.is_error:
                    response.read()
                return Opened(response, response.iter_bytes(chunk))
            case Read(opened):
                return next(opened.pieces, b"")  # type: ignore[arg-type]
            case Close(opened):
                return opened.response.close()
            case Pause(seconds):
                return time.sleep(seconds)
            case Work(function):
                return function()

    def _sent(self, request: Request, *, stream: bool) -> httpx.Response:
        body = request.body
        content = self.iterate(body.pieces()) if isinstance(body, FileBody) else body
        built = _built(self.http, request, content)
        return self.http.send(built, stream=stream, follow_redirects=request.method == "GET")


class AwaitingDriver:
    """Awaits each step; files are read, and tables and images made, in threads.

    Parameters
    ----------
    http : httpx.AsyncClient
        With its base URL and headers set.
    transport : Transport
        How requests are made and repeated.
    """

    def __init__(self, http: httpx.AsyncClient, transport: Transport) -> None:
        self.http = http
        self.transport = transport

    async def run(self, flow: Flow[T]) -> T:
        """The result of an operation."""
        resume: Callable[[], Step] = partial(flow.send, None)
        while True:
            try:
                step = resume()
            except StopIteration as end:
                result: T = end.value
                return result
            resume = await self._tried(flow, step)

    async def iterate(self, listing: Listing[T]) -> AsyncIterator[T]:
        """The values of a listing; what it holds open is closed where the caller stops early."""
        resume: Callable[[], Step | Item[T]] = partial(listing.send, None)
        while True:
            try:
                step = resume()
            except StopIteration:
                return
            if isinstance(step, Item):
                try:
                    yield step.value
                    resume = partial(listing.send, None)
                except GeneratorExit as error:
                    resume = partial(listing.throw, error)
            else:
                resume = await self._tried(listing, step)

    async def _tried(self, flow: Generator[Any, Any, Any], step: Step) -> Callable[[], Any]:
        try:
            return partial(flow.send, await self._done(step))
        except BaseException as error:  # noqa: BLE001 - the flow says what becomes of it
            return partial(flow.throw, error)

    async def _done(self, step: Step) -> Any:
        match step:
            case Send(request):
                return await self._sent(request, stream=False)
            case Open(request, chunk):
                response = await self._sent(request, stream=True)
                if response.is_error:
                    await response.aread()
                return Opened(response, response.aiter_bytes(chunk))
            case Read(opened):
                return await anext(opened.pieces, b"")  # type: ignore[arg-type]
            case Close(opened):
                return await opened.response.aclose()
            case Pause(seconds):
                return await anyio.sleep(seconds)
            case Work(function):
                return await anyio.to_thread.run_sync(function)

    async def _sent(self, request: Request, *, stream: bool) -> httpx.Response:
        body = request.body
        content = self.iterate(body.pieces()) if isinstance(body, FileBody) else body
        built = _built(self.http, request, content)
        return await self.http.send(built, stream=stream, follow_redirects=request.method == "GET")


Driver = BlockingDriver | AwaitingDriver


def _built(http: httpx.Client | httpx.AsyncClient, request: Request, content: Any) -> httpx.Request:
    timeout = http.timeout
    if request.silence is not None:
        timeout = httpx.Timeout(connect=timeout.connect, read=request.silence, write=timeout.write, pool=timeout.pool)
    headers = dict(request.headers)
    if isinstance(request.body, FileBody):
        headers["Content-Length"] = str(request.body.size - request.body.start)
    return http.build_request(
        request.method,
        request.path,
        params={name: value for name, value in request.params.items() if value is not None},
        headers=headers,
        json=request.json,
        content=content,
        timeout=timeout,
    )
