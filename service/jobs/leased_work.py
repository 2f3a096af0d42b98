"""Threads that do what is due, one piece after another. Any number may run, on any number of hosts."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod

from service.storage.errors import StorageUnavailableError

__all__ = ["LeasedWork"]

logger = logging.getLogger(__name__)


class LeasedWork(ABC):
    """Threads of a worker beside its jobs; what one of them takes is another's when its lease is over.

    Parameters
    ----------
    name : str
        What is done, for the log.
    threads : int
        How many pieces at a time.
    poll : float
        Time between two looks where nothing is due [s].
    patience : float
        Time that pieces under way get at the end [s].
    """

    def __init__(self, name: str, *, threads: int, poll: float, patience: float) -> None:
        self._name = name
        self._poll = poll
        self._patience = patience
        self._stopping = threading.Event()
        # Not waited for by the interpreter: a host that hangs must not keep a process alive.
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True) for number in range(threads)
        ]

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End; what takes longer than the patience is left to others."""
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(self._patience)

    @abstractmethod
    def step(self) -> bool:
        """Do the piece that is longest due; whether there was one."""

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if self.step():
                    continue
            except StorageUnavailableError as error:
                logger.warning("%s: %s", self._name, error)
            except Exception:
                # Whatever it was: this piece waits for the end of its lease, the others must go on.
                logger.exception(self._name)
            self._stopping.wait(self._poll)
