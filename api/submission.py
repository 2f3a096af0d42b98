"""Reading a request for a job: JSON, or a form with the files in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from api.problems import Problem
from api.routers.exposures import receive_files
from api.schemas.jobs import JobParameters
from api.uploads import read_small_body
from service.jobs.submission import JobRequest

if TYPE_CHECKING:
    from starlette.requests import Request

    from api.dependencies import Services
    from service.storage.records import JobRecord, Scope

__all__ = ["read_parameters", "submit"]

MAX_PARAMETERS_BYTES = 1 << 20
MAX_SNAPS = 2
MAX_KEY = 200


async def read_parameters(request: Request, services: Services, owner: Scope) -> JobParameters:
    """What the request asks for, with its files stored.

    Raises
    ------
    Problem
        Unreadable, too large, or of another kind.
    RequestValidationError
        Does not fit the interface.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "application/json":
        return _parsed(await read_small_body(request, MAX_PARAMETERS_BYTES))
    if kind != "multipart/form-data":
        raise Problem("request.unsupported_media_type", "A job is application/json or multipart/form-data.")
    received = await receive_files(request, services, owner, max_files=MAX_SNAPS)
    unknown = sorted(set(received.fields) - {"parameters"})
    if unknown:
        errors = [{"parameter": name, "detail": "is not known here", "code": "form"} for name in unknown]
        raise Problem("request.invalid", "The form has fields besides `file` and `parameters`.", errors=errors)
    parameters = _parsed(received.fields.get("parameters", "{}").encode())
    if not received.records:
        return parameters
    if parameters.exposures:
        raise Problem(
            "request.invalid",
            "Exposures come as files or by name, not both.",
            errors=[{"pointer": "/exposures", "detail": "must be absent beside files", "code": "conflict"}],
        )
    return parameters.model_copy(update={"exposures": [record.id for record, _ in received.records]})


def _parsed(text: bytes) -> JobParameters:
    try:
        return JobParameters.model_validate_json(text)
    except ValidationError as error:
        places = [{**item, "loc": ("body", *item["loc"])} for item in error.errors(include_url=False)]
        raise RequestValidationError(places) from None


async def submit(
    services: Services, owner: Scope, parameters: JobParameters, key: str | None
) -> tuple[JobRecord, bool]:
    """Put a job into the queue.

    Returns
    -------
    JobRecord, bool
        The job, and whether it is new (not so for a repeated idempotency key).

    Raises
    ------
    Problem
        ``request.invalid``; what the service refuses is raised as its own errors, which `api.problems` answers.
    """
    if not parameters.exposures:
        raise Problem(
            "request.invalid",
            "A job needs an exposure.",
            errors=[{"pointer": "/exposures", "detail": "must name one exposure, or two snaps", "code": "missing"}],
        )
    if key is not None and not 0 < len(key) <= MAX_KEY:
        raise Problem("request.invalid", f"Idempotency-Key must have 1 to {MAX_KEY} characters.")
    request = JobRequest(
        exposures=tuple(parameters.exposures),
        references=parameters.reference_names,
        preset=parameters.preset,
        config=parameters.config,
        metadata=parameters.metadata,
        priority=parameters.priority,
        run_id=parameters.run_id,
        destruction_days=parameters.destruction_days,
        time_limit_s=parameters.time_limit_s,
    )
    return await run_in_threadpool(services.submissions.submit, owner, request, key)
