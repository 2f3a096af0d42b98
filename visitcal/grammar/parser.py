"""Parsers of commands: grouped help, an example each, and errors that can be told as JSON."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Actions", "CommandParser", "Commands", "TopParser", "UsageError", "leaves"]

_WIDEST_NAME = 12
_SubParsers = argparse._SubParsersAction  # noqa: SLF001 - argparse gives the type no public name


class UsageError(Exception):
    """Arguments that are not a command.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        The command that they were meant for.
    message : str
        What is wrong.
    """

    def __init__(self, parser: argparse.ArgumentParser, message: str) -> None:
        super().__init__(message)
        self.usage = parser.format_usage()
        self.prog = parser.prog


class CommandParser(argparse.ArgumentParser):
    """A command, or one of its actions."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing.

        Raises
        ------
        UsageError
            Always.
        """
        raise UsageError(self, message)


class _Version(argparse.Action):
    """Print the version, which is looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_arguments: Any) -> None:
        from importlib.metadata import version

        sys.stdout.write(f"visitcal {version('visitcal')}\n")
        parser.exit()


class TopParser(CommandParser):
    """The command line as a whole; its help shows the commands in groups."""

    def __init__(self) -> None:
        super().__init__(prog="visitcal", description="Calibrate single astronomical exposures.")
        self.add_argument("--version", action=_Version, nargs=0, help="print the version")
        self.groups: list[tuple[str, list[tuple[str, str]]]] = []

    def format_help(self) -> str:
        """Usage, and one line a command."""
        lines = ["usage: visitcal COMMAND ...", "", f"{self.description}"]
        for title, commands in self.groups:
            lines += ["", f"{title}:", *(f"  {name:<{_WIDEST_NAME}}{words}" for name, words in commands)]
        lines += ["", "`visitcal COMMAND --help` tells more, with an example. Every command takes --json.", ""]
        return "\n".join(lines)


class Commands:
    """Gives a parser its commands.

    Parameters
    ----------
    top : TopParser
        Takes them.
    """

    def __init__(self, top: TopParser) -> None:
        self._top = top
        self._parsers = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=CommandParser)

    def group(self, title: str) -> None:
        """Begin a group of the help."""
        self._top.groups.append((title, []))

    def add(self, name: str, words: str, *, module: str, example: str) -> CommandParser:
        """Add a command.

        Parameters
        ----------
        name : str
            What is typed.
        words : str
            What it does, begun small and without a stop.
        module : str
            Module whose function ``run(options, output)`` does it; imported when it is used.
        example : str
            Lines to type.
        """
        self._top.groups[-1][1].append((name, words))
        command = self._parsers.add_parser(name, **_help(words, example))
        command.set_defaults(module=module)
        return command

    def add_with_actions(self, name: str, words: str, *, module: str, example: str) -> Actions:
        """Add a command that has actions."""
        return Actions(self.add(name, words, module=module, example=example), example)


class Actions:
    """Gives a command its actions."""

    def __init__(self, command: CommandParser, example: str) -> None:
        self._example = example
        self._parsers = command.add_subparsers(
            dest="action", required=True, metavar="ACTION", parser_class=CommandParser
        )

    def add(self, name: str, words: str) -> CommandParser:
        """Add an action; its example is the line of the command's that has it."""
        lines = [line for line in self._example.splitlines() if f" {name}" in line]
        return self._parsers.add_parser(name, **_help(words, "\n".join(lines)))


def _help(words: str, example: str) -> dict[str, Any]:
    indented = "".join(f"\n  {line}" for line in example.splitlines())
    return {
        "help": words,
        "description": f"{words[0].upper()}{words[1:]}.",
        "epilog": f"example:{indented}",
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


def leaves(top: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """All parsers that have no further commands, in order."""
    inner: Sequence[_SubParsers[argparse.ArgumentParser]] = [
        action
        for action in top._actions  # noqa: SLF001 - see above
        if isinstance(action, _SubParsers)
    ]
    if not inner:
        yield top
    for action in inner:
        for parser in action.choices.values():
            yield from leaves(parser)
