"""`visitcal submit` of several files: a job for each, some uploads at a time, one look at all jobs."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visitcal.commands.following import JobsView, follow_hint
from visitcal.commands.job_parameters import parameters_of
from visitcal.documents import ACTIVE_PHASES
from visitcal.errors import VisitcalError
from visitcal.exit_codes import EXIT_FAILED, EXIT_OK, worst
from visitcal.file_board import FileBoard, FileOutcome
from visitcal.problems import problem_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from visitcal.client import Client
    from visitcal.documents import JobDocument
    from visitcal.output import Output

__all__ = ["Sender", "StoppedError", "submit_many"]

PAUSE_S = 1.0
JOBS_A_SECOND = 100


class StoppedError(Exception):
    """The sending was called off in the midst of a file."""


class Sender:
    """Sends files and submits a job for each.

    Parameters
    ----------
    client : Client
        Where to.
    parameters : mapping
        Of all jobs, as for `Client.submit`.
    board : FileBoard
        Is told of the bytes sent.
    """

    def __init__(self, client: Client, parameters: Mapping[str, Any], board: FileBoard) -> None:
        self._client = client
        self._parameters = parameters
        self._board = board
        self.stop = threading.Event()

    def send(self, name: str, source: Path | str, **more: Any) -> JobDocument:
        """Submit one, once its bytes are on the service.

        Raises
        ------
        StoppedError
            `stop` was set.
        """

        def on_progress(sent: int, total: int) -> None:
            if self.stop.is_set():
                raise StoppedError
            self._board.sent(name, sent, total)

        if self.stop.is_set():
            raise StoppedError
        return self._client.submit(source, on_progress=on_progress, **{**self._parameters, **more}).document


def submit_many(client: Client, options: argparse.Namespace, output: Output) -> int:
    """Submit files, follow their jobs where that is asked for; the exit code is the worst of all files.

    Raises
    ------
    KeyboardInterrupt
        With a sentence that says what runs on and what was not sent.
    """
    names = list(dict.fromkeys(options.files))
    submitted: dict[str, JobDocument] = {}
    outcomes: dict[str, FileOutcome] = {}
    with FileBoard(output.console) as board:
        sender = Sender(client, {**parameters_of(options), "force": options.force}, board)
        try:
            _send_all(sender, names, options.uploads, submitted, outcomes, board)
            if options.wait:
                _follow_all(JobsView(client), submitted, outcomes, board)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_farewell(names, submitted, outcomes, options.run_id)) from None
        for name in submitted.keys() - outcomes.keys():
            outcomes[name] = FileOutcome(name, submitted[name])
            board.ended(outcomes[name])
    if output.is_json:
        output.document([outcomes[name].as_document() for name in names])
    return worst(_exit_code(outcome, waited=options.wait) for outcome in outcomes.values())


def _send_all(
    sender: Sender,
    names: list[str],
    uploads: int,
    submitted: dict[str, JobDocument],
    outcomes: dict[str, FileOutcome],
    board: FileBoard,
) -> None:
    def send(name: str) -> None:
        try:
            submitted[name] = sender.send(name, name if name.startswith("exp_") else _source(name))
            board.moved(name, submitted[name])
        except (VisitcalError, OSError) as error:
            outcomes[name] = FileOutcome(name, problem=problem_of(error))
            board.ended(outcomes[name])

    pool = ThreadPoolExecutor(max(uploads, 1))
    try:
        for future in [pool.submit(send, name) for name in names]:
            future.result()
    finally:
        sender.stop.set()  # whatever is still under way after an interrupt
        pool.shutdown(wait=True, cancel_futures=True)
        sender.stop.clear()


def _source(name: str) -> Path | str:
    return name if "://" in name else Path(name)


def _follow_all(
    view: JobsView, submitted: dict[str, JobDocument], outcomes: dict[str, FileOutcome], board: FileBoard
) -> None:
    active = {name: job["id"] for name, job in submitted.items()}
    while active:
        found = view.look(set(active.values()))
        for name, job_id in list(active.items()):
            job = found[job_id]
            if job is not None and job["phase"] in ACTIVE_PHASES:
                board.moved(name, job)
                continue
            submitted[name] = job or {**submitted[name], "phase": "ARCHIVED"}
            outcomes[name] = FileOutcome(name, submitted[name])
            board.ended(outcomes[name])
            del active[name]
        if active:
            threading.Event().wait(max(PAUSE_S, len(active) / JOBS_A_SECOND))


def _farewell(
    names: list[str], submitted: Mapping[str, JobDocument], outcomes: Mapping[str, FileOutcome], run_id: str | None
) -> str:
    running = [job["id"] for name, job in submitted.items() if name not in outcomes]
    unsent = len(names) - len(submitted.keys() | outcomes.keys())
    words = ["interrupted"]
    if unsent:
        words.append(f"{unsent} of {len(names)} files were not sent")
    if running:
        words.append(follow_hint(running, run_id))
    return "; ".join(words)


def _exit_code(outcome: FileOutcome, *, waited: bool) -> int:
    if outcome.problem is not None:
        return outcome.problem.exit_code
    completed = outcome.job is not None and outcome.job["phase"] == "COMPLETED"
    return EXIT_OK if completed or not waited else EXIT_FAILED
