"""Waiting for a job to change: any number of waiters, one query."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from typing import TYPE_CHECKING

from service.storage.errors import StorageUnavailableError

if TYPE_CHECKING:
    from service.settings import Settings
    from service.storage import Storage

__all__ = ["JobWatcher"]

logger = logging.getLogger(__name__)


class JobWatcher:
    """Looks at the versions of all watched jobs together, and only while there are some.

    Parameters
    ----------
    storage : Storage
        Where the jobs are.
    settings : Settings
        How often to look.
    """

    def __init__(self, storage: Storage, settings: Settings) -> None:
        self._storage = storage
        self._interval = settings.watch_interval
        self._waiters: defaultdict[str, set[tuple[int, asyncio.Future[None]]]] = defaultdict(set)
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self) -> None:
        """Begin to look; call it in the loop in which `wait` will be awaited."""
        self._task = asyncio.create_task(self._look(), name="job-watcher")

    def release(self) -> None:
        """Let all waiters go, and hold nobody any more: the service is about to end."""
        self._closed = True
        for waiters in self._waiters.values():
            for _, future in waiters:
                _release(future)

    async def stop(self) -> None:
        """Stop, and let all waiters go."""
        self.release()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def wait(self, job_id: str, version: int, timeout: float) -> None:
        """Return when the job has another version than this, or is gone, or after ``timeout`` seconds."""
        if self._closed:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (version, future)
        self._waiters[job_id].add(entry)
        self._wanted.set()
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError:
            pass
        finally:
            waiters = self._waiters[job_id]
            waiters.discard(entry)
            if not waiters:
                del self._waiters[job_id]

    async def _look(self) -> None:
        while True:
            if not self._waiters:
                self._wanted.clear()
                await self._wanted.wait()
            try:
                versions = await asyncio.to_thread(self._storage.jobs.versions, tuple(self._waiters))
            except StorageUnavailableError as error:
                logger.warning("job watcher: %s", error)
            except Exception:
                # Without this task nobody would be woken ever again.
                logger.exception("job watcher")
            else:
                self._wake(versions)
            await asyncio.sleep(self._interval)

    def _wake(self, versions: dict[str, int]) -> None:
        for job_id, waiters in self._waiters.items():
            for version, future in waiters:
                if versions.get(job_id) != version:
                    _release(future)


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
