"""Reading server-sent events, and coming again where a stream breaks off."""

from __future__ import annotations

import codecs
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from visitcal.errors import ApiError
from visitcal.steps import Close, Item, Open, Opened, Pause, Read, Request
from visitcal.transport import checked

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from visitcal.steps import Listing
    from visitcal.transport import Transport

__all__ = ["SILENCE_S", "EventParser", "JobEvent", "follow", "stream_request"]

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 30.0
#: The service breaks the silence every 15 s.
SILENCE_S = 50.0
LONGEST_LINE = 4 << 20
ENDED = frozenset({"COMPLETED", "ERROR", "ABORTED", "ARCHIVED"})


@dataclass(frozen=True)
class JobEvent:
    """Something that happened to a job.

    Parameters
    ----------
    seq : int
        Number of the event; a story can be resumed after it.
    job_id : str
        The job.
    kind : str
        ``phase``, ``stage``, ``progress``, ``log`` or ``product``.
    at : str
        Moment, ISO 8601 UTC.
    data : dict
        What happened, by kind.
    """

    seq: int
    job_id: str
    kind: str
    at: str
    data: dict[str, Any]

    @property
    def ends_story(self) -> bool:
        """Whether nothing follows."""
        return self.kind == "phase" and self.data.get("phase") in ENDED


class EventParser:
    """Takes a stream apart by the rules of the HTML standard, as its pieces come."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""
        self._fields: dict[str, list[str]] = {}

    def feed(self, piece: bytes) -> Iterator[tuple[int | None, JobEvent | None]]:
        """Id and event of each block that ends in a piece; either may be missing.

        Raises
        ------
        httpx.RemoteProtocolError
            A line has no end.
        """
        # Only "\\n" parts lines: str.splitlines knows separators that JSON may contain.
        *lines, self._rest = (self._rest + self._decoder.decode(piece)).split("\n")
        if len(self._rest) > LONGEST_LINE:
            raise httpx.RemoteProtocolError("a line of the event stream has no end")
        for line in lines:
            line = line.removesuffix("\r")
            if line and not line.startswith(":"):
                name, _, value = line.partition(":")
                self._fields.setdefault(name, []).append(value.removeprefix(" "))
            elif not line and self._fields:
                yield _identity(self._fields), _event(self._fields)
                self._fields = {}


def _identity(fields: dict[str, list[str]]) -> int | None:
    text = fields.get("id", [""])[-1]
    return int(text) if text.isascii() and text.isdigit() else None


def _event(fields: dict[str, list[str]]) -> JobEvent | None:
    if "data" not in fields:
        return None
    document = json.loads("\n".join(fields["data"]))
    return JobEvent(document["seq"], document["job_id"], document["kind"], document["at"], document["data"])


def stream_request(path: str, params: dict[str, Any], silence: float = SILENCE_S) -> Request:
    """What opens a stream.

    Parameters
    ----------
    path : str
        Address of the stream.
    params : dict
        Query parameters; a list stands for one that is repeated.
    silence : float
        Seconds without a byte after which the connection counts as dead.
    """
    return Request("GET", path, params, {"Accept": "text/event-stream"}, silence=silence)


def follow(
    transport: Transport,
    path: str,
    *,
    after: int | None = None,
    kinds: Collection[str] | None = None,
    owner: str | None = None,
) -> Listing[JobEvent]:
    """Events, through streams that break off: of a job to its end, of all jobs without end.

    Parameters
    ----------
    transport : Transport
        How often to try.
    path : str
        Address of the stream.
    after : int, optional
        Number of the last event that is known.
    kinds : collection of str, optional
        Only these.
    owner : str, optional
        Whose, of all jobs.

    Raises
    ------
    ApiError
        The service answered with an error.
    ServiceUnreachableError
        It did not answer, several times in a row.
    """
    of_one_job = path != "/v1/events"
    # The end of a job is known by its event, so phases are asked for in any case.
    asked = sorted({*kinds, "phase"} if of_one_job else kinds) if kinds is not None else None
    patience = transport.patience(waiting=True)
    while True:
        pause = FIRST_PAUSE_S * random.uniform(0.5, 1.0)  # noqa: S311
        try:
            request = stream_request(path, {"after": after, "kind": asked, "owner": owner})
            opened: Opened = yield Open(request)
            try:
                if checked(opened.response).status_code == httpx.codes.NO_CONTENT:
                    return
                parser = EventParser()
                while piece := (yield Read(opened)):
                    patience = transport.patience(waiting=True)
                    for identity, event in parser.feed(piece):
                        after = after if identity is None else max(after or 0, identity)
                        if event is not None and (kinds is None or event.kind in kinds):
                            yield Item(event)
                        if event is not None and event.ends_story and of_one_job:
                            return
            finally:
                yield Close(opened)
        except (httpx.TransportError, ApiError) as error:
            pause = patience.after(error, request)
        yield Pause(pause)
