"""Summary statistics across jobs, for dashboards."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from api.dependencies import Owner, Using
from api.pages import next_link
from api.problems import Problem
from api.responses import problems
from api.schemas.common import PageDocument
from api.sky_query import Moment, in_utc

__all__ = ["router"]

router = APIRouter(prefix="/v1/summaries", tags=["summaries"])


@router.get("", responses=problems(422))
def list_summaries(
    request: Request,
    response: Response,
    services: Using,
    owner: Owner,
    instrument: Annotated[str | None, Query(max_length=200)] = None,
    band: Annotated[str | None, Query(max_length=40)] = None,
    target: Annotated[str | None, Query(max_length=255, description="As the header names it.")] = None,
    since: Annotated[Moment | None, Query(description="Only jobs published at or after this moment.")] = None,
    fields: Annotated[
        str | None, Query(max_length=5000, description="Statistics joined by commas; all by default.")
    ] = None,
    after: Annotated[str | None, Query(max_length=200, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> PageDocument[dict[str, Any]]:
    """One object a job, newest first: its id, what was observed, and the statistics."""
    if since is not None:
        since = in_utc(since, "since")
    names = None if fields is None else [name.strip() for name in fields.split(",") if name.strip()]
    try:
        page = services.storage.summaries.list(
            owner,
            instrument=instrument,
            band=band,
            target=target,
            since=since,
            fields=names,
            after=after,
            limit=limit,
        )
    except KeyError as error:
        name = error.args[0]
        raise Problem(
            "request.invalid",
            f"There is no statistic {name}.",
            errors=[{"parameter": "fields", "detail": f"unknown statistic {name}", "code": "unknown_field"}],
        ) from None
    if page.next is not None:
        response.headers["Link"] = next_link(request, page.next)
    return PageDocument(items=list(page.items), next=page.next)
