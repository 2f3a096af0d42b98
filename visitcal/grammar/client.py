"""Commands that talk to a service about jobs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from visitcal.completers import complete_refcats
from visitcal.grammar.options import (
    add_connection,
    add_inspection_choices,
    add_job,
    add_job_options,
    add_references,
    add_run_options,
    column_mapping,
)

if TYPE_CHECKING:
    from visitcal.grammar.parser import Commands

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add them."""
    commands.group("Calibrate on a service")
    _add_submit(commands)
    _add_rerun(commands)
    _add_looks(commands)
    _add_inspect(commands)
    commands.group("Around jobs")
    _add_refcat(commands)
    _add_webhook(commands)


def _add_submit(commands: Commands) -> None:
    submit = commands.add(
        "submit",
        "calibrate exposures on the service, a job for each file",
        module="visitcal.commands.submission",
        example="visitcal submit night/*.fits --refcat gaia --wait\n"
        "visitcal submit snap1.fits snap2.fits --snaps --refcat gaia\n"
        "visitcal submit https://archive.example.org/a.fits.fz --refcat none",
    )
    submit.add_argument(
        "files", nargs="+", metavar="FILE", help="exposure: file, address (https://, s3://), or exposure id"
    )
    together = submit.add_mutually_exclusive_group()
    together.add_argument("--snaps", action="store_true", help="the two files are the snaps of one exposure")
    together.add_argument("--batch", action="store_true", help="take all jobs or none, as one batch")
    add_references(submit)
    add_run_options(submit, companions=True)
    add_job_options(submit)
    submit.add_argument("--callback", metavar="URL", help="address that is told of the end by a signed message")
    submit.add_argument("--wait", action="store_true", help="wait for the end and print the statistics")
    submit.add_argument("--uploads", type=int, default=4, help="files to send at a time (default: 4)")
    add_connection(submit)


def _add_rerun(commands: Commands) -> None:
    rerun = commands.add(
        "rerun",
        "run a job once more with the same input and some changes",
        module="visitcal.commands.submission",
        example="visitcal rerun JOB --variant adaptive --wait",
    )
    add_job(rerun)
    add_references(rerun)
    add_run_options(rerun)
    add_job_options(rerun)
    rerun.add_argument("--wait", action="store_true", help="wait for the end and print the statistics")
    add_connection(rerun)


def _add_looks(commands: Commands) -> None:
    status = commands.add(
        "status",
        "show a job, or the newest jobs",
        module="visitcal.commands.status",
        example="visitcal status\nvisitcal status JOB --follow",
    )
    add_job(status, optional=True)
    status.add_argument("--follow", action="store_true", help="print what happens to the job until it has ended")
    status.add_argument("--phase", help="only jobs in this phase")
    status.add_argument("--run-id", help="only jobs of this group")
    status.add_argument("--limit", type=int, default=20, help="jobs to show (default: 20)")
    add_connection(status)
    fetch = commands.add(
        "fetch",
        "fetch products of a job",
        module="visitcal.commands.fetching",
        example="visitcal fetch JOB --out results\nvisitcal fetch JOB stars --format csv",
    )
    add_job(fetch)
    fetch.add_argument("products", nargs="*", metavar="PRODUCT", help="stars, image, ... (default: all)")
    fetch.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="directory to write to (default: here)")
    fetch.add_argument("--format", help="of catalogues: parquet (default), fits, csv or votable")
    add_connection(fetch)
    report = commands.add(
        "report",
        "write a job as one HTML file that needs no network",
        module="visitcal.commands.reporting",
        example="visitcal report JOB -o report.html",
    )
    add_job(report)
    report.add_argument("-o", "--out", type=Path, metavar="FILE", help="file to write (default: JOB.html)")
    add_connection(report)


def _add_inspect(commands: Commands) -> None:
    inspect = commands.add(
        "inspect",
        "show what would be read from a file; only its headers are sent",
        module="visitcal.commands.inspection",
        example="visitcal inspect a.fits --refcat gaia\nvisitcal inspect a.fits --local",
    )
    inspect.add_argument("file", type=Path, metavar="FILE", help="FITS file, plain or compressed")
    inspect.add_argument("--local", action="store_true", help="look at it here, without a service")
    add_references(inspect)
    add_inspection_choices(inspect)
    add_connection(inspect)


def _add_refcat(commands: Commands) -> None:
    actions = commands.add_with_actions(
        "refcat",
        "list reference catalogues of the service, or give it one",
        module="visitcal.commands.refcats",
        example="visitcal refcat list\nvisitcal refcat put gaia gaia.parquet\n"
        "visitcal refcat put tycho tycho.csv --columns ra=RAJ2000,dec=DEJ2000 --epoch 2000",
    )
    listing = actions.add("list", "show those that jobs can name")
    put = actions.add("put", "give the service a catalogue")
    name = put.add_argument("name", metavar="NAME", help="what jobs will call it")
    name.completer = complete_refcats  # type: ignore[attr-defined]
    put.add_argument("file", type=Path, metavar="FILE", help="Parquet, FITS, CSV or VOTable file")
    put.add_argument("--columns", type=column_mapping, metavar="OURS=THEIRS,...", help="names in the file")
    put.add_argument("--epoch", type=float, help="Julian year of the positions")
    for action in (listing, put):
        add_connection(action)


def _add_webhook(commands: Commands) -> None:
    actions = commands.add_with_actions(
        "webhook",
        "messages that tell other hosts of the end of jobs",
        module="visitcal.commands.webhooks",
        example="visitcal webhook secret > secret.txt\nvisitcal webhook list --state given_up\n"
        "visitcal webhook replay MESSAGE",
    )
    secret = actions.add("secret", "make or replace the secret that messages are signed with; shown once")
    listing = actions.add("list", "show the newest messages")
    listing.add_argument("--state", choices=["waiting", "delivered", "given_up"], help="only these")
    listing.add_argument("--job", metavar="JOB", help="only about this job")
    listing.add_argument("--limit", type=int, default=20, help="messages to show (default: 20)")
    replay = actions.add("replay", "send a message once more")
    replay.add_argument("id", metavar="MESSAGE", help="msg_..., as list shows it")
    for action in (secret, listing, replay):
        add_connection(action)
