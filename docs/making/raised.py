"""Which numbers failures carry: the keywords of every place that makes one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

__all__ = ["numbers_of"]

_ROOT = Path(__file__).parents[2] / "service"
#: Where the calibration's failures are made.
_ROOMS = ("calibration", "jobs")


def numbers_of(name: str) -> list[str]:
    """Numbers with which a class of errors is made, wherever that is, in the order of the source."""
    return list(dict.fromkeys(keyword for error, keyword in _keywords() if error == name))


@cache
def _keywords() -> tuple[tuple[str, str], ...]:
    return tuple(
        (call.func.id, keyword.arg)
        for tree in _trees()
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
        for keyword in call.keywords
        if keyword.arg is not None
    )


def _trees() -> Iterator[ast.Module]:
    for room in _ROOMS:
        for path in sorted((_ROOT / room).rglob("*.py")):
            yield ast.parse(path.read_text())
