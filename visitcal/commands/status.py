"""`visitcal status`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from visitcal.commands.connection import connected
from visitcal.commands.following import follow_hint, print_result
from visitcal.display import PHASE_STYLES, duration, event_line
from visitcal.exit_codes import EXIT_FAILED, EXIT_OK
from visitcal.options import OptionError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from visitcal.client import Client
    from visitcal.documents import JobDocument
    from visitcal.output import Output

__all__ = ["jobs_table", "run"]


def run(options: argparse.Namespace, output: Output) -> int:
    """Show a job, follow it, or show the newest ones."""
    with connected(options) as client:
        if options.follow:
            return _follow(client, options, output)
        if options.job is not None:
            return _show(client, options.job, output)
        found = client.jobs(phase=options.phase, run_id=options.run_id, limit=options.limit)
        documents = [job.document for job in found]
        if output.is_json:
            output.document(documents)
        elif documents:
            output.console.print(jobs_table(documents, datetime.now(UTC)))
        else:
            output.say("no such jobs" if options.phase or options.run_id else "no jobs yet: see visitcal submit --help")
    return EXIT_OK


def _show(client: Client, job_id: str, output: Output) -> int:
    document = client.job(job_id).document
    if output.is_json:
        output.document(document)
    else:
        output.console.print(jobs_table([document], datetime.now(UTC)))
        print_result(client, document, output)
    return EXIT_OK


def _follow(client: Client, options: argparse.Namespace, output: Output) -> int:
    if options.job is None:
        raise OptionError("--follow needs the id of a job")
    job = client.job(options.job)
    try:
        for event in job.events():
            output.line(asdict(event)) if output.is_json else output.say(event_line(event))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted: {follow_hint([job.id], None)}") from None
    job.refresh()
    print_result(client, job.document, output) if not output.is_json else None
    return EXIT_OK if job.phase == "COMPLETED" else EXIT_FAILED


def jobs_table(documents: Sequence[JobDocument], now: datetime) -> Table:
    """A line for each job."""
    has_runs = any(job["run_id"] for job in documents)
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("job", "phase", "where", "age", *(["run"] if has_runs else [])):
        table.add_column(title, no_wrap=title in ("job", "phase", "age"))
    for job in documents:
        style = PHASE_STYLES.get(job["phase"], "")
        age = (now - datetime.fromisoformat(job["created_at"])).total_seconds()
        phase = f"[{style}]{job['phase']}[/]" if style else job["phase"]
        run_id = [escape(job["run_id"] or "")] if has_runs else []
        table.add_row(job["id"], phase, escape(_where(job)), duration(max(age, 0.0)), *run_id)
    return table


def _where(job: JobDocument) -> str:
    """The stage of a job at work, the reason of one that failed."""
    if job["error"] is not None:
        return job["error"]["code"]
    if job["phase"] == "EXECUTING":
        return f"{100 * job['progress']:3.0f} %  {job['stage'] or ''}".rstrip()
    return ""
