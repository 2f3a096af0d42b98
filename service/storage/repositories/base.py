"""What the repositories share: the owner filter, and inserts that may meet a twin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.storage.database import Database, Transaction
    from service.storage.records import Scope

__all__ = ["Repository", "insert_unless_there", "visible"]


class Repository:
    """A set of queries on one database.

    Parameters
    ----------
    database : Database
        Where they are asked.
    """

    def __init__(self, database: Database) -> None:
        self._database = database


def visible(column: sa.Column[Any], scope: Scope) -> sa.ColumnElement[bool]:
    """The condition that every query of a scope carries."""
    return sa.true() if scope.owner is None else column == scope.owner


def insert_unless_there(transaction: Transaction, table: sa.Table, values: Mapping[str, Any]) -> bool:
    """Insert a row unless one with the same key exists; whether it was inserted."""
    module = sqlite if transaction.connection.dialect.name == "sqlite" else postgresql
    statement = module.insert(table).values(dict(values)).on_conflict_do_nothing()
    inserted = transaction.connection.execute(statement.returning(*table.primary_key.columns))
    return inserted.first() is not None
