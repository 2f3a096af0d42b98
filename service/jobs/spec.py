"""What a child process is told about its job: values and paths, no database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.jobs.references import refcat_store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from service.settings import Settings
    from service.storage import Storage
    from service.storage.records import JobRecord

__all__ = ["child_spec"]


def child_spec(storage: Storage, settings: Settings, job: JobRecord, directory: Path) -> dict[str, Any]:
    """The specification of one attempt.

    Parameters
    ----------
    storage : Storage
        Has the inputs.
    settings : Settings
        Names the reference store and the limits.
    job : JobRecord
        The job.
    directory : Path
        Gets the inputs where they are not on disk here.

    Returns
    -------
    dict
        ``job_id``, ``exposures`` (id, sha256, filename, path), ``companions`` (path by role), ``references`` (name,
        sha256 and directory of the store by use), ``remote_refcats`` (declaration of each that is used), ``tile_dir``,
        ``config`` (complete), ``preset``, ``metadata`` (overrides), ``instrument``, ``max_pixels``,
        ``threads``.

    Raises
    ------
    NotFoundError
        The bytes of an exposure are gone.
    StorageUnavailableError
        The store does not answer now.
    """

    def path(sha256: str) -> str:
        return str(storage.blobs.fetch(sha256, directory))

    exposures = [{**exposure, "path": path(exposure["sha256"])} for exposure in job.spec["exposures"]]
    companions = {role: path(given["sha256"]) for role, given in job.spec["companions"].items()}
    references = {
        use: given if given is None else {**given, "dir": str(_store(settings, given))}
        for use, given in job.spec["references"].items()
    }
    remote = {given["name"] for given in references.values() if given is not None and given.get("remote")}
    return {
        "job_id": job.id,
        "exposures": exposures,
        "companions": companions,
        "references": references,
        # Of this worker's settings, not of those that the job was taken in with: where it may ask is said today.
        "remote_refcats": {
            name: declared.model_dump() for name, declared in settings.remote_refcats.items() if name in remote
        },
        "tile_dir": str(settings.tile_dir.absolute()),
        "config": storage.jobs.document(job, "config") or {},
        "preset": job.spec["preset"],
        "metadata": job.spec["metadata"],
        "instrument": job.spec["instrument"],
        "max_pixels": settings.max_pixels,
        "threads": settings.threads_of_a_job,
    }


def _store(settings: Settings, reference: Mapping[str, Any]) -> Path:
    """Directory of the catalogues among which one is."""
    return refcat_store(settings, reference.get("owner", settings.local_owner)).absolute()
