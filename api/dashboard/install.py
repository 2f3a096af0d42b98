"""All pages in one application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.dashboard import (
    compare,
    failure,
    interface,
    job,
    job_layers,
    job_stars,
    queue,
    refcats,
    rerun,
    session,
    tokens,
    tonight,
    upload,
)
from api.dashboard.assets import static_application, static_root
from api.dashboard.route import instead_of_not_found

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["PAGES", "install"]

PAGES = (
    tonight,
    job,
    job_layers,
    job_stars,
    queue,
    upload,
    failure,
    rerun,
    compare,
    refcats,
    tokens,
    session,
    interface,
)


def install(app: FastAPI) -> None:
    """Add the pages, and their files."""
    for module in PAGES:
        app.include_router(module.router)
    app.mount(static_root(), static_application(), name="static")
    app.router.default = instead_of_not_found(app.router.default)
