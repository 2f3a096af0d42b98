"""Jobs that were submitted together, seen from the client."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from visitcal.operations import Awaiting, Blocking, Connected, operation
from visitcal.waiting import Deadline, change

if TYPE_CHECKING:
    from collections.abc import Callable

    from visitcal.documents import BatchDocument
    from visitcal.drivers import Driver
    from visitcal.steps import Flow

__all__ = ["AsyncBatch", "Batch", "BatchOperations"]


class BatchOperations(Connected):
    """A batch: look at it, wait for it, stop it, remove it. `visitcal.Client.jobs` lists its jobs.

    Parameters
    ----------
    driver : Driver
        Connection to the service.
    document : BatchDocument
        As last received; `refresh` and `wait` replace it.
    """

    def __init__(self, driver: Driver, document: BatchDocument) -> None:
        super().__init__(driver)
        self.document = document

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.phases}>"

    @property
    def id(self) -> str:
        """Identifier."""
        return self.document["id"]

    @property
    def phases(self) -> dict[str, int]:
        """How many jobs are in each phase, as last received."""
        return self.document["phases"]

    @property
    def is_active(self) -> bool:
        """Whether any job has still to end."""
        return self.document["active"]

    @operation
    def refresh(self) -> Flow[BatchDocument]:
        """Ask for the present state."""
        self.document = yield from self._transport.get(self._path)
        return self.document

    @operation
    def wait(
        self, timeout: float | None = None, *, on_update: Callable[[BatchDocument], None] | None = None
    ) -> Flow[BatchDocument]:
        """Wait until all jobs have ended, well or not: see `phases` and ``document["failures"]``.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most; for ever by default.
        on_update : callable, optional
            Called with each new document, the present one first.

        Raises
        ------
        WaitTimeoutError
            Some are still active after `timeout`.
        """
        deadline = Deadline(timeout)
        if on_update is not None:
            on_update(self.document)
        while self.is_active:
            document = yield from change(self._transport, self._path, self.document, deadline)
            if document is not self.document and on_update is not None:
                on_update(document)
            self.document = document
        return self.document

    @operation
    def abort(self) -> Flow[BatchDocument]:
        """Stop all jobs that have not ended; a batch that has ended stays as it is (`ConflictError`)."""
        self.document = (yield from self._transport.request("POST", f"{self._path}/abort")).json()
        return self.document

    @operation
    def delete(self) -> Flow[None]:
        """Remove the ended batch with its jobs and their products; an active one is aborted."""
        yield from self._transport.request("DELETE", self._path)

    @property
    def _path(self) -> str:
        return f"/v1/batches/{quote(self.id, safe='')}"


class Batch(BatchOperations, Blocking):
    """A batch of a `visitcal.Client`."""


class AsyncBatch(BatchOperations, Awaiting):
    """A batch of a `visitcal.AsyncClient`."""
