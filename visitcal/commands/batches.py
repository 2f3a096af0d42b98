"""``visitcal submit --batch``: all jobs or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visitcal.commands.job_parameters import parameters_of
from visitcal.exit_codes import EXIT_FAILED, EXIT_OK
from visitcal.options import OptionError

if TYPE_CHECKING:
    import argparse

    from visitcal.client import Client
    from visitcal.documents import BatchDocument
    from visitcal.output import Output

__all__ = ["submit_batch"]


def submit_batch(client: Client, options: argparse.Namespace, output: Output) -> int:
    """Submit one job for each exposure; exit code 3 where one of them did not complete.

    Raises
    ------
    OptionError
        Options that belong to a single exposure.
    """
    if options.companion:
        raise OptionError("--companion belongs to a single exposure, not to a batch")
    batch = client.submit_batch(options.files, **parameters_of(options))
    if options.wait:
        output.say(f"batch {batch.id}")
        batch.wait(on_update=lambda document: output.say(_line(document)))
    if output.is_json:
        output.document(batch.document)
    elif not options.wait:
        output.say(batch.id)
    for failure in batch.document["failures"] if options.wait else ():
        error = failure["error"]
        output.say(f"{failure['job_id']}: {error['code']}: {error['message']}" if error else failure["job_id"], "red")
    return EXIT_OK if not options.wait or set(batch.phases) == {"COMPLETED"} else EXIT_FAILED


def _line(document: BatchDocument) -> str:
    phases = ", ".join(f"{count} {phase}" for phase, count in document["phases"].items())
    return f"{100 * document['progress']:3.0f} %  {phases}"
