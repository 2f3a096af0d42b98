"""What is known of a running attempt and not yet written to its row."""

from __future__ import annotations

import threading
from datetime import datetime
from typing import Any

from service.jobs.states import Report
from service.storage.records import LogLine, StageRecord

__all__ = ["ProgressLog"]

#: Log lines that one attempt may leave; a job that warns about every pixel must not fill the database.
_MAX_LOG_LINES = 2000


class ProgressLog:
    """Collects the child's messages, to be written in one go with the next sign of life. Safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stage: str | None = None
        self._fraction = 0.0
        self._stages: list[StageRecord] = []
        self._reported_stages = 0
        self._log: list[LogLine] = []
        self._log_total = 0
        self._reported: tuple[str | None, float] = (None, 0.0)

    def take(self, message: dict[str, Any]) -> None:
        """A message of the child: ``stage``, ``stage_end`` or ``log``; others are ignored."""
        with self._lock:
            match message["kind"]:
                case "stage":
                    self._stage, self._fraction = message["name"], message["fraction"]
                case "stage_end":
                    self._fraction = message["fraction"]
                    self._stages.append(StageRecord(message["name"], message["seconds"], message["numbers"]))
                case "log" if self._log_total < _MAX_LOG_LINES:
                    self._log_total += 1
                    at = datetime.fromisoformat(message["at"])
                    self._log.append(LogLine(at, message["level"], message["logger"], message["message"]))

    def report(self) -> Report:
        """What is new since the last acknowledged report."""
        with self._lock:
            new_stages = len(self._stages) - self._reported_stages
            changed = new_stages > 0 or self._reported != (self._stage, self._fraction)
            return Report(
                self._stage, self._fraction, tuple(self._stages), new_stages, tuple(self._log), changed=changed
            )

    def acknowledge(self, report: Report) -> None:
        """A report was written: it need not be written again."""
        with self._lock:
            self._reported_stages = len(report.stages)
            self._reported = (report.stage, report.progress)
            del self._log[: len(report.log)]
