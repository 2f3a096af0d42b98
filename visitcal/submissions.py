"""What a client does with jobs and batches: submit them, find them, follow them."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote

from visitcal.batch import BatchOperations
from visitcal.completion import as_completed
from visitcal.event_stream import follow
from visitcal.exposures import ExposureOperations, Source, references_of
from visitcal.job import JobOperations
from visitcal.operations import listing, operation
from visitcal.pages import pages

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from visitcal.documents import BatchDocument, JobDocument
    from visitcal.event_stream import JobEvent
    from visitcal.steps import Flow, Listing, ProgressCallback

__all__ = ["BatchT", "JobT", "SubmissionOperations"]

JobT = TypeVar("JobT", bound=JobOperations[Any])
BatchT = TypeVar("BatchT", bound=BatchOperations)


class SubmissionOperations(ExposureOperations, Generic[JobT, BatchT]):
    """Operations on jobs and batches."""

    def _job(self, document: JobDocument) -> JobT:
        raise NotImplementedError

    def _batch(self, document: BatchDocument) -> BatchT:
        raise NotImplementedError

    @operation
    def submit(
        self,
        exposures: Source | Sequence[Source],
        *,
        references: str | Mapping[str, str] | None = None,
        astrometry: str | None = None,
        photometry: str | None = None,
        preset: str | None = None,
        instrument: str | None = None,
        config: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        companions: Mapping[str, Source] | None = None,
        priority: int | None = None,
        run_id: str | None = None,
        destruction: str | None = None,
        time_limit_s: float | None = None,
        callback: str | Mapping[str, Any] | None = None,
        force: bool = False,
        idempotency_key: str | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> Flow[JobT]:
        """Calibrate an exposure, or the two snaps of one.

        Parameters
        ----------
        exposures : path, address or exposure id, or two of them
            Files are uploaded first; what is at an address (``https://``, ``s3://``) is fetched by the service.
        references : str or mapping, optional
            Name of a reference catalogue for both astrometry and photometry, a mapping with both, or ``"none"``.
        astrometry, photometry : str, optional
            The same, one by one.
        preset : str, optional
            Named set of configuration overrides.
        instrument : str, optional
            Preset of the instrument; by default the one that fits the header.
        config : mapping, optional
            Configuration overrides, nested as in ``GET /v1/config/schema``.
        metadata : mapping, optional
            What the file does not say or says wrongly: ``band``, ``gain``, ``visit``, ``detector`` ...
        companions : mapping, optional
            Mask or noise of a single exposure in files of their own, by role: ``mask``, ``variance``, ``weight``,
            ``ivar``, ``sigma``, ``field``, ``illumination``.
        priority : int, optional
            Higher runs earlier.
        run_id : str, optional
            Name for a group of jobs.
        destruction : str, optional
            How long the results are kept: a duration (``P30D``) or a moment.
        time_limit_s : float, optional
            Seconds after which the run is stopped.
        callback : str or mapping, optional
            Address that is told of the end by a signed message, or ``{"url": ..., "events": ["ERROR"]}``. Needs a
            secret, see `Webhooks.make_secret`.
        force : bool
            Compute anew, also where a finished job had the same inputs, configuration and code.
        idempotency_key : str, optional
            The same key again gives the same job; a fresh one for each call by default, so that its retries cannot
            submit twice.
        on_progress : callable, optional
            Called with the bytes uploaded and the bytes in all, for each file.

        Raises
        ------
        RequestRefusedError
            Unknown configuration key, reference catalogue or exposure; ``errors`` says where.
        """
        sources = [exposures] if isinstance(exposures, str | Path) else exposures
        ids = yield from self._exposure_ids(sources, on_progress)
        companion_ids = {}
        for role, source in (companions or {}).items():
            companion_ids[role] = yield from self._exposure_id(source, on_progress)
        body = {
            "exposures": ids,
            "references": references_of(references, astrometry, photometry),
            "preset": preset,
            "instrument": instrument,
            "config": None if config is None else dict(config),
            "metadata": None if metadata is None else dict(metadata),
            "companions": companion_ids or None,
            "priority": priority,
            "run_id": run_id,
            "destruction": destruction,
            "time_limit_s": time_limit_s,
            "callback": callback if callback is None or isinstance(callback, str) else dict(callback),
            "force": force or None,
        }
        return self._job((yield from self._submitted("/v1/jobs", body, idempotency_key)))

    @operation
    def rerun(
        self,
        job_id: str,
        changes: Mapping[str, Any] | None = None,
        *,
        force: bool = False,
        idempotency_key: str | None = None,
    ) -> Flow[JobT]:
        """Run a job once more with the same input and some changes.

        Parameters
        ----------
        job_id : str
            The original.
        changes : mapping, optional
            ``config``, ``metadata`` and ``references`` are merged over the original's; ``preset``, ``instrument``,
            ``priority``, ``run_id``, ``destruction``, ``time_limit_s`` and ``callback`` replace it.
        force : bool
            Compute anew, also where a finished job had the same inputs, configuration and code.
        idempotency_key : str, optional
            As for `submit`.
        """
        path = f"/v1/jobs/{quote(job_id, safe='')}/rerun"
        return self._job((yield from self._submitted(path, {**(changes or {}), "force": force}, idempotency_key)))

    @operation
    def submit_batch(
        self,
        /,
        exposures: Sequence[Source | Sequence[Source]],
        *,
        idempotency_key: str | None = None,
        on_progress: ProgressCallback | None = None,
        **parameters: Any,
    ) -> Flow[BatchT]:
        """Submit one job for each of many exposures: all are taken, or none.

        Parameters
        ----------
        exposures : sequence of path or exposure id, or of the two snaps of one
            Files are uploaded first.
        idempotency_key : str, optional
            The same key again gives the same batch.
        on_progress : callable, optional
            Called with the bytes uploaded and the bytes in all, for each file.
        **parameters
            Of all jobs, as in the body of ``POST /v1/jobs``: ``references``, ``preset``, ``config``, ``metadata``,
            ``priority``, ``run_id``, ``destruction``, ``time_limit_s``, ``callback``. None is left out.

        Raises
        ------
        RequestRefusedError
            Some job cannot be; ``errors`` says which and why.
        """
        ids: list[str | list[str]] = []
        for sources in exposures:
            if isinstance(sources, str | Path):
                ids.append((yield from self._exposure_id(sources, on_progress)))
            else:
                ids.append((yield from self._exposure_ids(sources, on_progress)))
        given = {name: value for name, value in parameters.items() if value is not None}
        body = {"exposures": ids, "parameters": given}
        return self._batch((yield from self._submitted("/v1/batches", body, idempotency_key)))

    @operation
    def batch(self, batch_id: str) -> Flow[BatchT]:
        """A batch by its id.

        Raises
        ------
        NotFoundError
            There is none.
        """
        return self._batch((yield from self._transport.get(f"/v1/batches/{quote(batch_id, safe='')}")))

    @listing
    def batches(self, *, owner: str | None = None, limit: int | None = None) -> Listing[BatchT]:
        """Batches, newest first, fetched page by page; `owner` is for administrators."""
        return pages(self._transport, "/v1/batches", {"owner": owner}, limit=limit, size=100, make=self._batch)

    @operation
    def job(self, job_id: str) -> Flow[JobT]:
        """A job by its id.

        Raises
        ------
        NotFoundError
            There is none.
        """
        return self._job((yield from self._transport.get(f"/v1/jobs/{quote(job_id, safe='')}")))

    @listing
    def jobs(
        self,
        *,
        phase: str | Sequence[str] | None = None,
        run_id: str | None = None,
        batch: str | None = None,
        rerun_of: str | None = None,
        owner: str | None = None,
        limit: int | None = None,
    ) -> Listing[JobT]:
        """Jobs, newest first, fetched page by page.

        Parameters
        ----------
        phase : str or sequence of str, optional
            Only in these.
        run_id, batch, rerun_of : str, optional
            Only of this run, of this batch, reruns of this job.
        owner : str, optional
            Whose, ``*`` for everybody's: for administrators.
        limit : int, optional
            So many at most.
        """
        asked = {"phase": phase, "run_id": run_id, "batch": batch, "rerun_of": rerun_of, "owner": owner}
        return pages(self._transport, "/v1/jobs", asked, limit=limit, size=100, make=self._job)

    @listing
    def as_completed(self, jobs: Iterable[JobT], timeout: float | None = None) -> Listing[JobT]:
        """Jobs in the order in which they end, well or not: see `phase`, or let `wait` raise.

        All of them are watched through one stream of events; each costs one more request when it has ended.

        Parameters
        ----------
        jobs : iterable
            Of this client.
        timeout : float, optional
            Seconds for all of them; for ever by default.

        Raises
        ------
        WaitTimeoutError
            Some are still active after `timeout`.
        """
        return as_completed(self._transport, jobs, timeout)

    @listing
    def events(
        self, *, after: int | None = None, kinds: Collection[str] | None = None, owner: str | None = None
    ) -> Listing[JobEvent]:
        """What happens to all jobs from now on, without end.

        Connections that break off are made again.

        Parameters
        ----------
        after : int, optional
            Number (`JobEvent.seq`) of the last event that is known: what came after it is told first.
        kinds : collection of str, optional
            Only these: ``phase``, ``stage``, ``progress``, ``product``.
        owner : str, optional
            Whose, ``*`` for everybody's: for administrators.
        """
        return follow(self._transport, "/v1/events", after=after, kinds=kinds, owner=owner)

    @operation
    def queue(self) -> Flow[dict[str, Any]]:
        """What waits and runs, jobs an hour, how good forecasts have been, and one's own limits."""
        return self._transport.get("/v1/queue")

    def _submitted(self, path: str, body: Mapping[str, Any], key: str | None) -> Flow[Any]:
        given = {name: value for name, value in body.items() if value is not None}
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        return (yield from self._transport.request("POST", path, json=given, headers=headers)).json()
