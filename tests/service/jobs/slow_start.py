"""A task whose child process takes long to be ready."""

from __future__ import annotations

import time

from service.jobs.outcome import JobOutcome
from service.jobs.task import Task


def warm_up() -> None:
    time.sleep(600)


def run(task: Task) -> JobOutcome:
    return JobOutcome()
