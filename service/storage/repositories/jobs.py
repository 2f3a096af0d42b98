"""Jobs: what the API reads. What changes a job is in `job_changes`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from service.storage.records import (
    EventRecord,
    JobHead,
    JobRecord,
    LogLine,
    Page,
    Phase,
    ProductRecord,
    Scope,
    StageRecord,
)
from service.storage.repositories.base import Repository, visible
from service.storage.tables import job_documents, job_events, job_inputs, job_stages, jobs, products

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

__all__ = ["JobRepository", "job_record"]

_PRODUCT_COLUMNS = tuple(column for column in products.c if column.name != "job_pk")


class JobRepository(Repository):
    """Reads of jobs and of what hangs on them."""

    def get(self, scope: Scope, job_id: str) -> JobRecord | None:
        """One job, or None."""
        with self._database.read() as transaction:
            row = (
                transaction.connection.execute(sa.select(jobs).where(jobs.c.id == job_id, visible(jobs.c.owner, scope)))
                .mappings()
                .one_or_none()
            )
        return None if row is None else job_record(row)

    def heads(self, wanted: Mapping[Scope, Collection[str]]) -> dict[Scope, dict[str, JobHead]]:
        """What changes with each change of a job, of jobs that their scope sees; a fraction of the cost of `get`."""
        heads = {}
        with self._database.read() as transaction:
            for scope, job_ids in wanted.items():
                query = sa.select(jobs.c.id, jobs.c.version, jobs.c.phase)
                rows = transaction.connection.execute(query.where(jobs.c.id.in_(job_ids), visible(jobs.c.owner, scope)))
                heads[scope] = {job_id: JobHead(job_id, version, Phase(phase)) for job_id, version, phase in rows}
        return heads

    def list(
        self,
        scope: Scope,
        *,
        phases: Collection[Phase] = (),
        run_id: str | None = None,
        batch_id: str | None = None,
        rerun_of: str | None = None,
        input_id: str | None = None,
        created_after: datetime | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> Page[JobRecord]:
        """Jobs, newest first, that have all that is named; archived ones only where that phase is asked for."""
        query = sa.select(jobs).where(visible(jobs.c.owner, scope), _in_phases(phases))
        if run_id is not None:
            query = query.where(jobs.c.run_id == run_id)
        if batch_id is not None:
            query = query.where(jobs.c.batch_id == batch_id)
        if rerun_of is not None:
            query = query.where(jobs.c.rerun_of == rerun_of)
        if input_id is not None:
            query = query.where(jobs.c.pk.in_(sa.select(job_inputs.c.job_pk).where(job_inputs.c.ref_id == input_id)))
        if created_after is not None:
            query = query.where(jobs.c.created_at > created_after)
        if after is not None:
            query = query.where(jobs.c.id < after)
        with self._database.read() as transaction:
            rows = transaction.connection.execute(query.order_by(jobs.c.id.desc()).limit(limit + 1)).mappings().all()
        items = tuple(job_record(row) for row in rows[:limit])
        return Page(items, items[-1].id if len(rows) > limit else None)

    def count(self, scope: Scope, phases: Collection[Phase] = ()) -> int:
        """Number of jobs in some phases (all but archived ones by default)."""
        query = sa.select(sa.func.count()).select_from(jobs).where(visible(jobs.c.owner, scope), _in_phases(phases))
        with self._database.read() as transaction:
            return int(transaction.connection.execute(query).scalar_one())

    def document(self, job: JobRecord, kind: str) -> dict[str, Any] | None:
        """A long document of a job: ``"config"``, ``"provenance"`` or ``"metadata"``; None where there is none."""
        with self._database.read() as transaction:
            body: dict[str, Any] | None = transaction.connection.execute(
                sa.select(job_documents.c.body).where(job_documents.c.job_pk == job.pk, job_documents.c.kind == kind)
            ).scalar_one_or_none()
        return body

    def stages(self, job: JobRecord) -> Sequence[StageRecord]:
        """Finished stages of the current attempt, in order."""
        query = sa.select(job_stages).where(job_stages.c.job_pk == job.pk).order_by(job_stages.c.ordinal)
        with self._database.read() as transaction:
            rows = transaction.connection.execute(query).all()
        return [StageRecord(row.name, row.seconds, row.numbers) for row in rows]

    def products(self, job: JobRecord) -> Sequence[ProductRecord]:
        """Published files of a job."""
        query = (
            sa.select(*_PRODUCT_COLUMNS)
            .where(products.c.job_pk == job.pk)
            .order_by(products.c.product, products.c.format)
        )
        with self._database.read() as transaction:
            return [ProductRecord(**row) for row in transaction.connection.execute(query).mappings()]

    def product(self, job: JobRecord, product: str, file_format: str) -> ProductRecord | None:
        """One published file, or None."""
        query = sa.select(*_PRODUCT_COLUMNS).where(
            products.c.job_pk == job.pk, products.c.product == product, products.c.format == file_format
        )
        with self._database.read() as transaction:
            row = transaction.connection.execute(query).mappings().one_or_none()
        return None if row is None else ProductRecord(**row)

    def events(
        self, scope: Scope, *, job_id: str | None = None, after: int = 0, limit: int = 500
    ) -> Sequence[EventRecord]:
        """Events with a sequence number above ``after``, of one job or of all, in order."""
        query = (
            sa.select(
                job_events.c.seq, jobs.c.id.label("job_id"), job_events.c.kind, job_events.c.data, job_events.c.at
            )
            .join(jobs, jobs.c.pk == job_events.c.job_pk)
            .where(visible(jobs.c.owner, scope), job_events.c.seq > after)
            .order_by(job_events.c.seq)
            .limit(limit)
        )
        if job_id is not None:
            query = query.where(jobs.c.id == job_id)
        with self._database.read() as transaction:
            return [EventRecord(**row) for row in transaction.connection.execute(query).mappings()]

    def log(self, job: JobRecord) -> Sequence[LogLine]:
        """The log of a job over all its attempts."""
        query = (
            sa.select(job_events.c.data)
            .where(job_events.c.job_pk == job.pk, job_events.c.kind == "log")
            .order_by(job_events.c.seq)
        )
        with self._database.read() as transaction:
            lines = transaction.connection.execute(query).scalars().all()
        return [
            LogLine(datetime.fromisoformat(line["at"]), line["level"], line["logger"], line["message"])
            for line in lines
        ]

    def versions(self, job_ids: Iterable[str]) -> dict[str, int]:
        """Version of each of some jobs; those that do not exist are absent."""
        wanted = list(job_ids)
        found: dict[str, int] = {}
        with self._database.read() as transaction:
            for start in range(0, len(wanted), 1000):
                query = sa.select(jobs.c.id, jobs.c.version).where(jobs.c.id.in_(wanted[start : start + 1000]))
                found.update((row.id, row.version) for row in transaction.connection.execute(query))
        return found


def job_record(row: sa.RowMapping | Mapping[str, Any]) -> JobRecord:
    """A row of the jobs table as a record."""
    values = dict(row)
    values["phase"] = Phase(values["phase"])
    values["warnings"] = tuple(values["warnings"])
    return JobRecord(**values)


def _in_phases(phases: Collection[Phase]) -> sa.ColumnElement[bool]:
    return jobs.c.phase.in_(tuple(phases)) if phases else jobs.c.phase != Phase.ARCHIVED
