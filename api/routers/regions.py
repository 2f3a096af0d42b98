"""Catalogues as DS9 regions."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from api.dependencies import Job, Product, Services, Using, missing_product, product_problem
from api.files import immutable, not_modified
from api.image_work import IMAGE, content_key, image_problem
from api.pictures import SOURCES, read_rows
from api.responses import problems
from service.formats import FormatError
from service.formats.marks import MARK_COLUMNS, MATCH_COLUMNS, match_marks, source_marks
from service.formats.regions import region_lines
from service.storage.products import PRODUCTS

if TYPE_CHECKING:
    from service.storage.records import JobRecord

__all__ = ["router"]

router = APIRouter(prefix="/v1/jobs/{job_id}/catalogs", tags=["catalogs"])


class System(StrEnum):
    """What positions are in."""

    IMAGE = "image"
    ICRS = "icrs"
    FK5 = "fk5"


@router.get(
    "/{product}.reg",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        304: {"description": "Not changed."},
        **problems(404, 409, 410, 422, 503),
    },
)
async def get_regions(
    request: Request,
    services: Using,
    job: Job,
    product: Product,
    system: Annotated[System, Query(description="Pixels of the image's file, or the sky.")] = System.IMAGE,
) -> Response:
    """A catalogue as DS9 regions, coloured by kind.

    Red: used for the PSF; blue: for astrometry; magenta: for photometry; cyan: sky sources; yellow: flagged;
    green: others; orange crosses: references of a match list.
    """
    if PRODUCTS[product].kind != "catalog":
        raise product_problem("product.unknown", product, "{} is not a catalogue.")
    images = services.images
    stored = await run_in_threadpool(services.storage.jobs.product, job, product, "parquet")
    if stored is None:
        raise missing_product(job, product)
    key = content_key("regions", job.id, stored.sha256, system.value)
    if (unchanged := not_modified(request, f'"{key}"')) is not None:
        return unchanged
    try:
        text = await images.draw(lambda: _regions(services, job, product, system.value))
    except FormatError as error:
        raise image_problem(error) from error
    headers = immutable(f'"{key}"') | {"Content-Disposition": f'attachment; filename="{product}.reg"'}
    return Response(text, media_type="text/plain", headers=headers)


def _regions(services: Services, job: JobRecord, product: str, system: str) -> str:
    images = services.images
    with images.opened(job, images.stored(job, IMAGE)) as image:
        plane = image.plane(None)
        wcs, bbox = plane.wcs(), plane.bbox
    if product in SOURCES.values():
        groups = [source_marks(read_rows(services, job, product, MARK_COLUMNS))]
    else:
        groups = list(match_marks(read_rows(services, job, product, MATCH_COLUMNS), wcs))
    scale = None if wcs is None else wcs.pixel_scale(*bbox.center)
    return "".join(region_lines(groups, system, bbox, scale))
