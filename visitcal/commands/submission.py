"""`visitcal submit` and `visitcal rerun`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from visitcal.client import ADDRESSES, Client
from visitcal.commands.batches import submit_batch
from visitcal.commands.connection import connected
from visitcal.commands.following import print_result, wait_for
from visitcal.commands.job_parameters import changes_of, parameters_of, warn_of_no_references
from visitcal.commands.many_files import submit_many
from visitcal.display import upload_bar
from visitcal.exit_codes import EXIT_FAILED, EXIT_OK
from visitcal.options import OptionError, companion_files

if TYPE_CHECKING:
    import argparse

    from visitcal.job import Job
    from visitcal.output import Output

__all__ = ["run"]

SNAPS = 2


def run(options: argparse.Namespace, output: Output) -> int:
    """Run one of the commands."""
    with connected(options) as client:
        if options.command == "rerun":
            job = client.rerun(options.job, changes_of(options), force=options.force)
            return _see_to(client, job, options, output)
        return _submit(client, options, output)


def _submit(client: Client, options: argparse.Namespace, output: Output) -> int:
    warn_of_no_references(options, output)
    if options.batch:
        return submit_batch(client, options, output)
    if options.snaps and len(options.files) != SNAPS:
        raise OptionError("--snaps takes the two files of one exposure")
    if len(options.files) > 1 and not options.snaps:
        if options.companion:
            raise OptionError("--companion belongs to a single exposure: submit its file alone")
        return submit_many(client, options, output)
    exposures = [_exposure(client, name, output) for name in options.files]
    companions = {role: _exposure(client, name, output) for role, name in companion_files(options)}
    job = client.submit(exposures, companions=companions, force=options.force, **parameters_of(options))
    return _see_to(client, job, options, output)


def _exposure(client: Client, name: str, output: Output) -> str:
    """Id of an exposure, once the service has it."""
    path = Path(name)
    if name.startswith("exp_") and not path.exists():
        return name
    if name.startswith(ADDRESSES):
        with output.console.status(f"the service fetches {name}"):
            return client.fetch(name)["id"]
    with upload_bar(output.console) as bar:
        task = bar.add_task(f"upload {path.name}", total=max(path.stat().st_size, 1))
        return client.upload(path, on_progress=lambda sent, _: bar.update(task, completed=sent))["id"]


def _see_to(client: Client, job: Job, options: argparse.Namespace, output: Output) -> int:
    """Name a job, or wait for it and show how it ended."""
    if options.wait:
        output.say(f"job {job.id}")
        wait_for(job, output)
    if output.is_json:
        output.document(job.document)
    elif options.wait:
        print_result(client, job.document, output)
    else:
        output.say(job.id)
    return EXIT_OK if not options.wait or job.phase == "COMPLETED" else EXIT_FAILED
