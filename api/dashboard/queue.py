"""The queue and who works on it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from api.access import Asker
from api.dashboard.route import page_router
from api.dashboard.templating import render
from api.dependencies import JobId, Owner, Reach, Using
from api.routers.queue import get_queue
from service.jobs.presence import ALIVE_SECONDS
from service.storage.records import utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from api.dependencies import Services
    from service.identity.principal import Principal
    from service.jobs.queue_view import Place
    from service.storage.repositories.operations import WorkerSign
    from service.storage.repositories.turns import ActiveJob

__all__ = ["JobRow", "WorkerRow", "job_rows", "router", "worker_rows"]

router = page_router()

_SHOWN_JOBS = 50
#: A worker that ended without saying so is shown for so long [s].
_SHOWN_SILENCE = 3600.0


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job that runs or waits.

    Parameters
    ----------
    id, phase, priority, created_at, stage, progress, held_reason
        As in its document.
    what : str
        Its target, or else the name of its file.
    details : str
        Band, visit, file and run, as far as they are known.
    place : Place
        Its position and the seconds until its end.
    """

    id: str
    phase: str
    priority: int
    created_at: datetime
    stage: str | None
    progress: float
    held_reason: str | None
    what: str
    details: str
    place: Place


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker by its last sign of life; ``is_alive`` says whether that is recent enough to count on it."""

    host: str
    process: str
    version: str
    slots: int
    busy: int
    resident_bytes: int
    started_at: datetime
    seen_at: datetime
    is_alive: bool


def job_rows(active: Sequence[ActiveJob], places: Sequence[Place]) -> list[JobRow]:
    """Rows of the table of jobs."""
    rows = []
    for item, place in zip(active, places, strict=True):
        job = item.job
        files = " + ".join(exposure.get("filename") or exposure["id"] for exposure in job.spec["exposures"])
        visit = None if item.visit is None else f"visit {item.visit}"
        parts = [item.band, visit, files if item.target else None, job.run_id]
        rows.append(
            JobRow(
                job.id,
                job.phase.value,
                job.priority,
                job.created_at,
                job.stage,
                job.progress,
                job.held_reason,
                item.target or files,
                " · ".join(part for part in parts if part),
                place,
            )
        )
    return rows


def worker_rows(signs: Sequence[WorkerSign], now: datetime) -> list[WorkerRow]:
    """Rows of the table of workers, those first that gave a sign last."""
    return [
        WorkerRow(
            sign.host,
            sign.id.removeprefix(f"{sign.host}:"),
            sign.version,
            sign.slots,
            sign.busy,
            sign.resident_bytes,
            sign.started_at,
            sign.seen_at,
            (now - sign.seen_at).total_seconds() <= ALIVE_SECONDS,
        )
        for sign in sorted(signs, key=lambda sign: sign.seen_at, reverse=True)
    ]


@router.get("/queue")
def show_queue(request: Request, services: Using, owner: Owner, asker: Asker) -> Response:
    """What waits and runs, and who works on it."""
    return render(request, "queue.html", **_context(services, asker))


@router.get("/parts/queue")
def show_queue_part(request: Request, services: Using, asker: Asker) -> Response:
    """The same without the frame, for the page to ask for again."""
    return render(request, "parts/queue.html", **_context(services, asker))


@router.post("/queue/{job_id}/abort")
def abort_job(request: Request, services: Using, asker: Asker, reach: Reach, job_id: JobId) -> Response:
    """Stop a job, and show the queue without it."""
    services.submissions.abort(reach, job_id)
    if request.headers.get("hx-request") == "true":
        return render(request, "parts/queue.html", **_context(services, asker))
    return RedirectResponse("/queue", HTTPStatus.SEE_OTHER)


def _context(services: Services, asker: Principal) -> dict[str, Any]:
    active = services.storage.turns.active_of(asker.scope, _SHOWN_JOBS)
    places = services.submissions.queue.places([item.job for item in active])
    signs = services.storage.operations.workers(_SHOWN_SILENCE)
    workers = worker_rows(signs, utc_now())
    alive = [worker for worker in workers if worker.is_alive]
    return {
        "queue": get_queue(services, asker.scope),
        "rows": job_rows(active, places),
        "workers": workers if asker.is_admin else None,  # hosts and memory are the operator's
        "alive": len(alive),
        "slots": sum(worker.slots for worker in alive),
        "busy": sum(worker.busy for worker in alive),
        "may_submit": "submit" in asker.permissions,
        "starts_worker": services.settings.starts_worker,
    }
