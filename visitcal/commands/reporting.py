"""`visitcal report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from visitcal.commands.connection import connected
from visitcal.exit_codes import EXIT_OK
from visitcal.report.collect import collect
from visitcal.report.page import render

if TYPE_CHECKING:
    import argparse

    from visitcal.output import Output

__all__ = ["run"]


def run(options: argparse.Namespace, output: Output) -> int:
    """Write the report of a job, whatever has become of it."""
    path = options.out or Path(f"{options.job}.html")
    with connected(options) as client, output.console.status(f"report of {options.job}"):
        text = render(collect(client, options.job))
    path.write_text(text, encoding="utf-8")
    if output.is_json:
        output.document({"path": str(path), "size": path.stat().st_size})
    else:
        output.say(str(path))
    return EXIT_OK
