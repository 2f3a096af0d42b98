"""Two owners on one service, and every operation of its OpenAPI document."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from service.identity.principal import effective
from service.storage.records import Scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.api.conftest import House
    from tests.api.test_events import Running

METHODS = ("get", "put", "post", "delete", "patch")


@dataclass(frozen=True)
class Operation:
    """One method of one path, as the OpenAPI document declares it."""

    method: str
    path: str
    declared: dict[str, Any] = field(hash=False, compare=False)

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def body_types(self) -> list[str]:
        return list(self.declared.get("requestBody", {}).get("content", {}))

    def parameters(self, where: str) -> list[str]:
        return [item["name"] for item in self.declared.get("parameters", []) if item["in"] == where]


def operations(document: dict[str, Any]) -> Iterator[Operation]:
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield Operation(method.upper(), path, item[method])


def bearer(house: House | Running, owner: str, *scopes: str, days: float | None = 1.0) -> dict[str, str]:
    """The header of a fresh token."""
    _, text = house.services.identity.tokens.create(
        Scope(owner), name="test", permissions=effective(scopes or ("submit",)), days=days
    )
    return {"Authorization": f"Bearer {text}"}


#: Tables whose rows have an owner, and those that hang on a job.
OWNED = (
    "exposures",
    "refcats",
    "jobs",
    "batches",
    "tokens",
    "webhook_secrets",
    "webhook_messages",
    "summaries",
    "observations",
    "uploads",
)


def rows_of(house: House, owner: str, *, skip: Iterable[str] = ()) -> dict[str, list[tuple[Any, ...]]]:
    """All that the database has of an owner; ``skip`` names columns that may change."""
    left_out = {"last_used_at", *skip}
    with closing(sqlite3.connect(house.settings.data_dir / "visitcal.sqlite")) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {}
        for table in tables:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            if "owner" in columns:
                condition = "owner = ?"
            elif "job_pk" in columns:
                condition = "job_pk IN (SELECT pk FROM jobs WHERE owner = ?)"
            else:
                continue
            names = ", ".join(f'"{column}"' for column in columns if column not in left_out)
            query = f"SELECT {names} FROM {table} WHERE {condition} ORDER BY 1, 2"
            found[table] = connection.execute(query, (owner,)).fetchall()
    assert set(OWNED) <= set(found)
    return found


def files_of(house: House) -> set[str]:
    """Every stored file."""
    roots = (house.settings.blob_dir, house.settings.refcat_dir)
    return {str(path) for root in roots for path in root.rglob("*") if path.is_file()}
