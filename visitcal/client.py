"""Clients of a visitcal service: httpx and nothing else, astropy when a table or an image is asked for.

>>> from visitcal import Client
>>> with Client("http://127.0.0.1:8470") as client:  # doctest: +SKIP
...     job = client.submit("exposure.fits", references="gaia")
...     result = job.wait()
...     print(result.summary["psfSigma"], len(result.stars))
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import httpx

from visitcal.across import AcrossOperations
from visitcal.administration import AsyncTokens, AsyncWebhooks, Tokens, Webhooks
from visitcal.batch import AsyncBatch, Batch
from visitcal.descriptions import DescriptionOperations
from visitcal.drivers import AwaitingDriver, BlockingDriver
from visitcal.exposures import ADDRESSES, Source
from visitcal.job import AsyncJob, Job
from visitcal.operations import Awaiting, Blocking
from visitcal.refcats import RefcatOperations
from visitcal.submissions import BatchT, JobT, SubmissionOperations
from visitcal.transport import Transport

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from visitcal.documents import BatchDocument, JobDocument

__all__ = ["ADDRESSES", "DEFAULT_URL", "AsyncClient", "Client", "Source"]

DEFAULT_URL = "http://127.0.0.1:8470"


class ServiceOperations(SubmissionOperations[JobT, BatchT], RefcatOperations, AcrossOperations, DescriptionOperations):
    """All operations of a service."""


class Client(ServiceOperations[Job, Batch], Blocking):
    """A connection to a visitcal service.

    Parameters
    ----------
    base_url : str, optional
        Where the service is; ``VISITCAL_URL`` or the local default.
    token : str, optional
        Bearer token; ``VISITCAL_TOKEN`` by default, none for a local service.
    timeout : float
        Seconds without a byte after which the service counts as silent.
    retries : int
        How often a request is sent again after a connection error or an answer that says "later".
    patience : float
        Seconds after the first failure after which none is sent again, whatever pause the service asks for.
    transport : httpx.BaseTransport, optional
        Another way to reach the service, for tests.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        token: str | None = None,
        timeout: float = 60.0,
        retries: int = 5,
        patience: float = 120.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = httpx.Client(**_connection(base_url, token, timeout), transport=transport)
        driver = BlockingDriver(self._http, Transport(retries, patience))
        super().__init__(driver)
        self.tokens = Tokens(driver)
        self.webhooks = Webhooks(driver)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def _job(self, document: JobDocument) -> Job:
        return Job(self._driver, document)

    def _batch(self, document: BatchDocument) -> Batch:
        return Batch(self._driver, document)


class AsyncClient(ServiceOperations[AsyncJob, AsyncBatch], Awaiting):
    """The same for asynchronous programs: every operation of `Client` is awaited, every iterator is asynchronous.

    The event loop is never held up: files are read and written, and tables and images made, in threads.

    Parameters
    ----------
    base_url, token, timeout, retries, patience
        As for `Client`.
    transport : httpx.AsyncBaseTransport, optional
        Another way to reach the service, for tests.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        token: str | None = None,
        timeout: float = 60.0,
        retries: int = 5,
        patience: float = 120.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(**_connection(base_url, token, timeout), transport=transport)
        driver = AwaitingDriver(self._http, Transport(retries, patience))
        super().__init__(driver)
        self.tokens = AsyncTokens(driver)
        self.webhooks = AsyncWebhooks(driver)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    def _job(self, document: JobDocument) -> AsyncJob:
        return AsyncJob(self._driver, document)

    def _batch(self, document: BatchDocument) -> AsyncBatch:
        return AsyncBatch(self._driver, document)


def _connection(base_url: str | None, token: str | None, timeout: float) -> dict[str, Any]:
    """What both libraries of httpx are told."""
    token = token or os.environ.get("VISITCAL_TOKEN")
    headers = {"User-Agent": "visitcal-client", "Accept": "application/json, */*;q=0.5"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return {
        "base_url": base_url or os.environ.get("VISITCAL_URL", DEFAULT_URL),
        "headers": headers,
        "timeout": httpx.Timeout(timeout, connect=10.0),
    }
