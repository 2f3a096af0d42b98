"""Files on their way in: sent in parts by their owners, or fetched from where their owners say."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from service.storage.errors import TooManyError
from service.storage.json_values import clean_json
from service.storage.records import Page, Phase, Scope, new_id
from service.storage.repositories.base import Repository, visible
from service.storage.repositories.leases import Leases
from service.storage.tables import uploads

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from service.storage.database import Transaction
    from service.storage.repositories.leases import Columns

__all__ = ["UploadRecord", "UploadRepository"]

_OPEN = (Phase.PENDING, Phase.QUEUED, Phase.EXECUTING)


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """A file on its way in.

    Parameters
    ----------
    id, owner : str
        Its name, and whose it is.
    phase : Phase
        PENDING: its owner sends it. QUEUED, EXECUTING: it is to be, or being, fetched. COMPLETED, ERROR.
    host : str
        The machine that has the bytes so far.
    filename : str or None
        A label.
    sha256, size : str or None, int or None
        Digest (hex) and bytes as announced.
    received : int
        Bytes that were there when this was written.
    source : str or None
        Where it is fetched from.
    error : dict or None
        ``code``, ``message`` and what the kind of error adds.
    exposure_id : str or None
        What became of it.
    attempts : int
        Attempts to fetch it that were begun.
    next_at, taken_until : datetime or None
        When it is to be fetched, and how long a fetcher has it for itself.
    created_at, expires_at : datetime
        Its life.
    """

    id: str
    owner: str
    phase: Phase
    host: str
    filename: str | None
    sha256: str | None
    size: int | None
    received: int
    source: str | None
    error: dict[str, Any] | None
    exposure_id: str | None
    attempts: int
    next_at: datetime | None
    taken_until: datetime | None
    created_at: datetime
    expires_at: datetime

    @property
    def is_open(self) -> bool:
        """Whether bytes may still come."""
        return self.phase in _OPEN


class UploadRepository(Repository):
    """Uploads of all owners."""

    def add(
        self,
        scope: Scope,
        *,
        host: str,
        life: float,
        limit: int,
        filename: str | None = None,
        sha256: str | None = None,
        size: int | None = None,
        source: str | None = None,
    ) -> UploadRecord:
        """Begin an upload, or the fetching of a source; what is being fetched from there already is the answer.

        Parameters
        ----------
        scope : Scope
            Its owner.
        host : str
            Which machine takes the bytes.
        life : float
            Seconds without a byte after which it is forgotten.
        limit : int
            Unfinished ones that the owner may have.
        filename, sha256, size, source : str or int, optional
            See `UploadRecord`.

        Raises
        ------
        TooManyError
            The owner has so many already.
        """
        table = uploads.c
        with self._database.write() as transaction:
            now = transaction.now()
            if source is not None and (same := _being_fetched(transaction, scope, source, sha256, now)) is not None:
                return same
            count = sa.select(sa.func.count()).where(
                table.owner == scope.name, table.phase.in_(_OPEN), table.expires_at > now
            )
            if transaction.connection.execute(count).scalar_one() >= limit:
                raise TooManyError("upload", limit)
            row = transaction.connection.execute(
                sa.insert(uploads)
                .values(
                    id=new_id("upl"),
                    owner=scope.name,
                    phase=Phase.PENDING if source is None else Phase.QUEUED,
                    host=host,
                    filename=filename,
                    sha256=sha256,
                    size=size,
                    received=0,
                    source=source,
                    attempts=0,
                    next_at=None if source is None else now,
                    created_at=now,
                    expires_at=now + timedelta(seconds=life),
                )
                .returning(uploads)
            )
            return _record(row.mappings().one())

    def get(self, scope: Scope, upload_id: str) -> UploadRecord | None:
        """One upload that has not had its time, or None."""
        with self._database.read() as transaction:
            query = sa.select(uploads).where(
                uploads.c.id == upload_id, visible(uploads.c.owner, scope), uploads.c.expires_at > transaction.now()
            )
            row = transaction.connection.execute(query).mappings().one_or_none()
        return None if row is None else _record(row)

    def list(
        self, scope: Scope, *, sha256: str | None = None, after: str | None = None, limit: int = 50
    ) -> Page[UploadRecord]:
        """Uploads, newest first; all, or those that announced a digest."""
        query = sa.select(uploads).where(visible(uploads.c.owner, scope))
        if sha256 is not None:
            query = query.where(uploads.c.sha256 == sha256)
        if after is not None:
            query = query.where(uploads.c.id < after)
        with self._database.read() as transaction:
            query = query.where(uploads.c.expires_at > transaction.now())
            found = transaction.connection.execute(query.order_by(uploads.c.id.desc()).limit(limit + 1))
            rows = found.mappings().all()
        items = tuple(_record(row) for row in rows[:limit])
        return Page(items, items[-1].id if len(rows) > limit else None)

    def announced(self, scope: Scope) -> int:
        """Bytes that open uploads are going to have; of those that did not say so, what is there."""
        return self._sum(sa.func.coalesce(uploads.c.size, uploads.c.received), visible(uploads.c.owner, scope))

    def to_come(self, host: str) -> int:
        """Bytes that a host has still to take."""
        return self._sum(uploads.c.size - uploads.c.received, uploads.c.host == host)

    def _sum(self, what: sa.ColumnElement[Any], which: sa.ColumnElement[bool]) -> int:
        with self._database.read() as transaction:
            query = sa.select(sa.func.coalesce(sa.func.sum(what), 0)).where(
                which, uploads.c.phase.in_(_OPEN), uploads.c.expires_at > transaction.now()
            )
            return int(transaction.connection.execute(query).scalar_one())

    def received(self, upload_id: str, count: int, *, life: float, size: int | None = None) -> bool:
        """Note how many bytes of a pending upload are there, and its length if it is known now; whether it still is."""
        with self._database.write() as transaction:
            values: dict[str, Any] = {"received": count, "expires_at": transaction.now() + timedelta(seconds=life)}
            if size is not None:
                values["size"] = size
            note = sa.update(uploads).where(uploads.c.id == upload_id, uploads.c.phase == Phase.PENDING).values(values)
            return bool(transaction.connection.execute(note).rowcount)

    def take(self, lease: float, *, host: str, per_owner: int) -> UploadRecord | None:
        """The source that is longest due, for one fetcher alone until the lease ends.

        Parameters
        ----------
        lease : float
            Seconds after which another fetcher may take it, because this one has died.
        host : str
            Which machine fetches it.
        per_owner : int
            Fetches of one owner that are under way at a time.

        Returns
        -------
        UploadRecord or None
            With the attempt counted; None where nothing is due.
        """
        values = {"phase": Phase.EXECUTING, "host": host, "received": 0}
        row = _LEASES.take(self._database, lease, per_owner=per_owner, **values)
        return None if row is None else _record(row)

    def beat(self, upload: UploadRecord, received: int, lease: float, *, size: int | None = None) -> bool:
        """Note how far a fetch is and go on having it; False where it was cancelled, or is somebody else's by now."""
        with self._database.write() as transaction:
            until = transaction.now() + timedelta(seconds=lease)
            note = _of_attempt(upload).values(received=received, size=size or uploads.c.size, taken_until=until)
            return bool(transaction.connection.execute(note).rowcount)

    def postpone(self, upload: UploadRecord, error: Mapping[str, Any], seconds: float) -> bool:
        """Let a fetch be tried again after a pause."""
        with self._database.write() as transaction:
            next_at = transaction.now() + timedelta(seconds=seconds)
            note = _of_attempt(upload).values(
                phase=Phase.QUEUED, error=clean_json(error), next_at=next_at, taken_until=None, received=0
            )
            return bool(transaction.connection.execute(note).rowcount)

    def give_back(self, upload: UploadRecord) -> bool:
        """Leave a fetch to others at once, as if it had not been taken: it is not at fault where a fetcher ends."""
        with self._database.write() as transaction:
            note = _of_attempt(upload).values(
                phase=Phase.QUEUED,
                attempts=upload.attempts - 1,
                next_at=transaction.now(),
                taken_until=None,
                received=0,
            )
            return bool(transaction.connection.execute(note).rowcount)

    def complete(self, upload: UploadRecord, exposure_id: str, size: int, *, life: float) -> bool:
        """Note that the file is there and an exposure; for ``life`` seconds this can be read."""
        return self._end(upload, life, phase=Phase.COMPLETED, exposure_id=exposure_id, received=size, size=size)

    def fail(self, upload: UploadRecord, error: Mapping[str, Any], *, life: float) -> bool:
        """Note why there will be no exposure."""
        return self._end(upload, life, phase=Phase.ERROR, error=clean_json(error))

    def _end(self, upload: UploadRecord, life: float, **values: Any) -> bool:
        values = {"error": None, "taken_until": None, "next_at": None, **values}
        if upload.source is not None:
            values["source"] = upload.source.partition("?")[0]  # a signed address is a secret, and not needed any more
        with self._database.write() as transaction:
            values["expires_at"] = transaction.now() + timedelta(seconds=life)
            return bool(transaction.connection.execute(_of_attempt(upload).values(values)).rowcount)

    def delete(self, scope: Scope, upload_id: str) -> bool:
        """Forget an upload; whether there was one."""
        which = (uploads.c.id == upload_id, visible(uploads.c.owner, scope))
        with self._database.write() as transaction:
            return bool(transaction.connection.execute(sa.delete(uploads).where(*which)).rowcount)

    def known(self, upload_ids: Collection[str]) -> set[str]:
        """Those of some uploads whose bytes are still wanted."""
        with self._database.read() as transaction:
            query = sa.select(uploads.c.id).where(
                uploads.c.id.in_(tuple(upload_ids)),
                uploads.c.phase == Phase.PENDING,
                uploads.c.expires_at > transaction.now(),
            )
            return set(transaction.connection.execute(query).scalars())

    def remove_expired(self, *, limit: int) -> int:
        """Remove some uploads that have had their time; how many."""
        with self._database.write() as transaction:
            old = sa.select(uploads.c.id).where(uploads.c.expires_at <= transaction.now()).limit(limit)
            return transaction.connection.execute(sa.delete(uploads).where(uploads.c.id.in_(old))).rowcount


