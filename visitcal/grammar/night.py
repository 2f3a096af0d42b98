"""The command that works through a night."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from visitcal.grammar.options import (
    add_connection,
    add_job_options,
    add_references,
    add_run_options,
    positive,
)

if TYPE_CHECKING:
    from visitcal.grammar.parser import Commands

__all__ = ["add"]

DAY_S = 86_400.0


def add(commands: Commands) -> None:
    """Add it."""
    commands.group("Through the night")
    watch = commands.add(
        "watch",
        "submit the exposures that land in a folder",
        module="visitcal.commands.watching",
        example="visitcal watch /data/tonight --refcat gaia --run-id tonight\n"
        "visitcal watch /data --recursive --pattern '*_sci.fits' --refcat gaia",
    )
    watch.add_argument("folder", type=Path, metavar="DIR", help="folder to look into, again and again")
    watch.add_argument(
        "--pattern", action="append", metavar="GLOB", help="of file names, may be repeated (default: those of FITS)"
    )
    watch.add_argument("--recursive", action="store_true", help="also what is in folders inside; links are not entered")
    watch.add_argument("--all", action="store_true", help="also what is there when the folder is first watched")
    watch.add_argument(
        "--settle",
        type=positive(DAY_S),
        default=5.0,
        metavar="SECONDS",
        help="how long a file has to stay as it is before it counts as landed (default: 5)",
    )
    watch.add_argument(
        "--every", type=positive(DAY_S), default=2.0, metavar="SECONDS", help="between two looks (default: 2)"
    )
    watch.add_argument("--state", type=Path, metavar="FILE", help="what was sent (default: below $XDG_STATE_HOME)")
    watch.add_argument("--uploads", type=int, default=4, help="files to send at a time (default: 4)")
    add_references(watch)
    add_run_options(watch)
    add_job_options(watch)
    add_connection(watch)
