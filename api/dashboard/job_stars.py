"""The stars of a job as a table: sorted, searched, without the image too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Query, Request, Response

from api.dashboard.route import page_router
from api.dashboard.templating import render
from api.dependencies import Job, Using, missing_product
from api.file_rows import file_page
from api.pictures import SOURCES
from api.row_query import Choice, parse_row_query
from service.formats.catalog_file import CatalogFile

if TYPE_CHECKING:
    from api.dependencies import Services
    from service.storage.records import CatalogPage, JobRecord

__all__ = ["router"]

router = page_router()

_ROWS = 200
#: Columns of the table with the digits that are shown.
COLUMNS = {
    "sourceId": 0,
    "x": 1,
    "y": 1,
    "ra": 6,
    "dec": 6,
    "psfMag": 3,
    "psfMagErr": 3,
    "psfFlux": 0,
    "psfFluxErr": 0,
    "base_PsfFlux_instFlux": 0,
}
_FLAGS = {
    "calib_psf_used": "PSF",
    "calib_astrometry_used": "astrometry",
    "calib_photometry_used": "photometry",
    "base_PsfFlux_flag": "flux failed",
    "base_PixelFlags_flag_saturatedCenter": "saturated",
}
_BRIGHTEST = "-base_PsfFlux_instFlux"  # a run that failed has no magnitudes
#: A blend stands beside its parts in the catalogue: the same light twice.
_STARS = "!sky_source,deblend_nChild=0"


@router.get("/jobs/{job_id}/stars")
def show_stars(
    request: Request,
    services: Using,
    job: Job,
    order: Annotated[str, Query(max_length=100)] = _BRIGHTEST,
    words: Annotated[str, Query(alias="q", max_length=500)] = "",
) -> Response:
    """The first stars in an order; ``q`` is an id, or conditions as catalogues take them."""
    page = _page(services, job, order, words.strip())
    names = [column.name for column in page.columns]
    rows: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in page.rows]
    return render(
        request,
        "job_stars.html",
        job=job,
        columns=[(column, COLUMNS[column.name]) for column in page.columns if column.name in COLUMNS],
        rows=rows,
        flags=_FLAGS,
        total=page.total,
        order=order,
        words=words.strip(),
    )


def _page(services: Services, job: JobRecord, order: str, words: str) -> CatalogPage:
    product = SOURCES["sources"]
    stored = services.storage.jobs.product(job, product, "parquet")
    if stored is None:
        raise missing_product(job, product)
    where = f"sourceId={words}" if words.isdecimal() else ",".join(filter(None, (_STARS, words)))
    with services.storage.blobs.local_copy(stored.sha256) as path, CatalogFile(path) as file:
        names = [name for name in (*COLUMNS, *_FLAGS) if _is_there(file, name)]
        choice = Choice(columns=",".join(names), where=where, order=order)
        return file_page(file, parse_row_query(choice, file), _ROWS, None)


def _is_there(file: CatalogFile, name: str) -> bool:
    try:
        file.column(name)
    except KeyError:
        return False
    return True
