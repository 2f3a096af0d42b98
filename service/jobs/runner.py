"""A warm child process that can be killed: cancel, time limit and memory limit are real."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from service.jobs.kernel_cache import kernel_environment
from service.jobs.outcome import JobError, JobOutcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.settings import Settings

__all__ = [
    "Child",
    "ChildResult",
    "ChildStartError",
    "Died",
    "Finished",
    "OutOfMemory",
    "Spawner",
    "Stopped",
    "TimedOut",
    "Transient",
]

_POLL = 0.1
_MEMORY_LOOK = 0.5
_TAIL_BYTES = 2000


class ChildStartError(Exception):
    """A child process did not become ready."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The task ended by itself."""

    outcome: JobOutcome


@dataclass(frozen=True, slots=True)
class Transient:
    """The machine failed it: no space, a bad disk; ``error`` is what the job ends in where it goes on so, if known."""

    message: str
    error: JobError | None = None


@dataclass(frozen=True, slots=True)
class Died:
    """The process died; ``reason`` names the signal or exit code, and the last words."""

    reason: str


@dataclass(frozen=True, slots=True)
class TimedOut:
    """Killed at its time limit."""

    seconds: float


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """Ended at its memory limit."""

    limit_bytes: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """Killed because the caller said so."""

    reason: str


ChildResult = Finished | Transient | Died | TimedOut | OutOfMemory | Stopped


class Spawner:
    """Starts child processes from one thread that lives as long as the worker.

    The kernel's parent-death signal follows the *thread* that started the process: children started from a thread of
    a pool would be killed as the pool lets that thread go.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, "spawner")

    def start(self, stopping: threading.Event) -> Child:
        """A child that is ready to run.

        Raises
        ------
        ChildStartError
            It ended, took too long, or ``stopping`` was set meanwhile.
        """
        child = self._thread.submit(Child, self._settings).result()
        child.wait_ready(self._settings.child_start_timeout, stopping)
        return child

    def close(self) -> None:
        """End the thread, and with it all children."""
        self._thread.shutdown()


class Child:
    """One child process and the pipes to it.

    Parameters
    ----------
    settings : Settings
        Task, threads, directories.
    """

    def __init__(self, settings: Settings) -> None:
        command_read, self._command_write = os.pipe()
        self._report_read, report_write = os.pipe()
        settings.scratch_dir.mkdir(parents=True, exist_ok=True)
        self._words = settings.scratch_dir / f"child-{os.getpid()}-{time.monotonic_ns()}.out"
        arguments = [settings.task, str(command_read), str(report_write), str(os.getpid())]
        with self._words.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "service.jobs.child", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(command_read, report_write),
                start_new_session=True,
                env=_environment(settings),
            )
        os.close(command_read)
        os.close(report_write)
        os.set_blocking(self._report_read, False)
        self._buffer = b""
        self.jobs = 0

    @property
    def pid(self) -> int:
        """Process id; also the id of its process group."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def resident_bytes(self) -> int:
        """Resident memory of the process and its descendants; 0 where it is gone."""
        try:
            process = psutil.Process(self.pid)
            members = [process, *process.children(recursive=True)]
            return sum(int(member.memory_info().rss) for member in members)
        except psutil.Error:
            return 0

    def wait_ready(self, timeout: float, stopping: threading.Event) -> None:
        """Wait for the end of the warm-up.

        Raises
        ------
        ChildStartError
            The child ended, took too long, or ``stopping`` was set; it is dead then.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and not stopping.is_set():
            if any(message["kind"] == "ready" for message in self._messages(_POLL)):
                return
            if not self.alive:
                reason = self._last_words()
                self.kill()
                raise ChildStartError(f"the child process ended while starting: {reason}")
        self.kill()
        why = "the worker stops" if stopping.is_set() else f"it was not ready after {timeout:g} s"
        raise ChildStartError(f"no child process: {why}")

    def run(
        self,
        spec: dict[str, Any],
        directory: Path,
        *,
        time_limit: float,
        memory_limit_bytes: int,
        on_message: Callable[[dict[str, Any]], None],
        stop_reason: Callable[[], str | None],
    ) -> ChildResult:
        """Run one task to its end, whatever that is; afterwards the child lives only if the task `Finished`.

        Parameters
        ----------
        spec : dict
            Given to the task.
        directory : Path
            Given to the task.
        time_limit : float
            Seconds until it is killed.
        memory_limit_bytes : int
            Memory beyond that of the idle process, until it is killed.
        on_message : callable
            Takes progress and log messages.
        stop_reason : callable
            Asked several times a second; the child is killed as soon as the answer is not None.

        Returns
        -------
        ChildResult
            What happened.
        """
        command = {"spec": spec, "directory": str(directory), "memory_limit_bytes": memory_limit_bytes}
        resident_limit = self.resident_bytes() + memory_limit_bytes
        deadline = time.monotonic() + time_limit
        next_memory_look = time.monotonic() + _MEMORY_LOOK
        self.jobs += 1
        try:
            _write_all(self._command_write, (json.dumps(command) + "\n").encode())
        except BrokenPipeError:
            return self._died()
        while True:
            alive = self.alive  # asked before reading: what a dead child wrote is read once more, completely
            for message in self._messages(_POLL):
                result = _result(message, memory_limit_bytes)
                if result is not None:
                    return self._settled(result)
                on_message(message)
            if not alive:
                return self._died()
            if (reason := stop_reason()) is not None:
                return self._killed(Stopped(reason))
            now = time.monotonic()
            if now > deadline:
                return self._killed(TimedOut(time_limit))
            if now > next_memory_look:
                next_memory_look = now + _MEMORY_LOOK
                if self.resident_bytes() > resident_limit:
                    return self._killed(OutOfMemory(memory_limit_bytes))

    def kill(self) -> None:
        """End the whole process group at once."""
        if self._report_read < 0:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._command_write)
        os.close(self._report_read)
        self._command_write = self._report_read = -1
        self._words.unlink(missing_ok=True)

    def _messages(self, timeout: float) -> list[dict[str, Any]]:
        readable, _, _ = select.select([self._report_read], [], [], timeout)
        if readable:
            while chunk := _read_some(self._report_read):
                self._buffer += chunk
        *lines, self._buffer = self._buffer.split(b"\n")
        return [json.loads(line) for line in lines]

    def _settled(self, result: ChildResult) -> ChildResult:
        # Only after a normal end is the state of the process known well enough to use it again.
        return result if isinstance(result, Finished) else self._killed(result)

    def _killed(self, result: ChildResult) -> ChildResult:
        self.kill()
        return result

    def _died(self) -> ChildResult:
        self._process.wait()
        code = self._process.returncode
        what = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
        words = self._last_words()
        self.kill()
        return Died(f"{what}: {words}" if words else what)

    def _last_words(self) -> str:
        try:
            return self._words.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
        except OSError:
            return ""


def _result(message: dict[str, Any], memory_limit_bytes: int) -> ChildResult | None:
    kind: str = message["kind"]
    match kind:
        case "outcome":
            return Finished(JobOutcome.from_json(message["outcome"]))
        case "transient":
            error = message.get("error")
            return Transient(message["message"], JobError(**error) if error else None)
        case "memory":
            return OutOfMemory(memory_limit_bytes)
        case _:
            return None


def _read_some(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return b""


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _environment(settings: Settings) -> dict[str, str]:
    """The parent's environment less its secrets, and no threads but those of `service.threads`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VISITCAL_", "AWS_"))}
    names = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return kept | dict.fromkeys(names, "1") | kernel_environment(settings)
