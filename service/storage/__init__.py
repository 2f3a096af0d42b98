"""What outlives a request: rows in SQL, files by content, and the queries on them."""

from __future__ import annotations

from service.storage.storage import Storage

__all__ = ["Storage"]
