"""Changes of jobs: each a single statement that carries its own condition.

Only `service.jobs.states` calls `compare_and_set`, so a phase changes nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import sqlalchemy as sa

from service.storage.json_values import JsonText, clean_json
from service.storage.records import Fence, JobRecord, Phase, ProductRecord, Scope, StageRecord
from service.storage.repositories.base import Repository, visible
from service.storage.repositories.jobs import job_record
from service.storage.tables import (
    idempotency_keys,
    job_documents,
    job_events,
    job_inputs,
    job_stages,
    jobs,
    observations,
    products,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from service.storage.database import Transaction

__all__ = ["JobChanges"]

Inputs: TypeAlias = "Sequence[tuple[str, str, str]]"

_PAGE = 1000
_NEW: Mapping[str, Any] = {
    **{column.name: None for column in jobs.c if column.nullable},
    "version": 1,
    "attempt": 0,
    "sent_attempt": 0,
    "losses": 0,
    "progress": 0.0,
    "cancel_requested": False,
    "warnings": (),
}
# Built once: to build a statement costs as much as to run it.
_INSERT = sa.insert(jobs)
_NUMBERS = sa.select(jobs.c.id, jobs.c.pk).where(jobs.c.id.in_(sa.bindparam("ids", expanding=True)))
_FINISHED = (
    sa.select(jobs)
    .where(
        jobs.c.owner == sa.bindparam("of_owner"),
        jobs.c.dedup_key == sa.bindparam("same"),
        jobs.c.phase == Phase.COMPLETED,
        sa.or_(jobs.c.destruction_at.is_(None), jobs.c.destruction_at > sa.bindparam("now")),
    )
    .order_by(jobs.c.id.desc())
    .limit(1)
)
_WAITING = (
    sa.select(sa.func.count())
    .select_from(jobs)
    .where(jobs.c.owner == sa.bindparam("of_owner"), jobs.c.phase.in_((Phase.PENDING, Phase.QUEUED, Phase.HELD)))
)


class JobChanges(Repository):
    """Writes on jobs and on what hangs on them; all take part in the caller's transaction."""

    def insert_many(self, transaction: Transaction, rows: Sequence[Mapping[str, Any]]) -> list[JobRecord]:
        """New rows of the jobs table, in the order of their numbers."""
        if not rows:
            return []
        now = transaction.now()
        complete = [
            {"created_at": now, "updated_at": now, **_NEW, **row, "spec": clean_json(row["spec"])} for row in rows
        ]
        for row in complete:
            row["updated_at"] = row["created_at"]
        transaction.connection.execute(_INSERT, complete)
        numbers: dict[str, int] = {}
        for start in range(0, len(complete), _PAGE):
            ids = [row["id"] for row in complete[start : start + _PAGE]]
            numbers.update((row.id, row.pk) for row in transaction.connection.execute(_NUMBERS, {"ids": ids}))
        return [JobRecord(pk=numbers[row["id"]], **row | {"warnings": tuple(row["warnings"])}) for row in complete]

    def compare_and_set(
        self,
        transaction: Transaction,
        job_id: str,
        changes: Mapping[str, Any],
        *,
        phase: Phase | tuple[Phase, ...],
        attempt: int | None = None,
        worker: str | None = None,
        lease_before: datetime | None = None,
        cancel_requested: bool | None = None,
        version: int | None = None,
        destruction_before: datetime | None = None,
        visible_change: bool = True,
    ) -> JobRecord | None:
        """Change a job if it is still as expected.

        Parameters
        ----------
        transaction : Transaction
            In which the change takes effect.
        job_id : str
            The job.
        changes : mapping
            New values by column.
        phase : Phase or tuple of Phase
            The phase that it must be in; one of these.
        attempt, worker : optional
            The fence: values that it must have.
        lease_before : datetime, optional
            Its lease must have run out before this.
        cancel_requested : bool, optional
            Whether it must, or must not, have been asked to stop.
        version : int, optional
            The version that it must have.
        destruction_before : datetime, optional
            The life of its results must have ended by then.
        visible_change : bool
            Whether a client would see a difference; the version grows then.

        Returns
        -------
        JobRecord or None
            The job as it is now; None where it was not as expected, and nothing was changed.
        """
        conditions = [jobs.c.id == job_id, jobs.c.phase.in_((phase,) if isinstance(phase, Phase) else phase)]
        if attempt is not None:
            conditions.append(jobs.c.attempt == attempt)
        if worker is not None:
            conditions.append(jobs.c.worker == worker)
        if lease_before is not None:
            conditions.append(jobs.c.lease_until < lease_before)
        if cancel_requested is not None:
            conditions.append(jobs.c.cancel_requested.is_(cancel_requested))
        if version is not None:
            conditions.append(jobs.c.version == version)
        if destruction_before is not None:
            conditions.append(jobs.c.destruction_at <= destruction_before)
        values = {
            name: clean_json(value) if name in ("error", "warnings") else value for name, value in changes.items()
        }
        if visible_change:
            values |= {"version": jobs.c.version + 1, "updated_at": transaction.now()}
        result = transaction.connection.execute(sa.update(jobs).where(*conditions).values(values).returning(jobs))
        row = result.mappings().one_or_none()
        return None if row is None else job_record(row)

    def set_all(
        self, transaction: Transaction, job_ids: Sequence[str], changes: Mapping[str, Any], *, phase: Phase
    ) -> list[JobRecord]:
        """As `compare_and_set` for each of some jobs that must be in one phase; those that were, in their order."""
        values = {**changes, "version": jobs.c.version + 1, "updated_at": transaction.now()}
        changed: list[JobRecord] = []
        for start in range(0, len(job_ids), _PAGE):
            mine = (jobs.c.id.in_(job_ids[start : start + _PAGE]), jobs.c.phase == phase)
            result = transaction.connection.execute(sa.update(jobs).where(*mine).values(values).returning(jobs))
            changed += [job_record(row) for row in result.mappings()]
        return sorted(changed, key=lambda job: job.pk)

    def add_events(self, transaction: Transaction, job: JobRecord, events: Iterable[tuple[str, Any]]) -> None:
        """Append lines to a job's story, each a kind and its data."""
        self.add_stories(transaction, [(job, events)])

    def add_stories(
        self, transaction: Transaction, stories: Iterable[tuple[JobRecord, Iterable[tuple[str, Any]]]]
    ) -> None:
        """As `add_events` for each of some jobs."""
        now = transaction.now()
        rows = [
            {"job_pk": job.pk, "kind": kind, "data": clean_json(data), "at": now}
            for job, events in stories
            for kind, data in events
        ]
        if rows:
            transaction.connection.execute(sa.insert(job_events), rows)

    def set_stages(self, transaction: Transaction, job: JobRecord, stages: Sequence[StageRecord]) -> None:
        """Replace the list of finished stages."""
        transaction.connection.execute(sa.delete(job_stages).where(job_stages.c.job_pk == job.pk))
        rows = [
            {
                "job_pk": job.pk,
                "ordinal": ordinal,
                "name": stage.name,
                "seconds": stage.seconds,
                "numbers": clean_json(stage.numbers),
            }
            for ordinal, stage in enumerate(stages)
        ]
        if rows:
            transaction.connection.execute(sa.insert(job_stages), rows)

    def set_document(self, transaction: Transaction, job: JobRecord, kind: str, body: Mapping[str, Any]) -> None:
        """Write a long document of a job, over the one of that kind."""
        if job.attempt > 0:  # before its first attempt a job has none that could be there twice
            transaction.connection.execute(
                sa.delete(job_documents).where(job_documents.c.job_pk == job.pk, job_documents.c.kind == kind)
            )
        transaction.connection.execute(sa.insert(job_documents).values(job_pk=job.pk, kind=kind, body=clean_json(body)))

    def furnish(
        self, transaction: Transaction, jobs_of: Sequence[tuple[JobRecord, JsonText, Inputs, Mapping[str, Any]]]
    ) -> None:
        """Give new jobs their configuration, what they read (kind, id and SHA-256 of each input), and what it is of."""
        documents = [{"job_pk": job.pk, "kind": "config", "body": config} for job, config, _, _ in jobs_of]
        if documents:
            transaction.connection.execute(sa.insert(job_documents), documents)
        rows = [row for job, _, inputs, _ in jobs_of for row in _input_rows(job, inputs)]
        if rows:
            transaction.connection.execute(sa.insert(job_inputs), rows)
        seen = [{"job_pk": job.pk, "owner": job.owner, **observed} for job, _, _, observed in jobs_of]
        if seen:
            transaction.connection.execute(sa.insert(observations), seen)

    def refurnish(
        self,
        transaction: Transaction,
        job: JobRecord,
        config: JsonText,
        inputs: Inputs,
        observed: Mapping[str, Any],
    ) -> None:
        """As `furnish`, in place of what a job had."""
        config_of_job = (job_documents.c.job_pk == job.pk, job_documents.c.kind == "config")
        transaction.connection.execute(sa.delete(job_documents).where(*config_of_job))
        for table in (job_inputs, observations):
            transaction.connection.execute(sa.delete(table).where(table.c.job_pk == job.pk))
        self.furnish(transaction, [(job, config, inputs, observed)])

    def add_products(self, transaction: Transaction, job: JobRecord, records: Iterable[ProductRecord]) -> None:
        """Publish files."""
        rows = [
            {
                "job_pk": job.pk,
                **{name: getattr(record, name) for name in ProductRecord.__dataclass_fields__},
            }
            for record in records
        ]
        if rows:
            transaction.connection.execute(sa.insert(products), rows)

    def remove_products(self, transaction: Transaction, job: JobRecord) -> None:
        """Take back the files of a job."""
        transaction.connection.execute(sa.delete(products).where(products.c.job_pk == job.pk))

    def mark_sent(self, attempts: Sequence[tuple[str, int]]) -> None:
        """Record which attempt of which job was handed to the delivery engine; clients see no difference."""
        if not attempts:
            return
        with self._database.write() as transaction:
            transaction.connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == sa.bindparam("job"), jobs.c.sent_attempt < sa.bindparam("sent"))
                .values(sent_attempt=sa.bindparam("sent")),
                [{"job": job_id, "sent": attempt} for job_id, attempt in attempts],
            )

    def get(self, transaction: Transaction, job_id: str) -> JobRecord | None:
        """One job inside a transaction that goes on."""
        row = transaction.connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).mappings().one_or_none()
        return None if row is None else job_record(row)

    def find_finished(self, transaction: Transaction, scope: Scope, dedup_key: str) -> JobRecord | None:
        """Newest completed job of an owner with the same inputs, configuration and code that still has its results."""
        values = {"of_owner": scope.name, "same": dedup_key, "now": transaction.now()}
        row = transaction.connection.execute(_FINISHED, values).mappings().one_or_none()
        return None if row is None else job_record(row)

    def count_waiting(self, transaction: Transaction, scope: Scope) -> int:
        """Jobs of an owner that wait, for a worker, for room, or to be started."""
        return int(transaction.connection.execute(_WAITING, {"of_owner": scope.name}).scalar_one())

    def delete(self, transaction: Transaction, scope: Scope, job_id: str, *, phase: Phase | None = None) -> bool:
        """Remove a job, where given only in this phase, with all that hangs on it; whether there was one."""
        connection = transaction.connection
        conditions = [jobs.c.id == job_id, visible(jobs.c.owner, scope)]
        if phase is not None:
            conditions.append(jobs.c.phase == phase)
        deleted = connection.execute(sa.delete(jobs).where(*conditions)).rowcount
        if deleted:
            connection.execute(sa.delete(idempotency_keys).where(idempotency_keys.c.job_id == job_id))
        return bool(deleted)

    def waiting(self, *, limit: int = 100_000) -> list[JobRecord]:
        """Queued jobs in the order in which they should run."""
        query = (
            sa.select(jobs).where(jobs.c.phase == Phase.QUEUED).order_by(jobs.c.priority.desc(), jobs.c.pk).limit(limit)
        )
        return self._records(query)

    def unsent(self, *, limit: int = 1000) -> list[JobRecord]:
        """Queued jobs whose next attempt was never handed to the delivery engine."""
        query = (
            sa.select(jobs)
            .where(jobs.c.phase == Phase.QUEUED, jobs.c.sent_attempt <= jobs.c.attempt)
            .order_by(jobs.c.priority.desc(), jobs.c.pk)
            .limit(limit)
        )
        return self._records(query)

    def expired(self, now: datetime) -> list[JobRecord]:
        """Executing jobs whose lease has run out."""
        return self._records(sa.select(jobs).where(jobs.c.phase == Phase.EXECUTING, jobs.c.lease_until < now))

    def executing_on(self, worker: str) -> dict[tuple[str, int], bool]:
        """Id and attempt of each job that a worker runs, and whether it was asked to stop."""
        query = sa.select(jobs.c.id, jobs.c.attempt, jobs.c.cancel_requested).where(
            jobs.c.phase == Phase.EXECUTING, jobs.c.worker == worker
        )
        with self._database.read() as transaction:
            return {(row.id, row.attempt): row.cancel_requested for row in transaction.connection.execute(query)}

    def fenced(self, transaction: Transaction, fence: Fence) -> JobRecord | None:
        """The job behind a fence, locked to the end of the transaction; None where the fence has fallen."""
        result = transaction.connection.execute(
            sa.select(jobs)
            .where(
                jobs.c.id == fence.job_id,
                jobs.c.phase == Phase.EXECUTING,
                jobs.c.attempt == fence.attempt,
                jobs.c.worker == fence.worker,
            )
            .with_for_update()
        )
        row = result.mappings().one_or_none()
        return None if row is None else job_record(row)

    def now(self) -> datetime:
        """The present by the database's clock."""
        with self._database.read() as transaction:
            return transaction.now()

    def _records(self, query: sa.Select[Any]) -> list[JobRecord]:
        with self._database.read() as transaction:
            return [job_record(row) for row in transaction.connection.execute(query).mappings()]


def _input_rows(job: JobRecord, inputs: Inputs) -> list[dict[str, Any]]:
    return [
        {"job_pk": job.pk, "kind": kind, "ordinal": ordinal, "ref_id": ref_id, "sha256": sha256}
        for ordinal, (kind, ref_id, sha256) in enumerate(inputs)
    ]
