"""The table of settings of docs/operations.md; ``python -m service.operations.settings_table FILE`` makes it anew."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from service.operations.marked_text import with_marked_text
from service.settings import Settings

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

__all__ = ["settings_table", "with_table"]


def settings_table() -> str:
    """A row of Markdown for each setting, in the order of their declaration."""
    rows = [
        f"| `VISITCAL_{name.upper()}` | {_default(field)} | {_cell(field.description or '')} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows]) + "\n"


def with_table(text: str) -> str:
    """A document with the table of today between its marks.

    Raises
    ------
    ValueError
        It has no marks.
    """
    return with_marked_text(text, "settings", settings_table())


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return "(secret)"
    if isinstance(value, bool):
        return f"`{json.dumps(value)}`"
    if isinstance(value, tuple):
        return f"`{json.dumps(list(value))}`"
    return f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(with_table(document.read_text()))
