"""Catalogue rows as JSON pages or files."""

from __future__ import annotations

import hashlib
import tempfile
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Request, Response

from api.dependencies import Job, Product, Services, Using, missing_product, product_problem
from api.file_rows import file_page
from api.files import STORED_FILE, file_response, not_modified, product_response
from api.job_documents import CATALOG_MEDIA_TYPES
from api.json import FiniteJSONResponse
from api.negotiation import wanted_format
from api.pages import next_link
from api.problems import Problem
from api.responses import problems
from api.row_query import Choice, column_names, parse_row_query
from api.schemas.catalogs import CatalogFormat, CatalogPageDocument
from service import formats
from service.formats.catalog_file import CatalogFile
from service.formats.row_selection import RowQuery, select_rows
from service.jobs.version import code_version
from service.storage.blobs import FileReader
from service.storage.products import PRODUCTS

if TYPE_CHECKING:
    from typing import BinaryIO

    from service.storage.records import CatalogPage, JobRecord, ProductRecord

__all__ = ["router"]

router = APIRouter(prefix="/v1/jobs/{job_id}/catalogs", tags=["catalogs"])


_FILES: dict[str, Any] = {
    media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in CATALOG_MEDIA_TYPES.values()
}


@router.get(
    "/{product}",
    response_model=CatalogPageDocument,
    responses={200: {"content": _FILES}, **STORED_FILE, **problems(404, 409, 410, 416, 422)},
)
async def get_catalog(
    request: Request,
    services: Using,
    job: Job,
    product: Product,
    choice: Annotated[Choice, Depends()],
    limit: Annotated[int, Query(ge=1, le=10_000, description="Rows of a JSON page.")] = 1000,
    after: Annotated[str | None, Query(max_length=200, description="`next` of the page before.")] = None,
    file_format: Annotated[
        CatalogFormat | None,
        Query(alias="format", description="JSON pages, or the whole as a file; by default what Accept says."),
    ] = None,
) -> Response:
    """Rows of a catalogue.

    Files have all rows that meet the conditions; the Parquet file without any choice is the stored product itself,
    with Range and a strong ETag. Short names are those of Rubin's public source tables, in degrees, nJy and AB
    magnitudes: `ra`, `dec`, `x`, `y`, `psfFlux`, `psfMag`, `calibFlux`, `extendedness` and others, see the guide.
    """
    chosen_format = wanted_format(request, file_format)
    work = partial(_answer, request, services, job, product, choice, limit, after, chosen_format)
    # What reads the file takes memory, so only some do at a time; the others wait without a thread.
    is_light = choice.is_everything and chosen_format in (CatalogFormat.JSON, CatalogFormat.PARQUET)
    answer = await to_thread.run_sync(work, limiter=None if is_light else request.app.state.table_work)
    answer.headers["Vary"] = "Accept"
    return answer


def _answer(
    request: Request,
    services: Services,
    job: JobRecord,
    product: str,
    choice: Choice,
    limit: int,
    after: str | None,
    file_format: CatalogFormat,
) -> Response:
    stored = services.storage.jobs.product(job, product, "parquet")
    if PRODUCTS[product].kind not in ("catalog", "footprints"):
        raise product_problem("product.unknown", product, "{} is not a catalogue.")
    if stored is None:
        raise missing_product(job, product)
    if file_format is CatalogFormat.PARQUET and choice.is_everything:
        return product_response(request, services.storage, stored)
    if PRODUCTS[product].kind == "footprints":
        raise product_problem("catalog.invalid_query", product, "{} comes as Parquet only (format=parquet), whole.")
    if file_format is not CatalogFormat.JSON:
        return _file(request, services, stored, choice, file_format.value)
    page = _page(services, job, product, stored, choice, limit, after)
    headers = {"Link": next_link(request, page.next)} if page.next is not None else {}
    return FiniteJSONResponse(_page_document(page), headers=headers)


def _page(
    services: Services,
    job: JobRecord,
    product: str,
    stored: ProductRecord,
    choice: Choice,
    limit: int,
    after: str | None,
) -> CatalogPage:
    """A page of rows as they stand from storage; everything else is worked out on the stored file."""
    if choice.takes_all_rows:
        names = None if choice.columns is None else column_names(choice.columns)
        try:
            page = services.storage.catalogs.page(job, stored.product, columns=names, after=after, limit=limit)
        except KeyError:
            pass  # a short name, or none at all: the file knows
        except ValueError:
            raise Problem("page.invalid_cursor", f"{after!r} is not a marker of this list.") from None
        else:
            if page is None:
                raise missing_product(job, product)
            return page
    with services.storage.blobs.local_copy(stored.sha256) as path, CatalogFile(path) as file:
        return file_page(file, parse_row_query(choice, file), limit, after)


def _page_document(page: CatalogPage) -> dict[str, Any]:
    names = [column.name for column in page.columns]
    return {
        "items": [dict(zip(names, row, strict=True)) for row in page.rows],
        "next": page.next,
        "total": page.total,
        "columns": [
            {"name": column.name, "dtype": column.dtype, "unit": column.unit, "description": column.doc}
            for column in page.columns
        ],
    }


def _file(request: Request, services: Services, stored: ProductRecord, choice: Choice, file_format: str) -> Response:
    """The rows in another format, written to a scratch file without a name, which ends with the answer."""
    with services.storage.blobs.local_copy(stored.sha256) as path, CatalogFile(path) as file:
        query = parse_row_query(choice, file)
        # Bytes differ between versions of the code that writes them.
        key = hashlib.sha256(f"{stored.sha256} {file_format} {query} {code_version()}".encode()).hexdigest()
        etag = f'"{key}"'
        if (unchanged := not_modified(request, etag)) is not None:
            return unchanged
        services.settings.scratch_dir.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryFile(dir=services.settings.scratch_dir)  # noqa: SIM115 - closed with the answer
        try:
            _write(file, query, scratch, file_format)
            return file_response(
                request,
                FileReader(scratch),
                etag=etag,
                media_type=CATALOG_MEDIA_TYPES[file_format],
                filename=stored.product + formats.CATALOG_FORMATS[file_format][1],
            )
        except BaseException:
            scratch.close()
            raise


def _write(file: CatalogFile, query: RowQuery, scratch: BinaryIO, file_format: str) -> None:
    formats.write_table(file.table(query.columns, select_rows(file, query)), scratch, file_format)
