"""IVOA Simple Cone Search 1.03 over one's own stars."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Annotated

import numpy as np
from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response

from api.dependencies import Owner, Using
from api.facades.dali import xml_text
from api.facades.votable import VOTABLE, votable_bytes
from service import formats
from service.exposure.catalog import Column
from service.exposure.sky_region import Circle
from service.exposure.star_schema import star_schema
from service.formats.rows import ArrayRows, WrittenColumn, WrittenTable
from service.jobs.detections import DEFAULT_COLUMNS, Detections, ExposureFilter, find_detections

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["router"]

router = APIRouter(tags=["virtual observatory"])

MAX_ROWS = 10_000
MAX_RADIUS = 10.0
#: What the standard asks for, in the words of its time.
_REQUIRED = {"ID": "ID_MAIN", "ra": "POS_EQ_RA_MAIN", "dec": "POS_EQ_DEC_MAIN"}
_ID = Column("ID", "U", "", "job and source, unique in the service")
_NEEDED = ("job_id", "sourceId", "ra", "dec")


class _RefusedError(ValueError):
    """A query that cannot be answered."""


@dataclass(frozen=True, slots=True)
class _Query:
    cone: Circle
    columns: Sequence[str]
    limit: int


@router.get("/scs", responses={200: {"content": {VOTABLE: {"schema": {"type": "string"}}}}}, response_class=Response)
async def cone_search(
    request: Request,
    services: Using,
    owner: Owner,
    ra: Annotated[str | None, Query(alias="RA", description="Right ascension, ICRS [deg].")] = None,
    dec: Annotated[str | None, Query(alias="DEC", description="Declination, ICRS [deg].")] = None,
    sr: Annotated[str | None, Query(alias="SR", description="Radius [deg]; with 0 only the columns come.")] = None,
    verb: Annotated[
        str | None, Query(alias="VERB", description="1: position and id, 2: the usual, 3: all columns.")
    ] = None,
    max_rows: Annotated[
        str | None, Query(alias="MAXREC", description="Rows at most; more are told as OVERFLOW.")
    ] = None,
    response_format: Annotated[
        str | None, Query(alias="RESPONSEFORMAT", description="`votable`, the only one.")
    ] = None,
) -> Response:
    """One's own stars inside a cone as a VOTable; the newest result of each exposure counts.

    Names of parameters may be written in any case. As the standard says, those that are not known are ignored, and a
    query that cannot be answered has status 200 and a VOTable with an INFO `Error`.
    """
    try:
        query = _query(ra, dec, sr, verb, max_rows)
        if response_format is not None and "votable" not in response_format.lower():
            raise _RefusedError("RESPONSEFORMAT: votable is the only one")  # noqa: TRY301 - one place for answers
    except _RefusedError as error:
        return Response(_error(str(error)), media_type=VOTABLE)
    work = partial(
        find_detections,
        services.storage,
        owner,
        query.cone,
        ExposureFilter(),
        columns=query.columns,
        limit=max(query.limit, 1),
    )
    found = await to_thread.run_sync(work, limiter=request.app.state.table_work)
    content = await to_thread.run_sync(_votable, found.head(query.limit))
    return Response(content, media_type=VOTABLE, headers={"Cache-Control": "no-cache"})


def _query(ra: str | None, dec: str | None, sr: str | None, verb: str | None, max_rows: str | None) -> _Query:
    longitude = _number("RA", ra, 0.0, 360.0)
    latitude, radius = _number("DEC", dec, -90.0, 90.0), _number("SR", sr, 0.0, MAX_RADIUS)
    level = _number("VERB", verb or "2", 1, 3)
    wanted = min(_number("MAXREC", max_rows or str(MAX_ROWS), 0, math.inf), MAX_ROWS)
    limit = int(wanted) if radius > 0 else 0
    columns = {1: _NEEDED, 2: (*_NEEDED, *DEFAULT_COLUMNS), 3: (*_NEEDED, *DEFAULT_COLUMNS, *star_schema().names)}
    chosen = tuple(dict.fromkeys(columns[int(level)]))
    return _Query(Circle(longitude, latitude, radius), chosen, limit)


def _number(name: str, text: str | None, least: float, largest: float) -> float:
    if text is None:
        raise _RefusedError(f"{name} is missing")
    try:
        value = float(text)
    except ValueError:
        raise _RefusedError(f"{name}={text:.100} is not a number") from None
    if math.isnan(value) or (math.isinf(value) and math.isfinite(largest)):
        raise _RefusedError(f"{name}={text:.100} is not a finite number")
    if not least <= value <= largest:
        raise _RefusedError(f"{name}={text:.100} is not between {least:g} and {largest:g}")
    return value


def _votable(found: Detections) -> bytes:
    names = [f"{job}-{number}" for job, number in zip(found.values["job_id"], found.values["sourceId"], strict=True)]
    values = {"ID": np.array(names, object), **found.values}
    columns = []
    for column in (_ID, *found.columns):
        ucd = _REQUIRED.get(column.name)
        # The main position is the one in degrees; the same in radians must not claim to be it.
        about = {"ucd": "pos.eq"} if column.name.startswith("coord_") and not column.name.endswith("Err") else {}
        columns.append(WrittenColumn(column, {"ucd": ucd} if ucd else about))
    status = "OK" if found.next is None else "OVERFLOW"
    stream = BytesIO()
    table = WrittenTable(tuple(columns), len(found), ArrayRows(values), {"QUERY_STATUS": status})
    formats.write_table(table, stream, "votable")
    return stream.getvalue()


def _error(message: str) -> bytes:
    from astropy.io.votable.tree import Info, Resource

    resource = Resource(type="results")
    status = Info(name="QUERY_STATUS", value="ERROR")
    status.content = xml_text(message)
    resource.infos.extend([status, Info(name="Error", value=xml_text(message))])
    return votable_bytes(resource)
