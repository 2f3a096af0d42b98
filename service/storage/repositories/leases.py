"""Rows that workers take for a time: the longest due first, few of one owner at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.storage.database import Database

    Columns = sa.ColumnCollection[str, Any]

__all__ = ["Leases"]


@dataclass(frozen=True, slots=True)
class Leases:
    """The leases of a table with the columns ``id``, ``owner``, ``next_at``, ``taken_until`` and ``attempts``.

    Parameters
    ----------
    table : sqlalchemy.Table
        Has the rows.
    is_due, is_held : callable
        Conditions on its columns at a time: the row may be taken, somebody has it.
    """

    table: sa.Table
    is_due: Callable[[Columns, datetime], sa.ColumnElement[bool]]
    is_held: Callable[[Columns, datetime], sa.ColumnElement[bool]]

    def take(self, database: Database, lease: float, *, per_owner: int, **values: Any) -> sa.RowMapping | None:
        """Take the row that is longest due, for one worker alone until its lease ends.

        Parameters
        ----------
        database : Database
            Where the table is.
        lease : float
            Seconds after which another worker may take it, because this one has died.
        per_owner : int
            Rows of one owner that are taken at a time.
        **values
            What else the row has from then on.

        Returns
        -------
        RowMapping or None
            With the attempt counted; None where nothing is due.
        """
        with database.read() as transaction:  # most looks find nothing, and disturb nobody
            if transaction.connection.execute(self._next(transaction.now(), per_owner)).first() is None:
                return None
        columns = self.table.c
        with database.write() as transaction:
            now = transaction.now()
            chosen = self._next(now, per_owner).with_for_update(skip_locked=True)
            row_id = transaction.connection.execute(chosen).scalar_one_or_none()
            if row_id is None:
                return None
            taken = (
                sa.update(self.table)
                .where(columns.id == row_id, self.is_due(columns, now))
                .values(taken_until=now + timedelta(seconds=lease), attempts=columns.attempts + 1, **values)
                .returning(self.table)
            )
            return transaction.connection.execute(taken).mappings().one_or_none()

    def _next(self, now: datetime, per_owner: int) -> sa.Select[tuple[str]]:
        """Id of the row that is longest due, of an owner with less than so many held."""
        busy = self.table.alias("busy")
        full = (
            sa.select(busy.c.owner)
            .where(self.is_held(busy.c, now))
            .group_by(busy.c.owner)
            .having(sa.func.count() >= per_owner)
        )
        columns = self.table.c
        return (
            sa.select(columns.id)
            .where(self.is_due(columns, now), columns.owner.not_in(full))
            .order_by(columns.next_at)
            .limit(1)
        )
