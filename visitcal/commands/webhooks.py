"""`visitcal webhook`: the secret of one's messages, their log, sending one again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from visitcal.commands.connection import connected
from visitcal.exit_codes import EXIT_OK

if TYPE_CHECKING:
    import argparse

    from visitcal.client import Client
    from visitcal.output import Output

__all__ = ["run"]


def run(options: argparse.Namespace, output: Output) -> int:
    """Run one of its actions."""
    actions = {"secret": _secret, "list": _list, "replay": _replay}
    with connected(options) as client:
        actions[options.action](client, options, output)
    return EXIT_OK


def _secret(client: Client, _options: argparse.Namespace, output: Output) -> None:
    """The secret alone goes to standard output, so that it can be piped to where the receiver keeps it."""
    made = client.webhooks.make_secret()
    if output.is_json:
        output.document(made)
        return
    output.say(made["secret"])
    output.complain("This secret is not shown again: give it to the receiver of the messages.")
    if made["previous_until"] is not None:
        output.complain(f"Until {made['previous_until']} messages are signed with the one before, too.")


def _list(client: Client, options: argparse.Namespace, output: Output) -> None:
    messages = list(client.webhooks.messages(state=options.state, job_id=options.job, limit=options.limit))
    if output.is_json:
        output.document(messages)
        return
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("message", "type", "state", "tries", "last"):
        table.add_column(title, no_wrap=title != "last")
    for item in messages:
        last = " ".join(str(item[name]) for name in ("last_status", "last_error") if item[name] is not None)
        table.add_row(item["id"], item["type"], item["state"], str(item["attempts"]), last)
    output.console.print(table)


def _replay(client: Client, options: argparse.Namespace, output: Output) -> None:
    message = client.webhooks.replay(options.id)
    output.document(message) if output.is_json else output.say(f"{message['id']} is sent again")
