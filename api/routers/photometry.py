"""Forced photometry on a finished job."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from api.bodies import MAX_JSON_BYTES, parse_json
from api.calibrated import calibrated_image, open_calibrated, photometry_input
from api.dependencies import JobId, Reach, Services, Using, find_job
from api.job_documents import CATALOG_MEDIA_TYPES
from api.json import FiniteJSONResponse
from api.problems import Problem
from api.responses import problems
from api.schemas.catalogs import CatalogFormat
from api.schemas.photometry import MAX_POSITIONS, ForcedPhotometryDocument, PositionList
from api.uploads import read_small_body
from service import formats
from service.analysis.forced_columns import aperture_name
from service.analysis.forced_photometry import ForcedOptions, OutOfTimeError, Positions, measure_forced
from service.analysis.position_tables import POSITION_TABLES, PositionsError, checked_positions, read_positions
from service.formats.cutout import no_wcs

if TYPE_CHECKING:
    from service.exposure.catalog import SourceCatalog
    from service.storage.records import JobRecord

__all__ = ["BODIES", "router"]

router = APIRouter(prefix="/v1/jobs/{job_id}/photometry", tags=["catalogs"])

#: Models of bodies that are read by hand, for the OpenAPI document.
BODIES = (PositionList,)
MAX_RADII = 10
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_BODY = {
    "requestBody": {
        "required": True,
        "description": f"Up to {MAX_POSITIONS} positions: JSON, or a table with columns `x`, `y` or `ra`, `dec`; `id`.",
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/PositionList"}},
            **dict.fromkeys(POSITION_TABLES, _BINARY),
        },
    }
}


@router.post(
    "",
    response_model=ForcedPhotometryDocument,
    openapi_extra=_BODY,
    responses={
        200: {"content": dict.fromkeys(CATALOG_MEDIA_TYPES.values(), _BINARY)},
        **problems(400, 404, 409, 410, 413, 415, 422, 503),
    },
)
async def measure_photometry(
    request: Request,
    services: Using,
    reach: Reach,
    job_id: JobId,
    radii: Annotated[
        str, Query(max_length=200, description="Of the apertures in px, joined by commas; empty for none.")
    ] = "12",
    annulus: Annotated[
        str | None,
        Query(
            max_length=60,
            description="`inner,outer` radius in px of an annulus whose median is subtracted on top of the sky.",
        ),
    ] = None,
    file_format: Annotated[CatalogFormat, Query(alias="format")] = CatalogFormat.JSON,
) -> Response:
    """PSF and aperture fluxes at positions: nothing is detected, moved or deblended.

    PSF fluxes carry the aperture correction, as in the catalogues.
    """
    job = await run_in_threadpool(find_job, services, reach, job_id)
    options = ForcedOptions(_radii(radii), _annulus(annulus))
    where = await _positions(request)
    return await services.images.build(lambda: _answer(services, job, where, options, file_format))


def _answer(
    services: Services,
    job: JobRecord,
    where: Positions,
    options: ForcedOptions,
    file_format: CatalogFormat,
) -> Response:
    stored = calibrated_image(services, job)
    with open_calibrated(services, stored) as file:
        source = photometry_input(services, job, file)
        if where.on_sky and source.wcs is None:
            raise no_wcs()
        try:
            catalog = measure_forced(source, where, options)
        except OutOfTimeError as error:
            hint = "Ask for fewer positions or radii at a time."
            raise Problem("photometry.timeout", f"{error}.", headers={"Retry-After": "60"}, hint=hint) from None
        if file_format is CatalogFormat.JSON:
            return FiniteJSONResponse(_document(catalog))
        buffer = BytesIO()
        formats.write_catalog(catalog, buffer, file_format.value)
    suffix = formats.CATALOG_FORMATS[file_format.value][1]
    headers = {"Content-Disposition": f'attachment; filename="photometry{suffix}"'}
    return Response(buffer.getvalue(), media_type=CATALOG_MEDIA_TYPES[file_format.value], headers=headers)


def _document(catalog: SourceCatalog) -> dict[str, Any]:
    names = catalog.schema.names
    rows = zip(*(catalog[name].tolist() for name in names), strict=True)
    return {
        "items": [dict(zip(names, row, strict=True)) for row in rows],
        "columns": [
            {"name": column.name, "dtype": column.dtype, "unit": column.unit, "description": column.doc}
            for column in catalog.schema
        ],
    }


async def _positions(request: Request) -> Positions:
    """Where the request wants to measure.

    Raises
    ------
    Problem
        The body is of another kind, too large, or has no usable positions.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json" and kind not in POSITION_TABLES:
        raise Problem(
            "request.unsupported_media_type", f"The body must be application/json, {', '.join(POSITION_TABLES)}."
        )
    body = await read_small_body(request, MAX_JSON_BYTES)
    try:
        if kind != "application/json":
            return await run_in_threadpool(read_positions, body, POSITION_TABLES[kind], MAX_POSITIONS)
        listed = await run_in_threadpool(parse_json, body, PositionList, what="positions")
        names = type(listed.positions[0]).model_fields
        columns = {name: [getattr(position, name) for position in listed.positions] for name in names}
        columns["id"] = [str(number) if name == "" else name for number, name in enumerate(columns["id"])]
        return checked_positions(columns, MAX_POSITIONS)
    except PositionsError as error:
        errors = [{"pointer": "/positions", "detail": str(error), "code": "invalid"}]
        raise Problem("request.invalid", f"{error}.", errors=errors) from None


def _radii(text: str) -> tuple[float, ...]:
    """Radii of the apertures.

    Raises
    ------
    Problem
        ``request.invalid``.
    """
    found = _numbers(text, "radii")
    if len(found) > MAX_RADII or not all(0.5 <= radius <= 100 for radius in found):
        raise _refused("radii", f"must be up to {MAX_RADII} numbers from 0.5 to 100")
    if len({aperture_name(radius) for radius in found}) < len(found):
        raise _refused("radii", "must differ")
    return found


def _annulus(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    found = _numbers(text, "annulus")
    if len(found) != 2 or not 0 < found[0] < found[1] <= 200:
        raise _refused("annulus", "must be inner,outer with 0 < inner < outer <= 200")
    return found[0], found[1]


def _numbers(text: str, parameter: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        raise _refused(parameter, "must be numbers joined by commas") from None


def _refused(parameter: str, detail: str) -> Problem:
    errors = [{"parameter": parameter, "detail": detail, "code": "invalid"}]
    return Problem("request.invalid", f"{parameter} {detail}.", errors=errors)
