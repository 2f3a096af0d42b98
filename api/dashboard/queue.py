"""The queue and who works on it."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import Response

from api.dashboard.route import page_router
from api.dashboard.templating import render
from api.dependencies import Owner, Using
from api.routers.queue import get_queue

__all__ = ["router"]

router = page_router()


@router.get("/queue")
def show_queue(request: Request, services: Using, owner: Owner) -> Response:
    """How much waits and runs."""
    return render(request, "queue.html", queue=get_queue(services, owner))
