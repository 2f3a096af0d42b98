"""Jobs on their way: one seen stage by stage, or many by one look at all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape

from visitcal.display import StageBar, failure_lines, statistics_table
from visitcal.documents import ACTIVE_PHASES
from visitcal.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Collection

    from visitcal.client import Client
    from visitcal.documents import JobDocument
    from visitcal.job import Job
    from visitcal.output import Output

__all__ = ["JobsView", "follow_hint", "print_result", "wait_for"]

SHOWN_COMMANDS = 3
PAGE = 100


def wait_for(job: Job, output: Output) -> None:
    """Draw a job until it has ended.

    Raises
    ------
    KeyboardInterrupt
        With a sentence: the job runs on.
    """
    try:
        with StageBar(output.console) as bar:
            job.wait(on_update=bar.show_job, check=False)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted: {follow_hint([job.id], None)}") from None


def follow_hint(job_ids: Collection[str], run_id: str | None) -> str:
    """How to see what becomes of jobs that run on."""
    if run_id is not None:
        command = f"visitcal status --run-id {run_id}"
    elif len(job_ids) <= SHOWN_COMMANDS:
        command = "; ".join(f"visitcal status {job_id} --follow" for job_id in job_ids)
    else:
        command = f"visitcal status --limit {len(job_ids)}"
    what = "the job runs on" if len(job_ids) == 1 else f"{len(job_ids)} jobs run on"
    return f"{what}, follow by: {command}"


def print_result(client: Client, document: JobDocument, output: Output, truth: dict[str, Any] | None = None) -> None:
    """How a job ended: warnings, why it failed, statistics, products."""
    console = output.console
    for warning in document["warnings"]:
        console.print(f"[yellow]warning:[/] {escape(warning)}", highlight=False)
    if document["error"] is not None:
        for line in failure_lines(document["error"]):
            console.print(line, highlight=False)
    if document["summary"] is not None:
        schema = client.summary_schema()
        console.print(statistics_table(document["summary"], schema, truth, width=console.width))
    products = ", ".join(product["id"] for product in document["products"])
    output.say(f"{document['phase']}: {products or 'no products'}")


class JobsView:
    """Many jobs by one request a look: the newest of the list, which are ours.

    Parameters
    ----------
    client : Client
        Where they are.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def look(self, job_ids: Collection[str]) -> dict[str, JobDocument | None]:
        """Where jobs stand: short documents of those at work, full ones of those that ended, None for deleted ones."""
        listed = {job.id: job.document for job in self._client.jobs(limit=max(PAGE, 2 * len(job_ids)))}
        return {job_id: self._document(job_id, listed.get(job_id)) for job_id in job_ids}

    def _document(self, job_id: str, listed: JobDocument | None) -> JobDocument | None:
        if listed is not None and listed["phase"] in ACTIVE_PHASES:
            return listed
        try:
            return self._client.job(job_id).document
        except NotFoundError:
            return None
