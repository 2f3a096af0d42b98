"""Requests become jobs: all that the database is asked about them, for several at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from service.jobs import states
from service.jobs.configuration import CompleteConfig, complete_config, digest
from service.jobs.errors import IdempotencyMismatchError, JobRequestError, UnknownExposureError, UnknownRefcatError
from service.jobs.instruments import choose, described, load_instruments
from service.jobs.limits import QUOTA, check_pixels, limits_of, pixels_of
from service.jobs.nights import observation
from service.jobs.references import remote_services
from service.jobs.request import NO_REFERENCES, USES, JobRequest, dedup_key, job_spec
from service.jobs.retention import destruction_time
from service.jobs.reuse import finished_twin
from service.jobs.usable import check_usable
from service.jobs.webhooks import tell
from service.storage.records import ExposureRecord, JobRecord, Phase, RefcatRecord, Scope, new_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.jobs.forecast import Forecaster
    from service.jobs.queue_view import QueueView
    from service.refcats import RemoteService
    from service.settings import Settings
    from service.storage import Storage
    from service.storage.database import Transaction
    from service.storage.json_values import JsonText

__all__ = ["Candidate", "Full", "Intake"]


@dataclass(slots=True, eq=False)
class Candidate:
    """A request on its way to be a job, and what has become of it.

    Parameters
    ----------
    scope : Scope
        Owner of the job.
    request : JobRequest
        What to do.
    config : CompleteConfig
        What it runs with.
    held : bool
        Whether the owner has no room for what it makes.
    key : str, optional
        The client's Idempotency-Key.
    job : JobRecord
        The new job, or the one that answers for it.
    created : bool
        Whether it is new.
    error : Exception or None
        Why there is none.
    """

    scope: Scope
    request: JobRequest
    config: CompleteConfig
    held: bool
    key: str | None = None
    job: JobRecord = field(init=False)
    created: bool = field(init=False, default=False)
    error: Exception | None = field(init=False, default=None)


#: What another request changes in the row of a job: not whose it is, when it was made, how long it may run and be kept.
_REVISED = ("run_id", "dedup_key", "priority", "spec", "pixels", "predicted_seconds")


class Full(JobRequestError):
    """So many jobs of the owner cannot wait; the caller tells the client when the transaction has ended."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit


@dataclass(slots=True)
class _Round:
    """What was found out in one transaction, and the rows that are to be written."""

    transaction: Transaction
    now: datetime
    exposures: dict[tuple[Scope, str], ExposureRecord]
    references: dict[tuple[Scope, str], RefcatRecord | RemoteService]
    waiting: dict[Scope, int]
    rows: dict[str, dict[str, Any]]
    furniture: dict[str, tuple[JsonText, list[tuple[str, str, str]], dict[str, Any]]]
    answers: list[tuple[Candidate, str]]


