"""The grammar of the command line: nothing heavy is imported to read it."""

from __future__ import annotations

from visitcal.grammar import client, local, night, service
from visitcal.grammar.parser import Commands, TopParser, UsageError, leaves

__all__ = ["UsageError", "leaves", "parser"]


def parser() -> TopParser:
    """The grammar of the whole command line; every command has ``--json``."""
    top = TopParser()
    commands = Commands(top)
    client.add(commands)
    night.add(commands)
    local.add(commands)
    service.add(commands)
    for leaf in leaves(top):
        leaf.add_argument("--json", action="store_true", help="print JSON for programs, and nothing else")
    return top
