"""Whether the process lives, and whether it can work."""

from __future__ import annotations

import logging
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from fastapi import APIRouter, Response

from api.dependencies import Services, Using
from api.schemas.descriptions import HealthDocument, ReadinessDocument
from api.uploads import SPARE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["package_version", "router"]

router = APIRouter(tags=["health"])
logger = logging.getLogger(__name__)


def package_version() -> str:
    """Version of the installed distribution."""
    try:
        return version("visitcal")
    except PackageNotFoundError:
        return "unknown"


@router.get("/healthz")
async def get_health() -> HealthDocument:
    """The process answers; nothing else is looked at."""
    return HealthDocument(status="ok", version=package_version())


@router.get("/readyz", responses={503: {"model": ReadinessDocument, "description": "Something is missing."}})
def get_readiness(response: Response, services: Using) -> ReadinessDocument:
    """Whether database, migration head, blob store and disk are there."""
    checks = {
        "database": _outcome("database", services.storage.check),
        "disk": _outcome("disk", lambda: _check_disk(services)),
        "references": _outcome("references", lambda: _check_references(services)),
    }
    ready = all(outcome == "ok" for outcome in checks.values())
    if not ready:
        response.status_code = 503
        response.headers["Retry-After"] = "5"
    return ReadinessDocument(status="ok" if ready else "unavailable", checks=checks)


def _outcome(name: str, check: Callable[[], object]) -> str:
    try:
        check()
    except Exception as error:
        # Whatever it is, the answer is that this part does not work; the log has the rest.
        logger.warning("readiness check %s failed", name, exc_info=True)
        return f"failed: {type(error).__name__}"
    return "ok"


def _check_disk(services: Services) -> None:
    free = services.storage.blobs.free_bytes()
    if free < SPARE_BYTES:
        raise OSError(f"{free} bytes free")


def _check_references(services: Services) -> None:
    services.settings.refcat_dir.mkdir(parents=True, exist_ok=True)
