"""`visitcal refcat`: catalogues of the service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from visitcal.commands.connection import connected
from visitcal.display import upload_bar
from visitcal.exit_codes import EXIT_OK

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from visitcal.client import Client
    from visitcal.documents import RefcatDocument
    from visitcal.output import Output

__all__ = ["run"]


def run(options: argparse.Namespace, output: Output) -> int:
    """Run one of its actions."""
    with connected(options) as client:
        documents = [_put(client, options, output)] if options.action == "put" else client.refcats()
    if output.is_json:
        output.document(documents[0] if options.action == "put" else documents)
    elif documents:
        output.console.print(_table(documents))
    else:
        output.say("no catalogues yet: visitcal refcat put NAME FILE")
    return EXIT_OK


def _put(client: Client, options: argparse.Namespace, output: Output) -> RefcatDocument:
    with upload_bar(output.console) as bar:
        task = bar.add_task(f"upload {options.file.name}", total=max(options.file.stat().st_size, 1))
        return client.put_refcat(
            options.name,
            options.file,
            columns=options.columns,
            epoch=options.epoch,
            on_progress=lambda sent, _: bar.update(task, completed=sent),
        )


def _table(documents: Sequence[RefcatDocument]) -> Table:
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("name", "rows", "bands", "created", "remote"):
        table.add_column(title, justify="right" if title == "rows" else "left", no_wrap=title == "name")
    for item in documents:
        rows, created = "" if item["rows"] is None else f"{item['rows']:,}", item["created_at"] or ""
        where = "" if item["remote"] is None else item["remote"]["url"]
        table.add_row(escape(item["name"]), rows, escape(" ".join(item["bands"])), created[:16], escape(where))
    return table
