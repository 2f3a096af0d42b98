"""Tables and cells of Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["cell", "code", "table"]


def cell(text: str) -> str:
    """A sentence as the text of a cell; what stands in double backticks is code."""
    return text.replace("``", "`").replace("|", "\\|").replace("\n", " ").replace("*", "\\*").replace("_", "\\_")


def code(value: Any) -> str:
    """A value as JSON has it, as code; empty for an empty text."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=_plain)
    return f"`{text}`".replace("|", "\\|") if text else ""


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else list(value)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; columns in which no row has anything are left out."""
    lines = [list(row) for row in rows]
    kept = [i for i in range(len(header)) if any(row[i] for row in lines)]
    shown = [[line[i] for i in kept] for line in [list(header), ["---"] * len(header), *lines]]
    return "\n".join(f"| {' | '.join(line)} |" for line in shown) + "\n"
