"""The application: the only place where its parts are put together."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry

from api import dashboard, problems
from api.access import authorize, document_access
from api.dependencies import refuse_unknown_parameters
from api.facades import datalink, scs, vo_routers
from api.facades.dali import CaselessQuery
from api.lifespan import opened
from api.middleware import HeadAsGet, HostGuard, NoSniff, RequestId, host_name
from api.observation import Observation
from api.routers import (
    batches,
    catalogs,
    config,
    cutouts,
    diagnostics,
    events,
    exposures,
    frames,
    health,
    images,
    instruments,
    jobs,
    nights,
    photometry,
    psf,
    queue,
    refcats,
    regions,
    reruns,
    results,
    stars,
    summaries,
    tiles,
    tokens,
    uploads,
    visits,
    webhooks,
)
from api.routers.health import package_version
from api.schemas.common import ProblemDocument
from api.schemas.events import EventDocument
from api.schemas.jobs import JobParameters
from service.network import is_loopback
from service.operations.metrics import HttpMetrics

if TYPE_CHECKING:
    from service.settings import Settings

__all__ = ["UnsafeBindError", "check_bind", "create_app"]

#: In the order in which their addresses are tried.
ROUTERS = (
    exposures,
    uploads,
    jobs,
    reruns,
    batches,
    queue,
    events,
    results,
    regions,  # before catalogs, which would take "stars.reg" for a name
    catalogs,
    tiles,
    frames,
    cutouts,
    images,
    psf,
    photometry,
    diagnostics,
    summaries,
    nights,
    stars,
    visits,
    refcats,
    webhooks,
    tokens,
    instruments,
    config,
    health,
)

DESCRIPTION = """\
Upload an exposure, submit a job, fetch the calibrated exposure, its star catalogues and statistics.

Errors are RFC 9457 problem documents with a stable `code`; `/v1/schema/errors` lists them all. Lists are pages with a
cursor (`after`) and a `Link` header. `NaN` is `null`.
"""


class UnsafeBindError(ValueError):
    """The service asks for no tokens and would be reached from other machines."""


def check_bind(settings: Settings) -> None:
    """Refuse to serve on an address that other machines reach unless each request needs a token.

    Raises
    ------
    UnsafeBindError
        The host is not a loopback address, and no tokens are required.
    """
    if not settings.require_tokens and not is_loopback(settings.host):
        raise UnsafeBindError(
            f"host {settings.host} can be reached from other machines, and without tokens everybody could use the "
            "service: set VISITCAL_REQUIRE_TOKENS=true (visitcal token create makes the first), or bind to 127.0.0.1"
        )


def create_app(settings: Settings) -> FastAPI:
    """The application for some settings.

    Databases must be at the migration head; parts are opened when the application starts and closed when it ends.

    Raises
    ------
    UnsafeBindError
        See `check_bind`.
    """
    check_bind(settings)
    registry = CollectorRegistry()

    app = FastAPI(
        title="visitcal",
        summary="Single-visit calibration of astronomical exposures",
        description=DESCRIPTION,
        version=package_version(),
        license_info={"name": "BSD-3-Clause"},
        docs_url=None,  # the page of the dashboard, which needs no other host
        redoc_url=None,
        lifespan=partial(opened, settings=settings, registry=registry),
        dependencies=[Depends(authorize), Depends(refuse_unknown_parameters)],
    )
    problems.install(app)
    for module in ROUTERS:
        app.include_router(module.router)
    for router in (datalink.router, scs.router, *vo_routers()):
        app.include_router(router)
    dashboard.install(app)
    _add_middleware(app, settings, registry)
    _complete_openapi(app)
    return app


def _add_middleware(app: FastAPI, settings: Settings, registry: CollectorRegistry) -> None:
    """What each request passes; the last one added comes first."""
    allowed = [host_name(settings.root_url.split("://", 1)[-1])] if settings.root_url else []
    if settings.require_tokens:
        allowed.append("*")  # a page of another site has no token to send
    app.add_middleware(CaselessQuery, prefixes=("/uws/", "/scs"))
    app.add_middleware(HeadAsGet)
    app.add_middleware(HostGuard, allowed_hosts=allowed)
    app.add_middleware(Observation, metrics=HttpMetrics(registry))
    app.add_middleware(NoSniff)
    app.add_middleware(RequestId)


def _complete_openapi(app: FastAPI) -> None:
    """Add to the OpenAPI document what hand-written bodies and answers refer to."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            for model in (
                JobParameters,
                ProblemDocument,
                *exposures.BODIES,
                *tokens.BODIES,
                *reruns.BODIES,
                *batches.BODIES,
                *photometry.BODIES,
                EventDocument,
            ):
                schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
                schemas.update(schema.pop("$defs", {}))
                schemas[model.__name__] = schema
            _drop_framework_errors(document)
            document_access(document)
        return app.openapi_schema or generate()

    app.openapi = openapi  # type: ignore[method-assign]


def _drop_framework_errors(document: dict[str, Any]) -> None:
    """Replace what the framework says by itself: the 422 body, which is never sent, and a stream as one text."""
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
    for path in document["paths"].values():
        for operation in path.values():
            answer = operation["responses"].get("422")
            if answer is not None and "application/json" in answer.get("content", {}):
                answer["content"] = problem
                answer["description"] = "Problem: `request.invalid`"
            for found in operation["responses"].values():
                stream = found.get("content", {}).get("text/event-stream", {})
                if "itemSchema" in stream:
                    stream.pop("schema", None)  # the framework's guess of the whole
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
