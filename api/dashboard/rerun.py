"""A job once more with changes, from a form that the schema of the configuration makes."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from api.bodies import parse_json
from api.dashboard.config_form import changes, config_tree, counting, fields_of
from api.dashboard.route import page_router
from api.dashboard.templating import render
from api.dashboard.upload import choices
from api.dependencies import Job, JobId, Owner, Using, find_job
from api.problems import Problem, problem_of, things
from api.routers.config import get_config_schema
from api.routers.reruns import requested_changes
from api.schemas.reruns import RerunParameters
from api.submission import config_pointers
from api.uploads import read_small_body
from service.jobs.configuration import complete_config
from service.jobs.rerun import request_of, rerun_request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from api.dashboard.config_form import ConfigGroup
    from api.dependencies import Services
    from service.storage.records import JobRecord, Scope

__all__ = ["rerun_parameters", "router"]

router = page_router()

_MAX_FORM_BYTES = 1 << 20
_MAX_FIELDS = 2000
_CONFIG, _METADATA = "config.", "metadata."


@router.get("/jobs/{job_id}/rerun")
def show_rerun(request: Request, services: Using, owner: Owner, job: Job) -> Response:
    """The form, filled with what the run had."""
    return _page(request, services, owner, job, {})


@router.post("/jobs/{job_id}/rerun")
async def rerun(request: Request, services: Using, owner: Owner, job_id: JobId) -> Response:
    """Submit what the form asks for, and lead to the new job; faults are shown at their fields."""
    body = (await read_small_body(request, _MAX_FORM_BYTES)).decode("utf-8", "replace")
    # Of a box that is ticked the second value counts, the first says that it is there at all.
    try:
        given = dict(parse_qsl(body, keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except ValueError as error:
        raise Problem("request.malformed", f"The form cannot be read: {error}.") from error
    return await run_in_threadpool(_rerun, request, services, owner, job_id, given)


def _rerun(request: Request, services: Services, owner: Scope, job_id: str, given: Mapping[str, str]) -> Response:
    job = find_job(services, owner, job_id)
    try:
        config = _overrides(services, job, given)
        text = json.dumps(rerun_parameters(job, given, config)).encode()
        parameters = parse_json(text, RerunParameters, what="form")
        with config_pointers(config):
            again = rerun_request(job, requested_changes(parameters))
            new, _ = services.submissions.submit(owner, again, None)
    except Exception as error:
        problem = error if isinstance(error, Problem) else problem_of(error)
        if problem is None:
            raise
        return _page(request, services, owner, job, given, problem)
    if new.id == job.id:
        return _page(request, services, owner, job, given, is_same=True)
    return RedirectResponse(f"/jobs/{new.id}", HTTPStatus.SEE_OTHER)


def _overrides(services: Services, job: JobRecord, given: Mapping[str, str]) -> dict[str, Any]:
    config, faults = changes(_tree(services, job), _within(given, _CONFIG))
    if faults:
        errors = [{"pointer": _pointer(fault.path), "detail": fault.detail} for fault in faults]
        raise Problem("job.config_invalid", things(len(errors), "configuration"), errors=errors)
    return config


def rerun_parameters(job: JobRecord, given: Mapping[str, str], config: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a rerun from a filled form; what was left as it was is not said.

    Parameters
    ----------
    job : JobRecord
        The original.
    given : mapping of str to str
        Fields of the form.
    config : mapping
        Overrides that its configuration asks for.
    """
    before = request_of(job)
    metadata = {}
    for name, text in _within(given, _METADATA).items():
        if text.strip() != str(before.metadata.get(name, "")):
            metadata[name] = text.strip() or None
    references = {use: given[use] for use in ("astrometry", "photometry") if given.get(use)}
    document: dict[str, Any] = {"config": config, "metadata": metadata}
    if references:
        document["references"] = references
    document |= {name: given[name] for name in ("preset", "instrument") if given.get(name)}
    if "run_id" in given and given["run_id"].strip() != (job.run_id or ""):
        document["run_id"] = given["run_id"].strip() or None
    if "force" in given:
        document["force"] = True
    return document


def _within(given: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): text for name, text in given.items() if name.startswith(prefix)}


def _pointer(path: str) -> str:
    return "/config/" + path.replace(".", "/")


def _tree(services: Services, job: JobRecord) -> ConfigGroup:
    values = (
        services.storage.jobs.document(job, "config") or complete_config(job.spec["preset"], job.spec["config"]).values
    )
    return config_tree(get_config_schema(), values, complete_config("generic", {}).values)


def _page(
    request: Request,
    services: Services,
    owner: Scope,
    job: JobRecord,
    given: Mapping[str, str],
    problem: Problem | None = None,
    *,
    is_same: bool = False,
) -> Response:
    """The form as it was filled, with what is wrong at each field."""
    errors = {} if problem is None else {error.get("pointer", ""): error["detail"] for error in problem.errors}
    tree = _tree(services, job)
    keys = {_CONFIG + one.path: _CONFIG + one.key for one in counting(tree, _within(given, _CONFIG))}
    places = {pointer.lstrip("/").replace("/", "."): detail for pointer, detail in errors.items() if pointer}
    faults = {keys.get(place, place): detail for place, detail in places.items()}
    return render(
        request,
        "rerun.html",
        status=200 if problem is None else problem.kind.status,
        job=job,
        before=request_of(job),
        read=_read(services, job, owner),
        tree=tree,
        ids={_CONFIG + one.key: f"c{number}" for number, one in enumerate(fields_of(tree))},
        given=given,
        faults=faults,
        problem=None if problem is None else problem.document(),
        is_same=is_same,
        **choices(services, owner),
    )


def _read(services: Services, job: JobRecord, owner: Scope) -> dict[str, Any]:
    """Values that were read from the first file."""
    found = services.storage.exposures.get(owner, job.spec["exposures"][0]["id"])
    values: dict[str, Any] = {} if found is None else found.metadata.get("values", {})
    return values
