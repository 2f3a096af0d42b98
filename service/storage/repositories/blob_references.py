"""Which blobs are needed, and which may go.

A blob that nothing refers to is condemned, and removed when it still stands condemned after a time of grace. Whoever
makes a reference strikes the blob off in the same transaction, and then looks whether it is there: both sides lock the
same row, so there is no reference without its blob, whatever store holds it and on whatever host the two run.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from service.storage.errors import BlobLostError
from service.storage.records import ACTIVE_PHASES
from service.storage.repositories.base import Repository, insert_unless_there
from service.storage.tables import condemned_blobs, exposures, job_inputs, jobs, products

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from service.storage.blobs import BlobStore
    from service.storage.database import Database, Transaction

__all__ = ["BlobReferences"]

logger = logging.getLogger(__name__)

_FAILURES = 3
_ASKED_AT_ONCE = 16
_REFERENCES = 7_205_759_403  # of the advisory lock: any number that nothing else uses


class BlobReferences(Repository):
    """The references to the blobs of a store.

    Parameters
    ----------
    database : Database
        Has the rows that refer to blobs.
    blobs : BlobStore
        Has the blobs.
    """

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        super().__init__(database)
        self._blobs = blobs

    def refer(self, transaction: Transaction, sha256s: Collection[str]) -> None:
        """Make sure that blobs outlive the transaction that is about to refer to them.

        Raises
        ------
        BlobLostError
            One was removed before; store it again and repeat the transaction.
        """
        wanted = sorted(set(sha256s))
        if not wanted:
            return
        _lock(transaction, exclusive=False)
        # Waits for a sweep that is removing one of them just now.
        transaction.connection.execute(sa.delete(condemned_blobs).where(condemned_blobs.c.sha256.in_(wanted)))
        # Not before: a removal leaves no trace, so what was seen earlier says nothing of a sweep since. A bucket takes
        # a round trip for each, while the transaction is open.
        with ThreadPoolExecutor(min(len(wanted), _ASKED_AT_ONCE)) as asking:
            for sha256, is_there in zip(wanted, asking.map(self._blobs.exists, wanted), strict=True):
                if not is_there:
                    raise BlobLostError(sha256)

    def condemn(self, sha256s: Collection[str]) -> int:
        """Condemn those blobs that nothing refers to; how many were not condemned before."""
        with self._database.read() as transaction:
            useless = set(sha256s) - self._needed(transaction, sha256s)
            known = sa.select(condemned_blobs.c.sha256).where(condemned_blobs.c.sha256.in_(useless))
            useless -= set(transaction.connection.execute(known).scalars())
        if not useless:
            return 0
        with self._database.write() as transaction:
            _lock(transaction, exclusive=True)
            useless -= self._needed(transaction, useless)
            now = transaction.now()
            return sum(
                insert_unless_there(transaction, condemned_blobs, {"sha256": sha256, "condemned_at": now})
                for sha256 in sorted(useless)
            )

    def remove_condemned(self, before: datetime, *, limit: int) -> tuple[int, int]:
        """Remove blobs that were condemned before a moment and are still needed by nobody.

        Parameters
        ----------
        before : datetime
            By the database's clock.
        limit : int
            Blobs looked at in this one transaction.

        Returns
        -------
        looked_at, removed : int
            Fewer than ``limit`` were looked at: there are no more.
        """
        table = condemned_blobs
        due = (
            sa.select(table.c.sha256, table.c.condemned_at)
            .where(table.c.condemned_at < before)
            .order_by(table.c.condemned_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        with self._database.write() as transaction:
            condemned = {row.sha256: row.condemned_at for row in transaction.connection.execute(due)}
            if not condemned:
                return 0, 0
            useless = condemned.keys() - self._needed(transaction, condemned.keys())
            removed: dict[str, bool | None] = {}
            for sha256 in sorted(useless):
                # A store that is away must not hold this transaction for a time-out of each blob.
                away = sum(done is None for done in removed.values()) >= _FAILURES
                removed[sha256] = None if away else self._remove(sha256, condemned[sha256])
            stuck = [sha256 for sha256, done in removed.items() if done is None]
            settled = [sha256 for sha256 in condemned if sha256 not in stuck]
            transaction.connection.execute(sa.delete(table).where(table.c.sha256.in_(settled)))
            transaction.connection.execute(
                sa.update(table).where(table.c.sha256.in_(stuck)).values(condemned_at=transaction.now())
            )
            return len(condemned), sum(done is True for done in removed.values())

    def _remove(self, sha256: str, condemned_at: datetime) -> bool | None:
        """Whether a blob was removed: not where it was stored again since; None where the store fails."""
        try:
            return self._blobs.delete(sha256, older_than=condemned_at)
        except Exception:
            # One that cannot be removed must not keep all others; it is tried again after another time of grace.
            logger.exception("blob %s cannot be removed", sha256)
            return None

    def _needed(self, transaction: Transaction, sha256s: Collection[str]) -> set[str]:
        """Those of some blobs that an exposure, a product or an active job refers to."""
        wanted: Sequence[str] = list(sha256s)
        active = (
            sa.select(job_inputs.c.sha256)
            .join(jobs, jobs.c.pk == job_inputs.c.job_pk)
            .where(job_inputs.c.sha256.in_(wanted), jobs.c.phase.in_(ACTIVE_PHASES))
        )
        # The rows that a job's end makes are seen where the job is no longer seen active: one statement, one state.
        query = sa.union(
            sa.select(exposures.c.sha256).where(exposures.c.sha256.in_(wanted)),
            sa.select(products.c.sha256).where(products.c.sha256.in_(wanted)),
            active,
        )
        return set(transaction.connection.execute(query).scalars())


def _lock(transaction: Transaction, *, exclusive: bool) -> None:
    """Hold to the end of the transaction: nothing is condemned beside references that are not committed yet.

    SQLite has one writer at a time anyway.
    """
    if transaction.connection.dialect.name != "sqlite":
        take = sa.func.pg_advisory_xact_lock if exclusive else sa.func.pg_advisory_xact_lock_shared
        transaction.connection.execute(sa.select(take(_REFERENCES)))
