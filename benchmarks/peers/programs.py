"""Programs of Debian that are run beside ours: whether they are there, how they get there, what they cost."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

CLASSIC = ("source-extractor", "psfex", "scamp")  # programs, and the packages that hold them
CONFIG = Path(__file__).parent / "config"


class Clock:
    """CPU seconds, user and system, of a block and of the child processes that ended in it."""

    def __enter__(self) -> Clock:
        self._start = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = self._now() - self._start

    @staticmethod
    def _now() -> float:
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system


def missing(programs: tuple[str, ...] = CLASSIC) -> list[str]:
    """Those that the shell would not find."""
    return [program for program in programs if shutil.which(program) is None]


def require(programs: tuple[str, ...] = CLASSIC, *, install: bool = False) -> None:
    """End with a message where programs are missing and cannot or may not be installed.

    Parameters
    ----------
    programs : tuple of str
        Names, which are those of their Debian packages too.
    install : bool
        Install what is missing by ``apt-get``, which wants the rights of root.
    """
    absent = missing(programs)
    if not absent:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *absent]
    names, by_hand = ", ".join(absent), " ".join(command)
    if not install:
        raise SystemExit(f"not installed: {names}. On Debian and Ubuntu: --install, or as root: {by_hand}")
    if shutil.which("apt-get") is None:
        raise SystemExit(f"not installed: {names}, and there is no apt-get here: install them as this system does")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or missing(programs):
        raise SystemExit(f"{names} could not be installed (as root: {by_hand}):\n{done.stderr.strip()}")


def run(program: str, argument: str, folder: Path, options: dict[str, object]) -> float:
    """Run a program in a folder with its configuration of this package.

    Parameters
    ----------
    program : str
        Its name, which is that of the file in ``config`` too.
    argument : str
        The file that it works on.
    folder : Path
        Where.
    options : dict
        On its command line, over the configuration.

    Returns
    -------
    float
        CPU seconds.
    """
    command = [program, argument, "-c", str(CONFIG / f"{program}.conf")]
    for key, value in options.items():
        command += [f"-{key}", str(value)]
    with Clock() as clock:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr.strip()}")
    return clock.seconds
