"""What runs in the child process: a function of a task, and how it reports."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.jobs.outcome import JobOutcome

__all__ = ["Reporter", "Task", "TaskFunction", "TransientFault", "load_task"]


class TransientFault(Exception):
    """Something that the job needs is away now; another attempt may find it."""


class Reporter:
    """Turns the calls of a calibration's ``on_progress`` into messages: a stage begins, a stage has ended.

    Parameters
    ----------
    emit : callable
        Takes one message, a dict that JSON can hold.
    """

    def __init__(self, emit: Callable[[dict[str, Any]], None]) -> None:
        self._emit = emit
        self._stage: str | None = None
        self._since = 0.0

    @property
    def stage(self) -> str | None:
        """The stage under way, or the last one."""
        return self._stage

    def __call__(self, stage: str, fraction: float, numbers: dict[str, Any]) -> None:
        """The first call with a name begins that stage, the second ends it."""
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._since = stage, now
            self._emit({"kind": "stage", "name": stage, "fraction": fraction})
            return
        message = {"name": stage, "fraction": fraction, "seconds": now - self._since, "numbers": numbers}
        self._emit({"kind": "stage_end", **message})


@dataclass(slots=True)
class Task:
    """One attempt as the child process sees it.

    Parameters
    ----------
    spec : dict
        What to do, with paths of all inputs.
    directory : Path
        Empty directory for everything that the attempt writes.
    report : Reporter
        Progress goes here.
    """

    spec: dict[str, Any]
    directory: Path
    report: Reporter = field(default_factory=lambda: Reporter(lambda _message: None))


class TaskFunction(Protocol):
    """The work itself: deterministic failures are outcomes, exceptions are faults of the service."""

    def __call__(self, task: Task) -> JobOutcome:
        """Do it."""


def load_task(name: str) -> tuple[TaskFunction, Callable[[], None]]:
    """The function that ``module:function`` names, and the module's ``warm_up`` (or one that does nothing)."""
    module_name, _, function_name = name.partition(":")
    module = importlib.import_module(module_name)
    return getattr(module, function_name), getattr(module, "warm_up", lambda: None)
