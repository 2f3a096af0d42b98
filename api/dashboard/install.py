"""All pages in one application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.dashboard import queue, session, tonight
from api.dashboard.assets import static_application, static_root

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["install"]


def install(app: FastAPI) -> None:
    """Add the pages, and their files."""
    for module in (tonight, queue, session):
        app.include_router(module.router)
    app.mount(static_root(), static_application(), name="static")
