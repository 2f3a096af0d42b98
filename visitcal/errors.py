"""What can go wrong between a client and the service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from visitcal.documents import JobDocument
    from visitcal.result import AsyncResult, Result

__all__ = [
    "ApiError",
    "AuthenticationError",
    "CalibrationFailedError",
    "ConflictError",
    "FetchFailedError",
    "JobFailedError",
    "NotFoundError",
    "RequestRefusedError",
    "ServerError",
    "ServiceUnreachableError",
    "UploadInterruptedError",
    "VisitcalError",
    "WaitTimeoutError",
    "error_of",
]


class VisitcalError(Exception):
    """Base of everything this package raises."""


class ServiceUnreachableError(VisitcalError):
    """No answer: connection refused, broken or timed out, also after the retries."""


class UploadInterruptedError(VisitcalError):
    """The file changed its length while it was sent."""


class FetchFailedError(VisitcalError):
    """The service could not fetch a file, or it is no exposure.

    Parameters
    ----------
    document : mapping
        The fetch as it ended; its ``error`` has ``code`` and ``message``.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = dict(document)
        self.code = str(document["error"]["code"])
        super().__init__(f"{document['source']}: {document['error']['message']} [{self.code}]")


class WaitTimeoutError(VisitcalError, TimeoutError):
    """The job was still active when the time given to `wait` was over."""


class ApiError(VisitcalError):
    """The service answered with a problem document (RFC 9457).

    Parameters
    ----------
    status : int
        HTTP status.
    problem : mapping
        The document as received: ``type``, ``title``, ``status``, ``detail``, ``code`` and what the kind of error adds.
    request_id : str, optional
        Id under which the request stands in the service's log.
    retry_after : float, optional
        Seconds after which the service asks to come again.
    """

    def __init__(
        self,
        status: int,
        problem: Mapping[str, Any],
        *,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.status = status
        self.problem = dict(problem)
        self.request_id = request_id
        self.retry_after = retry_after
        super().__init__(self._sentence())

    @property
    def code(self) -> str:
        """Stable machine code, for example ``job.not_found``."""
        return str(self.problem.get("code", f"http.{self.status}"))

    @property
    def detail(self) -> str:
        """Sentence for a person."""
        return str(self.problem.get("detail") or self.problem.get("title") or f"HTTP {self.status}")

    @property
    def errors(self) -> list[dict[str, Any]]:
        """What was wrong and where: ``{"pointer": "/config/...", "detail": ...}``."""
        return list(self.problem.get("errors", []))

    @property
    def hint(self) -> str | None:
        """What could be tried, where the service knows."""
        return self.problem.get("hint")

    def _sentence(self) -> str:
        places = [f"{error.get('pointer', '?')}: {error.get('detail', '')}" for error in self.errors]
        return "; ".join([f"{self.detail} [{self.code}]", *places])


class NotFoundError(ApiError):
    """404 or 410: nothing there, or no longer."""


class ConflictError(ApiError):
    """409 or 412: the state of the thing does not allow it."""


class RequestRefusedError(ApiError):
    """Another 4xx: the request itself is at fault."""


class AuthenticationError(RequestRefusedError):
    """401 or 403: no token, one that is not good, or one that does not allow this."""

    def _sentence(self) -> str:
        sentence = super()._sentence()
        if self.status == 401:
            return f"{sentence}; give a token: Client(token=...), $VISITCAL_TOKEN or --token-file"
        return f"{sentence}; {self.hint}" if self.hint else sentence


class ServerError(ApiError):
    """5xx: the service is at fault; the same request may succeed later."""


class JobFailedError(VisitcalError):
    """The job ended without a full result: it was aborted, archived, or failed (`CalibrationFailedError`).

    Parameters
    ----------
    document : JobDocument
        The job as it ended; its ``error`` says why.
    result : Result or AsyncResult
        What there is all the same.
    """

    def __init__(self, document: JobDocument, result: Result | AsyncResult) -> None:
        self.document = document
        self.error = document["error"]
        self.result = result
        message = f"job {document['id']} ended as {document['phase']}"
        if self.error is not None:
            message += f": {self.error['message']} [{self.error['code']}]"
        super().__init__(message)


class CalibrationFailedError(JobFailedError):
    """The data did not allow more: ``error`` has code, stage and numbers, ``result`` the partial products."""


def error_of(
    status: int, problem: Mapping[str, Any], *, request_id: str | None = None, retry_after: float | None = None
) -> ApiError:
    """The exception that stands for an answer of the service."""
    return _kind(status)(status, problem, request_id=request_id, retry_after=retry_after)


def _kind(status: int) -> type[ApiError]:
    if status in (404, 410):
        return NotFoundError
    if status in (409, 412):
        return ConflictError
    if status in (401, 403):
        return AuthenticationError
    return ServerError if status >= 500 else RequestRefusedError
