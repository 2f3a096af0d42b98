"""One job of the service, seen from the client."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Generic, TypeVar
from urllib.parse import quote

from visitcal.documents import ACTIVE_PHASES
from visitcal.errors import CalibrationFailedError, JobFailedError
from visitcal.event_stream import follow
from visitcal.operations import Awaiting, Blocking, Connected, listing, operation
from visitcal.result import AsyncResult, Result
from visitcal.waiting import Deadline, change

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from visitcal.documents import JobDocument
    from visitcal.drivers import Driver
    from visitcal.event_stream import JobEvent
    from visitcal.steps import Flow, Listing

__all__ = ["AsyncJob", "Job", "JobOperations"]

ResultT = TypeVar("ResultT", Result, AsyncResult)


class JobOperations(Connected, Generic[ResultT]):
    """A job: look at it, wait for it, stop it; `result` is what it made.

    Parameters
    ----------
    driver : Driver
        Connection to the service.
    document : JobDocument
        As last received; `refresh` and `wait` replace it.
    """

    def __init__(self, driver: Driver, document: JobDocument) -> None:
        super().__init__(driver)
        self.document = document

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.phase}>"

    @property
    def id(self) -> str:
        """Identifier."""
        return self.document["id"]

    @property
    def phase(self) -> str:
        """UWS phase as last received."""
        return self.document["phase"]

    @property
    def is_active(self) -> bool:
        """Whether the job can still move on by itself."""
        return self.phase in ACTIVE_PHASES

    @cached_property
    def result(self) -> ResultT:
        """What the job has made, as far as it has come; nothing is fetched before it is asked for."""
        raise NotImplementedError

    @operation
    def refresh(self) -> Flow[JobDocument]:
        """Ask for the job's present state."""
        self.document = yield from self._transport.get(self._path)
        return self.document

    @operation
    def wait(
        self,
        timeout: float | None = None,
        *,
        on_update: Callable[[JobDocument], None] | None = None,
        check: bool = True,
    ) -> Flow[ResultT]:
        """Wait until the job has ended.

        The service holds each request back until something changed (long poll), so waiting costs next to nothing. A
        restart of the service is waited for.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most; for ever by default.
        on_update : callable, optional
            Called with each new document, the present one first.
        check : bool
            Whether an end other than COMPLETED is raised.

        Raises
        ------
        CalibrationFailedError
            The job ended as ERROR, and `check` is set; its ``error`` says why, its ``result`` has what was reached.
        JobFailedError
            The same for ABORTED and ARCHIVED.
        WaitTimeoutError
            Still active after `timeout`.
        """
        deadline = Deadline(timeout)
        if on_update is not None:
            on_update(self.document)
        while self.is_active:
            self.document = yield from change(self._transport, self._path, self.document, deadline)
            if on_update is not None:
                on_update(self.document)
        if check and self.phase != "COMPLETED":
            kind = CalibrationFailedError if self.phase == "ERROR" else JobFailedError
            raise kind(self.document, self.result)
        return self.result

    @listing
    def events(self, *, after: int = 0, kinds: Collection[str] | None = None) -> Listing[JobEvent]:
        """What happens to the job, from its beginning, as it happens, to the event that ends it.

        Connections that break off are made again; nothing is lost or told twice.

        Parameters
        ----------
        after : int
            Number (`JobEvent.seq`) of the last event that is known.
        kinds : collection of str, optional
            Only these: ``phase``, ``stage``, ``progress``, ``log``, ``product``.

        Raises
        ------
        NotFoundError
            The job was deleted.
        ServiceUnreachableError
            The service did not answer, also after the retries.
        """
        return follow(self._transport, f"{self._path}/events", after=after, kinds=kinds)

    @operation
    def abort(self) -> Flow[JobDocument]:
        """Ask the service to stop the job; a job that has ended stays as it is (`ConflictError`)."""
        self.document = (yield from self._transport.request("POST", f"{self._path}/abort")).json()
        return self.document

    @operation
    def keep(self, destruction: str | None) -> Flow[JobDocument]:
        """Change how long the results are kept.

        Parameters
        ----------
        destruction : str or None
            A duration from now (``P30D``) or a moment; None for as long as the operator allows.
        """
        response = yield from self._transport.request("PATCH", self._path, json={"destruction": destruction})
        self.document = response.json()
        return self.document

    @operation
    def delete(self) -> Flow[None]:
        """Remove the ended job and its products; an active one is aborted."""
        yield from self._transport.request("DELETE", self._path)

    @property
    def _path(self) -> str:
        return f"/v1/jobs/{quote(self.id, safe='')}"


class Job(JobOperations[Result], Blocking):
    """A job of a `visitcal.Client`."""

    @cached_property
    def result(self) -> Result:
        """What the job has made, as far as it has come; nothing is fetched before it is asked for."""
        return Result(self._driver, self.id)


class AsyncJob(JobOperations[AsyncResult], Awaiting):
    """A job of a `visitcal.AsyncClient`."""

    @cached_property
    def result(self) -> AsyncResult:
        """What the job has made, as far as it has come; nothing is fetched before it is asked for."""
        return AsyncResult(self._driver, self.id)
