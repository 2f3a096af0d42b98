"""Values as JSON, and every database's JSON type, take them."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["clean_json"]


def clean_json(value: Any) -> Any:
    """A value as JSON knows it: no NaN or infinity, no NUL in text, plain numbers, lists and string keys."""
    if isinstance(value, str):
        return value.replace("\x00", "")
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "items"):
        return {str(key).replace("\x00", ""): clean_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [clean_json(item) for item in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return clean_json(value.tolist())
    return str(value)
