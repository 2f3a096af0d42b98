"""Reference catalogues: what there is, where on the sky, and a way to add one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from api.access import Asker
from api.dashboard import sky_map
from api.dashboard.route import page_router
from api.dashboard.templating import render
from api.dependencies import Owner, Using
from api.routers.refcats import RefcatName, delete_refcat, list_refcats
from service.refcats.coverage import covered_cells

if TYPE_CHECKING:
    from api.dependencies import Services
    from api.schemas.refcats import RefcatDocument
    from service.identity.principal import Principal

__all__ = ["CatalogRow", "catalog_row", "router"]

router = page_router()

_COLORS = 5
#: Smaller than this a catalogue is only a dot on the map, which a ring points out [deg2].
_SMALL = 400.0
_WHOLE_SKY = 41_000.0


@dataclass(frozen=True, slots=True)
class CatalogRow:
    """A catalogue in the list and on the map.

    Parameters
    ----------
    number : int
        In the list, from 1; the mark on the map has it too.
    color : int
        Of the palette of charts, 1 to 5.
    name, rows, bands, remote, created_at
        As in its document.
    origin : str
        ``yours``, ``for all``, or ``remote``.
    epoch : str or None
        Julian year of the positions, or their range.
    has_proper_motion : bool
        Whether positions can be moved to the epoch of an exposure.
    size_bytes : int or None
        On disk.
    area : float or None
        Of the cells of the sky that it fills [deg2]; None for a remote one.
    is_whole_sky, is_small : bool
        How the map shows it.
    path : str
        Its cells on the map.
    place : (float, float) or None
        Where its mark is on the map.
    is_removable : bool
        Whether who asks may remove it.
    """

    number: int
    color: int
    name: str
    rows: int | None
    bands: list[str]
    remote: Any
    created_at: datetime | None
    origin: str
    epoch: str | None
    has_proper_motion: bool
    size_bytes: int | None
    area: float | None
    is_whole_sky: bool
    is_small: bool
    path: str
    place: tuple[float, float] | None
    is_removable: bool


def catalog_row(number: int, document: RefcatDocument, *, is_removable: bool) -> CatalogRow:
    """A catalogue as the page shows it.

    Parameters
    ----------
    number : int
        In the list, from 1.
    document : RefcatDocument
        What the interface says of it.
    is_removable : bool
        Whether who asks may remove it.
    """
    info = document.info
    cells = covered_cells(info)
    area = sky_map.area(cells) if document.remote is None else None
    return CatalogRow(
        number=number,
        color=(number - 1) % _COLORS + 1,
        name=document.name,
        rows=document.rows,
        bands=document.bands,
        remote=document.remote,
        created_at=document.created_at,
        origin="remote" if document.remote else "for all" if document.shared else "yours",
        epoch=_epoch(info.get("epoch_min"), info.get("epoch_max")),
        has_proper_motion=bool(info.get("has_proper_motion")),
        size_bytes=info.get("size_bytes"),
        area=area,
        is_whole_sky=area is not None and area > _WHOLE_SKY,
        is_small=area is not None and area < _SMALL,
        path=sky_map.cell_path(cells),
        place=sky_map.middle(cells),
        is_removable=is_removable,
    )


def _epoch(first: float | None, last: float | None) -> str | None:
    if first is None or last is None:
        return None
    return f"J{first:.1f}" if last - first < 0.05 else f"J{first:.1f} to {last:.1f}"


@router.get("/refcats")
def show_refcats(request: Request, services: Using, asker: Asker) -> Response:
    """All catalogues that jobs can name."""
    return render(request, "refcats.html", **_context(services, asker))


@router.get("/parts/refcats")
def show_refcats_part(request: Request, services: Using, asker: Asker) -> Response:
    """The same without the frame and the form, after a change."""
    return render(request, "parts/refcats.html", **_context(services, asker))


@router.post("/refcats/{name}/delete")
def remove_refcat(request: Request, services: Using, owner: Owner, asker: Asker, name: RefcatName) -> Response:
    """Remove a catalogue, and show the others."""
    delete_refcat(services, owner, name)
    if request.headers.get("hx-request") == "true":
        return render(request, "parts/refcats.html", **_context(services, asker))
    return RedirectResponse("/refcats", HTTPStatus.SEE_OTHER)


def _context(services: Services, asker: Principal) -> dict[str, Any]:
    may_submit = "submit" in asker.permissions
    rows = [
        catalog_row(
            number,
            document,
            is_removable=may_submit
            and document.remote is None
            and (not document.shared or asker.owner == services.settings.local_owner),
        )
        for number, document in enumerate(list_refcats(services, asker.scope).items, 1)
    ]
    return {"rows": rows, "may_submit": may_submit, "grid": sky_map.GRID, "view_box": sky_map.VIEW_BOX}
