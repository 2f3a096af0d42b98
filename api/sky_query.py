"""Which stars across jobs: the query parameters that all such addresses share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from fastapi import Query
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from api.problems import Problem
from api.row_query import column_names, unknown_column
from service.jobs.detections import DEFAULT_COLUMNS, ExposureFilter, column_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Declination", "Exposures", "Moment", "RightAscension", "StarColumns", "in_utc", "star_columns"]


def _written_out(text: object) -> object:
    """Refuse bare numbers: one means a Julian date, another a Unix time."""
    try:
        float(str(text))
    except ValueError:
        return text
    raise PydanticCustomError(
        "datetime_number", "must be a moment in ISO 8601 (2026-11-23T01:02:03Z, 2026-11-23), not a bare number"
    )


#: A moment in ISO 8601.
Moment = Annotated[datetime, BeforeValidator(_written_out)]
RightAscension = Annotated[float, Query(ge=0, le=360, description="Right ascension, ICRS [deg].", examples=[61.5])]
Declination = Annotated[float, Query(ge=-90, le=90, description="Declination, ICRS [deg].", examples=[-38.0])]
StarColumns = Annotated[
    str | None,
    Query(
        max_length=5000,
        description="Names joined by commas: columns and slots of `stars`, short names (`psfMag`), and of the exposure "
        "`distance`, `mjd`, `band`, `seeing`, `zeroPoint`, `zeroPointErr`, `instrument`, `visit`, `detector`, "
        "`job_id`, `exposure_id`. By default what a light curve needs.",
    ),
]


class Exposures:
    """Query parameters by which exposures are chosen; described at the address that takes them."""

    def __init__(
        self,
        band: Annotated[str | None, Query(max_length=40, description="Only exposures in this band.")] = None,
        instrument: Annotated[str | None, Query(max_length=200, description="Only of this instrument.")] = None,
        since: Annotated[
            Moment | None, Query(description="Only exposures whose middle is at or after this moment.")
        ] = None,
        until: Annotated[Moment | None, Query(description="Only exposures whose middle is before it.")] = None,
        results: Annotated[
            str,
            Query(pattern="^(newest|all)$", description="`all`: also those of exposures that were calibrated again."),
        ] = "newest",
    ) -> None:
        self.filter = ExposureFilter(
            band,
            instrument,
            None if since is None else in_utc(since, "since"),
            None if until is None else in_utc(until, "until"),
            results == "all",
        )


def star_columns(text: str | None) -> Sequence[str]:
    """The columns that are asked for.

    Raises
    ------
    Problem
        ``catalog.unknown_column`` or ``catalog.invalid_query``.
    """
    if text is None:
        return DEFAULT_COLUMNS
    names = column_names(text)
    for name in names:
        try:
            column_of(name)
        except KeyError:
            raise unknown_column(name, "columns") from None
    return names


def in_utc(moment: datetime, parameter: str) -> datetime:
    """An aware moment in UTC; without a zone it is UTC.

    Raises
    ------
    Problem
        ``request.invalid``: it leaves the calendar.
    """
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        errors = [{"parameter": parameter, "detail": "lies before the year 1 or after 9999", "code": "invalid"}]
        raise Problem("request.invalid", f"{parameter} lies outside the years 1 to 9999.", errors=errors) from None
