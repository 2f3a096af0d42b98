"""Requests that a short outage does not fail, and errors as exceptions."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

import httpx

from visitcal.errors import ApiError, ServiceUnreachableError, error_of
from visitcal.steps import CHUNK, Close, FileBody, Open, Opened, Pause, Read, Request, Send, Work

if TYPE_CHECKING:
    from collections.abc import Mapping

    from visitcal.steps import Flow

__all__ = ["LATER", "Patience", "Transport", "asked_pause"]

#: Answers that say "later".
LATER = frozenset({429, 502, 503, 504})
#: The one of them after which nothing can have been done.
REFUSED = 429
#: The service has the request from an attempt whose answer was lost, and will answer it.
STILL_AT_WORK = frozenset({"idempotency.in_progress"})
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 30.0


def asked_pause(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer asks to wait for (``Retry-After``, a number or a date); None where it does not say.

    A date is compared with the service's own clock where the answer tells it.
    """
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    try:
        now = parsedate_to_datetime(headers.get("Date", ""))
    except ValueError:
        now = datetime.now(UTC)
    return max((_in_utc(until) - _in_utc(now)).total_seconds(), 0.0)


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


class Patience:
    """How often, and for how long, one call is tried again.

    Parameters
    ----------
    retries : int or None
        How often; None where only time counts.
    seconds : float
        How long after the first failure another attempt may begin.
    """

    def __init__(self, retries: int | None, seconds: float) -> None:
        self._retries = retries
        self._number = 0
        self._seconds = seconds
        self._end: float | None = None

    def pause(self, asked: float | None = None) -> float | None:
        """Seconds before the next attempt, None where there is to be none.

        Parameters
        ----------
        asked : float, optional
            What the service asked for; else pauses double, each cut by chance so that clients do not come together.
        """
        if self._retries is not None and self._number >= self._retries:
            return None
        growing = min(FIRST_PAUSE_S * 2**self._number, LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)  # noqa: S311
        pause = growing if asked is None else asked
        self._number += 1
        now = time.monotonic()
        self._end = now + self._seconds if self._end is None else self._end
        return pause if now + pause <= self._end else None

    def after(self, error: httpx.TransportError | ApiError, request: Request, *, again: bool = True) -> float:
        """Seconds before a request is sent again that came to nothing.

        Parameters
        ----------
        error : httpx.TransportError or ApiError
            What became of it.
        request : Request
            For the message.
        again : bool
            Whether it is safe to repeat though it may have been carried out.

        Raises
        ------
        ApiError
            It is not sent again, after an answer.
        ServiceUnreachableError
            It is not sent again, without one.
        """
        pause = None
        if isinstance(error, ApiError):
            if error.code in STILL_AT_WORK or error.status == REFUSED or (again and error.status in LATER):
                pause = self.pause(error.retry_after)
            if pause is None:
                raise error
            return pause
        if again:
            pause = self.pause()
        if pause is None:
            raise ServiceUnreachableError(f"{request.method} {_address(request, error)}: {error}") from error
        return pause


class Transport:
    """How requests are made and repeated.

    Requests that are safe to repeat (GET, PUT, PATCH, DELETE, and POST with an idempotency key) are sent again after a
    connection error or an answer that says "later" (429, 502, 503, 504); any request is after 429. The pause is what
    the service asks for in ``Retry-After``, or a growing one.

    Parameters
    ----------
    retries : int
        How often a request is sent again.
    patience : float
        Seconds after the first failure after which no request is sent again, also where the service asks for a longer
        pause.
    """

    def __init__(self, retries: int = 5, patience: float = 120.0) -> None:
        self.retries = retries
        self._seconds = patience

    def patience(self, *, waiting: bool = False) -> Patience:
        """For one call; one that waits for a job outlasts a restart of the service: its retries are not counted."""
        return Patience(None if waiting and self.retries else self.retries, self._seconds)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        body: FileBody | bytes | None = None,
        silence: float | None = None,
        again: bool | None = None,
        waiting: bool = False,
    ) -> Flow[httpx.Response]:
        """Send and read the whole answer.

        Parameters
        ----------
        method, path, params, headers, json, body, silence
            See `Request`.
        again : bool, optional
            Whether it is safe to repeat, where the method does not tell.
        waiting : bool
            See `patience`.

        Raises
        ------
        ApiError
            The service answered with an error (one of its subclasses).
        ServiceUnreachableError
            It did not answer, also after the retries.
        """
        request = Request(method, path, params or {}, headers or {}, json, body, silence)
        again = (method != "POST" or "Idempotency-Key" in request.headers) if again is None else again
        patience = self.patience(waiting=waiting)
        while True:
            try:
                return checked((yield Send(request)))
            except (httpx.TransportError, ApiError) as error:
                pause = patience.after(error, request, again=again)
            yield Pause(pause)

    def once(self, method: str, path: str, *, silence: float) -> Flow[httpx.Response]:
        """Send once, and give the answer as it is.

        Raises
        ------
        ServiceUnreachableError
            There is none.
        """
        request = Request(method, path, silence=silence)
        try:
            response: httpx.Response = yield Send(request)
        except httpx.TransportError as error:
            raise ServiceUnreachableError(str(error)) from error
        return response

    def get(self, path: str, **params: Any) -> Flow[Any]:
        """The JSON document at a path."""
        response = yield from self.request("GET", path, params=params)
        return response.json()

    def download(self, path: str, target: BinaryIO, *, params: Mapping[str, Any] | None = None) -> Flow[int]:
        """Write an answer's body to a file in pieces.

        Returns
        -------
        int
            Bytes written.

        Raises
        ------
        ApiError, ServiceUnreachableError
            As for `request`; a transfer that breaks is started again from the beginning.
        """
        # To the blob store, where files are fetched from there; the token does not go along.
        request = Request("GET", path, params or {})
        start = target.tell()
        patience = self.patience()
        while True:
            try:
                opened: Opened = yield Open(request, CHUNK)
                try:
                    checked(opened.response)
                    while piece := (yield Read(opened)):
                        yield Work(partial(target.write, piece))
                finally:
                    yield Close(opened)
                return target.tell() - start
            except (httpx.TransportError, ApiError) as error:
                pause = patience.after(error, request)
            target.seek(start)
            target.truncate()
            yield Pause(pause)


def _address(request: Request, error: httpx.TransportError) -> object:
    try:
        return error.request.url
    except RuntimeError:  # the error did not come from sending
        return request.path


def checked(response: httpx.Response) -> httpx.Response:
    """An answer that is no error.

    Raises
    ------
    ApiError
        It is one, or leads to another address, which only reads follow.
    """
    if response.has_redirect_location:
        moved = {
            "code": "client.moved",
            "detail": f"{response.url} is now {response.headers['Location']}",
            "hint": "Give the service's own address: --url, $VISITCAL_URL or Client(...).",
        }
        raise error_of(response.status_code, moved)
    if not response.is_error:
        return response
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    raise error_of(
        response.status_code,
        problem if isinstance(problem, dict) else {},
        request_id=response.headers.get("X-Request-Id"),
        retry_after=asked_pause(response.headers),
    )
