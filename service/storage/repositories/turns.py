"""Whose turn it is: what the order of the queue is made of.

Every query runs along an index that begins with the phase, so its cost grows with what waits and runs, not with what
was ever submitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from service.storage.records import JobRecord, Phase, Scope
from service.storage.repositories.base import Repository, visible
from service.storage.repositories.jobs import job_record
from service.storage.tables import jobs, observations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.storage.database import Transaction

__all__ = ["ActiveJob", "EndedJob", "RunningJob", "TurnRepository", "WaitingGroup", "WaitingOwner"]

_CLAIM_LOCK = 0x76697369  # one number among the advisory locks of a PostgreSQL database
_ENDED = (Phase.COMPLETED, Phase.ERROR)
_IN_TURN = (Phase.EXECUTING, Phase.QUEUED, Phase.HELD)
# Built once: it is asked for each job that is submitted.
_OLDER = (
    sa.select(sa.func.count())
    .select_from(jobs)
    .where(
        jobs.c.phase == Phase.QUEUED,
        jobs.c.owner == sa.bindparam("of_owner"),
        jobs.c.priority == sa.bindparam("same"),
        jobs.c.pk < sa.bindparam("before"),
    )
)


@dataclass(frozen=True, slots=True)
class WaitingOwner:
    """An owner with queued jobs: how many of theirs run, and when one was last begun."""

    owner: str
    running: int
    last_started: datetime | None


@dataclass(frozen=True, slots=True)
class WaitingGroup:
    """Queued jobs of one owner and priority; ``seconds`` is the forecast of the ``forecast`` that have one."""

    owner: str
    priority: int
    count: int
    forecast: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RunningJob:
    """An executing job as the forecast sees it."""

    owner: str
    started_at: datetime
    predicted_seconds: float | None


@dataclass(frozen=True, slots=True)
class ActiveJob:
    """A job that runs or waits, with what its headers say it shows."""

    job: JobRecord
    target: str | None
    band: str | None
    visit: int | None


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A completed job: when it ran, and what was forecast."""

    started_at: datetime
    ended_at: datetime
    predicted_seconds: float | None

    @property
    def seconds(self) -> float:
        """Time of its last attempt [s]."""
        return (self.ended_at - self.started_at).total_seconds()


