"""Nights: what was observed, and how it stands against the nights before."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from api.dependencies import Owner, Using
from api.night_documents import cut, night_document, trends_document
from api.pages import next_link
from api.problems import Problem
from api.responses import problems
from api.schemas.common import PageDocument
from api.schemas.nights import NightCountDocument, NightDocument, StateName, TrendsDocument
from service.jobs.night_report import Selection

if TYPE_CHECKING:
    from api.dependencies import Services
    from service.jobs.night_report import Night
    from service.storage.records import Scope

__all__ = ["Choice", "find_night", "router"]

router = APIRouter(prefix="/v1/nights", tags=["nights"])

_TEXT = 255
WhichNight = Annotated[
    date | Literal["latest"], Path(description="Date of the evening, or `latest`.", examples=["2026-11-22"])
]


async def _selection(
    instrument: Annotated[str | None, Query(max_length=_TEXT)] = None,
    band: Annotated[str | None, Query(max_length=40)] = None,
    target: Annotated[str | None, Query(max_length=_TEXT, description="As the header names it.")] = None,
    run_id: Annotated[str | None, Query(max_length=200)] = None,
) -> Selection:
    return Selection(instrument, band, target, run_id)


Choice = Annotated[Selection, Depends(_selection)]


def find_night(services: Services, owner: Scope, night: date | Literal["latest"], choice: Selection) -> Night:
    """A night of the asker.

    Raises
    ------
    Problem
        ``night.not_found``.
    """
    which = services.nights.latest(owner, choice.run_id) if night == "latest" else night
    found = None if which is None else services.nights.report(owner, which, choice)
    if found is None:
        raise Problem("night.not_found", "There is no job of that night." if which else "There is no job yet.")
    return found


@router.get("", responses=problems(422))
def list_nights(
    request: Request,
    response: Response,
    services: Using,
    owner: Owner,
    after: Annotated[date | None, Query(description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=366)] = 30,
) -> PageDocument[NightCountDocument]:
    """Nights with jobs, newest first.

    A night goes from noon to noon of the observatory's mean solar time, or of UTC where its longitude is not known, and
    has the date of its evening. A job whose exposure does not say when it was taken belongs to the night of its
    submission.
    """
    nights = services.storage.nights
    dates = [night for night, _ in nights.dates(owner, before=after, limit=limit + 1)]
    cursor = dates[limit - 1].isoformat() if len(dates) > limit else None
    if cursor is not None:
        response.headers["Link"] = next_link(request, cursor)
    found = nights.counts(owner, dates[:limit])
    items = [
        NightCountDocument(night=night, jobs=count.jobs, active=count.active, failed=count.failed)
        for night in dates[:limit]
        if (count := found.get(night)) is not None
    ]
    return PageDocument(items=items, next=cursor)


@router.get("/{night}", responses=problems(404, 422))
def get_night(
    request: Request,
    response: Response,
    services: Using,
    owner: Owner,
    night: WhichNight,
    choice: Choice,
    state: Annotated[StateName | None, Query(description="Only exposures that are so.")] = None,
    outside: Annotated[bool, Query(description="Only exposures with something outside its limits.")] = False,
    after: Annotated[str | None, Query(max_length=100, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> NightDocument:
    """The exposures of a night against the last 30 nights with exposures before it.

    Limits are the median and 3 x 1.4826 times the median absolute deviation to either side, by instrument and band,
    where at least eight exposures tell them. The expected zero point is the median of the same detector where it has as
    many. `state` and `outside` choose exposures only; the other parameters also what is counted.
    """
    found = find_night(services, owner, night, choice)
    page, cursor = cut(found.filtered(state, outside=outside), after, limit)
    if cursor is not None:
        response.headers["Link"] = next_link(request, cursor)
    return night_document(found, page, cursor)


@router.get("/{night}/trends", responses=problems(404, 422))
def get_trends(services: Using, owner: Owner, night: WhichNight, choice: Choice) -> TrendsDocument:
    """All values of a night, with their limits and the medians of the nights before, for charts."""
    return trends_document(find_night(services, owner, night, choice))
