"""Where a result comes from: inputs, configuration, code, references, and the origin of every metadata value."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from service.jobs.configuration import digest
from service.jobs.nights import utc_of_mjd
from service.jobs.version import code_version, library_versions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from service.exposure.exposure import Exposure
    from service.formats import ReadResult
    from service.jobs.references import JobReference

__all__ = ["file_sha256", "identity", "input_documents", "provenance"]

_CHUNK_BYTES = 1 << 20


def provenance(
    inputs: Sequence[Mapping[str, Any]],
    read: Sequence[ReadResult],
    references: Mapping[str, JobReference | None],
    *,
    preset: str,
    config: Mapping[str, Any],
    instrument: Mapping[str, Any],
) -> dict[str, Any]:
    """The provenance document of a job.

    Parameters
    ----------
    inputs : sequence of mapping
        ``sha256`` and ``filename`` of each exposure.
    read : sequence of ReadResult
        What was read from each.
    references : mapping
        Catalogue by use; None where that fit was left out.
    preset : str
        Named set of values that the configuration started from.
    config : mapping
        Complete configuration.
    instrument : mapping
        ``name`` and ``sha256`` of the preset of the instrument, and what it was ``chosen_by``.

    Returns
    -------
    dict
        JSON values.
    """
    return {
        "code_version": code_version(),
        "libraries": library_versions(),
        "preset": preset,
        "instrument": {name: instrument[name] for name in ("name", "sha256", "chosen_by")},
        "config_sha256": digest(config),
        "references": {use: None if given is None else given.provenance() for use, given in references.items()},
        "inputs": input_documents(inputs, read),
    }


def input_documents(inputs: Sequence[Mapping[str, Any]], read: Sequence[ReadResult]) -> list[dict[str, Any]]:
    """What was read of each exposure: every value that was used, and where it comes from."""
    return [
        {
            "sha256": given["sha256"],
            "filename": given["filename"],
            "format": result.format,
            "metadata": {
                name: {"value": value, "origin": result.origins.get(name)} for name, value in result.values.items()
            },
        }
        for given, result in zip(inputs, read, strict=True)
    ]


def identity(exposure: Exposure) -> dict[str, Any]:
    """What an exposure is of and where it lies, for the summary table; None or NaN where unknown."""
    detector, box = exposure.detector, exposure.bbox
    observed_at = utc_of_mjd(exposure.visit_info.mjd_mid_tai)
    return {
        "instrument": exposure.visit_info.instrument,
        "band": exposure.filter.band,
        "physical_filter": exposure.filter.physical,
        "visit": exposure.visit_info.visit or None,
        "detector": None if detector is None else detector.id,
        "observed_at": None if observed_at is None else observed_at.isoformat(timespec="milliseconds"),
        "bbox_min_x": box.x0,
        "bbox_min_y": box.y0,
        "bbox_max_x": box.x1,
        "bbox_max_y": box.y1,
        "dark_time": exposure.visit_info.dark_time,
        "sky_rotation": exposure.visit_info.boresight_rotation,
    }


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    value = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            value.update(chunk)
    return value.hexdigest()
