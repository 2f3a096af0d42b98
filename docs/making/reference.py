"""Write docs/reference/ anew, the table of settings and the commands: ``make reference``. A test says when to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from making.configuration import configuration_page
from making.declared import columns_page, masks_page, statistics_page
from making.service import errors_page, events_page, metrics_page
from making.settings import tables_page
from service.operations.settings_table import with_table
from visitcal.commands.reference import with_reference

__all__ = ["DOCS", "PAGES", "pages_of_today"]

DOCS = Path(__file__).parents[1]

#: Pages that are nothing but what the code says.
PAGES: dict[str, Callable[[], str]] = {
    "reference/configuration.md": configuration_page,
    "reference/statistics.md": statistics_page,
    "reference/columns.md": columns_page,
    "reference/masks.md": masks_page,
    "reference/errors.md": errors_page,
    "reference/metrics.md": metrics_page,
    "reference/events.md": events_page,
    "reference/tables.md": tables_page,
}
_NOTE = "<!-- made from the code by `make reference` -->\n"


def pages_of_today() -> dict[Path, str]:
    """Every page that is made from the code, and its text as it would be now."""
    made = {DOCS / name: _NOTE + make() for name, make in PAGES.items()}
    operations, commands = DOCS / "operations.md", DOCS / "cli.md"
    return made | {
        operations: with_table(operations.read_text()),
        commands: with_reference(commands.read_text()),
    }


if __name__ == "__main__":
    for path, text in pages_of_today().items():
        path.write_text(text)
