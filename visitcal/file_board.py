"""Several files on their way, a line each: bars on a terminal, lines of text elsewhere."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from visitcal.display import PHASE_STYLES, result_numbers
from visitcal.output import printable

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

    from visitcal.documents import JobDocument
    from visitcal.problems import Problem

__all__ = ["FileBoard", "FileOutcome"]

SHOWN_BARS = 20
WIDEST_NAME = 40


@dataclass(frozen=True)
class FileOutcome:
    """What became of a file.

    Parameters
    ----------
    name : str
        As it was given.
    job : JobDocument, optional
        Its job, where there is one.
    problem : Problem, optional
        Why it has none, or why nobody knows how it ended.
    """

    name: str
    job: JobDocument | None = None
    problem: Problem | None = None

    @property
    def words(self) -> list[str]:
        """Phase, numbers or reason, job."""
        if self.job is None:
            return ["refused", self.problem.as_line() if self.problem else ""]
        error = self.job["error"]
        reason = [] if error is None else [f"{error['code']}: {error['message']}"]
        problem = [] if self.problem is None else [self.problem.as_line()]
        return [self.job["phase"], *problem, *reason, *result_numbers(self.job.get("summary")), self.job["id"]]

    def as_document(self) -> dict[str, Any]:
        """For programs."""
        problem = None if self.problem is None else self.problem.as_document()
        return {"file": self.name, "job": self.job, "problem": problem}


class FileBoard:
    """Draws them; its methods may be called from any thread.

    Parameters
    ----------
    console : Console
        Where to draw; on anything but a terminal only a line at the end of each file is written.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[where]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> FileBoard:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def sent(self, name: str, sent: int, total: int) -> None:
        """Bytes of a file are on the service."""
        self._draw(name, sent / max(total, 1), "upload")

    def moved(self, name: str, job: JobDocument) -> None:
        """A job is at work, or waits."""
        where = job["stage"] if job["phase"] == "EXECUTING" else job["phase"].lower()
        self._draw(name, job["progress"], where or "begins")

    def ended(self, outcome: FileOutcome) -> None:
        """Take the bar of a file away and write its line."""
        with self._lock:
            task = self._tasks.pop(outcome.name, None)
        if task is not None:
            self._progress.remove_task(task)
        first, *rest = outcome.words
        style = PHASE_STYLES.get(first, "red" if outcome.job is None else "")
        phase = f"[{style}]{first}[/]" if style else first
        line = "  ".join(escape(printable(word)) for word in rest)
        self._console.print(f"{escape(_short(outcome.name))}  {phase}  {line}", highlight=False, soft_wrap=True)

    def _draw(self, name: str, fraction: float, where: str) -> None:
        with self._lock:
            if name not in self._tasks:
                if len(self._tasks) >= SHOWN_BARS:
                    return
                self._tasks[name] = self._progress.add_task(escape(_short(name)), total=1.0, where="")
            task = self._tasks[name]
        self._progress.update(task, completed=fraction, where=escape(where))


def _short(name: str) -> str:
    """A name that leaves room for the rest of its line: the end of it tells more."""
    name = printable(name)
    return f"{name:<{WIDEST_NAME}}" if len(name) <= WIDEST_NAME else f"…{name[1 - WIDEST_NAME :]}"
