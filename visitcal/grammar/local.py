"""Commands that need no service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from visitcal.grammar.options import add_references, add_run_options, column_mapping

if TYPE_CHECKING:
    import argparse

    from visitcal.grammar.parser import Commands

__all__ = ["add"]

REFERENCES = "references for astrometry and photometry: file, remote catalogue that the settings declare, or none"


def add(commands: Commands) -> None:
    """Add them."""
    commands.group("Without a service")
    _add_demo(commands)
    _add_calibrate(commands)
    _add_simulate(commands)
    _add_preset(commands)


def _add_demo(commands: Commands) -> None:
    demo = commands.add(
        "demo",
        "calibrate a simulated exposure through a whole service of its own",
        module="visitcal.demo",
        example="visitcal demo\nvisitcal demo --keep",
    )
    _add_size(demo)
    demo.add_argument("--keep", action="store_true", help="leave the service with its page running until Ctrl-C")
    demo.add_argument("--out", type=Path, metavar="DIR", help="keep the inputs and the products there")


def _add_size(command: argparse.ArgumentParser) -> None:
    command.add_argument("--size", type=int, default=2048, help="width and height in pixels (default: 2048)")
    command.add_argument("--seed", type=int, default=7, help="same seed, same pixels (default: 7)")
    command.add_argument("--stars", type=int, default=1500, help="number of stars (default: 1500)")


def _add_calibrate(commands: Commands) -> None:
    calibrate = commands.add(
        "calibrate",
        "calibrate an exposure, or its two snaps, in this process",
        module="visitcal.commands.local",
        example="visitcal calibrate a.fits --refcat gaia.parquet --out results",
    )
    calibrate.add_argument("files", nargs="+", type=Path, metavar="FILE", help="one exposure, or its two snaps")
    add_references(calibrate, REFERENCES, of_service=False)
    add_run_options(calibrate, companions=True)
    calibrate.add_argument("--columns", type=column_mapping, metavar="OURS=THEIRS,...", help="names in the file")
    calibrate.add_argument("--parity", action="store_true", help="reproduce the upstream task, oddities included")
    calibrate.add_argument("--threads", type=int, metavar="N", help="that work on it (default: processors, at most 4)")
    calibrate.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory to write into")


def _add_simulate(commands: Commands) -> None:
    simulate = commands.add(
        "simulate",
        "write a simulated exposure with its references and truth",
        module="visitcal.commands.local",
        example="visitcal simulate sky --size 1024 --set fwhm=3.5",
    )
    simulate.add_argument("out", type=Path, metavar="DIR", help="directory to write into")
    _add_size(simulate)
    simulate.add_argument("--snaps", type=int, choices=[1, 2], default=1, help="snaps of the visit (default: 1)")
    simulate.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="any other parameter")


def _add_preset(commands: Commands) -> None:
    actions = commands.add_with_actions(
        "preset",
        "presets of instruments: what is known of cameras",
        module="visitcal.commands.presets",
        example="visitcal preset list\nvisitcal preset show decam\nvisitcal preset check mine.yaml",
    )
    check = actions.add("check", "look whether files are presets that jobs can use")
    check.add_argument("files", nargs="+", type=Path, metavar="FILE", help="YAML, see docs/instruments.md")
    listing = actions.add("list", "show all; those of the directory with a star")
    show = actions.add("show", "print one, and the configuration that comes of it")
    show.add_argument("name", metavar="NAME", help="as list shows it")
    for action in (check, listing, show):
        action.add_argument("--dir", type=Path, help="directory of presets (default: instruments_dir of the settings)")
