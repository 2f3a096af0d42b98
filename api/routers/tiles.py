"""Tile pyramids of images for deep-zoom viewers, in any stretch, and of mask planes to lay over them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Request, Response
from starlette.concurrency import run_in_threadpool

from api.dependencies import Job, Product, Services, Using
from api.files import immutable, not_modified
from api.image_work import content_key, image_problem
from api.picture_options import Look, TileLook
from api.problems import Problem
from api.responses import problems
from service.formats import FormatError
from service.formats.overlay import tint_png
from service.formats.preview import encode_picture
from service.formats.pyramid import TILE, Pyramid
from service.formats.stretch import shade

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.storage.records import JobRecord, ProductRecord

__all__ = ["router"]

router = APIRouter(prefix="/v1/jobs/{job_id}/images/{product}", tags=["images"])

_DZI = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="png" Overlap="0" TileSize="{tile}">'
    '<Size Width="{width}" Height="{height}"/></Image>\n'
)
_TEXT = {"schema": {"type": "string"}}
_ANSWERS = {304: {"description": "Not changed."}, **problems(404, 409, 410, 422, 503)}
_TILE = {200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}, **_ANSWERS}

Level = Annotated[int, Path(ge=0, le=31, description="Level: 0 has one pixel, each next one twice as many a side.")]
Column = Annotated[int, Path(ge=0, le=1_000_000, description="Column of the tile from the left.")]
Row = Annotated[int, Path(ge=0, le=1_000_000, description="Row of the tile from the top.")]


MaskName = Annotated[str, Path(pattern="^[A-Z][A-Z0-9_]{0,49}$", description="Mask plane.", examples=["SAT"])]


@router.get("/tiles.dzi", response_class=Response, responses={200: {"content": {"application/xml": _TEXT}}, **_ANSWERS})
async def get_tile_descriptor(
    request: Request, services: Using, job: Job, product: Product, look: TileLook
) -> Response:
    """The pyramid as Deep Zoom descriptor: give its address, with the look in the query, to OpenSeadragon."""
    stored = await run_in_threadpool(services.images.stored, job, product)
    return await _descriptor(request, services, job, stored, look.plane)


async def _descriptor(
    request: Request, services: Services, job: JobRecord, stored: ProductRecord, plane: str | None
) -> Response:
    images = services.images
    key = content_key("dzi", stored.sha256, plane)
    if (unchanged := not_modified(request, f'"{key}"')) is not None:
        return unchanged

    def size() -> tuple[int, int]:
        with images.opened(job, stored) as image:
            box = image.plane(plane).bbox
            return box.width, box.height

    try:
        width, height = await images.draw(size)
    except FormatError as error:
        raise image_problem(error) from error
    text = _DZI.format(tile=TILE, width=width, height=height)
    return Response(text, media_type="application/xml", headers=immutable(f'"{key}"'))


@router.get("/tiles_files/{z}/{x}_{y}.png", response_class=Response, responses=_TILE)
async def get_deep_zoom_tile(
    request: Request, services: Using, job: Job, product: Product, z: Level, x: Column, y: Row, look: TileLook
) -> Response:
    """A tile where Deep Zoom viewers look for it."""
    return await _tile(request, services, job, product, (z, x, y), look)


@router.get("/tiles/{z}/{x}/{y}.png", response_class=Response, responses=_TILE)
async def get_tile(
    request: Request, services: Using, job: Job, product: Product, z: Level, x: Column, y: Row, look: TileLook
) -> Response:
    """A tile of 256 pixels a side, smaller at the right and at the lower edge."""
    return await _tile(request, services, job, product, (z, x, y), look)


async def _tile(
    request: Request, services: Services, job: JobRecord, product: str, place: tuple[int, int, int], look: Look
) -> Response:
    images = services.images
    stored = await run_in_threadpool(images.stored, job, product)
    key = content_key("pyramid", stored.sha256, look.plane)
    etag = f'"{content_key(key, place, look)}"'
    if (unchanged := not_modified(request, etag)) is not None:
        return unchanged

    def drawn(pyramid: Pyramid) -> bytes:
        tile = pyramid.tile(*place)
        limits = images.limits(key, pyramid, look.style.limits)
        return encode_picture(shade(tile, replace(look.style, limits=limits)), "png")

    return await _drawn_tile(services, job, stored, key, etag, look.plane, drawn)


async def _drawn_tile(
    services: Services,
    job: JobRecord,
    stored: ProductRecord,
    key: str,
    etag: str,
    plane: str | None,
    drawn: Callable[[Pyramid], bytes],
    *,
    bits: bool = False,
) -> Response:
    try:
        content = await services.images.from_pyramid(key, job, stored, plane, drawn, bits=bits)
    except LookupError as error:
        raise Problem("image.no_tile", f"{str(error).capitalize()}.") from None
    except (FormatError, ValueError) as error:
        raise image_problem(error) from error
    return Response(content, media_type="image/png", headers=immutable(etag))


@router.get(
    "/mask/{plane}.dzi", response_class=Response, responses={200: {"content": {"application/xml": _TEXT}}, **_ANSWERS}
)
async def get_mask_descriptor(
    request: Request, services: Using, job: Job, product: Product, plane: MaskName
) -> Response:
    """A mask plane of an image that has a mask, as Deep Zoom descriptor, to be laid over it."""
    stored = await run_in_threadpool(services.images.stored, job, product)
    return await _descriptor(request, services, job, stored, "mask")


@router.get("/mask/{plane}_files/{z}/{x}_{y}.png", response_class=Response, responses=_TILE)
async def get_mask_tile(
    request: Request, services: Using, job: Job, product: Product, plane: MaskName, z: Level, x: Column, y: Row
) -> Response:
    """A tile of a mask plane: half transparent where any pixel of a block has it, else nothing."""
    stored = await run_in_threadpool(services.images.stored, job, product)
    key = content_key("bits", stored.sha256)
    etag = f'"{content_key(key, plane, z, x, y)}"'
    if (unchanged := not_modified(request, etag)) is not None:
        return unchanged

    def drawn(pyramid: Pyramid) -> bytes:
        if plane not in pyramid.planes:
            raise FormatError("image.no_plane", f"the mask has no plane {plane}; it has {', '.join(pyramid.planes)}")
        return tint_png((pyramid.tile(z, x, y) >> pyramid.planes[plane]) & 1 == 1, plane)

    return await _drawn_tile(services, job, stored, key, etag, "mask", drawn, bits=True)
