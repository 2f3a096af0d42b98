"""What an owner may do, and whether there is room for one thing more."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.jobs import states
from service.jobs.errors import InvalidRequestError, TooManyPixelsError
from service.storage.records import Scope

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.settings import Settings
    from service.storage import Storage
    from service.storage.records import ExposureRecord, JobRecord
    from service.storage.repositories.usage import DiskUsage

__all__ = ["QUOTA", "Limits", "Quotas", "check_pixels", "check_priority", "limits_of", "pixels_of"]

#: Why a job is held: its owner's files take all the room that the owner has.
QUOTA = "quota"

_USAGE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one owner; None is no limit."""

    max_running: int | None
    max_queued: int
    quota_bytes: int | None
    max_priority: int


def limits_of(settings: Settings, owner: str) -> Limits:
    """The limits of an owner: its own where the operator has given some, else those of all."""
    own = settings.owner_limits.get(owner)
    limits = Limits(
        max_running=settings.max_running_jobs,
        max_queued=settings.max_queued_jobs,
        quota_bytes=settings.quota_bytes,
        max_priority=settings.max_priority,
    )
    if own is None:
        return limits
    return Limits(
        max_running=limits.max_running if own.max_running is None else own.max_running,
        max_queued=limits.max_queued if own.max_queued is None else own.max_queued,
        quota_bytes=limits.quota_bytes if own.quota_bytes is None else own.quota_bytes,
        max_priority=limits.max_priority if own.max_priority is None else own.max_priority,
    )


def check_priority(settings: Settings, owner: str, priority: int) -> None:
    """Refuse a priority that an owner may not ask for.

    Raises
    ------
    InvalidRequestError
        It is below 0 or above the owner's highest.
    """
    highest = limits_of(settings, owner).max_priority
    if not 0 <= priority <= highest:
        raise InvalidRequestError("priority", f"must be 0 to {highest}")


def pixels_of(exposures: Iterable[ExposureRecord]) -> int | None:
    """Pixels of some images together, as read from their headers; None where one does not say."""
    total = 0
    for exposure in exposures:
        shape = _shape(exposure.metadata)
        if shape is None:
            return None
        total += math.prod(shape)
    return total


def check_pixels(settings: Settings, pixels: int | None, images: int) -> None:
    """Refuse a job that is too large before any work is done for it.

    Raises
    ------
    TooManyPixelsError
        More pixels than a job may have, or than its memory limit has room for.
    """
    if pixels is None:
        return
    if pixels > settings.max_job_pixels:
        raise TooManyPixelsError(pixels, settings.max_job_pixels)
    if not settings.memory_bytes_per_pixel:
        return
    # Snaps are combined first; the calibration then works on one image.
    fitting = int(settings.memory_limit_bytes / settings.memory_bytes_per_pixel) * images
    if pixels > fitting:
        raise TooManyPixelsError(pixels, fitting)


def _shape(metadata: dict[str, Any]) -> tuple[int, int] | None:
    shape = metadata.get("shape")
    if not isinstance(shape, list | tuple) or len(shape) != 2:
        return None
    height, width = shape
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


class Quotas:
    """Whether an owner's files have room.

    Parameters
    ----------
    storage : Storage
        Where the files are counted.
    settings : Settings
        Limits.
    seconds : float
        For so long an answer is used again: a burst of submissions counts the files once.
    """

    def __init__(self, storage: Storage, settings: Settings, seconds: float = _USAGE_SECONDS) -> None:
        self._storage = storage
        self._settings = settings
        self._seconds = seconds
        self._known: dict[str, tuple[float, DiskUsage]] = {}

    def room(self, owner: str, own: int = 0) -> int | None:
        """Bytes that an owner may still upload, beside what is on its way; None without a quota.

        Parameters
        ----------
        owner : str
            Whose quota.
        own : int
            Bytes on their way that are asked for: they do not stand in their own way.
        """
        quota = limits_of(self._settings, owner).quota_bytes
        if quota is None:
            return None
        taken = self._storage.usage.used(Scope(owner)) + self._storage.uploads.announced(Scope(owner))
        return max(quota - taken + own, 0)

    def is_over(self, owner: str) -> bool:
        """Whether one job more would, by the mean of those before, pass the quota."""
        quota = limits_of(self._settings, owner).quota_bytes
        return quota is not None and self._usage(owner).expected >= quota

    def release(self) -> list[JobRecord]:
        """Queue held jobs whose owners have room again, the first ones first; those that were queued."""
        by_owner: dict[str, list[JobRecord]] = {}
        for job in self._storage.turns.held(QUOTA):
            by_owner.setdefault(job.owner, []).append(job)
        return [job for owner, held in by_owner.items() for job in self._release(owner, held)]

    def _release(self, owner: str, held: list[JobRecord]) -> list[JobRecord]:
        quota = limits_of(self._settings, owner).quota_bytes
        usage = self._storage.usage.usage(Scope(owner))
        released: list[JobRecord] = []
        for job in held:
            if quota is not None and usage.expected + len(released) * usage.per_job >= quota:
                break
            after = states.release(self._storage, job.id)
            if after is not None:
                released.append(after)
        return released

    def _usage(self, owner: str) -> DiskUsage:
        now = time.monotonic()
        moment, usage = self._known.get(owner, (-math.inf, None))
        if usage is None or now - moment > self._seconds:
            usage = self._storage.usage.usage(Scope(owner))
            self._known[owner] = (now, usage)
        return usage
