"""Every exposure of a night as it comes, and how the night stands against those before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import Depends, Query, Request
from fastapi.responses import Response

from api.dashboard.night_rows import night_rows
from api.dashboard.route import page_router
from api.dashboard.templating import render
from api.dependencies import Owner, Using
from api.night_documents import cut
from api.problems import Problem
from service.analysis.exposure_quality import QUANTITIES
from service.jobs.night_report import STATES, Selection, verdict

if TYPE_CHECKING:
    from api.dependencies import Services
    from service.jobs.night_report import Night
    from service.storage.records import Scope

__all__ = ["router"]

router = page_router()

_ROWS = 100
_NIGHTS = 90


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the address asks for; None or False for everything.

    Parameters
    ----------
    night : date or None
        The newest one by default.
    selection : Selection
        Exposures that are shown and counted.
    state : str or None
        Of those in the table.
    outside : bool
        Only those outside their limits in the table.
    """

    night: date | None
    selection: Selection
    state: str | None
    outside: bool

    @property
    def is_filtered(self) -> bool:
        """Whether something may be left out."""
        return self.state is not None or self.outside or any(self.selection.wanted.values())

    def query(self, **changes: Any) -> str:
        """The address with changes: ``?band=r``."""
        values = {"night": self.night, **self.selection.wanted, "state": self.state, "outside": self.outside or None}
        given = {name: value for name, value in {**values, **changes}.items() if value is not None}
        return f"?{urlencode(given)}" if given else "/"


# A form sends what was left empty too.
async def _wanted(
    night: Annotated[date | Literal[""], Query()] = "",
    instrument: Annotated[str, Query(max_length=255)] = "",
    band: Annotated[str, Query(max_length=40)] = "",
    target: Annotated[str, Query(max_length=255)] = "",
    run_id: Annotated[str, Query(max_length=200)] = "",
    state: Annotated[Literal["", "waiting", "running", "done", "failed", "aborted"], Query()] = "",
    outside: Annotated[bool, Query()] = False,
) -> Wanted:
    selection = Selection(instrument or None, band or None, target or None, run_id or None)
    return Wanted(night or None, selection, state or None, outside)


Asked = Annotated[Wanted, Depends(_wanted)]
After = Annotated[str | None, Query(max_length=100)]


@router.get("/")
def show_tonight(request: Request, services: Using, owner: Owner, wanted: Asked, after: After = None) -> Response:
    """The newest night, or another one."""
    found = _night(services, owner, wanted)
    nights = services.storage.nights.dates(owner, limit=_NIGHTS)
    shown = _shown(services, owner, found, wanted, after)
    return render(request, "tonight.html", nights=nights, states=STATES, **shown)


@router.get("/parts/tonight")
def show_part(request: Request, services: Using, owner: Owner, wanted: Asked, after: After = None) -> Response:
    """What of it changes while exposures come."""
    found = _night(services, owner, wanted)
    return render(request, "parts/tonight.html", **_shown(services, owner, found, wanted, after))


def _night(services: Services, owner: Scope, wanted: Wanted) -> Night | None:
    """None where there is no job at all."""
    which = wanted.night or services.nights.latest(owner, wanted.selection.run_id)
    if which is None:
        return None
    found = services.nights.report(owner, which, wanted.selection)
    if found is None:
        raise Problem("night.not_found", f"No exposure was taken in the night of {which:%Y-%m-%d}.")
    return found


def _shown(services: Services, owner: Scope, night: Night | None, wanted: Wanted, after: str | None) -> dict[str, Any]:
    if night is None:
        return {"night": None, "wanted": wanted}
    page, cursor = cut(night.filtered(wanted.state, outside=wanted.outside), after, _ROWS)
    elsewhere = {other: n for other, n in services.storage.nights.active(owner).items() if other != night.night}
    return {
        "night": night,
        "wanted": wanted,
        "quantities": QUANTITIES,
        "counts": night.counts,
        "medians": night.medians,
        "worst": None if night.worst is None else (*night_rows([night.worst[0]]), QUANTITIES[night.worst[1]]),
        "verdict": verdict(night),
        "rows": night_rows(page),
        "cursor": cursor,
        "after": after,
        "elsewhere": sorted(elsewhere.items(), reverse=True),
    }
