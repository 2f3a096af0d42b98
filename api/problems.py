"""Errors as RFC 9457 problem documents: the one place where an exception becomes an answer."""

from __future__ import annotations

import errno
import logging
import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from api.json import finite
from api.problem_types import PROBLEM_TYPES
from service.identity.errors import AuthenticationError, IssuerUnavailableError, TooManyFailuresError
from service.jobs.errors import (
    AlreadyStartedError,
    IdempotencyMismatchError,
    InvalidConfigurationError,
    InvalidRequestError,
    JobGoneError,
    PhaseConflictError,
    QueueFullError,
    TooManyPixelsError,
    UnknownExposureError,
    UnknownRefcatError,
    UnreadableExposureError,
    UnusableExposureError,
    VersionConflictError,
)
from service.jobs.uploads import UploadElsewhereError, UploadEndedError
from service.operations.logs import working_on
from service.refcats.errors import RefcatError
from service.storage.errors import (
    BusyError,
    DigestMismatchError,
    InUseError,
    NotFoundError,
    StorageUnavailableError,
    TooLargeError,
    TooManyError,
    UnstorableTextError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fastapi import FastAPI, Request

__all__ = ["MEDIA_TYPE", "Problem", "install", "problem_of", "problem_response", "things"]

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

#: What validation says of a number, also of one that is none.
_BOUNDS = {"greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number"}

_BY_STATUS = {
    400: "request.failed",
    404: "route.not_found",
    405: "route.method_not_allowed",
    413: "request.too_large",
    415: "request.unsupported_media_type",
    416: "range.not_satisfiable",
    503: "service.unavailable",
}


class Problem(Exception):
    """An answer that is a problem document.

    Parameters
    ----------
    code : str
        One of `PROBLEM_TYPES`.
    detail : str
        What happened this time, for a person.
    errors : sequence of mapping, optional
        What is wrong and where: ``{"pointer": JSON pointer or parameter, "detail": ..., "code": ...}``.
    headers : mapping, optional
        Headers of the answer.
    extra : mapping, optional
        Further members of the document (``hint``, ``job_id`` ...).
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.kind = PROBLEM_TYPES[code]
        self.detail = detail
        self.errors = [dict(error) for error in errors]
        self.headers = dict(headers or {})
        self.extra = extra

    def document(self, instance: str | None = None) -> dict[str, Any]:
        """The document, RFC 9457 members first."""
        document: dict[str, Any] = {
            "type": f"/v1/schema/errors#{self.kind.code}",
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "code": self.kind.code,
        }
        if instance is not None:
            document["instance"] = instance
        if self.errors:
            document["errors"] = self.errors
        return {**document, **{name: value for name, value in self.extra.items() if value is not None}}


def things(count: int, where: str) -> str:
    """How many things are wrong."""
    return f"{count} thing{'s' if count > 1 else ''} in the {where} cannot be used."


def problem_response(problem: Problem, instance: str | None = None) -> JSONResponse:
    """A problem as an HTTP answer."""
    return JSONResponse(
        finite(problem.document(instance)),
        status_code=problem.kind.status,
        headers=problem.headers,
        media_type=MEDIA_TYPE,
    )


def install(app: FastAPI) -> None:
    """Let the application answer every error with a problem document."""
    app.add_exception_handler(Problem, _of_problem)
    for kind in _OF_SERVICE:
        app.add_exception_handler(kind, _of_service)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(OSError, _of_disk)
    app.add_exception_handler(Exception, _of_anything)


def _instance(request: Request) -> str:
    return request.url.path


async def _of_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)  # noqa: S101 - registered for this type only
    return problem_response(error, _instance(request))


def problem_of(error: Exception) -> Problem | None:
    """What an error of the service is to a client; None where it is none of the expected ones."""
    for kind in type(error).__mro__:
        if kind in _OF_SERVICE:
            return _OF_SERVICE[kind](error)
    return None


async def _of_service(request: Request, error: Exception) -> JSONResponse:
    problem = problem_of(error)
    if problem is None:  # pragma: no cover - only the kinds above are registered
        return await _of_anything(request, error)
    return problem_response(problem, _instance(request))


async def _of_validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    found = error.errors()
    errors = [_fault(item) for item in found]
    return problem_response(
        Problem("request.invalid", things(len(errors), "request"), errors=errors), _instance(request)
    )


def _fault(found: Mapping[str, Any]) -> dict[str, str]:
    """Which parameter is wrong; bodies are read by hand and have their own pointers."""
    _source, *path = found["loc"]
    detail, kind = found["msg"], found["type"]
    if kind in _BOUNDS and _is_infinite(found["input"]):  # "greater than or equal to 0" says nothing of nan
        detail, kind = "must be a finite number", "finite_number"
    return {"parameter": ".".join(str(part) for part in path), "detail": detail, "code": kind}


def _is_infinite(given: Any) -> bool:
    try:
        return not math.isfinite(float(given))
    except (TypeError, ValueError):
        return False


async def _of_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    code = _BY_STATUS.get(error.status_code)
    if code is None:
        logger.warning("no problem code for HTTP status %d", error.status_code)
        code = "request.failed" if error.status_code < 500 else "service.error"
    detail = error.detail
    if not detail or detail == HTTPStatus(error.status_code).phrase:
        detail = f"{request.method} {request.url.path}: {HTTPStatus(error.status_code).phrase.lower()}."
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_methods(request))
    return problem_response(Problem(code, detail, headers=headers), _instance(request))


def _methods(request: Request) -> list[str]:
    """Methods that the address takes, whichever of its routes answers them."""
    taken = [
        method
        for method in ("GET", "PUT", "POST", "PATCH", "DELETE")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    ]
    return ["HEAD", *taken] if "GET" in taken else taken


async def _of_disk(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        logger.error("no room left: %s", error)
        problem = Problem("storage.full", "The disk filled up while this was written.", headers={"Retry-After": "60"})
        return problem_response(problem, _instance(request))
    return await _of_anything(request, error)


async def _of_anything(request: Request, error: Exception) -> JSONResponse:
    # The traceback goes to the log; the client learns only where to look for it.
    request_id = getattr(request.state, "request_id", None)
    with working_on(request_id=request_id):
        logger.error("request %s failed", request_id, exc_info=error)
    problem = Problem("service.error", "The service made a mistake; its log says more.", request_id=request_id)
    return problem_response(problem, _instance(request))


def _family(kind: str) -> str:
    """First part of a code: what storage calls a thing is for people."""
    return {"reference catalogue": "refcat"}.get(kind, kind)


def _not_found(error: Any) -> Problem:
    code = f"{_family(error.kind)}.not_found"
    return Problem(code if code in PROBLEM_TYPES else "route.not_found", f"There is no {error.kind} {error.key}.")


def _in_use(error: Any) -> Problem:
    code = f"{_family(error.kind)}.in_use"
    return Problem(
        code if code in PROBLEM_TYPES else "request.failed",
        f"{error.kind.capitalize()} {error.key} is needed by {error.count} active job(s).",
        job_ids=list(error.job_ids),
    )


def _invalid_config(error: Any) -> Problem:
    errors = [
        {"pointer": "/config" + item["loc"], "detail": item["msg"], "code": item["type"]} for item in error.errors
    ]
    return Problem("job.config_invalid", things(len(errors), "configuration"), errors=errors)


def _unknown_exposure(error: Any) -> Problem:
    detail = f"There is no exposure {error.exposure_id}."
    return Problem(
        "job.exposure_not_found",
        detail,
        errors=[{"pointer": "/exposures", "detail": detail, "code": "not_found"}],
    )


def _unknown_refcat(error: Any) -> Problem:
    detail = f"There is no reference catalogue {error.name}."
    return Problem(
        "job.refcat_not_found",
        detail,
        errors=[{"pointer": "/references", "detail": detail, "code": "not_found"}],
        known=list(error.known),
        hint="Upload it with PUT /v1/refcats/{name}, or say none.",
    )


def _unusable(error: Any) -> Problem:
    code = error.code if error.code in PROBLEM_TYPES else "exposure.unreadable"
    places = [{"pointer": "/exposures", "detail": str(error), "code": error.code}]
    return Problem(code, str(error), errors=places, exposure_id=error.exposure_id)


def _invalid_request(error: Any) -> Problem:
    pointer = error.field if error.field.startswith("/") else f"/{error.field}"
    return Problem(
        "request.invalid", str(error), errors=[{"pointer": pointer, "detail": str(error), "code": "invalid"}]
    )


def _refcat(error: Any) -> Problem:
    code = error.code if error.code in PROBLEM_TYPES else "refcat.invalid"
    return Problem(code, str(error), reason=error.code)


def _unauthenticated(error: Any) -> Problem:
    return Problem(
        "auth.required",
        str(error),
        headers={"WWW-Authenticate": 'Bearer realm="visitcal", error="invalid_token"'},
        hint="Ask for a new token: POST /v1/tokens, or visitcal token create by the operator.",
    )


def _upload_ended(error: Any) -> Problem:
    upload = error.upload
    what = f"it is {upload.phase}" if upload.source is None else "the service fetches it"
    return Problem(
        "upload.ended",
        f"{upload.id} takes no bytes: {what}.",
        phase=upload.phase,
        exposure_id=upload.exposure_id,
        error=upload.error,
    )


def _later(code: str, error: Any) -> Problem:
    return Problem(code, f"{error}.", headers={"Retry-After": str(math.ceil(error.retry_after))})


_OF_SERVICE: dict[type[Any], Callable[[Any], Problem]] = {
    AuthenticationError: _unauthenticated,
    TooManyFailuresError: lambda error: _later("auth.too_many_failures", error),
    IssuerUnavailableError: lambda error: _later("auth.issuer_unavailable", error),
    TooManyError: lambda error: Problem(f"{error.kind}.too_many", f"{error}.", limit=error.limit),
    NotFoundError: _not_found,
    UnstorableTextError: lambda _error: Problem("request.invalid", "A text has a NUL character."),
    InUseError: _in_use,
    TooLargeError: lambda error: Problem("upload.too_large", f"More than {error.limit} bytes came.", limit=error.limit),
    DigestMismatchError: lambda error: Problem(
        "upload.digest_mismatch",
        f"The bytes have SHA-256 {error.actual}.",
        expected=error.expected,
        actual=error.actual,
    ),
    BusyError: lambda error: Problem(
        f"{error.kind}.busy", f"Another request is sending to {error.key}.", headers={"Retry-After": "1"}
    ),
    UploadElsewhereError: lambda error: Problem(
        "upload.elsewhere",
        f"The bytes of {error.upload_id} are on another host of this service.",
        hint="Let the proxy send all requests of an upload to one host, or begin anew.",
    ),
    UploadEndedError: _upload_ended,
    UnreadableExposureError: lambda error: Problem("exposure.unreadable", str(error), reason=error.reason),
    StorageUnavailableError: lambda error: Problem(
        "service.unavailable", "The database or the disk does not answer.", headers={"Retry-After": "2"}
    ),
    InvalidConfigurationError: _invalid_config,
    UnknownExposureError: _unknown_exposure,
    UnknownRefcatError: _unknown_refcat,
    InvalidRequestError: _invalid_request,
    UnusableExposureError: _unusable,
    IdempotencyMismatchError: lambda error: Problem("idempotency.mismatch", str(error)),
    QueueFullError: lambda error: Problem(
        "queue.full",
        f"{error.limit} jobs may wait at a time.",
        limit=error.limit,
        headers={"Retry-After": str(error.retry_after)},
    ),
    TooManyPixelsError: lambda error: Problem(
        "request.too_many_pixels", f"{error}.", pixels=error.pixels, limit=error.limit
    ),
    JobGoneError: lambda error: Problem("job.gone", f"{str(error).capitalize()}.", job_id=error.job_id),
    VersionConflictError: lambda error: Problem("precondition.failed", f"{str(error).capitalize()}."),
    AlreadyStartedError: lambda error: Problem(
        "job.already_started", f"{str(error).capitalize()}.", job_id=error.job_id, phase=error.phase
    ),
    PhaseConflictError: lambda error: Problem("job.not_active", str(error), phase=error.phase),
    RefcatError: _refcat,
}
