"""Directories that dead attempts left behind."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from service.storage.records import Phase, Scope

if TYPE_CHECKING:
    from pathlib import Path

    from service.settings import Settings
    from service.storage import Storage

__all__ = ["attempt_directory", "clear_scratch"]

_OLD_SECONDS = 86_400.0


def attempt_directory(settings: Settings, job_id: str, attempt: int) -> Path:
    """Where an attempt writes everything before it is published."""
    return settings.scratch_dir.absolute() / f"{job_id}-{attempt}"


def clear_scratch(storage: Storage, settings: Settings) -> int:
    """Remove scratch directories whose attempt is over, and unfinished uploads of a day ago; how many."""
    removed = 0
    for path in settings.scratch_dir.glob("job_*-*"):
        job_id, _, attempt = path.name.rpartition("-")
        job = storage.jobs.get(Scope.everything(), job_id)
        if job is None or job.phase is not Phase.EXECUTING or str(job.attempt) != attempt:
            shutil.rmtree(path, ignore_errors=True)
            removed += 1
    old = time.time() - _OLD_SECONDS
    for path in (*settings.scratch_dir.glob("child-*.out"), *(settings.blob_dir / "incoming").glob("*")):
        with suppress(FileNotFoundError):  # another process may take its own file away meanwhile
            if path.stat().st_mtime < old:
                path.unlink()
                removed += 1
    return removed
