"""The reference of the commands in docs/cli.md; ``python -m visitcal.commands.reference FILE`` makes it anew."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from service.operations.marked_text import with_marked_text
from visitcal.grammar import leaves, parser

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["commands_reference", "with_reference"]

#: Examples name files and jobs that are not there: a test parses them instead of running them.
MARK = "<!-- run: parsed -->\n"
#: Every command has these.
SHARED = frozenset({"help", "json"})
#: Those that ask a service have these.
CONNECTION = frozenset({"url", "token_file"})


def commands_reference() -> str:
    """A section of Markdown for each command."""
    return "\n".join(_section(leaf) for leaf in leaves(parser()))


def with_reference(text: str) -> str:
    """A document with the reference of today between its marks.

    Raises
    ------
    ValueError
        It has no marks.
    """
    return with_marked_text(text, "commands", f"\n{commands_reference()}\n")


def _section(leaf: argparse.ArgumentParser) -> str:
    asks = " It asks a service." if any(action.dest in CONNECTION for action in leaf._actions) else ""  # noqa: SLF001
    example = "\n".join(line.strip() for line in str(leaf.epilog).splitlines()[1:])
    rows = list(_rows(leaf))
    table = "\n".join(["| argument | meaning |", "|---|---|", *rows, ""]) if rows else ""
    return f"### {leaf.prog}\n\n{leaf.description}{asks}\n\n{MARK}```sh\n{example}\n```\n\n{table}"


def _rows(leaf: argparse.ArgumentParser) -> Iterator[str]:
    for action in leaf._actions:  # noqa: SLF001 - argparse has no public list of them
        if action.dest in SHARED | CONNECTION:
            continue
        yield f"| `{_name(action)}` | {(action.help or '').replace('|', chr(92) + '|')} |"


def _name(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"[{_metavar(action)}]" if action.nargs in ("?", "*") else _metavar(action)
    names = ", ".join(action.option_strings)
    return names if action.nargs == 0 else f"{names} {_metavar(action)}"


def _metavar(action: argparse.Action) -> str:
    if action.choices is not None:
        return "\\|".join(str(choice) for choice in action.choices)
    if action.metavar is not None:
        return str(action.metavar)
    return action.dest.upper()


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(with_reference(document.read_text()))
