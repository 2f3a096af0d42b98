"""JSON as RFC 8259 knows it: a number that is not finite becomes null."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from starlette.responses import JSONResponse

__all__ = ["FiniteJSONResponse", "finite", "utc"]


def finite(value: Any) -> Any:
    """The same value with NaN and infinities replaced by None, times written as UTC with ``Z``."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, datetime):
        return utc(value)
    return value


def utc(moment: datetime | None) -> str | None:
    """ISO 8601 with milliseconds and ``Z``; a moment without a zone is UTC."""
    if moment is None:
        return None
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


class FiniteJSONResponse(JSONResponse):
    """A JSON answer without NaN."""

    def render(self, content: Any) -> bytes:
        """Serialise, with null for what is not finite."""
        return super().render(finite(content))
