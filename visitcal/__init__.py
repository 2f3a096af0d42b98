"""What a user imports and types: the client of a visitcal service and the command line."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visitcal.batch import AsyncBatch, Batch
    from visitcal.client import AsyncClient, Client
    from visitcal.errors import (
        ApiError,
        AuthenticationError,
        CalibrationFailedError,
        ConflictError,
        FetchFailedError,
        JobFailedError,
        NotFoundError,
        RequestRefusedError,
        ServerError,
        ServiceUnreachableError,
        UploadInterruptedError,
        VisitcalError,
        WaitTimeoutError,
    )
    from visitcal.event_stream import JobEvent
    from visitcal.job import AsyncJob, Job
    from visitcal.result import AsyncResult, Result

__all__ = [
    "ApiError",
    "AsyncBatch",
    "AsyncClient",
    "AsyncJob",
    "AsyncResult",
    "AuthenticationError",
    "Batch",
    "CalibrationFailedError",
    "Client",
    "ConflictError",
    "FetchFailedError",
    "Job",
    "JobEvent",
    "JobFailedError",
    "NotFoundError",
    "RequestRefusedError",
    "Result",
    "ServerError",
    "ServiceUnreachableError",
    "UploadInterruptedError",
    "VisitcalError",
    "WaitTimeoutError",
]

_HOMES = {
    "ApiError": "visitcal.errors",
    "AsyncBatch": "visitcal.batch",
    "AsyncClient": "visitcal.client",
    "AsyncJob": "visitcal.job",
    "AsyncResult": "visitcal.result",
    "AuthenticationError": "visitcal.errors",
    "Batch": "visitcal.batch",
    "CalibrationFailedError": "visitcal.errors",
    "Client": "visitcal.client",
    "ConflictError": "visitcal.errors",
    "FetchFailedError": "visitcal.errors",
    "Job": "visitcal.job",
    "JobEvent": "visitcal.event_stream",
    "JobFailedError": "visitcal.errors",
    "NotFoundError": "visitcal.errors",
    "RequestRefusedError": "visitcal.errors",
    "Result": "visitcal.result",
    "ServerError": "visitcal.errors",
    "ServiceUnreachableError": "visitcal.errors",
    "UploadInterruptedError": "visitcal.errors",
    "VisitcalError": "visitcal.errors",
    "WaitTimeoutError": "visitcal.errors",
}


def __getattr__(name: str) -> Any:
    # Imported when first used, so that the command line starts without the HTTP library.
    if name not in _HOMES:
        raise AttributeError(f"module 'visitcal' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
