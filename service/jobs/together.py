"""One transaction for what several ask for at the same time."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Together"]

_MOST = 64
_CLOSE_SECONDS = 10.0

T = TypeVar("T")


class Together(Generic[T]):
    """A thread that does what was asked for since it last looked, all at once.

    A commit that is on disk costs about as much for many as for one, and who writes to SQLite from many threads waits
    in pauses that grow: here nobody waits for anybody but the group that is under way.

    Parameters
    ----------
    name : str
        Of the thread.
    work : callable
        Does a group; what becomes of each item is written into the item. What it raises is raised to all of the group.
    """

    def __init__(self, name: str, work: Callable[[Sequence[T]], None]) -> None:
        self._work = work
        self._waiting: queue.SimpleQueue[tuple[T, Future[None]] | None] = queue.SimpleQueue()
        self._entrance = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def do(self, item: T) -> None:
        """Return when an item was done.

        Raises
        ------
        RuntimeError
            It was closed: nobody would do it.
        """
        done: Future[None] = Future()
        with self._entrance:  # nothing comes in behind the mark at which the thread ends
            if self._closed:
                raise RuntimeError(f"{self._thread.name} is closed")
            self._waiting.put((item, done))
        done.result()

    def close(self) -> None:
        """Do what waits, then end; closed once more, nothing happens."""
        with self._entrance:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        while True:
            group = self._group()
            asked = [entry for entry in group if entry is not None]
            try:
                if asked:
                    self._work([item for item, _ in asked])
            except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
                for _, done in asked:
                    done.set_exception(error)
            else:
                for _, done in asked:
                    done.set_result(None)
            if len(asked) < len(group):
                return

    def _group(self) -> list[tuple[T, Future[None]] | None]:
        """At least one entry, and those that are there; None is the last."""
        group = [self._waiting.get()]
        while group[-1] is not None and len(group) < _MOST:
            try:
                group.append(self._waiting.get_nowait())
            except queue.Empty:
                break
        return group
