"""A worker's signs of life for operators: that it is there, what it does, the memory it takes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

from service.jobs.version import code_version
from service.storage.errors import StorageUnavailableError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from service.storage import Storage

__all__ = ["ALIVE_SECONDS", "SIGN_SECONDS", "Presence", "resident_bytes"]

#: Time between two signs [s].
SIGN_SECONDS = 5.0
#: A worker without a sign for so long is not counted on [s].
ALIVE_SECONDS = 30.0


class Presence:
    """Writes the signs of one worker.

    Parameters
    ----------
    storage : Storage
        Where to.
    worker : str
        Its id.
    slots : int
        Jobs that it may run at a time.
    busy : callable
        Jobs that it runs.
    alive_file : Path, optional
        A file that is touched with each sign, also while the database is away, and removed at the end: for
        supervisors, since a worker listens nowhere.
    """

    def __init__(
        self, storage: Storage, worker: str, slots: int, busy: Callable[[], int], alive_file: Path | None = None
    ) -> None:
        self._storage = storage
        self._worker = worker
        self._slots = slots
        self._busy = busy
        self._alive_file = alive_file

    def run(self, ended: threading.Event) -> None:
        """Give a sign every few seconds until the event is set."""
        while True:
            with suppress(StorageUnavailableError):  # others say so already
                self.sign()
            if self._alive_file is not None:
                self._alive_file.touch()
            if ended.wait(SIGN_SECONDS):
                break
        if self._alive_file is not None:
            self._alive_file.unlink(missing_ok=True)
        with suppress(StorageUnavailableError):
            self._storage.operations.sign_off(self._worker)

    def sign(self) -> None:
        """Give one sign."""
        self._storage.operations.sign(
            self._worker,
            host=self._worker.split(":", 1)[0],
            version=code_version()[:40],
            slots=self._slots,
            busy=self._busy(),
            resident_bytes=resident_bytes(),
        )


def resident_bytes() -> int:
    """Memory of this process and of its children, as far as they are not gone meanwhile."""
    this = psutil.Process()
    total = 0
    for process in (this, *this.children(recursive=True)):
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total