class Intake:
    """Takes jobs in, in the transaction of a caller.

    Parameters
    ----------
    storage : Storage
        Where jobs are.
    settings : Settings
        Limits.
    forecaster : Forecaster
        Says how long a job will run.
    queue : QueueView
        Says how long it will wait.
    """

    def __init__(self, storage: Storage, settings: Settings, forecaster: Forecaster, queue: QueueView) -> None:
        self._storage = storage
        self._settings = settings
        self.forecaster = forecaster
        self._queue = queue
        self._remote = remote_services(settings)
        self._instruments = load_instruments(settings)

    def take(self, transaction: Transaction, candidates: Sequence[Candidate]) -> None:
        """Make a job of each candidate, or find the one that answers for it, or say why there is none.

        One that is refused has written nothing, so the others do not suffer from it.
        """
        found = _Round(transaction, transaction.now(), self._exposures(transaction, candidates), {}, {}, {}, {}, [])
        # Keys in their order: two processes that claim the same ones never wait for each other in a circle.
        for candidate in sorted(candidates, key=lambda candidate: candidate.key or ""):
            candidate.created, candidate.error = False, None
            try:
                self._consider(found, candidate)
            except JobRequestError as error:
                candidate.error = error
        jobs = states.queue_many(self._storage, transaction, list(found.rows.values()))
        self._storage.job_changes.furnish(transaction, [(job, *found.furniture[job.id]) for job in jobs])
        made = {job.id: job for job in jobs}
        for candidate, job_id in found.answers:
            candidate.job = made[job_id]

    def check_room(self, transaction: Transaction, scope: Scope, wanted: int, waiting: int | None = None) -> int:
        """Jobs of an owner that wait.

        Raises
        ------
        Full
            So many more are more than may wait.
        """
        limit = limits_of(self._settings, scope.name).max_queued
        if waiting is None:
            waiting = self._storage.job_changes.count_waiting(transaction, scope)
        if waiting + wanted > limit:
            raise Full(limit)
        return waiting

    def revise(self, transaction: Transaction, job: JobRecord, candidate: Candidate) -> JobRecord | None:
        """Let a job that waits to be started be what a candidate asks for. None: it waits no longer, or has changed.

        Raises
        ------
        JobRequestError
            The candidate cannot be fulfilled.
        """
        found = _Round(transaction, transaction.now(), self._exposures(transaction, [candidate]), {}, {}, {}, {}, [])
        found.waiting[candidate.scope] = -1  # the place that is looked for is the one that the job has
        self._consider(found, candidate)
        [(key, row)] = found.rows.items()
        after = states.revise(self._storage, transaction, job, {name: row[name] for name in _REVISED})
        if after is not None:
            self._storage.job_changes.refurnish(transaction, after, *found.furniture[key])
        return after

    def _consider(self, found: _Round, candidate: Candidate) -> None:
        """Every question comes before the first write."""
        request, scope, storage = candidate.request, candidate.scope, self._storage
        job_id = new_id("job")
        fingerprint = "" if candidate.key is None else digest(asdict(request))
        if self._answered(found, candidate, fingerprint):
            return
        exposures = _named(found, scope, request.exposures)
        others = _named(found, scope, tuple(request.companions.values()))
        companions = dict(zip(request.companions, others, strict=True))
        references = {use: self._reference(found, scope, request.references.get(use)) for use in USES}
        check_usable(exposures, request.metadata)
        instrument = self._instrument(candidate, exposures[0])
        spec = job_spec(request, candidate.config.values, exposures, companions, references, instrument)
        destruction_at = destruction_time(self._settings, found.now, request.destruction_days)
        same = dedup_key(spec, candidate.config.digest)
        if request.reuse:
            finished = finished_twin(storage, found.transaction, scope, same, destruction_at)
            if finished is not None:
                self._answer_with(finished, found, candidate, fingerprint)
                return
        if request.batch_id is None:
            found.waiting[scope] = self.check_room(found.transaction, scope, 1, found.waiting.get(scope))
        pixels = pixels_of(exposures)
        check_pixels(self._settings, pixels, len(exposures))
        seconds = self.forecaster.seconds(spec, pixels)
        if not self._claimed(found, candidate, fingerprint, job_id):
            return
        candidate.created = True
        found.waiting[scope] = found.waiting.get(scope, 0) + 1
        found.answers.append((candidate, job_id))
        seen = _observation(exposures[0], request, found.now)
        found.furniture[job_id] = candidate.config.text, _inputs(exposures, others, references), seen
        found.rows[job_id] = {
            "id": job_id,
            "dedup_key": same,
            "spec": spec,
            "destruction_at": destruction_at,
            "pixels": pixels,
            "predicted_seconds": seconds,
            **self._as_asked(found, candidate),
            **self._start(candidate, seconds),
        }

    def _answer_with(self, finished: JobRecord, found: _Round, candidate: Candidate, fingerprint: str) -> None:
        """A job that has ended is the answer to a submission of the same."""
        if self._claimed(found, candidate, fingerprint, finished.id):
            candidate.job = finished
            if candidate.request.callback is not None:
                tell(self._storage, found.transaction, finished, candidate.request.callback)

    def _as_asked(self, found: _Round, candidate: Candidate) -> dict[str, Any]:
        """Columns of a job that are the asker's word, or the settings where there is none."""
        request = candidate.request
        return {
            "created_at": found.now,
            "owner": candidate.scope.name,
            "run_id": request.run_id,
            "batch_id": request.batch_id,
            "rerun_of": request.rerun_of,
            "priority": request.priority,
            "max_attempts": self._settings.max_attempts,
            "time_limit": request.time_limit_s or self._settings.time_limit,
            "memory_limit_bytes": self._settings.memory_limit_bytes,
        }

    def _start(self, candidate: Candidate, seconds: float | None) -> dict[str, Any]:
        """Columns that say whether a job waits for its turn, and when it will probably end."""
        if not candidate.request.start:
            return {"phase": Phase.PENDING}
        return {
            "predicted_end_at": self._queue.expected_end(candidate.scope.name, candidate.request.priority, seconds),
            "held_reason": QUOTA if candidate.held else None,
        }

    def _instrument(self, candidate: Candidate, exposure: ExposureRecord) -> dict[str, Any]:
        """What is kept of the instrument of a candidate, whose configuration it completes."""
        request = candidate.request
        choice = choose(self._instruments, request.instrument, exposure.metadata.get("cards", {}))
        own = choice.preset.configuration
        if own:
            candidate.config = complete_config(request.preset, request.config, own)
        return described(choice)

    def _answered(self, found: _Round, candidate: Candidate, fingerprint: str) -> bool:
        """Whether the key of a candidate named a job before."""
        if candidate.key is None:
            return False
        since = found.now - timedelta(hours=self._settings.idempotency_hours)
        bound = self._storage.idempotency.find(found.transaction, candidate.scope, candidate.key, since=since)
        return bound is not None and self._stands_for(found, candidate, fingerprint, *bound)

    def _claimed(self, found: _Round, candidate: Candidate, fingerprint: str, job_id: str) -> bool:
        """Bind the key of a candidate, where it has one; False where another process was faster."""
        if candidate.key is None:
            return True
        since = found.now - timedelta(hours=self._settings.idempotency_hours)
        bound = self._storage.idempotency.claim(
            found.transaction, candidate.scope, candidate.key, fingerprint=fingerprint, job_id=job_id, since=since
        )
        return bound[1] == job_id or not self._stands_for(found, candidate, fingerprint, *bound)

    def _stands_for(self, found: _Round, candidate: Candidate, fingerprint: str, bound: str, job_id: str) -> bool:
        """Whether a job answers for a candidate with the same key; it may be one of this very round."""
        if bound != fingerprint and candidate.key is not None:
            raise IdempotencyMismatchError(candidate.key, job_id)
        if job_id in found.rows:
            found.answers.append((candidate, job_id))
            return True
        job = self._storage.job_changes.get(found.transaction, job_id)
        if job is not None:
            candidate.job = job
        return job is not None

    def _exposures(
        self, transaction: Transaction, candidates: Sequence[Candidate]
    ) -> dict[tuple[Scope, str], ExposureRecord]:
        """All that are named, each looked up once."""
        named: dict[Scope, set[str]] = {}
        for candidate in candidates:
            request = candidate.request
            named.setdefault(candidate.scope, set()).update(request.exposures, request.companions.values())
        records: dict[tuple[Scope, str], ExposureRecord] = {}
        for scope, ids in named.items():
            known = self._storage.exposures.get_many(transaction, scope, ids)
            records.update(((scope, exposure_id), record) for exposure_id, record in known.items())
        return records

    def _reference(self, found: _Round, scope: Scope, name: str | None) -> RefcatRecord | RemoteService | None:
        if name is None or name == NO_REFERENCES:
            return None
        if (scope, name) not in found.references:
            found.references[scope, name] = self._looked_up(found.transaction, scope, name)
        return found.references[scope, name]

    def _looked_up(self, transaction: Transaction, scope: Scope, name: str) -> RefcatRecord | RemoteService:
        # One's own before the one of that name that is for all: what others do changes no job of mine.
        shared = Scope(self._settings.local_owner)
        refcats = self._storage.refcats
        record = (
            refcats.find(transaction, scope, name) or self._remote.get(name) or refcats.find(transaction, shared, name)
        )
        if record is None:
            stored = [*refcats.names(transaction, scope), *refcats.names(transaction, shared)]
            raise UnknownRefcatError(name, sorted({*self._remote, *stored}))
        return record


def _named(found: _Round, scope: Scope, ids: Sequence[str]) -> list[ExposureRecord]:
    records = []
    for exposure_id in ids:
        record = found.exposures.get((scope, exposure_id))
        if record is None:
            raise UnknownExposureError(exposure_id)
        records.append(record)
    return records


def _observation(exposure: ExposureRecord, request: JobRequest, now: datetime) -> dict[str, Any]:
    values = exposure.metadata.get("values", {})
    return observation(values, now, request.metadata) | {"exposure_id": exposure.id}


def _inputs(
    exposures: Sequence[ExposureRecord],
    others: Sequence[ExposureRecord],
    references: Mapping[str, RefcatRecord | RemoteService | None],
) -> list[tuple[str, str, str]]:
    """Kind, id and SHA-256 of all that a job reads."""
    inputs = [("exposure", record.id, record.sha256) for record in exposures]
    inputs += [("companion", record.id, record.sha256) for record in others]
    stored = (record for record in references.values() if isinstance(record, RefcatRecord))
    return inputs + [("refcat", record.id, record.sha256) for record in stored]
