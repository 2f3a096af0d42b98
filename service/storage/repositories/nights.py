"""Jobs by the night in which their exposures were taken."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from service.storage.records import ACTIVE_PHASES, Phase
from service.storage.repositories.base import Repository, visible
from service.storage.tables import jobs, observations, products, summaries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.storage.database import Transaction
    from service.storage.records import JobRecord, Scope

__all__ = ["NightCount", "NightRepository"]

_JOB = ("id", "phase", "stage", "progress", "version", "error", "warnings", "created_at", "rerun_of", "run_id")
_OBSERVATION = (
    "observed_at",
    "exposure_id",
    "instrument",
    "band",
    "target",
    "visit",
    "detector",
    "exposure_time",
    "is_rate",
)
#: Statistics that a night is judged by, with what they are worked out from.
_STATISTICS = (
    "psfSigma",
    "psfIxx",
    "psfIyy",
    "psfIxy",
    "pixelScale",
    "zeroPoint",
    "skyBg",
    "magLim",
    "astromOffsetMean",
    "astromOffsetStd",
    "nPsfStar",
)
_COMPARED = ("psfSigma", "pixelScale", "zeroPoint", "skyBg", "magLim", "astromOffsetMean")
_IMAGE, _STARS = "preliminary_visit_image", "single_visit_star_unstandardized"


@dataclass(frozen=True, slots=True)
class NightCount:
    """Jobs of a night: all of them, those under way, and those that failed."""

    night: date
    jobs: int
    active: int
    failed: int


class NightRepository(Repository):
    """What was observed when."""

    def correct(self, transaction: Transaction, job: JobRecord, values: Mapping[str, Any]) -> None:
        """Write what reading the exposure has told of it, in place of what its headers promised."""
        where = observations.c.job_pk == job.pk
        transaction.connection.execute(sa.update(observations).where(where).values(values))

    def dates(
        self,
        scope: Scope,
        *,
        before: date | None = None,
        until: date | None = None,
        run_id: str | None = None,
        limit: int = 30,
    ) -> Sequence[tuple[date, int]]:
        """Nights with jobs and how many these are, newest first.

        Parameters
        ----------
        scope : Scope
            Whose jobs.
        before, until : date, optional
            Only earlier nights, without and with this one.
        run_id : str, optional
            Only jobs of this group.
        limit : int
            How many at most.
        """
        query = sa.select(observations.c.night, sa.func.count()).where(visible(observations.c.owner, scope))
        if before is not None:
            query = query.where(observations.c.night < before)
        if until is not None:
            query = query.where(observations.c.night <= until)
        if run_id is not None:
            query = query.join(jobs, jobs.c.pk == observations.c.job_pk).where(jobs.c.run_id == run_id)
        query = query.group_by(observations.c.night).order_by(observations.c.night.desc()).limit(limit)
        with self._database.read() as transaction:
            return [tuple(row) for row in transaction.connection.execute(query)]

    def counts(self, scope: Scope, nights: Sequence[date]) -> dict[date, NightCount]:
        """How the jobs of some nights stand."""
        query = (
            sa.select(
                observations.c.night,
                sa.func.count(),
                _count(jobs.c.phase.in_(ACTIVE_PHASES)),
                _count(jobs.c.phase == Phase.ERROR),
            )
            .join(jobs, jobs.c.pk == observations.c.job_pk)
            .where(visible(observations.c.owner, scope), observations.c.night.in_(nights))
            .group_by(observations.c.night)
        )
        with self._database.read() as transaction:
            return {row.night: NightCount(*row) for row in transaction.connection.execute(query)}

    def following(self, scope: Scope, night: date) -> date | None:
        """The next night with jobs."""
        query = sa.select(sa.func.min(observations.c.night)).where(
            visible(observations.c.owner, scope), observations.c.night > night
        )
        with self._database.read() as transaction:
            found: date | None = transaction.connection.execute(query).scalar_one()
        return found

    def active(self, scope: Scope) -> dict[date, int]:
        """Jobs under way by night."""
        query = (
            sa.select(observations.c.night, sa.func.count().label("jobs"))
            .join(jobs, jobs.c.pk == observations.c.job_pk)
            .where(visible(jobs.c.owner, scope), jobs.c.phase.in_(ACTIVE_PHASES))
            .group_by(observations.c.night)
        )
        with self._database.read() as transaction:
            return {row.night: row.jobs for row in transaction.connection.execute(query)}

    def jobs(self, scope: Scope, night: date) -> Sequence[Mapping[str, Any]]:
        """All jobs of a night, newest exposure first, with what is known of each so far.

        Returns
        -------
        sequence of mapping
            Of the job ``id``, ``phase``, ``stage``, ``progress``, ``version``, ``error``, ``warnings``, ``created_at``,
            ``rerun_of`` and ``run_id``; of its exposure the columns of the table of observations; statistics by name;
            ``stars``, rows of its catalogue; ``image``, the digest of its calibrated image. None for what there is not.
        """
        image, catalog = products.alias("image"), products.alias("catalog")
        moment = sa.func.coalesce(observations.c.observed_at, jobs.c.created_at)
        query = (
            sa.select(
                *(jobs.c[name] for name in _JOB),
                *(observations.c[name] for name in _OBSERVATION),
                *(summaries.c[name] for name in _STATISTICS),
                catalog.c.rows.label("stars"),
                image.c.sha256.label("image"),
            )
            .select_from(observations)
            .join(jobs, jobs.c.pk == observations.c.job_pk)
            .outerjoin(summaries, summaries.c.job_pk == observations.c.job_pk)
            .outerjoin(image, _is_file(image, _IMAGE, "fits"))
            .outerjoin(catalog, _is_file(catalog, _STARS, "parquet"))
            .where(visible(observations.c.owner, scope), observations.c.night == night)
            .order_by(moment.desc(), jobs.c.pk.desc())
        )
        return self._rows(query)

    def results(self, scope: Scope, first: date, before: date) -> Sequence[Mapping[str, Any]]:
        """Statistics of the completed jobs of some nights, oldest job first."""
        names = ("night", "exposure_id", "instrument", "band", "detector", "exposure_time", "is_rate")
        query = (
            sa.select(*(observations.c[name] for name in names), *(summaries.c[name] for name in _COMPARED))
            .join(summaries, summaries.c.job_pk == observations.c.job_pk)
            .join(jobs, jobs.c.pk == observations.c.job_pk)
            .where(
                visible(observations.c.owner, scope),
                observations.c.night >= first,
                observations.c.night < before,
                jobs.c.error.is_(None),
            )
            .order_by(observations.c.job_pk)
        )
        return self._rows(query)

    def _rows(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        """All rows; a dict of a mapping of the library takes twice as long."""
        with self._database.read() as transaction:
            result = transaction.connection.execute(query)
            names = tuple(result.keys())
            return [dict(zip(names, row, strict=True)) for row in result]


def _count(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)


def _is_file(file: sa.FromClause, product: str, file_format: str) -> sa.ColumnElement[bool]:
    return sa.and_(file.c.job_pk == observations.c.job_pk, file.c.product == product, file.c.format == file_format)
