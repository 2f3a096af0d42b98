"""What the repositories share: the owner filter, JSON that databases accept, inserts that may meet a twin."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.storage.database import Database, Transaction
    from service.storage.records import Scope

__all__ = ["Repository", "clean_json", "insert_unless_there", "visible"]


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


def clean_json(value: Any) -> Any:
    """A value as JSON knows it: no NaN or infinity, no NUL in text, plain numbers, lists and string keys."""
    if isinstance(value, str):
        return value.replace("\x00", "")
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "items"):
        return {str(key).replace("\x00", ""): clean_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [clean_json(item) for item in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return clean_json(value.tolist())
    return str(value)


def insert_unless_there(transaction: Transaction, table: sa.Table, values: Mapping[str, Any]) -> bool:
    """Insert a row unless one with the same key exists; whether it was inserted."""
    module = sqlite if transaction.connection.dialect.name == "sqlite" else postgresql
    statement = module.insert(table).values(dict(values)).on_conflict_do_nothing()
    return transaction.connection.execute(statement).rowcount == 1