def _is_due(columns: Columns, now: datetime) -> sa.ColumnElement[bool]:
    """It waits, or whoever fetched it has died."""
    waits = sa.and_(columns.phase == Phase.QUEUED, columns.next_at <= now)
    dead = sa.and_(columns.phase == Phase.EXECUTING, columns.taken_until < now)
    return sa.and_(sa.or_(waits, dead), columns.expires_at > now)


def _is_held(columns: Columns, now: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(columns.phase == Phase.EXECUTING, columns.taken_until >= now)


def _being_fetched(
    transaction: Transaction, scope: Scope, source: str, sha256: str | None, now: datetime
) -> UploadRecord | None:
    """The upload by which an owner has the same file fetched at this moment: clients repeat what takes long."""
    if transaction.connection.dialect.name != "sqlite":  # which has one writer at a time anyway
        key = sa.func.hashtextextended(f"{scope.name} {source}", 0)
        transaction.connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))
    table = uploads.c
    query = sa.select(uploads).where(
        table.owner == scope.name,
        table.source == source,
        table.sha256.is_not_distinct_from(sha256),
        table.phase.in_((Phase.QUEUED, Phase.EXECUTING)),
        table.expires_at > now,
    )
    row = transaction.connection.execute(query.order_by(table.id).limit(1)).mappings().one_or_none()
    return None if row is None else _record(row)


_LEASES = Leases(uploads, _is_due, _is_held)


def _of_attempt(upload: UploadRecord) -> sa.Update:
    table = uploads.c
    return sa.update(uploads).where(
        table.id == upload.id, table.phase == upload.phase, table.attempts == upload.attempts
    )


def _record(row: sa.RowMapping) -> UploadRecord:
    return UploadRecord(**{**row, "phase": Phase(row["phase"])})
