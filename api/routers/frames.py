"""What a viewer needs to know of an image besides its tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from api.dependencies import Job, Product, Using
from api.files import immutable, not_modified
from api.image_work import content_key, image_problem
from api.responses import problems
from api.schemas.frames import FrameDocument, MaskPlaneDocument, SkyGridDocument
from service.formats import FormatError
from service.formats.overlay import tint_color

if TYPE_CHECKING:
    from service.exposure.geometry import Box
    from service.exposure.wcs import Wcs
    from service.formats.sections import ImageFile

__all__ = ["router"]

router = APIRouter(prefix="/v1/jobs/{job_id}/images/{product}", tags=["images"])

_NODES = 17  # along each side: distortions of a percent are then interpolated to a tenth of a pixel


@router.get(
    "/frame",
    response_model=FrameDocument,
    responses={304: {"description": "Not changed."}, **problems(404, 409, 410, 422, 503)},
)
async def get_frame(request: Request, services: Using, job: Job, product: Product) -> Response:
    """Where the pixels of an image are, in the parent frame and on the sky."""
    images = services.images
    stored = await run_in_threadpool(images.stored, job, product)
    etag = f'"{content_key("frame", stored.sha256)}"'
    if (unchanged := not_modified(request, etag)) is not None:
        return unchanged

    def read() -> FrameDocument:
        with images.opened(job, stored) as image:
            return _frame(image)

    try:
        document = await images.draw(read)
    except FormatError as error:
        raise image_problem(error) from error
    return Response(document.model_dump_json(), media_type="application/json", headers=immutable(etag))


def _frame(image: ImageFile) -> FrameDocument:
    plane = image.plane(None)
    box, wcs = plane.bbox, plane.wcs()
    planes = next((other.mask_planes for other in image.planes.values() if other.mask_planes), {})
    return FrameDocument(
        x0=box.x0,
        y0=box.y0,
        width=box.width,
        height=box.height,
        unit=str(plane.header.get("BUNIT", "")),
        mask_planes=[
            MaskPlaneDocument(name=name, bit=bit, color="#{:02x}{:02x}{:02x}".format(*tint_color(name)))
            for name, bit in sorted(planes.items(), key=lambda item: item[1])
        ],
        sky=None if wcs is None else _sky_grid(wcs, box),
    )


def _sky_grid(wcs: Wcs, box: Box) -> SkyGridDocument | None:
    """Gnomonic projection of the positions of nodes about that of the centre; None where the sky is not finite."""
    ra0, dec0 = (float(value) for value in wcs.pixel_to_sky(*box.center))
    x = np.linspace(box.x0 - 0.5, box.x1 + 0.5, _NODES)
    y = np.linspace(box.y0 - 0.5, box.y1 + 0.5, _NODES)
    nodes_x, nodes_y = np.meshgrid(x, y)
    ra, dec = (np.radians(values) for values in wcs.pixel_to_sky(nodes_x.ravel(), nodes_y.ravel()))
    alpha, delta = ra - np.radians(ra0), np.radians(dec0)
    depth = np.sin(dec) * np.sin(delta) + np.cos(dec) * np.cos(delta) * np.cos(alpha)
    xi = np.degrees(np.cos(dec) * np.sin(alpha) / depth)
    eta = np.degrees((np.sin(dec) * np.cos(delta) - np.cos(dec) * np.sin(delta) * np.cos(alpha)) / depth)
    if not (np.all(depth > 0) and np.all(np.isfinite(xi)) and np.all(np.isfinite(eta))):
        return None
    shape = (_NODES, _NODES)
    return SkyGridDocument(
        ra=ra0,
        dec=dec0,
        x=x.tolist(),
        y=y.tolist(),
        xi=xi.round(9).reshape(shape).tolist(),
        eta=eta.round(9).reshape(shape).tolist(),
    )
