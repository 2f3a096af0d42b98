"""Waiting for something to change: the service holds a request back until it has (long poll)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx

from visitcal.errors import WaitTimeoutError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from visitcal.steps import Flow
    from visitcal.transport import Transport

__all__ = ["Deadline", "change"]

LONGEST_POLL_S = 25.0
#: Beyond the time for which the service was asked to hold a request back.
GRACE_S = 15.0


class Deadline:
    """When waiting is over.

    Parameters
    ----------
    seconds : float or None
        From now; None for never.
    """

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    def left(self, at_most: float) -> float:
        """Seconds that are left, or `at_most`."""
        return at_most if self._end is None else min(self._end - time.monotonic(), at_most)


def change(transport: Transport, path: str, document: Mapping[str, Any], deadline: Deadline) -> Flow[Any]:
    """The document at a path when it is another one, or the same after half a minute at most.

    Parameters
    ----------
    transport : Transport
        How to ask.
    path : str
        Of a job or a batch.
    document : mapping
        As known; its ``version`` tells whether it has changed.
    deadline : Deadline
        When to give up.

    Raises
    ------
    WaitTimeoutError
        The deadline has passed.
    """
    left = deadline.left(LONGEST_POLL_S)
    if left <= 0:
        raise WaitTimeoutError(f"{document['id']} is still active")
    pause = max(left, 0.1)
    response = yield from transport.request(
        "GET",
        path,
        params={"wait": round(pause, 2)},
        headers={"If-None-Match": f'"{document["version"]}"'},
        silence=pause + GRACE_S,
        waiting=True,
    )
    return document if response.status_code == httpx.codes.NOT_MODIFIED else response.json()
