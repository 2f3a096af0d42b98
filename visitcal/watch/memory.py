"""What was sent, in a small database that outlives the program; one program at a time may have it."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from visitcal.options import OptionError

if TYPE_CHECKING:
    from types import TracebackType

    from visitcal.watch.folder import Sight

__all__ = ["Memory", "default_path"]

_TABLE = """
create table if not exists files (
    name blob primary key, size integer not null, mtime_ns integer not null, job_id text, phase text
)
"""


def default_path(folder: Path) -> Path:
    """A file for each folder, outside of it: folders of observatories are often for reading only."""
    base = os.environ.get("XDG_STATE_HOME")
    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    return (Path(base) if base else Path.home() / ".local" / "state") / "visitcal" / f"watch-{digest}.sqlite"


class Memory:
    """Files that were sent, refused, or left alone; names are kept as bytes, as not all of them are text.

    Parameters
    ----------
    path : Path
        The database; made where it is missing.

    Raises
    ------
    OptionError
        Another program has it, or it is something else.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.is_new = not path.exists()
        self._database = sqlite3.connect(path, timeout=0.5, isolation_level=None)
        try:
            self._database.execute("pragma locking_mode = exclusive")
            self._database.execute("begin immediate")
            self._database.execute(_TABLE)
            self._database.execute("commit")
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise OptionError(f"{path}: {error}: does another visitcal watch have this folder?") from error

    def __enter__(self) -> Memory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._database.close()

    def knows(self, name: str, sight: Sight) -> bool:
        """Whether a file was seen to, as it looks now."""
        found = self._database.execute(
            "select size, mtime_ns from files where name = ?", (os.fsencode(name),)
        ).fetchone()
        return bool(found == (sight.size, sight.mtime_ns))

    def keep(self, name: str, sight: Sight, job_id: str | None = None) -> None:
        """Remember a file: with its job, or as one that gets none."""
        self._database.execute(
            "insert or replace into files values (?, ?, ?, ?, ?)",
            (os.fsencode(name), sight.size, sight.mtime_ns, job_id, None if job_id is None else "QUEUED"),
        )

    def ended(self, name: str, phase: str) -> None:
        """Remember how a job ended."""
        self._database.execute("update files set phase = ? where name = ?", (phase, os.fsencode(name)))

    def at_work(self) -> dict[str, str]:
        """Jobs whose end is not known yet, by file."""
        found = self._database.execute("select name, job_id from files where phase = 'QUEUED' order by name")
        return {os.fsdecode(name): job_id for name, job_id in found}
