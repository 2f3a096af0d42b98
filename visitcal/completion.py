"""Many jobs in the order in which they end, watched through one stream of events."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote

import httpx

from visitcal.documents import ACTIVE_PHASES
from visitcal.errors import ApiError, WaitTimeoutError
from visitcal.event_stream import FIRST_PAUSE_S, SILENCE_S, EventParser, stream_request
from visitcal.steps import Close, Item, Open, Opened, Pause, Read
from visitcal.transport import checked
from visitcal.waiting import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterable

    from visitcal.documents import JobDocument
    from visitcal.steps import Listing
    from visitcal.transport import Transport

__all__ = ["as_completed"]

#: Jobs of a page of the list, as many as the service takes.
PAGE = 500
#: Between two looks where the service has no stream to give.
BUSY_PAUSE_S = 5.0
#: By so much may a timeout come late.
SLACK_S = 1.0


class Watched(Protocol):
    """A job whose document is replaced."""

    document: JobDocument


WatchedT = TypeVar("WatchedT", bound=Watched)


def as_completed(transport: Transport, jobs: Iterable[WatchedT], timeout: float | None) -> Listing[WatchedT]:
    """Jobs as they end; their documents are new then.

    Parameters
    ----------
    transport : Transport
        How to ask.
    jobs : iterable
        The jobs; one that is there twice is given twice.
    timeout : float or None
        Seconds for all of them.

    Raises
    ------
    WaitTimeoutError
        Some are still active after `timeout`.
    """
    deadline = Deadline(timeout)
    waiting: dict[str, list[WatchedT]] = {}
    for job in jobs:
        if job.document["phase"] in ACTIVE_PHASES:
            waiting.setdefault(job.document["id"], []).append(job)
        else:
            yield Item(job)
    watch = _Watch(transport, waiting, deadline)
    while waiting:
        yield from watch.turn()


class _Watch:
    """The jobs that are waited for.

    A stream tells what ends from now on. What ended before is found by one look at the list once the stream is open, so
    nothing is missed in between. After a break it is the same again; where no stream is to be had, looks follow looks.

    Parameters
    ----------
    transport : Transport
        How to ask.
    waiting : dict
        The jobs by id; those that have ended are taken out.
    deadline : Deadline
        When to give up.
    """

    def __init__(self, transport: Transport, waiting: dict[str, list[Any]], deadline: Deadline) -> None:
        self._transport = transport
        self._waiting = waiting
        self._deadline = deadline
        self._patience = transport.patience(waiting=True)
        owners = {job.document.get("owner") for jobs in waiting.values() for job in jobs}
        self._owner = owners.pop() if len(owners) == 1 else "*"

    def turn(self) -> Listing[Any]:
        """One stream for as long as it lasts, and the pause after it."""
        silence = self._deadline.left(SILENCE_S)
        if silence <= 0:
            raise WaitTimeoutError(f"still active: {', '.join(self._waiting)}")
        request = stream_request("/v1/events", {"kind": "phase", "owner": self._owner}, silence)
        pause = FIRST_PAUSE_S * random.uniform(0.5, 1.0)  # noqa: S311
        try:
            opened: Opened = yield Open(request)
            try:
                checked(opened.response)
                yield from self._look()
                yield from self._listen(opened, silence)
            finally:
                yield Close(opened)
        except (httpx.TransportError, ApiError) as error:
            if self._deadline.left(1.0) > 0:
                pause = self._patience.after(error, request)
            if isinstance(error, ApiError):
                pause = max(pause, BUSY_PAUSE_S)
                yield from self._look()
        if self._waiting:
            yield Pause(max(self._deadline.left(pause), 0.0))

    def _listen(self, opened: Opened, silence: float) -> Listing[Any]:
        parser = EventParser()
        while self._waiting and (piece := (yield Read(opened))):
            for _, event in parser.feed(piece):
                if event is not None and event.ends_story:
                    yield from self._end(event.job_id)
            # How long a connection may be silent is fixed when it is made: near the deadline it is made anew.
            if self._deadline.left(silence) < silence - SLACK_S:
                break

    def _look(self) -> Listing[Any]:
        """Those that have ended: by the list while its pages have some of them, the others one by one."""
        unseen = set(self._waiting)
        after: str | None = None
        while unseen:
            limit = min(max(len(unseen), 20), PAGE)
            page = yield from self._transport.get("/v1/jobs", limit=limit, after=after, owner=self._owner)
            seen = {document["id"]: document["phase"] for document in page["items"] if document["id"] in unseen}
            for job_id, phase in seen.items():
                if phase not in ACTIVE_PHASES:
                    yield from self._end(job_id)
            unseen -= set(seen)
            after = page["next"]
            if after is None or not seen:
                break
        for job_id in sorted(unseen):
            yield from self._end(job_id)
        self._patience = self._transport.patience(waiting=True)

    def _end(self, job_id: str) -> Listing[Any]:
        """A job that has probably ended."""
        if job_id not in self._waiting:
            return
        document = yield from self._transport.get(f"/v1/jobs/{quote(job_id, safe='')}")
        if document["phase"] in ACTIVE_PHASES:
            return
        for job in self._waiting.pop(job_id):
            job.document = document
            yield Item(job)
