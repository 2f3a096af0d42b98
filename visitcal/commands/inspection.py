"""`visitcal inspect`: what would be read from a file, asked of the service or found here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

from rich.table import Table

from visitcal.commands.connection import connected
from visitcal.display import number
from visitcal.exit_codes import EXIT_OK, EXIT_REFUSED
from visitcal.options import OptionError, held_references, key_values

if TYPE_CHECKING:
    import argparse

    from rich.console import Console

    from visitcal.documents import InspectionDocument
    from visitcal.output import Output

__all__ = ["run"]


def run(options: argparse.Namespace, output: Output) -> int:
    """Show what would be read; exit code 2 where no job could use the file."""
    found = _inspected_locally(options) if options.local else _inspected_remotely(options)
    output.document(found) if output.is_json else _print(found, output.console)
    return EXIT_OK if found["problem"] is None else EXIT_REFUSED


def _inspected_remotely(options: argparse.Namespace) -> InspectionDocument:
    """Send the headers to the service."""
    with connected(options) as client:
        return client.inspect(
            options.file,
            references=held_references(options.refcat, options.astrometry, options.photometry),
            instrument=options.instrument,
            preset=options.preset,
            metadata=key_values(options.set_metadata),
        )


def _inspected_locally(options: argparse.Namespace) -> InspectionDocument:
    """The same without a service; reference catalogues are not looked at.

    Raises
    ------
    OptionError
        An option makes no sense.
    """
    from service.formats import FormatError
    from service.formats.metadata import checked_overrides
    from service.instruments import InstrumentError
    from service.jobs.errors import JobRequestError
    from service.jobs.inspector import Question, report
    from visitcal.commands.presets import local_instruments, local_settings
    from visitcal.fits_headers import file_start

    start = file_start(options.file)
    try:
        question = Question(
            data=start.data,
            headers_only=start.headers_only,
            size=start.size,
            instrument=options.instrument,
            preset=options.preset or "generic",
            metadata=checked_overrides(key_values(options.set_metadata)),
        )
        unknown: dict[str, Any] = dict.fromkeys(("astrometry", "photometry"))
        found = report(question, local_settings(), local_instruments(None), unknown, lambda _spec, _pixels: None)
    except (FormatError, InstrumentError, JobRequestError) as error:
        raise OptionError(str(error)) from error
    return cast("InspectionDocument", found)


def _print(found: InspectionDocument, console: Console) -> None:
    instrument, problem = found["instrument"], found["problem"]
    shape = " x ".join(str(side) for side in reversed(found["shape"] or ())) or "no image"
    lines = [
        f"{found['format'] or 'no known layout'}: {shape}",
        f"instrument {instrument['name']} ({instrument['chosen_by']})",
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False)
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("name", "value", "origin"):
        table.add_column(title)
    for name, value in found["metadata"].items():
        table.add_row(name, number(value["value"]), value["origin"])
    if found["metadata"]:
        console.print(table, markup=False)
    for what, prospect in found["can"].items() if problem is None else ():
        hint = f" ({prospect['remedy']})" if prospect["remedy"] else ""
        console.print(f"{what}: {'yes' if prospect['possible'] else 'no: ' + prospect['reason'] + hint}", markup=False)
    for lack in found["missing"]:
        console.print(f"missing {lack['name']}: {lack['consequence']}; give {lack['remedy']}", markup=False)
    for warning in found["warnings"]:
        console.print(f"warning: {warning}", style="yellow", highlight=False, markup=False)
    seconds = found["expected"]["seconds"]
    if seconds is not None:
        console.print(f"a job would run for about {math.ceil(seconds)} s", highlight=False)
    if problem is not None:
        console.print(f"{problem['message']} ({problem['code']})", style="red", highlight=False, markup=False)
