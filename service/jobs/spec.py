"""What a child process is told about its job: values and paths, no database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.settings import Settings
    from service.storage import Storage
    from service.storage.records import JobRecord

__all__ = ["child_spec"]


def child_spec(storage: Storage, settings: Settings, job: JobRecord) -> dict[str, Any]:
    """The specification of one attempt.

    Parameters
    ----------
    storage : Storage
        Has the inputs.
    settings : Settings
        Names the reference store and the limits.
    job : JobRecord
        The job.

    Returns
    -------
    dict
        ``job_id``, ``exposures`` (id, sha256, filename, path), ``companions`` (path by role), ``references`` (name and
        sha256 by use), ``refcat_dir``, ``config`` (complete), ``preset``, ``metadata`` (overrides), ``max_pixels``.

    Raises
    ------
    NotFoundError
        The bytes of an exposure are gone.
    """
    exposures = [
        {**exposure, "path": str(storage.blobs.path(exposure["sha256"]))} for exposure in job.spec["exposures"]
    ]
    companions = {role: str(storage.blobs.path(given["sha256"])) for role, given in job.spec["companions"].items()}
    return {
        "job_id": job.id,
        "exposures": exposures,
        "companions": companions,
        "references": job.spec["references"],
        "refcat_dir": str(settings.refcat_dir.absolute()),
        "config": storage.jobs.document(job, "config") or {},
        "preset": job.spec["preset"],
        "metadata": job.spec["metadata"],
        "max_pixels": settings.max_pixels,
    }
