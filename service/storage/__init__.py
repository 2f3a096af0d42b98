"""What outlives a request: rows in SQL, files by content, and the queries on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.storage.storage import Storage

__all__ = ["Storage"]


def __getattr__(name: str) -> Any:
    """The store, with SQLAlchemy, is imported by those who use it: a child process has a job's records alone."""
    if name != "Storage":
        raise AttributeError(name)
    from service.storage.storage import Storage

    return Storage
