"""Files on their way in: chosen, looked at, sent and calibrated on one page."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Query, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from api.bodies import parse_json
from api.dashboard.route import page_router
from api.dashboard.templating import PAGE_HEADERS, render
from api.dependencies import Owner, Services, Using
from api.problems import Problem, problem_of
from api.routers.config import list_presets
from api.routers.exposures import receive_files
from api.routers.instruments import list_instruments
from api.routers.refcats import list_refcats
from api.schemas.jobs import JobParameters
from api.submission import MAX_SNAPS, submit
from service.formats.metadata import METADATA_KEYS
from service.refcats.coverage import covers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.storage.records import Scope

__all__ = ["Choices", "choices", "job_parameters", "router"]

router = page_router()

#: What files lack most often; everything else can be said of a single file after it was looked at.
_ASKED = ("band", "exposure_time", "gain", "read_noise", "saturation", "mjd", "ra", "dec", "pixel_scale")
_PREFIX = "metadata."
Choices = dict[str, Any]


def choices(services: Services, owner: Scope) -> Choices:
    """What a job can be made with: presets, instruments, reference catalogues and metadata, for the menus of a form."""
    return {
        "presets": list_presets().items,
        "instruments": list_instruments(services).items,
        "refcats": list_refcats(services, owner).items,
        "keys": {name: {"type": key.type, "unit": key.unit, "doc": key.doc} for name, key in METADATA_KEYS.items()},
    }


@router.get("/upload")
def show_upload(request: Request, services: Using, owner: Owner) -> Response:
    """The form; scripts of the page take over where they run."""
    return _page(request, services, owner)


@router.post("/upload")
async def take_upload(request: Request, services: Using, owner: Owner) -> Response:
    """Take files and make a job of them, for browsers without scripts: leads to the job."""
    try:
        received = await receive_files(request, services, owner, {"file": MAX_SNAPS})
        document = job_parameters(received.fields, [record.id for _, record, _ in received.records])
        parameters = parse_json(json.dumps(document).encode(), JobParameters, what="form")
        answer = await submit(services, owner, parameters, None)
    except Exception as error:
        problem = error if isinstance(error, Problem) else problem_of(error)
        if problem is None or problem.kind.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise
        return await run_in_threadpool(_page, request, services, owner, problem)
    return RedirectResponse(answer.headers["Location"].removeprefix("/v1"), HTTPStatus.SEE_OTHER)


@router.get("/parts/upload/coverage")
def show_coverage(
    services: Using,
    owner: Owner,
    ra: Annotated[float, Query(ge=-360, le=360)],
    dec: Annotated[float, Query(ge=-90, le=90)],
) -> Response:
    """Whether each reference catalogue has stars around a position; null where only its host knows."""
    found = {
        catalog.name: None if catalog.remote else covers(catalog.info, ra, dec)
        for catalog in list_refcats(services, owner).items
    }
    return JSONResponse(found, headers=dict(PAGE_HEADERS))


def job_parameters(fields: Mapping[str, str], exposures: list[str]) -> dict[str, Any]:
    """The body of a submission from the fields of the form; what was left empty is not said.

    Parameters
    ----------
    fields : mapping of str to str
        As the form names them; ``metadata.gain`` is the gain.
    exposures : list of str
        Ids of the files.

    Raises
    ------
    Problem
        ``request.invalid``: the form has no such field.
    """
    given = {name: value.strip() for name, value in fields.items() if value.strip()}
    document: dict[str, Any] = {"exposures": exposures}
    metadata = {name.removeprefix(_PREFIX): given.pop(name) for name in list(given) if name.startswith(_PREFIX)}
    document["references"] = {use: given.pop(use, "none") for use in ("astrometry", "photometry")}
    document |= {name: given.pop(name) for name in ("preset", "instrument", "run_id") if name in given}
    if given:
        raise Problem("request.invalid", f"The form has no field {next(iter(given))!r}.")
    return {**document, "metadata": metadata}


def _page(request: Request, services: Services, owner: Scope, problem: Problem | None = None) -> Response:
    menus = choices(services, owner)
    return render(
        request,
        "upload.html",
        status=200 if problem is None else problem.kind.status,
        asked={name: menus["keys"][name] for name in _ASKED},
        problem=None if problem is None else problem.document(),
        max_bytes=services.settings.max_upload_bytes,
        **menus,
    )
