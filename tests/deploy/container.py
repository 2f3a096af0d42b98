"""Runs what a container would run, as a plain process, shut in where the machine lets it.

In a mount namespace of its own the root file system is read-only but for the directories that stand for `/data` and
`/tmp`, and the process is the user of the image. It may still read everything: the tests' Python may be in a home.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.deploy.image import REPO, Image

_READ = "-all,+dac_read_search"
_SCRIPT = """
for directory; do
    shift
    test "$directory" = -- && break
    mount --bind "$directory" "$directory"
done
mount -o remount,ro,bind /
exec "$@"
"""


def shut_in(user: str, *writable: Path) -> list[str]:
    """Words before a command that shut it in."""
    uid, gid = user.split(":")
    who = ["setpriv", "--reuid", uid, "--regid", gid, "--clear-groups", "--no-new-privs"]
    who += ["--bounding-set", _READ, "--inh-caps", _READ, "--ambient-caps", _READ]
    return ["unshare", "--mount", "sh", "-euc", _SCRIPT, "sh", *map(str, writable), "--", *who]


@cache
def can_shut_in() -> bool:
    """Whether this machine lets the tests do so; not without root, nor in most containers."""
    try:
        done = subprocess.run(
            [*shut_in("10001:10001"), "sh", "-c", f"! touch {REPO}/file"], capture_output=True, check=False
        )
    except OSError:
        return False
    return done.returncode == 0


@dataclass
class Container:
    """A container of an image.

    Parameters
    ----------
    image : Image
        What it runs.
    variables : dict
        What the compose file gives it, and what stands for it here.
    root : Path
        Directory of what it may write.
    volumes : dict
        Directories that it shares with others, by their places below `/data`.
    """

    image: Image
    variables: dict[str, str]
    root: Path
    volumes: dict[str, Path]

    def __post_init__(self) -> None:
        for directory in self._writable:
            directory.mkdir(parents=True, exist_ok=True)
            if can_shut_in():
                os.chown(directory, *map(int, self.image.user.split(":")))
        for name, volume in self.volumes.items():
            if not (self.root / "data" / name).is_symlink():
                (self.root / "data" / name).symlink_to(volume)

    @property
    def _writable(self) -> list[Path]:
        return [self.root / "data", self.root / "tmp", *self.volumes.values()]

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the tests' own; paths of the image are those of this container."""
        ours = {name: self._here(value) for name, value in self.image.environment.items() if name != "PATH"}
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        return ours | {"PATH": path} | self.variables

    def _here(self, path: str) -> str:
        first, *rest = path.removeprefix("/").split("/")
        return str(self.root.joinpath(first, *rest)) if path.startswith(("/data", "/tmp")) else path

    def start(self, *command: str, **options: object) -> subprocess.Popen[str]:
        """Start its entrypoint with a command, the image's own where none is given."""
        return self._popen([*self.image.entrypoint, *(command or self.image.command)], **options)

    def is_healthy(self) -> bool:
        """What its health check says."""
        return self._popen(self.image.healthcheck, stderr=subprocess.DEVNULL).wait(30) == 0

    def _popen(self, command: list[str], **options: object) -> subprocess.Popen[str]:
        before = shut_in(self.image.user, *self._writable) if can_shut_in() else []
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
            [*before, *command], env=self.environment, cwd=self.root / "data", text=True, **options
        )
