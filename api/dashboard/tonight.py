"""Every exposure as it comes."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import Response

from api.dashboard.route import page_router
from api.dashboard.templating import render
from api.dependencies import Owner, Using

__all__ = ["router"]

router = page_router()


@router.get("/")
def show_tonight(request: Request, services: Using, owner: Owner) -> Response:
    """The newest exposures."""
    page = services.storage.summaries.list(owner, limit=50)
    return render(request, "tonight.html", rows=page.items)
