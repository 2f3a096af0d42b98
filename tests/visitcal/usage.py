"""How the clients are used, for a type checker: it is not run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

from visitcal import AsyncClient, AsyncJob, AsyncResult, CalibrationFailedError, Client, Job, JobEvent, Result
from visitcal.batch import AsyncBatch, Batch
from visitcal.documents import ExposureDocument, JobDocument, JobErrorDocument, ProductDocument


def blocking(client: Client) -> None:
    job = client.submit("img.fits", astrometry="gaia", config={"photometry": {}}, force=True)
    assert_type(job, Job)
    result = job.wait(timeout=10, check=False)
    assert_type(result, Result)
    assert_type(result.summary, dict[str, Any])
    assert_type(result.products(), list[ProductDocument])
    assert_type(result.download("stars", "out"), Path)
    assert_type(result.log(), str)
    assert_type(client.upload("img.fits"), ExposureDocument)
    assert_type(client.submit_batch(["a.fits", ["b.fits", "c.fits"]]), Batch)
    assert_type(job.refresh(), JobDocument)
    for ended in client.as_completed([job]):
        assert_type(ended, Job)
    for event in job.events(kinds=["phase"]):
        assert_type(event, JobEvent)
    assert_type(client.tokens.list(), list[dict[str, Any]])
    client.submit(7)  # type: ignore[arg-type]
    client.submit("img.fits", astronomy="gaia")  # type: ignore[call-arg]


async def awaiting(client: AsyncClient) -> None:
    job = await client.submit("img.fits", astrometry="gaia")
    assert_type(job, AsyncJob)
    result = await job.wait()
    assert_type(result, AsyncResult)
    assert_type(await result.summary(), dict[str, Any])
    assert_type(await result.download("stars", "out"), Path)
    assert_type(await client.submit_batch(["a.fits"]), AsyncBatch)
    async for ended in client.as_completed([job]):
        assert_type(ended, AsyncJob)
    async for event in job.events():
        assert_type(event, JobEvent)
    assert_type(await client.tokens.list(), list[dict[str, Any]])


def failed(error: CalibrationFailedError) -> None:
    assert_type(error.result, Result | AsyncResult)
    assert_type(error.error, JobErrorDocument | None)
