"""What a route's documentation says of its errors."""

from __future__ import annotations

from typing import Any

from api.problem_types import PROBLEM_TYPES
from api.problems import MEDIA_TYPE

__all__ = ["problems"]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Entries for ``responses=``: the statuses with which a route may report a problem."""
    return {status: _entry(status) for status in statuses}


def _entry(status: int) -> dict[str, Any]:
    codes = ", ".join(f"`{kind.code}`" for kind in PROBLEM_TYPES.values() if kind.status == status)
    return {
        "description": f"Problem: {codes}",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
    }
