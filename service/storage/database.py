"""Connections and transactions: SQLite embedded, PostgreSQL scaled, one behaviour."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event

from service.storage.errors import StorageUnavailableError, UnstorableTextError
from service.storage.json_values import json_text
from service.storage.records import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

__all__ = ["Database", "Transaction", "create_engine", "create_queue_engine", "queue_migration_url"]

_POOL = 5
#: Connections to a file that stay open: as many as threads ask at a time, for a new one costs more than its query.
_FILE_POOL = 40
_PATIENCE = 30.0  # s that a writer waits for the lock of a file
# A transaction of ours asks its next question within milliseconds; blobs are stored before it begins.
_IDLE_MS = 10_000
_LOCK_MS = 15_000


@dataclass(frozen=True, slots=True)
class Transaction:
    """An open transaction, to be passed between repositories; its connection stays inside storage."""

    connection: sa.Connection

    def now(self) -> datetime:
        """The present by the database's clock, or by the host's where the database is a file of the host."""
        if self.connection.dialect.name == "sqlite":
            return utc_now()
        now: datetime = self.connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        return now.astimezone(UTC)


class Database:
    """The jobs database.

    Parameters
    ----------
    url : str
        SQLAlchemy URL.
    patience : float
        Where it is a file, how long a writer waits for others [s].
    """

    def __init__(self, url: str, patience: float = _PATIENCE) -> None:
        self.engine = create_engine(url, patience)
        self._writer = self.engine.execution_options(visitcal_write=True)

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A transaction for queries; sees one state of the database.

        Raises
        ------
        StorageUnavailableError
            The database does not answer.
        UnstorableTextError
            PostgreSQL was given a text that it cannot have.
        """
        with _translated_errors(), self.engine.connect() as connection:
            yield Transaction(connection)

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """A transaction that may change things; committed at the end unless an exception leaves it.

        Raises
        ------
        StorageUnavailableError
            The database does not answer.
        UnstorableTextError
            PostgreSQL was given a text that it cannot have.
        """
        with _translated_errors(), self._writer.begin() as connection:
            yield Transaction(connection)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as error:
        raise StorageUnavailableError(str(error).splitlines()[0]) from error
    except sa.exc.DBAPIError as error:
        if error.connection_invalidated:
            raise StorageUnavailableError(str(error).splitlines()[0]) from error
        if isinstance(error, sa.exc.DataError) and "NUL" in str(error.orig):
            raise UnstorableTextError("a text has a NUL character") from error
        raise


def create_engine(url: str, patience: float = _PATIENCE) -> sa.Engine:
    """Engine of the jobs database.

    On SQLite: write-ahead log, every commit on disk before it returns, writers queue at the start of their
    transaction (``BEGIN IMMEDIATE``) instead of failing in its middle, foreign keys enforced.
    """
    if not url.startswith("sqlite"):
        return _server_engine(url, 10)
    engine = sa.create_engine(
        url, json_serializer=json_text, connect_args={"check_same_thread": False}, pool_size=_FILE_POOL, max_overflow=20
    )

    @event.listens_for(engine, "connect")
    def _configure(dbapi_connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        connection: sqlite3.Connection = dbapi_connection  # type: ignore[assignment]
        connection.isolation_level = None  # transactions are begun below, not guessed by the driver
        _pragmas(connection, synchronous="FULL", patience=patience)

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        write = connection.get_execution_options().get("visitcal_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def create_queue_engine(url: str) -> sa.Engine:
    """Engine for the delivery store, set up as the delivery engine wants its own connections to be.

    It does not ask for the write-ahead log itself, and an engine given to it must repeat what its own would set:
    immediate transactions and the busy time-out. Losing the last moments of this file costs nothing, because
    deliveries are sent again from the jobs table; hence ``synchronous=NORMAL``.
    """
    if not url.startswith("sqlite"):
        return _server_engine(url, 5)
    engine = sa.create_engine(url, connect_args={"check_same_thread": False}, pool_size=_POOL, max_overflow=20)

    @event.listens_for(engine, "connect")
    def _configure(dbapi_connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        connection: sqlite3.Connection = dbapi_connection  # type: ignore[assignment]
        connection.isolation_level = "IMMEDIATE"
        _pragmas(connection, synchronous="NORMAL", patience=_PATIENCE)

    return engine


def queue_migration_url(url: str) -> str:
    """The delivery store's URL as the engine's own migration wants it: without the name of a driver."""
    parsed = sa.make_url(url)
    return parsed.set(drivername=parsed.get_backend_name()).render_as_string(hide_password=False)


def _server_engine(url: str, max_overflow: int) -> sa.Engine:
    """Engine on a server.

    A process that was stopped in the middle of a transaction, or whose host is gone, must not hold its rows for ever:
    the server ends its transaction. Who waits for a row gives up after a while, as where the database is away, and
    tries again. A server that does not answer is noticed within half a minute.
    """
    arguments: dict[str, Any] = {
        "connect_timeout": 10,
        "keepalives_idle": 30,
        "tcp_user_timeout": 30_000,
        "application_name": "visitcal",
    }
    given = sa.make_url(url).query
    arguments = {name: value for name, value in arguments.items() if name not in given}
    engine = sa.create_engine(
        url,
        json_serializer=json_text,
        connect_args=arguments,
        pool_pre_ping=True,
        pool_size=_POOL,
        max_overflow=max_overflow,
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: ConnectionPoolEntry) -> None:
        # Said in SQL: a PgBouncer in between refuses it among the options of the connection.
        connection.execute(
            f"SET idle_in_transaction_session_timeout = {_IDLE_MS}; SET lock_timeout = {_LOCK_MS}", prepare=False
        )
        connection.commit()

    return engine


def _pragmas(connection: Any, *, synchronous: str, patience: float) -> None:
    connection.execute(f"PRAGMA busy_timeout={round(1000 * patience)}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={synchronous}")
    connection.execute("PRAGMA foreign_keys=ON")
