"""Summary statistics, one typed row a job."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from service.exposure.summary import summary_fields
from service.storage.json_values import clean_json
from service.storage.records import JobRecord, Page, Scope
from service.storage.repositories.base import Repository, visible
from service.storage.tables import jobs, observations, summaries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.storage.database import Transaction

__all__ = ["SummaryRepository"]

_FIELDS = tuple(field.name for field in summary_fields())
_IDENTITY = ("instrument", "band", "physical_filter", "visit", "detector", "observed_at")
#: Pixels of the exposure, both ends inclusive, in the detector's frame; seconds; degrees.
_FRAME = ("bbox_min_x", "bbox_min_y", "bbox_max_x", "bbox_max_y", "dark_time", "sky_rotation")


class SummaryRepository(Repository):
    """Statistics by job, and across jobs."""

    def insert(
        self, transaction: Transaction, job: JobRecord, stats: Mapping[str, Any], identity: Mapping[str, Any]
    ) -> None:
        """Write the row of a job.

        Parameters
        ----------
        transaction : Transaction
            The publishing one.
        job : JobRecord
            Whose statistics these are.
        stats : mapping
            Value by field name; non-finite numbers become NULL.
        identity : mapping
            ``instrument``, ``band``, ``physical_filter``, ``visit``, ``detector``, ``observed_at``, the box
            ``bbox_{min,max}_{x,y}``, ``dark_time``, ``sky_rotation``, where known.

        Raises
        ------
        KeyError
            A name that is not a statistic.
        """
        unknown = set(stats) - set(_FIELDS)
        if unknown:
            raise KeyError(f"not summary statistics: {sorted(unknown)}")
        transaction.connection.execute(
            sa.insert(summaries).values(
                job_pk=job.pk,
                owner=job.owner,
                created_at=transaction.now(),
                **{name: identity.get(name) for name in _IDENTITY},
                **{name: clean_json(identity.get(name)) for name in _FRAME},
                **{name: clean_json(stats.get(name)) for name in _FIELDS},
            )
        )

    def get(self, job: JobRecord) -> dict[str, Any] | None:
        """Statistics of a job in the order of the file format; None where there are none."""
        columns = [summaries.c[name] for name in _FIELDS]
        with self._database.read() as transaction:
            row = (
                transaction.connection.execute(sa.select(*columns).where(summaries.c.job_pk == job.pk))
                .mappings()
                .one_or_none()
            )
        return None if row is None else dict(row)

    def list(
        self,
        scope: Scope,
        *,
        instrument: str | None = None,
        band: str | None = None,
        target: str | None = None,
        since: datetime | None = None,
        fields: Sequence[str] | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[dict[str, Any]]:
        """Statistics across jobs, newest first.

        Parameters
        ----------
        scope : Scope
            Whose jobs.
        instrument, band, target : str, optional
            Only these.
        since : datetime, optional
            Only jobs published at or after this moment.
        fields : sequence of str, optional
            Statistics wanted; all by default.
        after : str, optional
            Cursor of the page before.
        limit : int
            Rows of a page.

        Returns
        -------
        Page of dict
            ``job_id``, ``target``, ``created_at``, the identity columns and the statistics.

        Raises
        ------
        KeyError
            A field that does not exist.
        """
        names = tuple(_FIELDS if fields is None else fields)
        for name in names:
            if name not in _FIELDS:
                raise KeyError(name)
        chosen = [summaries.c[name] for name in (*_IDENTITY, "created_at", *names)]
        query = sa.select(jobs.c.id.label("job_id"), observations.c.target, *chosen)
        query = query.join(jobs, jobs.c.pk == summaries.c.job_pk)
        query = query.outerjoin(observations, observations.c.job_pk == summaries.c.job_pk)
        query = query.where(visible(summaries.c.owner, scope))
        if instrument is not None:
            query = query.where(summaries.c.instrument == instrument)
        if band is not None:
            query = query.where(summaries.c.band == band)
        if target is not None:
            query = query.where(observations.c.target == target)
        if since is not None:
            query = query.where(summaries.c.created_at >= since)
        if after is not None:
            query = query.where(jobs.c.id < after)
        with self._database.read() as transaction:
            rows = transaction.connection.execute(query.order_by(jobs.c.id.desc()).limit(limit + 1)).mappings().all()
        items = tuple(dict(row) for row in rows[:limit])
        return Page(items, items[-1]["job_id"] if len(rows) > limit else None)

    def newest_of_visit(
        self, scope: Scope, visit: int, *, instrument: str | None = None, run_id: str | None = None
    ) -> tuple[dict[str, Any], ...]:
        """The newest result, complete or partial, of each detector of a visit, in the order of the detectors.

        Parameters
        ----------
        scope : Scope
            Whose jobs.
        visit : int
            Visit number.
        instrument : str, optional
            Only this one.
        run_id : str, optional
            Only jobs of this run.

        Returns
        -------
        tuple of dict
            ``job_id``, ``run_id``, ``phase``, ``error``, ``created_at``, the identity and frame columns and the
            statistics. Instruments do not mix: each has rows of its own.
        """
        newest = sa.func.row_number().over(
            partition_by=(summaries.c.instrument, summaries.c.detector),
            order_by=(summaries.c.created_at.desc(), summaries.c.job_pk.desc()),
        )
        query = sa.select(
            jobs.c.id.label("job_id"), jobs.c.run_id, jobs.c.phase, jobs.c.error, summaries, newest.label("rank")
        ).join(jobs, jobs.c.pk == summaries.c.job_pk)
        query = query.where(visible(summaries.c.owner, scope), summaries.c.visit == visit)
        if instrument is not None:
            query = query.where(summaries.c.instrument == instrument)
        if run_id is not None:
            query = query.where(jobs.c.run_id == run_id)
        ranked = query.subquery()
        wanted = ("job_id", "run_id", "phase", "error", "created_at", *_IDENTITY, *_FRAME, *_FIELDS)
        chosen = sa.select(*(ranked.c[name] for name in wanted)).where(ranked.c.rank == 1)
        with self._database.read() as transaction:
            rows = transaction.connection.execute(chosen.order_by(ranked.c.instrument, ranked.c.detector)).mappings()
            return tuple(dict(row) for row in rows)
