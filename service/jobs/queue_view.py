"""The queue as clients see it: position, expected end, depth, throughput, and how good the forecasts were."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from service.jobs.limits import limits_of
from service.jobs.presence import ALIVE_SECONDS
from service.storage.records import JobRecord, Phase

if TYPE_CHECKING:
    from service.settings import Settings
    from service.storage import Storage
    from service.storage.repositories.turns import EndedJob, RunningJob, WaitingGroup

__all__ = ["ForecastQuality", "Place", "QueueView", "Snapshot", "forecast_quality"]

_SNAPSHOT_SECONDS = 1.0
_DUTY = 20.0  # a snapshot that took long is kept for so many times as long
_RECENT = timedelta(minutes=10)
_LEAST_RETRY, _MOST_RETRY, _BLIND_RETRY = 1, 3600, 30


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job stands: jobs before it (None unless it waits), and seconds until it ends (None while unknown)."""

    position: int | None
    eta_s: float | None


@dataclass(frozen=True, slots=True)
class ForecastQuality:
    """How good the forecasts of the last completed jobs were: abs(forecast - actual) / actual."""

    jobs: int
    median: float
    percentile_90: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The queue at one moment; ``slots`` are those that workers say they have."""

    at: datetime
    groups: tuple[WaitingGroup, ...]
    running: tuple[RunningJob, ...]
    completed: tuple[EndedJob, ...]
    ended: int
    slots: int

    @property
    def depth(self) -> int:
        """Jobs that wait."""
        return sum(group.count for group in self.groups)

    @property
    def throughput(self) -> float | None:
        """Jobs a second over the last minutes; None where none ended."""
        return self.ended / _RECENT.total_seconds() if self.ended else None

    def waiting_of(self, owner: str) -> int:
        """Jobs of an owner that wait."""
        return sum(group.count for group in self.groups if group.owner == owner)

    def own_before(self, owner: str, priority: int, older: int | None = None) -> int:
        """Jobs of the owner before one of this priority; ``older`` of its own priority, by default all of them."""
        mine = [group for group in self.groups if group.owner == owner]
        same = sum(group.count for group in mine if group.priority == priority)
        return sum(group.count for group in mine if group.priority > priority) + (same if older is None else older)

    def others_before(self, owner: str, own_before: int) -> int:
        """Jobs of other owners that are begun first, with one of each owner in turn."""
        others = {group.owner for group in self.groups} - {owner}
        return sum(min(self.waiting_of(other), own_before + 1) for other in others)

    def mean_seconds(self) -> float | None:
        """Seconds of a job whose own forecast is not known: of those completed last."""
        return sum(job.seconds for job in self.completed) / len(self.completed) if self.completed else None

    def mean_waiting(self, owners: set[str]) -> float | None:
        """Seconds of a waiting job of some owners, by forecast or else as those completed last."""
        groups = [group for group in self.groups if group.owner in owners and group.forecast]
        if not groups:
            return self.mean_seconds()
        return sum(group.seconds for group in groups) / sum(group.forecast for group in groups)

    def remaining(self, owner: str | None = None) -> float:
        """Seconds of work left in the running jobs (of an owner)."""
        usual = self.mean_seconds() or 0.0
        left = 0.0
        for job in self.running:
            if owner is None or job.owner == owner:
                expected = usual if job.predicted_seconds is None else job.predicted_seconds
                left += max(expected - (self.at - job.started_at).total_seconds(), 0.0)
        return left


class QueueView:
    """Answers about the queue from a snapshot that is taken at most every second, however many ask.

    Parameters
    ----------
    storage : Storage
        The jobs.
    settings : Settings
        Limits, and the slots of the worker beside the server.
    seconds : float
        Age at which a snapshot is taken anew.
    """

    def __init__(self, storage: Storage, settings: Settings, seconds: float = _SNAPSHOT_SECONDS) -> None:
        self._storage = storage
        self._settings = settings
        self._seconds = seconds
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._good_until = -math.inf

    def snapshot(self) -> Snapshot:
        """The queue of about now."""
        with self._lock:
            began = time.monotonic()
            if self._snapshot is None or began > self._good_until:
                turns = self._storage.turns
                now = self._storage.job_changes.now()
                self._snapshot = Snapshot(
                    now,
                    tuple(turns.waiting_groups()),
                    tuple(turns.running()),
                    tuple(turns.last_completed()),
                    turns.ended_since(now - _RECENT),
                    sum(worker.slots for worker in self._storage.operations.workers(ALIVE_SECONDS)),
                )
                ended = time.monotonic()
                self._good_until = ended + max(self._seconds, _DUTY * (ended - began) if self._seconds else 0.0)
            return self._snapshot

    def place(self, job: JobRecord) -> Place:
        """Where a job stands now."""
        if job.phase is Phase.EXECUTING:
            return Place(None, _left(job, self._storage.job_changes.now()))
        if job.phase is not Phase.QUEUED:
            return Place(None, None)
        snapshot = self.snapshot()
        return self._waiting(
            snapshot, job, snapshot.own_before(job.owner, job.priority, self._storage.turns.older(job))
        )

    def places(self, jobs: Sequence[JobRecord]) -> list[Place]:
        """Where the first jobs of one owner stand, given in their order: no question to the database for each."""
        snapshot, queued, found = self.snapshot(), 0, []
        for job in jobs:
            if job.phase is Phase.QUEUED:
                found.append(self._waiting(snapshot, job, queued))
                queued += 1
            else:
                found.append(Place(None, _left(job, snapshot.at) if job.phase is Phase.EXECUTING else None))
        return found

    def _waiting(self, snapshot: Snapshot, job: JobRecord, own: int) -> Place:
        """Where a job stands that has so many of its owner's before it."""
        wait = self._wait(snapshot, job.owner, own)
        seconds = snapshot.mean_seconds() if job.predicted_seconds is None else job.predicted_seconds
        ends = None if wait is None or seconds is None else wait + seconds
        return Place(own + snapshot.others_before(job.owner, own), ends)

    def expected_end(self, owner: str, priority: int, seconds: float | None) -> datetime | None:
        """When a job that is submitted now will end; None where its time or the queue's is not known."""
        if seconds is None:
            return None
        snapshot = self.snapshot()
        wait = self._wait(snapshot, owner, snapshot.own_before(owner, priority))
        return None if wait is None else snapshot.at + timedelta(seconds=wait + seconds)

    def retry_after(self, owner: str) -> int:
        """Seconds after which a place in an owner's full queue will probably be free."""
        snapshot = self.snapshot()
        throughput = snapshot.throughput
        if throughput is None:
            return _BLIND_RETRY
        sharing = len({group.owner for group in snapshot.groups} | {owner})
        return min(max(math.ceil(sharing / throughput), _LEAST_RETRY), _MOST_RETRY)

    def _wait(self, snapshot: Snapshot, owner: str, own: int) -> float | None:
        """Seconds until a job with so many of its owner's before it is begun."""
        before = own + snapshot.others_before(owner, own)
        # The worker beside the server gives no sign until it is warm.
        slots = max(snapshot.slots, len(snapshot.running), self._settings.slots if self._settings.starts_worker else 1)
        waits = [0.0]
        if before + len(snapshot.running) >= slots:
            waits.append(_work(snapshot, {group.owner for group in snapshot.groups}, before, None, slots))
        limit = limits_of(self._settings, owner).max_running
        if limit == 0:
            return None
        if limit is not None and own + sum(job.owner == owner for job in snapshot.running) >= limit:
            waits.append(_work(snapshot, {owner}, own, owner, limit))
        wait = max(waits)
        return None if math.isnan(wait) else wait


def _work(snapshot: Snapshot, owners: set[str], jobs: int, running_of: str | None, slots: int) -> float:
    mean = snapshot.mean_waiting(owners) if jobs else 0.0
    if mean is None:
        return math.nan
    return (snapshot.remaining(running_of) + jobs * mean) / slots


def _left(job: JobRecord, now: datetime) -> float | None:
    """Seconds that a running job still needs; None once it has taken longer than was forecast."""
    if job.predicted_seconds is None or job.started_at is None:
        return None
    left = job.predicted_seconds - (now - job.started_at).total_seconds()
    return left if left > 0 else None


def forecast_quality(completed: Sequence[EndedJob]) -> ForecastQuality | None:
    """Relative errors of the forecasts of completed jobs; None where none had one."""
    errors = sorted(
        abs(job.predicted_seconds - job.seconds) / job.seconds
        for job in completed
        if job.predicted_seconds is not None and job.seconds > 0
    )
    if not errors:
        return None
    return ForecastQuality(len(errors), _quantile(errors, 0.5), _quantile(errors, 0.9))


def _quantile(ordered: Sequence[float], fraction: float) -> float:
    """Linear between the two nearest of some sorted values."""
    place = fraction * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