class TurnRepository(Repository):
    """Reads of the queue as a whole."""

    def lock(self, transaction: Transaction) -> None:
        """Let nobody else claim before this transaction ends: who counts running jobs must see all of them."""
        if transaction.connection.dialect.name != "sqlite":  # there every writer is alone
            transaction.connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CLAIM_LOCK)))

    def waiting_owners(self, transaction: Transaction) -> list[WaitingOwner]:
        """Owners with queued jobs."""
        first = sa.select(sa.func.min(jobs.c.owner).label("owner")).where(jobs.c.phase == Phase.QUEUED)
        # From owner to owner along the index, however many jobs each of them has.
        owners = first.cte("owners", recursive=True)
        other = sa.select(sa.func.min(jobs.c.owner)).where(jobs.c.phase == Phase.QUEUED, jobs.c.owner > owners.c.owner)
        owners = owners.union_all(sa.select(other.scalar_subquery()).where(owners.c.owner.is_not(None)))
        running = sa.select(sa.func.count()).where(jobs.c.phase == Phase.EXECUTING, jobs.c.owner == owners.c.owner)
        started = sa.select(sa.func.max(jobs.c.started_at)).where(jobs.c.owner == owners.c.owner)
        query = sa.select(
            owners.c.owner,
            running.scalar_subquery().label("running"),
            sa.type_coerce(started.scalar_subquery(), jobs.c.started_at.type).label("last_started"),
        ).where(owners.c.owner.is_not(None))
        return [WaitingOwner(**row) for row in transaction.connection.execute(query).mappings()]

    def first_of(self, transaction: Transaction, owner: str) -> JobRecord | None:
        """The queued job of an owner that comes first: highest priority, then oldest."""
        queued = (jobs.c.phase == Phase.QUEUED, jobs.c.owner == owner)
        highest = sa.select(sa.func.max(jobs.c.priority)).where(*queued).scalar_subquery()
        query = sa.select(jobs).where(*queued, jobs.c.priority == highest).order_by(jobs.c.pk).limit(1)
        row = transaction.connection.execute(query).mappings().one_or_none()
        return None if row is None else job_record(row)

    def waiting_groups(self) -> list[WaitingGroup]:
        """All queued jobs, counted by owner and priority."""
        query = (
            sa.select(
                jobs.c.owner,
                jobs.c.priority,
                sa.func.count().label("count"),
                sa.func.count(jobs.c.predicted_seconds).label("forecast"),
                sa.func.coalesce(sa.func.sum(jobs.c.predicted_seconds), 0.0).label("seconds"),
            )
            .where(jobs.c.phase == Phase.QUEUED)
            .group_by(jobs.c.owner, jobs.c.priority)
        )
        with self._database.read() as transaction:
            return [WaitingGroup(**row) for row in transaction.connection.execute(query).mappings()]

    def older(self, job: JobRecord) -> int:
        """Queued jobs of the same owner and priority that were submitted before."""
        values = {"of_owner": job.owner, "same": job.priority, "before": job.pk}
        with self._database.read() as transaction:
            return int(transaction.connection.execute(_OLDER, values).scalar_one())

    def running(self) -> list[RunningJob]:
        """All executing jobs."""
        query = sa.select(jobs.c.owner, jobs.c.started_at, jobs.c.predicted_seconds).where(
            jobs.c.phase == Phase.EXECUTING
        )
        with self._database.read() as transaction:
            return [RunningJob(**row) for row in transaction.connection.execute(query).mappings()]

    def active_of(self, scope: Scope, limit: int) -> list[ActiveJob]:
        """Jobs of an owner that run, oldest first, then those that wait, next first, then those that are held."""
        place = sa.case({phase: number for number, phase in enumerate(_IN_TURN)}, value=jobs.c.phase)
        order = (place, sa.case((jobs.c.phase == Phase.EXECUTING, 0), else_=-jobs.c.priority), jobs.c.pk)
        first = sa.select(jobs.c.pk).where(jobs.c.phase.in_(_IN_TURN), visible(jobs.c.owner, scope))
        chosen = first.order_by(*order).limit(limit).subquery()
        shown = tuple(observations.c[name] for name in ("target", "band", "visit"))
        query = (
            sa.select(jobs, *(column.label(f"shown_{column.name}") for column in shown))
            .join(chosen, chosen.c.pk == jobs.c.pk)
            .outerjoin(observations, observations.c.job_pk == jobs.c.pk)
            .order_by(*order)
        )
        found = []
        with self._database.read() as transaction:
            for row in transaction.connection.execute(query).mappings():
                job = job_record({column.name: row[column.name] for column in jobs.c})
                found.append(ActiveJob(job, *(row[f"shown_{column.name}"] for column in shown)))
        return found

    def last_completed(self, limit: int = 100) -> list[EndedJob]:
        """The jobs that were completed last, newest first."""
        query = (
            sa.select(jobs.c.started_at, jobs.c.ended_at, jobs.c.predicted_seconds)
            .where(jobs.c.phase == Phase.COMPLETED, jobs.c.ended_at.is_not(None))
            .order_by(jobs.c.ended_at.desc())
            .limit(limit)
        )
        with self._database.read() as transaction:
            rows = transaction.connection.execute(query).mappings().all()
        return [EndedJob(**row) for row in rows]

    def ended_since(self, moment: datetime) -> int:
        """Jobs that ended with a result or an error after a moment."""
        query = sa.select(sa.func.count()).select_from(jobs)
        query = query.where(jobs.c.phase.in_(_ENDED), jobs.c.ended_at > moment)
        with self._database.read() as transaction:
            return int(transaction.connection.execute(query).scalar_one())

    def counts(self, scope: Scope, phases: Sequence[Phase]) -> dict[Phase, int]:
        """How many jobs of an owner are in each of some phases."""
        query = (
            sa.select(jobs.c.phase, sa.func.count())
            .where(jobs.c.phase.in_(phases), visible(jobs.c.owner, scope))
            .group_by(jobs.c.phase)
        )
        with self._database.read() as transaction:
            found = {Phase(phase): int(count) for phase, count in transaction.connection.execute(query)}
        return {phase: found.get(phase, 0) for phase in phases}

    def held(self, reason: str, *, limit: int = 1000) -> list[JobRecord]:
        """Held jobs in the order in which they should run."""
        query = (
            sa.select(jobs)
            .where(jobs.c.phase == Phase.HELD, jobs.c.held_reason == reason)
            .order_by(jobs.c.owner, jobs.c.priority.desc(), jobs.c.pk)
            .limit(limit)
        )
        with self._database.read() as transaction:
            return [job_record(row) for row in transaction.connection.execute(query).mappings()]
