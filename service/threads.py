"""Threads for one job: compiled code that lets go of the interpreter's lock runs on more than one processor.

What is done in parts gives the same result with any number of threads: parts either do not see each other, or are cut
in the same places always.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["at_most", "bands", "each", "in_use", "sensible"]

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")

_pool: ContextVar[ThreadPoolExecutor | None] = ContextVar("pool", default=None)
_count: ContextVar[int] = ContextVar("count", default=1)


@contextmanager
def at_most(count: int) -> Iterator[None]:
    """Let what runs inside use so many threads; without it there is one.

    Parameters
    ----------
    count : int
        Threads, this one not counted, which waits for the others.
    """
    if count == 1:
        yield
        return
    with ThreadPoolExecutor(count, "part") as pool:
        before = _pool.set(pool), _count.set(count)
        try:
            yield
        finally:
            _pool.reset(before[0])
            _count.reset(before[1])


def sensible(jobs: int = 1) -> int:
    """Threads for each of some jobs that share the processors of this process: 1 to 4.

    More would shorten a job little, and take more memory.
    """
    processors = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(max(1, processors // jobs), 4)


def in_use() -> int:
    """Number of threads that `each` has here: 1 outside `at_most`, and inside a part."""
    return _count.get()


def each(task: Callable[[_Part], _Result], parts: Iterable[_Part]) -> list[_Result]:
    """Results of a task for each part, in order, whichever thread did it.

    Parameters
    ----------
    task : callable
        Sees the caller's context variables, among them numpy's treatment of errors. Gains nothing where it holds the
        interpreter's lock.
    parts : iterable
        What it is called with.

    Returns
    -------
    list

    Raises
    ------
    Exception
        That of the first part, in order, that raised one; the others have ended then.
    """
    pool = _pool.get()
    if pool is None:
        return [task(part) for part in parts]
    futures = [pool.submit(copy_context().run, _alone, task, part) for part in parts]
    try:
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()
        wait(futures)


def _alone(task: Callable[[_Part], _Result], part: _Part) -> _Result:
    """A part that waited for parts of its own could wait forever for a thread."""
    _pool.set(None)
    _count.set(1)
    return task(part)


def bands(length: int, size: int | None = None) -> list[slice]:
    """Consecutive parts of an axis.

    Parameters
    ----------
    length : int
        Of the axis.
    size : int, optional
        Of each part but the last, where results depend on where the cuts are. By default there are as many parts of one
        size as threads, at least one.

    Returns
    -------
    list of slice
    """
    size = size or max(1, -(-length // in_use()))
    return [slice(start, min(start + size, length)) for start in range(0, max(length, 1), size)]
