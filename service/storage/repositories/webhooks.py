"""The outbox of messages to other hosts, which is also their log, and the secrets that they are signed with."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from service.storage.json_values import clean_json
from service.storage.records import Page, Scope, WebhookMessage, WebhookSecret, WebhookState, new_id
from service.storage.repositories.base import Repository, visible
from service.storage.repositories.leases import Leases
from service.storage.tables import webhook_messages, webhook_secrets

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from service.storage.database import Transaction
    from service.storage.repositories.leases import Columns

__all__ = ["WebhookRepository"]


class WebhookRepository(Repository):
    """Messages and secrets of all owners."""

    def add(
        self, transaction: Transaction, *, owner: str, job_id: str, url: str, kind: str, payload: Mapping[str, Any]
    ) -> None:
        """Put a message into the outbox; it is there exactly if the caller's transaction is committed."""
        now = transaction.now()
        transaction.connection.execute(
            sa.insert(webhook_messages).values(
                id=new_id("msg"),
                owner=owner,
                job_id=job_id,
                url=url,
                kind=kind,
                payload=clean_json(payload),
                state=WebhookState.WAITING,
                attempts=0,
                next_at=now,
                created_at=now,
            )
        )

    def take(self, lease: float, *, per_owner: int) -> WebhookMessage | None:
        """The message that is longest due, for one sender alone until the lease ends or `settle` is called.

        Parameters
        ----------
        lease : float
            Seconds after which another sender may take it, because this one has died.
        per_owner : int
            Messages of one owner that are under way at a time: a receiver that hangs keeps its own owner waiting only.

        Returns
        -------
        WebhookMessage or None
            With the attempt counted; None where nothing is due.
        """
        return _message(_LEASES.take(self._database, lease, per_owner=per_owner))

    def settle(
        self,
        message: WebhookMessage,
        *,
        state: WebhookState,
        status: int | None,
        error: str | None,
        retry_in: float | None = None,
    ) -> WebhookMessage | None:
        """Write down how an attempt ended; None where the message is another sender's by now.

        Parameters
        ----------
        message : WebhookMessage
            As `take` gave it.
        state : WebhookState
            What it is now.
        status : int or None
            HTTP status of the answer.
        error : str or None
            Short code of what went wrong.
        retry_in : float, optional
            Seconds until the next attempt of a message that waits.
        """
        table = webhook_messages.c
        with self._database.write() as transaction:
            now = transaction.now()
            row = transaction.connection.execute(
                sa.update(webhook_messages)
                .where(
                    table.id == message.id,
                    table.state == WebhookState.WAITING,
                    table.attempts == message.attempts,
                    table.taken_until == message.taken_until,
                )
                .values(
                    state=state,
                    taken_until=None,
                    next_at=None if retry_in is None else now + timedelta(seconds=retry_in),
                    last_status=status,
                    last_error=error,
                    delivered_at=now if state is WebhookState.DELIVERED else table.delivered_at,
                )
                .returning(webhook_messages)
            )
            return _message(row.mappings().one_or_none())

    def replay(self, scope: Scope, message_id: str) -> WebhookMessage | None:
        """Send a message once more, now, under its old id; None where it is being sent at this moment."""
        table = webhook_messages.c
        with self._database.write() as transaction:
            now = transaction.now()
            row = transaction.connection.execute(
                sa.update(webhook_messages)
                .where(table.id == message_id, visible(table.owner, scope), _is_free(table, now))
                .values(state=WebhookState.WAITING, attempts=0, next_at=now, taken_until=None)
                .returning(webhook_messages)
            )
            return _message(row.mappings().one_or_none())

    def get(self, scope: Scope, message_id: str) -> WebhookMessage | None:
        """A message, or None."""
        query = sa.select(webhook_messages).where(
            webhook_messages.c.id == message_id, visible(webhook_messages.c.owner, scope)
        )
        with self._database.read() as transaction:
            return _message(transaction.connection.execute(query).mappings().one_or_none())

    def list(
        self,
        scope: Scope,
        *,
        states: Collection[WebhookState] = (),
        job_id: str | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> Page[WebhookMessage]:
        """Messages, newest first."""
        query = sa.select(webhook_messages).where(visible(webhook_messages.c.owner, scope))
        if states:
            query = query.where(webhook_messages.c.state.in_(tuple(states)))
        if job_id is not None:
            query = query.where(webhook_messages.c.job_id == job_id)
        if after is not None:
            query = query.where(webhook_messages.c.id < after)
        query = query.order_by(webhook_messages.c.id.desc()).limit(limit + 1)
        with self._database.read() as transaction:
            rows = transaction.connection.execute(query).mappings().all()
        items = tuple(WebhookMessage(**_columns(row)) for row in rows[:limit])
        return Page(items, items[-1].id if len(rows) > limit else None)

    def rotate_secret(self, scope: Scope, secret: str, *, overlap: float) -> WebhookSecret:
        """Make a secret the owner's; the one before goes on signing for ``overlap`` seconds."""
        with self._database.write() as transaction:
            now = transaction.now()
            before = _secret(transaction, scope.name)
            transaction.connection.execute(sa.delete(webhook_secrets).where(webhook_secrets.c.owner == scope.name))
            now_valid = WebhookSecret(
                secret=secret,
                created_at=now,
                previous=None if before is None else before.secret,
                previous_until=None if before is None else now + timedelta(seconds=overlap),
            )
            transaction.connection.execute(
                sa.insert(webhook_secrets).values(
                    owner=scope.name,
                    secret=now_valid.secret,
                    created_at=now_valid.created_at,
                    previous=now_valid.previous,
                    previous_until=now_valid.previous_until,
                )
            )
        return now_valid

    def secret(self, owner: str) -> WebhookSecret | None:
        """The secret of an owner; the previous one only while it still signs."""
        with self._database.read() as transaction:
            return _secret(transaction, owner)


def _is_free(columns: Columns, now: datetime) -> sa.ColumnElement[bool]:
    return sa.or_(columns.taken_until.is_(None), columns.taken_until < now)


def _is_due(columns: Columns, now: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(columns.state == WebhookState.WAITING, columns.next_at <= now, _is_free(columns, now))


def _is_held(columns: Columns, now: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(columns.state == WebhookState.WAITING, columns.taken_until >= now)


_LEASES = Leases(webhook_messages, _is_due, _is_held)


def _columns(row: sa.RowMapping) -> dict[str, Any]:
    return {**row, "state": WebhookState(row["state"])}


def _message(row: sa.RowMapping | None) -> WebhookMessage | None:
    return None if row is None else WebhookMessage(**_columns(row))


def _secret(transaction: Transaction, owner: str) -> WebhookSecret | None:
    row = transaction.connection.execute(
        sa.select(webhook_secrets).where(webhook_secrets.c.owner == owner)
    ).one_or_none()
    if row is None:
        return None
    still = row.previous_until is not None and row.previous_until > transaction.now()
    return WebhookSecret(
        secret=row.secret,
        created_at=row.created_at,
        previous=row.previous if still else None,
        previous_until=row.previous_until if still else None,
    )
