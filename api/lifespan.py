"""What the handlers work with: opened when the application starts, closed when it ends."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from anyio import CapacityLimiter
from starlette.concurrency import run_in_threadpool

from api.dependencies import Services
from api.image_work import ImageWork
from api.job_reader import JobReader
from api.sse import OpenStreams
from service.identity.authenticator import Authenticator
from service.jobs.batches import Batches
from service.jobs.inspector import Inspector
from service.jobs.night_report import Nights
from service.jobs.submission import Submissions
from service.jobs.uploads import Uploads
from service.jobs.watch import JobWatcher
from service.operations.checks import Readiness
from service.operations.metrics import JobMetrics
from service.storage import Storage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI
    from prometheus_client import CollectorRegistry

    from service.settings import Settings

__all__ = ["opened"]

# A client has its 503 after so many seconds; a worker that publishes many rows is through by then.
_WRITE_PATIENCE = 10.0


@asynccontextmanager
async def opened(app: FastAPI, settings: Settings, registry: CollectorRegistry) -> AsyncIterator[None]:
    """The application's services, in `app.state`.

    Parameters
    ----------
    app : FastAPI
        Gets them.
    settings : Settings
        As the operator chose.
    registry : CollectorRegistry
        Where the metrics are kept.
    """
    storage = await run_in_threadpool(Storage, settings, _WRITE_PATIENCE)
    identity = await run_in_threadpool(Authenticator, storage, settings)
    submissions = Submissions(storage, settings)
    watcher = JobWatcher(storage, settings)
    await watcher.start()
    app.state.inspector = Inspector(storage, settings, submissions.instruments, submissions.intake.forecaster)
    app.state.inspecting = CapacityLimiter(4)  # each may unpack 16 MiB
    app.state.open_streams = OpenStreams(settings.max_owner_event_streams)
    app.state.table_work = CapacityLimiter(2)  # files of tables made at a time
    app.state.readiness = Readiness(storage, settings)
    app.state.metrics = JobMetrics(storage, settings, registry)
    await run_in_threadpool(app.state.metrics.begin)
    reader = JobReader(storage.jobs)
    app.state.services = Services(
        settings,
        identity,
        storage,
        submissions,
        Batches(storage, settings, submissions),
        watcher,
        reader,
        ImageWork(storage, settings),
        Uploads(storage, settings),
        Nights(storage),
    )
    try:
        yield
    finally:
        await watcher.stop()
        await run_in_threadpool(reader.close)
        await run_in_threadpool(submissions.close)
        await run_in_threadpool(storage.close)
