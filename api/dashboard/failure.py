"""Why a job failed: the numbers that decided it, the picture that shows it, and one button to try again."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from api.dashboard.failure_pictures import Picture, field_picture, picture_of
from api.dashboard.failure_words import LIMITS, NUMBERS, Bound, Reason, reason_of
from api.dashboard.route import page_router
from api.dashboard.templating import render
from api.dependencies import Job, JobId, Owner, Using, find_job
from api.job_documents import full_document
from api.problems import Problem
from service.jobs.rerun import rerun_request
from service.storage.records import Scope

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from api.dependencies import Services
    from service.storage.records import JobRecord

__all__ = ["Change", "Fact", "Failure", "Trial", "explain", "router"]

router = page_router()

#: Failures that may not come again with nothing changed.
_MAY_PASS = {"references.unreachable", "job.process_died", "job.disk_full", "service.fault"}
_LONGER = 4.0


@dataclass(frozen=True, slots=True)
class Fact:
    """A number of the error in words.

    Parameters
    ----------
    name : str
        As the error has it.
    label, unit : str
        What it is.
    value : float, int or str
        The number.
    limit : str
        What it had to be, ``at least 10``; empty where that is not known.
    setting : str
        Path of the setting that chooses the limit.
    is_broken : bool
        Whether the limit was broken.
    """

    name: str
    label: str
    value: Any
    unit: str = ""
    limit: str = ""
    setting: str = ""
    is_broken: bool = False

    @property
    def is_further(self) -> bool:
        """Whether it is of the search that is tried when all else has failed: shown on demand."""
        return self.name.startswith("wide")


@dataclass(frozen=True, slots=True)
class Change:
    """A setting that is suggested: its path, the value that the run had, and the new one."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Trial:
    """What the button does: its label, and the changes of `service.jobs.rerun.rerun_request`."""

    label: str
    changes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """All that the page says of a failed job.

    Parameters
    ----------
    reason : Reason
        In plain words.
    facts : list of Fact
        Numbers, those that broke a limit first.
    picture : Picture or None
        What shows it.
    changes : list of Change
        The suggestion.
    trial : Trial or None
        What the button does; None where nothing promises anything.
    cards : dict
        Values that were read from the file, where the file is what failed.
    """

    reason: Reason
    facts: list[Fact]
    picture: Picture | None
    changes: list[Change]
    trial: Trial | None
    cards: dict[str, Any]


@router.post("/jobs/{job_id}/retry")
def retry(services: Using, owner: Owner, job_id: JobId) -> Response:
    """Run a failed job once more as its error suggests, and lead to the new job; a second press leads there too."""
    job = find_job(services, owner, job_id)
    trial = _trial(job)
    if trial is None:
        return RedirectResponse(f"/jobs/{job.id}/rerun", HTTPStatus.SEE_OTHER)
    again = rerun_request(job, trial.changes)
    new, _ = services.submissions.submit(owner, again, f"retry:{job.id}:{job.version}")
    return RedirectResponse(f"/jobs/{new.id}", HTTPStatus.SEE_OTHER)


@router.get("/parts/jobs/{job_id}/failure")
def show_failure(request: Request, services: Using, job: Job) -> Response:
    """Why a job failed, alone."""
    if job.error is None:
        raise Problem("route.not_found", f"Job {job.id} has not failed.")
    document = full_document(services, job)
    return render(request, "parts/failure.html", job=document, error=document.error, failure=explain(services, job))


@router.get("/parts/jobs/{job_id}/field")
async def show_field(request: Request, services: Using, job: Job) -> Response:
    """What was found on the image, and where the references should be."""
    field = await services.images.build(lambda: field_picture(services, job))  # it reads the whole exposure
    return render(request, "parts/failure_field.html", field=field, job_id=job.id)


def explain(services: Services, job: JobRecord) -> Failure:
    """What is known of the failure of a job.

    Parameters
    ----------
    services : Services
        Have the documents and products of the job.
    job : JobRecord
        A job with an error.
    """
    error = job.error or {}
    config = services.storage.jobs.document(job, "config") or {}
    code, numbers = error.get("code", ""), error.get("numbers") or {}
    reason = reason_of(code)
    return Failure(
        reason=reason,
        facts=sorted(_facts(code, numbers, config), key=lambda fact: not fact.is_broken),
        picture=picture_of(services, job, reason.picture),
        changes=[Change(path, _at(config, path), value) for path, value in _flat(error.get("suggested_config") or {})],
        trial=_trial(job),
        cards=_cards(services, job) if reason.picture == "headers" else {},
    )


def _trial(job: JobRecord) -> Trial | None:
    error = job.error or {}
    if error.get("suggested_config"):
        return Trial("Try with these settings", {"config": error["suggested_config"]})
    if error.get("code") == "job.time_limit":
        longer = round(_LONGER * job.time_limit)
        return Trial(f"Try with {_LONGER:g} times as long", {"time_limit_s": max(longer, 1)})
    return Trial("Try again", {}) if error.get("code") in _MAY_PASS else None


def _facts(code: str, numbers: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[Fact]:
    bounds = {name: LIMITS[code, name] for name in numbers if (code, name) in LIMITS}
    limiting = {bound.number for bound in bounds.values()}
    for name, value in numbers.items():
        if name in limiting:
            continue
        label, unit = NUMBERS.get(name, (name.replace("_", " "), ""))
        yield _judged(Fact(name, label, value, unit), bounds.get(name), numbers, config)


def _judged(fact: Fact, bound: Bound | None, numbers: Mapping[str, Any], config: Mapping[str, Any]) -> Fact:
    """The number with its limit, where one is known."""
    limit = None if bound is None else (numbers.get(bound.number) if bound.number else bound.value)
    if bound is not None and limit is None and bound.setting:
        limit = _at(config, bound.setting)
    if bound is None or not _is_number(limit) or not _is_number(fact.value):
        return fact
    value = fact.value
    holds = {
        "at least": value >= limit,
        "more than": value > limit,
        "at most": value <= limit,
        "less than": value < limit,
    }
    return Fact(
        fact.name,
        fact.label,
        value,
        fact.unit,
        f"{bound.relation} {limit:g}",
        bound.setting,
        is_broken=not holds[bound.relation],
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _at(config: Mapping[str, Any], path: str) -> Any:
    """A value of the configuration that the run had; None where it had none."""
    value: Any = config
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _cards(services: Services, job: JobRecord) -> dict[str, Any]:
    """What was read of the first file when it came."""
    exposures = services.storage.exposures
    found = exposures.get(Scope(job.owner), job.spec["exposures"][0]["id"])
    return {} if found is None else {**found.metadata.get("cards", {}), **found.metadata.get("values", {})}
