"""The same input once more, with some changes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from service.jobs.errors import InvalidRequestError
from service.jobs.instruments import JOB_PARAMETER
from service.jobs.request import NO_REFERENCES, JobRequest
from service.jobs.webhooks import Callback
from service.storage.records import Phase

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.storage.records import JobRecord

__all__ = ["merged", "request_of", "rerun_request"]

#: Fields that a rerun replaces as they are; configuration, metadata and references are merged into the original's.
_REPLACED = {"preset", "instrument", "priority", "run_id", "destruction_days", "time_limit_s", "callback", "reuse"}
_MERGED = {"config", "metadata", "references"}


def rerun_request(job: JobRecord, changes: Mapping[str, Any]) -> JobRequest:
    """What a rerun of a job asks for.

    Parameters
    ----------
    job : JobRecord
        The job, in whatever phase.
    changes : mapping
        New values by field of `JobRequest`; ``config`` is merged over the original's branch by branch, ``metadata`` and
        ``references`` name by name, everything else replaces. The life of the results is that of any new job.

    Raises
    ------
    InvalidRequestError
        A field that a rerun cannot change.
    """
    for name in changes:
        if name not in _REPLACED | _MERGED:
            raise InvalidRequestError(name, "cannot be changed in a rerun: its input is that of the job")
    request = request_of(job)
    values = {name: value for name, value in changes.items() if name in _REPLACED}
    for name in _MERGED & changes.keys():
        values[name] = merged(getattr(request, name), changes[name])
    return replace(request, **values, rerun_of=job.id)


def request_of(job: JobRecord) -> JobRequest:
    """What a job was asked to do."""
    spec = job.spec
    callback = spec.get("callback")
    return JobRequest(
        exposures=tuple(given["id"] for given in spec["exposures"]),
        references={use: given["name"] if given else NO_REFERENCES for use, given in spec["references"].items()},
        preset=spec["preset"],
        config=spec["config"],
        metadata=spec["metadata"],
        priority=job.priority,
        run_id=job.run_id,
        time_limit_s=job.time_limit,
        companions={role: given["id"] for role, given in spec["companions"].items()},
        instrument=_named_instrument(spec["instrument"]),
        callback=Callback(callback["url"], tuple(map(Phase, callback["events"]))) if callback else None,
    )


def _named_instrument(kept: Mapping[str, Any]) -> str | None:
    """Preset that the job named; the one that its header chose is chosen anew."""
    return kept["name"] if kept["chosen_by"] == JOB_PARAMETER else None


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A tree of values with those of another one put over it; lists are replaced as a whole."""
    result = dict(base)
    for name, value in over.items():
        before = result.get(name)
        result[name] = merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return result


def news(over: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """What of a tree of values another one does not have already."""
    found = {}
    for name, value in over.items():
        before = base.get(name)
        new = news(value, before) if isinstance(before, dict) and isinstance(value, dict) else value
        if new != before and new != {}:
            found[name] = new
    return found
