from __future__ import annotations

from tests.service.object_store import bucket, s3_proxy
from tests.service.postgresql import postgres_server

__all__ = ["bucket", "postgres_server", "s3_proxy"]
