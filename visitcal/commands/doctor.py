"""`visitcal doctor`: whether this installation has what it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from visitcal.exit_codes import EXIT_FAILED, EXIT_OK
from visitcal.options import OptionError

if TYPE_CHECKING:
    import argparse

    from service.operations.doctor import Finding
    from visitcal.output import Output

__all__ = ["run"]

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}


def run(options: argparse.Namespace, output: Output) -> int:
    """Examine, and say what was found.

    Returns
    -------
    int
        0 where nothing failed, 3 where something did.

    Raises
    ------
    OptionError
        The settings cannot be read.
    """
    from pydantic import ValidationError

    from service.operations.doctor import examine
    from service.settings import Settings

    try:
        settings = Settings() if options.data_dir is None else Settings(data_dir=options.data_dir)
    except (ValidationError, OSError) as error:
        faults = [str(error)]
        if isinstance(error, ValidationError):  # its own text has the values, passwords among them
            faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise OptionError("; ".join(f"settings: {fault}" for fault in faults)) from None
    findings = list(examine(settings))
    failed = any(finding.verdict == "failed" for finding in findings)
    if output.is_json:
        document = {"status": "failed" if failed else "ok", "findings": [_document(finding) for finding in findings]}
        output.document(document)
    else:
        output.console.print(_table(findings))
    return EXIT_FAILED if failed else EXIT_OK


def _document(finding: Finding) -> dict[str, str | float | None]:
    return {
        "name": finding.name,
        "verdict": finding.verdict.value,
        "value": finding.value,
        "unit": finding.unit,
        "detail": finding.detail,
        "seconds": finding.seconds,
    }


def _table(findings: list[Finding]) -> Table:
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("part", "is", "", "detail"):
        table.add_column(title, no_wrap=title != "detail", overflow="fold")
    for finding in findings:
        colour = _COLOURS[finding.verdict.value]
        table.add_row(finding.name, f"[{colour}]{finding.verdict.value}[/]", _number(finding), escape(finding.detail))
    return table


def _number(finding: Finding) -> str:
    if finding.value is None:
        return ""
    if finding.unit == "bytes":
        return decimal(int(finding.value))
    return f"{finding.value:.5g} {finding.unit}".strip()
