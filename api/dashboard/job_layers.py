"""What is drawn over the image of a job: places and kinds of stars, references and residuals, as columns."""

from __future__ import annotations

import gzip
import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import Path, Request, Response

from api.calibrated import calibrated_image
from api.dashboard.route import page_router
from api.dependencies import Job, Using, missing_product
from api.files import immutable, not_modified
from api.image_work import content_key
from api.json import finite
from api.pictures import MATCHES, SOURCES, read_rows
from service.formats.marks import MARK_COLUMNS, MATCH_COLUMNS, match_marks, source_marks
from service.formats.overlay import residuals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from api.dependencies import Services
    from service.exposure.wcs import Wcs
    from service.formats.marks import Marks
    from service.storage.records import JobRecord

__all__ = ["LAYERS", "Layer", "router"]

router = page_router()

_PHOTOMETRY = "initial_photometry_match_detector"
_REFERENCE = ("ref_id", "ref_coord_ra", "ref_coord_dec")
_PSF_FLAGS = ("calib_psf_candidate", "calib_psf_used", "calib_psf_reserved")


class Layer(StrEnum):
    """What can be drawn."""

    STARS = "stars"
    PSF_STARS = "psf_stars"
    ASTROMETRY = "astrometry"
    PHOTOMETRY = "photometry"


#: Catalogue behind each.
LAYERS = {
    Layer.STARS: SOURCES["sources"],
    Layer.PSF_STARS: SOURCES["psf_stars"],
    Layer.ASTROMETRY: MATCHES,
    Layer.PHOTOMETRY: _PHOTOMETRY,
}


@router.get("/parts/jobs/{job_id}/layers/{layer}")
async def show_layer(request: Request, services: Using, job: Job, layer: Annotated[Layer, Path()]) -> Response:
    """Columns of a layer, of which each value fits a row: small, as a 4k image has tens of thousands of stars."""
    return await services.images.draw(lambda: _layer(request, services, job, layer))


def _layer(request: Request, services: Services, job: JobRecord, layer: Layer) -> Response:
    stored = services.storage.jobs.product(job, LAYERS[layer], "parquet")
    if stored is None:
        raise missing_product(job, LAYERS[layer])
    etag = f'"{content_key("layer", layer, job.id, stored.sha256)}"'
    if (unchanged := not_modified(request, etag)) is not None:
        return unchanged
    columns = _MAKERS[layer](services, job)
    body = gzip.compress(json.dumps(finite(columns), separators=(",", ":")).encode(), 5)
    headers = {**immutable(etag), "Content-Encoding": "gzip", "X-Content-Type-Options": "nosniff"}
    return Response(body, media_type="application/json", headers=headers)


def _stars(services: Services, job: JobRecord) -> dict[str, Any]:
    catalog = read_rows(services, job, LAYERS[Layer.STARS], MARK_COLUMNS)
    catalog = catalog.select(catalog["deblend_nChild"] == 0)
    marks = source_marks(catalog)
    kind = np.where(np.isin(marks.kind, ("sky", "flagged")), marks.kind, "star")
    return {**_marks(marks), "kind": kind.tolist()}


def _psf_stars(services: Services, job: JobRecord) -> dict[str, Any]:
    catalog = read_rows(services, job, LAYERS[Layer.PSF_STARS], (*MARK_COLUMNS, *_PSF_FLAGS))
    catalog = catalog.select(catalog["calib_psf_candidate"] | catalog["calib_psf_used"] | catalog["calib_psf_reserved"])
    kind = np.where(catalog["calib_psf_used"], "used", np.where(catalog["calib_psf_reserved"], "reserved", "rejected"))
    return {**_marks(source_marks(catalog)), "kind": kind.tolist()}


def _astrometry(services: Services, job: JobRecord) -> dict[str, Any]:
    wcs = _wcs(services, job)
    references, sources = match_marks(read_rows(services, job, LAYERS[Layer.ASTROMETRY], MATCH_COLUMNS), wcs)
    columns = {**_marks(sources), "rx": _rounded(references.x, 2), "ry": _rounded(references.y, 2)}
    if wcs is not None:
        dx, dy = residuals(references, sources, wcs)
        columns |= {"dx": _rounded(dx, 4), "dy": _rounded(dy, 4)}
    return columns


def _photometry(services: Services, job: JobRecord) -> dict[str, Any]:
    catalog = read_rows(services, job, LAYERS[Layer.PHOTOMETRY], _REFERENCE)
    references, _ = match_marks(catalog, _wcs(services, job))
    return {**_marks(references), "rx": _rounded(references.x, 2), "ry": _rounded(references.y, 2)}


def _wcs(services: Services, job: JobRecord) -> Wcs | None:
    with services.images.opened(job, calibrated_image(services, job)) as image:
        return image.plane(None).wcs()


def _marks(marks: Marks) -> dict[str, Any]:
    """Ids are text: JavaScript has no whole numbers of 64 bits."""
    return {
        "id": [str(number) for number in marks.ids.tolist()],
        "x": _rounded(marks.x, 2),
        "y": _rounded(marks.y, 2),
        "a": _rounded(marks.axes[:, 0], 1),
        "b": _rounded(marks.axes[:, 1], 1),
        "angle": _rounded(marks.angle, 2),
        "kind": marks.kind.tolist(),
    }


def _rounded(values: NDArray[Any], digits: int) -> list[float]:
    rounded: list[float] = np.round(np.asarray(values, dtype=np.float64), digits).tolist()
    return rounded


_MAKERS = {
    Layer.STARS: _stars,
    Layer.PSF_STARS: _psf_stars,
    Layer.ASTROMETRY: _astrometry,
    Layer.PHOTOMETRY: _photometry,
}
