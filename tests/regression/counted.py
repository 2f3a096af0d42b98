"""Work that is counted, not timed: what a machine is busy with beside cannot change it."""

from __future__ import annotations

import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from numba.core.registry import CPUDispatcher

import service

_OURS = str(Path(service.__file__).parent)


@contextmanager
def kernel_calls() -> Iterator[Counter[str]]:
    """Calls of compiled kernels from Python, by module and name; kernels that call each other do not count."""
    calls: Counter[str] = Counter()
    call: Callable[..., Any] = CPUDispatcher.__call__

    def counting(kernel: CPUDispatcher, *arguments: Any, **options: Any) -> Any:
        calls[f"{kernel.py_func.__module__.rpartition('.')[2]}.{kernel.py_func.__name__}"] += 1
        return call(kernel, *arguments, **options)

    CPUDispatcher.__call__ = counting
    try:
        yield calls
    finally:
        del CPUDispatcher.__call__  # what it inherits comes to light again


class PlaneTracer:
    """Follows a calibration line by line of our own code, and its allocations of at least a byte for each pixel.

    What a line allocates at once is what the sum of allocated memory, of numpy and of compiled kernels, rises to above
    what it was when the line began; a temporary array counts although it is gone at the end of the line. The tracer is
    also the receiver of progress, which tells it what stage the lines belong to.

    Parameters
    ----------
    pixels : int
        Of a plane.

    Attributes
    ----------
    peaks : dict of str to float
        Most that was allocated at a time, by stage, in planes of float32.
    """

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self._stage, self._before = "", 0
        self._place = self.__enter__.__code__
        self._rises: Counter[tuple[str, CodeType]] = Counter()
        self.peaks: dict[str, float] = {}

    @property
    def allocated(self) -> dict[str, int]:
        """Bytes for each pixel that were allocated in all, by stage and function; 4 are a plane of float32."""
        return {
            f"{stage}: {Path(code.co_filename).stem}.{code.co_name}": number
            for (stage, code), number in self._rises.items()
        }

    def __enter__(self) -> PlaneTracer:
        tracemalloc.start()
        sys.settrace(self._look)
        return self

    def __exit__(self, *error: object) -> None:
        sys.settrace(None)
        tracemalloc.stop()

    def __call__(self, stage: str, fraction: float, numbers: dict[str, Any]) -> None:
        self._note()
        self._stage = stage

    def _look(self, frame: FrameType, event: str, argument: object) -> Any:
        self._note()
        here = frame.f_back if event == "return" and frame.f_back is not None else frame
        if here.f_code.co_filename.startswith(_OURS):
            self._place = here.f_code
        # what others do is part of the line that calls them
        return self._look if frame.f_code.co_filename.startswith(_OURS) else None

    def _note(self) -> None:
        now, peak = tracemalloc.get_traced_memory()
        rise = peak - self._before + self._pixels // 8  # in case that something small was freed meanwhile
        if rise >= self._pixels:
            self._rises[self._stage, self._place] += rise // self._pixels
        self.peaks[self._stage] = max(self.peaks.get(self._stage, 0.0), peak / (4 * self._pixels))
        tracemalloc.reset_peak()
        self._before = now
