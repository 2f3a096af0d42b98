"""The description of the interface, to be read and tried in a browser."""

from __future__ import annotations

from fastapi import Request, Response

from api.dashboard.route import page_router
from api.dashboard.templating import render

__all__ = ["router"]

router = page_router()


@router.get("/docs")
async def show_interface(request: Request) -> Response:
    """What ``/openapi.json`` says, drawn by scripts of our own host: they act with the session of whoever looks."""
    return render(request, "interface.html")
