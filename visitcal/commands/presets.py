"""`visitcal preset`: look at presets of instruments, and at a file that is to become one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from visitcal.exit_codes import EXIT_OK
from visitcal.options import OptionError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from service.instruments import InstrumentStore
    from service.settings import Settings
    from visitcal.output import Output

__all__ = ["local_instruments", "local_settings", "run"]


def local_instruments(directory: Path | None) -> InstrumentStore:
    """The shipped presets, and those of a directory or of the one that the settings name.

    Raises
    ------
    service.instruments.InstrumentError
        A file is no preset.
    OptionError
        The settings cannot be read.
    """
    from service.instruments import InstrumentStore

    return InstrumentStore(directory or local_settings().instruments_dir)


def local_settings() -> Settings:
    """The settings of this machine.

    Raises
    ------
    OptionError
        They cannot be read.
    """
    from pydantic import ValidationError

    from service.settings import Settings

    try:
        return Settings()
    except (ValidationError, FileNotFoundError) as error:
        raise OptionError(f"the settings cannot be used: {error}") from error


def run(options: argparse.Namespace, output: Output) -> int:
    """Run one of the actions.

    Raises
    ------
    OptionError
        A file is no preset, or there is none of that name.
    """
    from service.instruments import InstrumentError, UnknownInstrumentError

    actions = {"check": _check, "list": _list, "show": _show}
    try:
        actions[options.action](options, output)
    except (InstrumentError, UnknownInstrumentError) as error:
        raise OptionError(str(error)) from error
    return EXIT_OK


def _check(options: argparse.Namespace, output: Output) -> None:
    from service.instruments import read_preset
    from service.jobs.instruments import check_configuration

    found = []
    for path in options.files:
        preset = read_preset(path)
        check_configuration(preset)
        notes = _notes(preset.name, options)
        if not preset.match:
            notes.append("it has no match: jobs have to name it")
        found.append({"file": str(path), "name": preset.name, "notes": notes})
        output.say(f"{path}: {preset.name} can be used")
        for note in notes:
            output.say(f"  {note}", "yellow")
    if output.is_json:
        output.document(found)


def _notes(name: str, options: argparse.Namespace) -> list[str]:
    shipped = local_instruments(options.dir)
    return [f"it stands in place of the preset {name} that is there"] if name in shipped.names else []


def _list(options: argparse.Namespace, output: Output) -> None:
    store = local_instruments(options.dir)
    if output.is_json:
        output.document(
            [{"name": one.name, "own": one.name in store.own, "description": one.description} for one in store]
        )
        return
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("name", "header", "description"):
        table.add_column(title, no_wrap=title == "name")
    for preset in store:
        rules = " or ".join(", ".join(f"{card}={value}" for card, value in rule.items()) for rule in preset.match)
        table.add_row(preset.name + (" *" if preset.name in store.own else ""), rules, preset.description)
    output.console.print(table, markup=False)


def _show(options: argparse.Namespace, output: Output) -> None:
    preset = local_instruments(options.dir).get(options.name)
    output.document(
        {
            "preset": preset.model_dump(mode="json", exclude_defaults=True),
            "sha256": preset.sha256,
            "config": preset.configuration,
        }
    )
