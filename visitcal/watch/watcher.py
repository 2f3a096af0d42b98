"""The rounds of `visitcal watch`: look, send, ask how jobs do; again until told to stop."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from visitcal.commands.following import JobsView
from visitcal.commands.many_files import Sender, StoppedError
from visitcal.documents import ACTIVE_PHASES
from visitcal.errors import ApiError, ServerError, ServiceUnreachableError, UploadInterruptedError, VisitcalError
from visitcal.file_board import FileBoard, FileOutcome
from visitcal.problems import problem_of

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping
    from pathlib import Path

    from visitcal.client import Client
    from visitcal.documents import JobDocument
    from visitcal.output import Output
    from visitcal.watch.folder import Folder, Sight
    from visitcal.watch.memory import Memory

__all__ = ["Watcher"]

LONGEST_PAUSE_S = 60.0
#: Answers that say: later.
LATER = frozenset({408, 429, 507})
#: Who asks has to change something before any file can be taken.
FORBIDDEN = frozenset({401, 403})
#: Parts of a request that all files share.
SHARED = ("/config", "/references", "/preset", "/instrument", "/priority", "/run_id", "/time_limit_s")
_KEYS = uuid.UUID("6c0f3a1e-64a5-4f0e-9f5e-3f0c5b5b9a10")


class Watcher:
    """Submits what lands in a folder and tells how it went.

    Parameters
    ----------
    client : Client
        Where to; it should not repeat requests for long, because an outage is waited out here.
    root : Path
        The folder.
    folder : Folder
        Finds what landed.
    memory : Memory
        Knows what was sent.
    parameters : mapping
        Of all jobs, as for `Client.submit`.
    output : Output
        A line an exposure; as JSON one when it is submitted and one at its end.
    uploads : int
        Files to send at a time.
    """

    def __init__(
        self,
        client: Client,
        root: Path,
        folder: Folder,
        memory: Memory,
        parameters: Mapping[str, Any],
        output: Output,
        *,
        uploads: int = 4,
    ) -> None:
        self._root, self._folder, self._memory = root, folder, memory
        self._parameters, self._output, self._uploads = parameters, output, max(uploads, 1)
        self._board = FileBoard(output.console)
        self._sender = Sender(client, parameters, self._board)
        self._view = JobsView(client)
        self._outages = 0

    @property
    def stop(self) -> threading.Event:
        """Set it to end after what is begun; sending is called off at once."""
        return self._sender.stop

    def leave_alone_what_is_there(self) -> int:
        """Take the files of today for known; how many there are."""
        files = self._folder.files()
        for name, sight in files.items():
            self._memory.keep(name, sight)
        return len(files)

    def run(self, every: float) -> list[str]:
        """Make rounds until `stop` is set.

        Parameters
        ----------
        every : float
            Seconds between two rounds; more and more of them while the service is away.

        Returns
        -------
        list of str
            Jobs that are at work still.

        Raises
        ------
        ApiError
            No file could be taken before something else than a file is changed.
        """
        with self._board:
            while not self.stop.is_set():
                self.round()
                self.stop.wait(every if not self._outages else min(every * 2**self._outages, LONGEST_PAUSE_S))
        return list(self._memory.at_work().values())

    def round(self) -> None:
        """Look once, send what landed, and ask for the jobs at work."""
        try:
            landed = self._folder.landed(self._memory.knows)
        except OSError as error:  # a file system that is away for a while comes back
            self._outage(error)
            return
        try:
            self._send(landed)
            self._ask()
        except (ServiceUnreachableError, ApiError) as error:
            if isinstance(error, ApiError) and not _is_later(error):
                raise
            self._outage(error)
            return
        if self._outages:
            self._outages = 0
            self._tell({"event": "back"}, "the service is back")

    def _outage(self, error: Exception) -> None:
        self._outages += 1
        if self._outages == 1:
            self._tell({"event": "waiting", "detail": str(error)}, f"waiting: {error}")

    def _send(self, landed: Mapping[str, Sight]) -> None:
        """Send files at a time; the first answer that stands for all of them ends it."""
        with ThreadPoolExecutor(self._uploads) as pool:
            futures = {name: pool.submit(self._sent, name, sight) for name, sight in landed.items()}
        failure: Exception | None = None
        for name, future in futures.items():
            try:
                job = future.result()
            except (StoppedError, UploadInterruptedError):
                continue  # in another round, or by the next program
            except (VisitcalError, OSError) as error:
                if _is_of_the_file(error):
                    self._refused(name, landed[name], error)
                else:
                    failure = error
                continue
            self._memory.keep(name, landed[name], job["id"])
            self._board.moved(name, job)
            if self._output.is_json:
                self._output.line({"event": "submitted", "file": name, "job_id": job["id"]})
        if failure is not None:
            raise failure

    def _sent(self, name: str, sight: Sight) -> JobDocument:
        """The same file gives the same job, also where the program died between the answer and remembering it."""
        wish = json.dumps([str(self._root.resolve()), name, sight.size, sight.mtime_ns, self._parameters], default=str)
        return self._sender.send(name, self._root / name, idempotency_key=str(uuid.uuid5(_KEYS, wish)))

    def _refused(self, name: str, sight: Sight, error: Exception) -> None:
        if isinstance(error, OSError):
            return  # gone, or not ours to read yet
        self._memory.keep(name, sight)
        self._ended(FileOutcome(name, problem=problem_of(error)))

    def _ask(self) -> None:
        active = self._memory.at_work()
        found = self._view.look(set(active.values())) if active else {}
        for name, job_id in active.items():
            job = found[job_id]
            if job is None:
                self._memory.ended(name, "ARCHIVED")
            elif job["phase"] in ACTIVE_PHASES:
                self._board.moved(name, job)
            else:
                self._memory.ended(name, job["phase"])
                self._ended(FileOutcome(name, job))

    def _ended(self, outcome: FileOutcome) -> None:
        self._board.ended(outcome)
        if self._output.is_json:
            self._output.line({"event": "ended", **outcome.as_document()})

    def _tell(self, document: dict[str, Any], words: str) -> None:
        if self._output.is_json:
            self._output.line(document)
        else:
            self._output.say(f"{datetime.now(UTC):%H:%M:%S}  {words}", "yellow")


def _is_later(error: ApiError) -> bool:
    return isinstance(error, ServerError) or error.status in LATER


def _is_of_the_file(error: Exception) -> bool:
    """Whether another file may be taken although this one was not."""
    if isinstance(error, ServiceUnreachableError):
        return False
    if not isinstance(error, ApiError):
        return True
    if _is_later(error) or error.status in FORBIDDEN:
        return False
    return not any(str(place.get("pointer", "")).startswith(SHARED) for place in error.errors)
