"""Timing of the stages of a job: reading, the calibration's own stages, writing."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from service.storage.records import StageRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["StageClock"]

logger = logging.getLogger("visitcal")

#: Where the calibration begins and ends in the progress of a whole job, by the usual cost of reading and writing.
_CALIBRATION = (0.04, 0.93)


class StageClock:
    """Receiver of a calibration's progress that times the stages and passes the calls on.

    Parameters
    ----------
    receiver : callable or None
        Called with stage, fraction of the job and numbers: as a stage begins and, under the same name, as it ends.
    """

    def __init__(self, receiver: Callable[[str, float, dict[str, Any]], None] | None = None) -> None:
        self._receiver = receiver
        self._began = 0.0
        self._finished: list[StageRecord] = []
        self.stage: str | None = None

    @property
    def finished(self) -> tuple[StageRecord, ...]:
        """Stages that have ended, in order."""
        return tuple(self._finished)

    def __call__(self, stage: str, fraction: float, numbers: dict[str, Any]) -> None:
        """A stage of the calibration begins or ends; ``fraction`` is that of the calibration."""
        first, last = _CALIBRATION
        self._take(stage, first + (last - first) * fraction, numbers)

    @contextmanager
    def stage_of_job(self, stage: str, begin: float, end: float) -> Iterator[dict[str, Any]]:
        """A stage around the calibration; the dict that is yielded takes its numbers."""
        numbers: dict[str, Any] = {}
        self._take(stage, begin, {})
        yield numbers
        self._take(stage, end, numbers)

    @contextmanager
    def reading(self) -> Iterator[dict[str, Any]]:
        """The stage before the calibration."""
        with self.stage_of_job("read", 0.0, _CALIBRATION[0]) as numbers:
            yield numbers

    @contextmanager
    def writing(self) -> Iterator[dict[str, Any]]:
        """The stage after the calibration."""
        with self.stage_of_job("write", _CALIBRATION[1], 1.0) as numbers:
            yield numbers

    def _take(self, stage: str, fraction: float, numbers: dict[str, Any]) -> None:
        now = time.monotonic()
        if stage != self.stage:
            self.stage, self._began = stage, now
        else:
            self._finished.append(StageRecord(stage, now - self._began, dict(numbers)))
            logger.info("%s: %.3f s %s", stage, now - self._began, _as_text(numbers))
        if self._receiver is not None:
            self._receiver(stage, fraction, numbers)


def _as_text(numbers: dict[str, Any]) -> str:
    return " ".join(
        f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}" for name, value in numbers.items()
    )
