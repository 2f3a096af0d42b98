"""What can be done with a job that is there: run it once more with changes, let its results live longer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from starlette.concurrency import run_in_threadpool

from api.bodies import read_json
from api.dependencies import JobId, Owner, Reach, Using, find_job
from api.job_documents import full_document, job_etag
from api.problems import Problem
from api.responses import problems
from api.routers.jobs import SAME_JOB
from api.schemas.jobs import JobDocument, callback_in_full, duration_days
from api.schemas.reruns import JobChanges, RerunParameters, destruction_of
from api.submission import callback_of, check_key, checked_metadata, config_pointers, submitted
from service.jobs.rerun import rerun_request
from service.jobs.retention import change_destruction

if TYPE_CHECKING:
    from service.storage.records import JobRecord

__all__ = ["BODIES", "requested_changes", "router"]

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

#: Models of bodies that are read by hand, for the OpenAPI document.
BODIES = (RerunParameters, JobChanges)
_VERSION = re.compile(r'(?:W/)?"([0-9]{1,9})"')


def _body(model: type[Any]) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.post(
    "/{job_id}/rerun",
    status_code=202,
    response_model=JobDocument,
    openapi_extra=_body(RerunParameters),
    responses={200: {"model": JobDocument, "description": SAME_JOB}, **problems(400, 404, 409, 413, 415, 422, 429)},
)
async def rerun_job(
    request: Request,
    services: Using,
    owner: Owner,
    job_id: JobId,
    idempotency_key: Annotated[str | None, Header(description="The same key again gives the same job.")] = None,
) -> Response:
    """A new job with the input of this one, in whatever phase it is, and some changes; `{}` changes nothing."""
    parameters = await read_json(request, RerunParameters, what="parameters")
    check_key(idempotency_key)
    changes = requested_changes(parameters)

    def resubmit() -> Response:
        again = rerun_request(find_job(services, owner, job_id), changes)
        job, created = services.submissions.submit(owner, again, idempotency_key)
        return submitted(services, job, created=created, reuse=again.reuse)

    with config_pointers(parameters.config):
        return await run_in_threadpool(resubmit)


def requested_changes(parameters: RerunParameters) -> dict[str, Any]:
    """New values by field of a request (`service.jobs.rerun.rerun_request`); what is not named stays as it was.

    Raises
    ------
    Problem
        ``request.invalid``: metadata that cannot be.
    """
    given = parameters.model_fields_set
    changes: dict[str, Any] = {"reuse": not parameters.force, "config": parameters.config}
    changes["metadata"] = checked_metadata(parameters.metadata)
    references = parameters.references
    if isinstance(references, str):
        changes["references"] = {"astrometry": references, "photometry": references}
    elif references is not None:
        changes["references"] = references.model_dump(exclude_none=True)
    for name in ("preset", "instrument", "priority", "time_limit_s"):
        if getattr(parameters, name) is not None:
            changes[name] = getattr(parameters, name)
    if parameters.destruction is not None:
        changes["destruction_days"] = duration_days(parameters.destruction)
    if "run_id" in given:
        changes["run_id"] = parameters.run_id
    if "callback" in given:
        changes["callback"] = callback_of(callback_in_full(parameters.callback))
    return changes


@router.patch("/{job_id}", openapi_extra=_body(JobChanges), responses=problems(400, 404, 410, 412, 413, 415, 422))
async def change_job(
    request: Request,
    response: Response,
    services: Using,
    owner: Reach,
    job_id: JobId,
    if_match: Annotated[str | None, Header(description="ETag of the job as known; else whatever it is.")] = None,
) -> JobDocument:
    """Let the results of a job live longer or shorter. A job that is at work is left to end first."""
    changes = await read_json(request, JobChanges, what="changes")
    wanted = None if changes.destruction is None else destruction_of(changes.destruction)
    version = _known_version(if_match)

    def change() -> JobRecord:
        return change_destruction(services.storage, services.settings, owner, job_id, wanted, version)

    job = await run_in_threadpool(change)
    response.headers["ETag"] = job_etag(job)
    return await run_in_threadpool(full_document, services, job)


def _known_version(header: str | None) -> int | None:
    if header is None or header.strip() == "*":
        return None
    match = _VERSION.fullmatch(header.strip())
    if match is None:
        raise Problem("precondition.failed", "If-Match is not the ETag of a job.")
    return int(match[1])
