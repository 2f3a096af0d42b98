"""Which files of a folder have landed: found by looking again and again, as network file systems tell nobody."""

from __future__ import annotations

import bz2
import fnmatch
import gzip
import os
import stat
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from visitcal.fits_headers import announced_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["PATTERNS", "Folder", "Sight"]

PATTERNS = tuple(f"*.{name}{packed}" for name in ("fits", "fit", "fts") for packed in ("", ".gz", ".bz2", ".fz"))
CHUNK = 1 << 20
#: How the images that jobs make begin: fetched into the folder, they would be calibrated again, and again.
PRODUCTS = "preliminary_visit_"


@dataclass(frozen=True)
class Sight:
    """How a file looked: another size or time of change is another exposure.

    Parameters
    ----------
    size : int
        Bytes.
    mtime_ns : int
        Time of its last change.
    """

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Sight:
        """From what the system says of a file."""
        return cls(status.st_size, status.st_mtime_ns)


class Folder:
    """Looks for files that have landed.

    A file has landed when it has looked the same for `settle` seconds and holds all that its headers announce: also one
    whose writer pauses is not taken for whole. One that was renamed into the folder is judged in the same way. Names
    that begin with a point are unfinished by custom. There are no circles: links to folders are not entered, and images
    that jobs made are passed over.

    Parameters
    ----------
    root : Path
        The folder.
    patterns : sequence of str
        File names, whatever the case of their letters.
    is_recursive : bool
        Whether folders inside are looked into.
    settle : float
        Seconds.
    clock : callable
        For tests.
    """

    def __init__(
        self,
        root: Path,
        patterns: Sequence[str] = PATTERNS,
        *,
        is_recursive: bool = False,
        settle: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._patterns = [pattern.lower() for pattern in patterns]
        self._is_recursive = is_recursive
        self._settle = settle
        self._clock = clock
        self._changing: dict[str, tuple[Sight, float]] = {}

    def files(self) -> dict[str, Sight]:
        """All files that match, by their path below the folder.

        Raises
        ------
        OSError
            The folder itself cannot be read.
        """
        return dict(self._files(self._root, ""))

    def landed(self, known: Callable[[str, Sight], bool]) -> dict[str, Sight]:
        """Those that have landed since the last look and are not known."""
        now, seen = self._clock(), self.files()
        self._changing = {name: kept for name, kept in self._changing.items() if name in seen}
        found = {}
        for name, sight in seen.items():
            if known(name, sight):
                self._changing.pop(name, None)
                continue
            before, since = self._changing.get(name, (None, now))
            if before != sight:
                since = now
            self._changing[name] = (sight, since)
            if now - since >= self._settle and is_whole(self._root / name, sight):
                found[name] = sight
        return found

    def _files(self, directory: Path, prefix: str) -> Iterator[tuple[str, Sight]]:
        with os.scandir(directory) as entries:
            for entry in sorted(entries, key=lambda one: one.name):
                if entry.name.startswith("."):
                    continue
                try:
                    if self._is_recursive and entry.is_dir(follow_symlinks=False):
                        yield from self._files(Path(entry.path), f"{prefix}{entry.name}/")
                    elif self._matches(entry.name):
                        status = entry.stat()
                        if stat.S_ISREG(status.st_mode) and status.st_size:
                            yield f"{prefix}{entry.name}", Sight.of(status)
                except OSError:
                    continue  # gone between two looks, or a folder that we may not read

    def _matches(self, name: str) -> bool:
        return not name.startswith(PRODUCTS) and any(
            fnmatch.fnmatchcase(name.lower(), pattern) for pattern in self._patterns
        )


def is_whole(path: Path, sight: Sight) -> bool:
    """Whether a file is as it was seen, and holds all that it announces.

    It is opened for that: network file systems are bound to tell the truth about a file's length then, not before.
    """
    try:
        with path.open("rb") as file:
            if Sight.of(os.fstat(file.fileno())) != sight:
                return False
            first = file.read(3)
        if first.startswith(b"\x1f\x8b"):
            return _reads_to_its_end(path, gzip.open)
        if first == b"BZh":
            return _reads_to_its_end(path, bz2.open)
        announced = announced_bytes(path)
    except OSError:
        return False
    return announced is None or announced <= sight.size


def _reads_to_its_end(path: Path, opener: Callable[..., object]) -> bool:
    try:
        with opener(path, "rb") as file:  # type: ignore[attr-defined]
            while file.read(CHUNK):
                pass
    except (EOFError, OSError, zlib.error):
        return False
    return True
