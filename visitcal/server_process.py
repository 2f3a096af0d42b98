"""A service of one's own: started on a free port, stopped with the block."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from typing import IO, TYPE_CHECKING

from visitcal.errors import VisitcalError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

__all__ = ["ServerDidNotStartError", "ServerProcess"]

READY_LINE = re.compile(r"visitcal listens on (\S+)")
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 40.0


class ServerDidNotStartError(VisitcalError):
    """`visitcal serve` ended, or said nothing, instead of listening."""


class ServerProcess:
    """`visitcal serve` as a child process.

    Parameters
    ----------
    data_dir : Path
        Where it keeps everything.
    log : Path
        File that takes what it writes on standard error.
    arguments : sequence of str
        Further arguments.
    environment : mapping, optional
        Variables besides those of this process.

    Attributes
    ----------
    url : str
        Where it listens, once started.
    """

    def __init__(
        self, data_dir: Path, log: Path, arguments: tuple[str, ...] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        self._command = [sys.executable, "-m", "visitcal.cli", "serve", "--data-dir", str(data_dir), *arguments]
        self._environment = {**os.environ, **(environment or {})}
        self._log = log
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> ServerProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._running().pid

    def start(self) -> None:
        """Start it and wait until it listens.

        Raises
        ------
        ServerDidNotStartError
            It ended, or did not come up in time; the message has the end of its log.
        """
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [*self._command, "--port", "0"],
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                text=True,
                start_new_session=True,  # an interrupt from the keyboard is ours to pass on
            )
        try:
            self.url = self._ready_url()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> int | None:
        """End it as an operator would (SIGTERM) and wait.

        Returns
        -------
        int or None
            Its exit code; None if it never ran.
        """
        if self._process is None:
            return None
        process, self._process = self._process, None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.stdout is not None:
            process.stdout.close()
        return process.returncode

    def kill(self) -> None:
        """End it without warning (SIGKILL), as a crash would."""
        process = self._running()
        process.kill()
        process.wait()

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise VisitcalError("the server does not run")
        return self._process

    def _ready_url(self) -> str:
        process = self._running()
        assert process.stdout is not None  # noqa: S101 - it was opened as a pipe
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=_copy_lines, args=(process.stdout, lines), daemon=True).start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while (left := deadline - time.monotonic()) > 0:
            try:
                line = lines.get(timeout=left)
            except queue.Empty:
                break
            if line is None:
                break
            if match := READY_LINE.match(line):
                return match[1]
        raise ServerDidNotStartError(f"visitcal serve does not listen; its log ends:\n{self._log_end()}")

    def _log_end(self) -> str:
        return self._log.read_bytes()[-3000:].decode(errors="replace")


def _copy_lines(stream: IO[str], lines: queue.SimpleQueue[str | None]) -> None:
    """Read to the end, so that the process never waits for a reader."""
    try:
        for line in stream:
            lines.put(line)
    except ValueError:
        pass  # closed while we waited
    lines.put(None)
