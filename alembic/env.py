"""Alembic environment: the database is that of Settings; there is no alembic.ini."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context

from service.settings import Settings
from service.storage.database import create_engine
from service.storage.tables import UtcDateTime, metadata


def _render(kind: str, item: object, _context: object) -> str | bool:
    # A migration is frozen: it names plain types, not those of code that moves on.
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


def _run(connection: sa.Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transactional_ddl=True,
        render_item=_render,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    _run(given)
else:
    engine = create_engine(Settings().jobs_url).execution_options(visitcal_write=True)
    with engine.begin() as connection:
        _run(connection)
