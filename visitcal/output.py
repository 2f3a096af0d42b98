"""Where a command writes: text for people, or JSON and nothing else."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

__all__ = ["Output", "printable"]


class Output:
    """Standard output and standard error of one command.

    Parameters
    ----------
    is_json : bool
        Whether standard output is for programs; `console` is silent then.

    Attributes
    ----------
    console : Console
        For results and progress.
    errors : Console
        For what went wrong; standard error.
    """

    def __init__(self, *, is_json: bool = False) -> None:
        self.is_json = is_json
        self.console = Console(quiet=is_json)
        self.errors = Console(stderr=True)

    def document(self, value: Any) -> None:
        """Write the one JSON document of a command."""
        sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")

    def line(self, value: Any) -> None:
        """Write one JSON document of several, on a line of its own, at once."""
        sys.stdout.write(json.dumps(value, default=str) + "\n")
        sys.stdout.flush()

    def say(self, text: str, style: str | None = None) -> None:
        """Write a line of text as it is, unless standard output is for programs."""
        self.console.print(printable(text), style=style, highlight=False, markup=False, soft_wrap=True)

    def at_once(self, text: str) -> None:
        """Write a line that another program waits for."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def complain(self, text: str, style: str | None = None) -> None:
        """Write a line to standard error."""
        self.errors.print(printable(text), style=style, highlight=False, markup=False, soft_wrap=True)


def printable(text: str) -> str:
    """A text that cannot command the terminal: it may repeat what stood in somebody's header."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
