"""Options that several commands take."""

from __future__ import annotations

import argparse
from pathlib import Path

from visitcal.completers import complete_jobs, complete_refcats

__all__ = [
    "add_connection",
    "add_data_dir",
    "add_inspection_choices",
    "add_job",
    "add_job_options",
    "add_references",
    "add_run_options",
    "column_mapping",
    "positive",
]

CATALOGUE = "name of a reference catalogue for astrometry and photometry, or none"


def add_connection(command: argparse.ArgumentParser) -> None:
    """Where the service is, and the token for it."""
    group = command.add_argument_group("service")
    group.add_argument("--url", help="of the service (default: $VISITCAL_URL or http://127.0.0.1:8470)")
    group.add_argument("--token-file", type=Path, metavar="FILE", help="file with the token (default: $VISITCAL_TOKEN)")


def add_data_dir(command: argparse.ArgumentParser) -> None:
    """Where a service keeps everything."""
    command.add_argument("--data-dir", type=Path, help="directory of databases and files (default: visitcal-data)")


def add_job(command: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """A job that is there."""
    action = command.add_argument("job", metavar="JOB", nargs="?" if optional else None, help="job id")
    action.completer = complete_jobs  # type: ignore[attr-defined]


def add_references(command: argparse.ArgumentParser, words: str = CATALOGUE, *, of_service: bool = True) -> None:
    """Which reference catalogues."""
    options = [
        command.add_argument("--refcat", metavar="REFERENCE", help=words),
        command.add_argument("--astrometry", metavar="REFERENCE", help="the same, for astrometry alone"),
        command.add_argument("--photometry", metavar="REFERENCE", help="the same, for photometry alone"),
    ]
    if of_service:
        for option in options:
            option.completer = complete_refcats  # type: ignore[attr-defined]


def add_inspection_choices(command: argparse.ArgumentParser) -> None:
    """How a file is to be read."""
    command.add_argument("--preset", help="named set of configuration overrides")
    command.add_argument("--instrument", help="preset of the instrument (default: the one that fits the header)")
    command.add_argument(
        "--set-metadata",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="what the file does not say: band=r, gain=1.5, visit=42 ...",
    )


def add_run_options(command: argparse.ArgumentParser, *, companions: bool = False) -> None:
    """How an exposure is to be calibrated."""
    add_inspection_choices(command)
    command.add_argument("--config", metavar="JSON", help="configuration overrides: JSON, or a file with it")
    command.add_argument("--variant", choices=["classic", "adaptive"], help="of the PSF stage's detection")
    if companions:
        command.add_argument(
            "--companion",
            action="append",
            default=[],
            metavar="ROLE=FILE",
            help="mask, variance, weight, ivar, sigma, field (of SDSS) or illumination in a file of its own",
        )


def add_job_options(command: argparse.ArgumentParser) -> None:
    """How the service is to treat a job."""
    command.add_argument("--priority", type=int, help="0 to 100, higher runs earlier (default: 50, or as it was)")
    command.add_argument("--run-id", help="name for a group of jobs")
    command.add_argument("--time-limit", type=float, metavar="SECONDS", help="stop a run after this time")
    command.add_argument("--force", action="store_true", help="also where a finished job computed the same")


def column_mapping(text: str) -> dict[str, str]:
    """Column mapping of the form ``ra=RAJ2000,dec=DEJ2000``."""
    mapping = {}
    for part in text.split(","):
        ours, separator, theirs = part.partition("=")
        if not (separator and ours.strip() and theirs.strip()):
            raise argparse.ArgumentTypeError(f"{part!r} is not OURS=THEIRS")
        mapping[ours.strip()] = theirs.strip()
    return mapping


class positive:  # noqa: N801 - it is used as the functions above
    """Type of a number above 0.

    Parameters
    ----------
    most : float
        And at most this.
    """

    def __init__(self, most: float) -> None:
        self._most = most

    def __call__(self, text: str) -> float:
        """The number in a text."""
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value <= self._most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and at most {self._most:g}")
        return value
