"""Documents of nights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from api.job_documents import error_document
from api.schemas.nights import (
    FigureDocument,
    Finding,
    LimitsDocument,
    NightDocument,
    NightExposureDocument,
    QuantityDocument,
    SeriesDocument,
    TrendDocument,
    TrendsDocument,
)
from service.analysis.exposure_quality import QUANTITIES
from service.jobs.night_report import compared, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.analysis.control_limits import Limits
    from service.analysis.exposure_quality import Quantity
    from service.jobs.night_baseline import Group
    from service.jobs.night_report import Night, NightExposure

__all__ = ["cut", "night_document", "trends_document"]

#: Decimals of values for charts.
_DIGITS = 5


def cut(
    exposures: Sequence[NightExposure], after: str | None, limit: int
) -> tuple[Sequence[NightExposure], str | None]:
    """A page of exposures, and the cursor of the next one; nothing behind a job that is no longer there."""
    start = 0
    if after is not None:
        start = next((n for n, exposure in enumerate(exposures, 1) if exposure.row["id"] == after), len(exposures))
    page = exposures[start : start + limit]
    return page, page[-1].row["id"] if start + limit < len(exposures) else None


def night_document(night: Night, exposures: Sequence[NightExposure], cursor: str | None) -> NightDocument:
    """A night with some of its exposures."""
    worst = night.worst
    return NightDocument(
        night=night.night,
        previous=night.previous,
        following=night.following,
        verdict=verdict(night),
        counts=night.counts,
        medians=night.medians,
        worst=None if worst is None else Finding(job_id=worst[0].row["id"], quantity=worst[1]),
        choices={name: list(values) for name, values in night.choices.items()},
        quantities=[_quantity(quantity) for quantity in QUANTITIES.values()],
        baseline=list(night.baseline.nights),
        limits=[
            _limits(group, name, found)
            for group, limits in sorted(night.baseline.limits.items(), key=_group_order)
            for name, found in limits.items()
        ],
        exposures=[_exposure(exposure) for exposure in exposures],
        next=cursor,
    )


def trends_document(night: Night) -> TrendsDocument:
    """All that was measured in exposures that are done, by instrument and band; a failure has no accepted figures."""
    groups: dict[Group, list[NightExposure]] = {}
    for exposure in reversed(night.counted):
        if exposure.figures and exposure.state == "done":
            groups.setdefault(exposure.group, []).append(exposure)
    series = [
        SeriesDocument(
            instrument=group[0],
            band=group[1],
            job_id=[exposure.row["id"] for exposure in exposures],
            time=[exposure.row["observed_at"] or exposure.row["created_at"] for exposure in exposures],
            trends={name: _trend(night, name, group, exposures) for name in QUANTITIES},
        )
        for group, exposures in sorted(groups.items(), key=_group_order)
    ]
    quantities = [_quantity(quantity) for quantity in QUANTITIES.values()]
    return TrendsDocument(night=night.night, baseline=list(night.baseline.nights), quantities=quantities, series=series)


def _trend(night: Night, name: str, group: Group, exposures: Sequence[NightExposure]) -> TrendDocument:
    figures = [exposure.figures.get(name) for exposure in exposures]
    limits = night.baseline.limits.get(group, {}).get(name)
    medians = night.baseline.medians.get(group, {}).get(name)
    return TrendDocument(
        value=[None if (value := compared(name, figure)) is None else round(value, _DIGITS) for figure in figures],
        outside=[n for n, figure in enumerate(figures) if figure is not None and figure.standing == "outside"],
        limits=None if limits is None else _limits(group, name, limits),
        before=[] if medians is None else [round(v, _DIGITS) if math.isfinite(v) else None for v in medians.tolist()],
    )


def _exposure(exposure: NightExposure) -> NightExposureDocument:
    row = exposure.row
    same = ("phase", "stage", "progress", "observed_at", "instrument", "band", "target", "visit", "detector")
    return NightExposureDocument(
        job_id=row["id"],
        state=exposure.state,
        **{name: row[name] for name in same},
        submitted_at=row["created_at"],
        exposure_time=row["exposure_time"],
        superseded=exposure.is_superseded,
        stars=row["stars"],
        psf_stars=row["nPsfStar"],
        figures={
            name: FigureDocument(
                value=figure.value,
                expected=figure.expected,
                low=figure.low,
                high=figure.high,
                standing=figure.standing,
            )
            for name, figure in exposure.figures.items()
        },
        warnings=list(row["warnings"]),
        error=None if row["error"] is None else error_document(row["error"]),
    )


def _quantity(quantity: Quantity) -> QuantityDocument:
    return QuantityDocument(
        name=quantity.name,
        title=quantity.title,
        unit=quantity.unit,
        worse=quantity.worse,
        description=quantity.doc,
    )


def _limits(group: Group, name: str, limits: Limits) -> LimitsDocument:
    return LimitsDocument(
        instrument=group[0],
        band=group[1],
        quantity=name,
        center=limits.center,
        low=limits.low,
        high=limits.high,
        n=limits.n,
    )


def _group_order(item: tuple[Group, Any]) -> tuple[str, str]:
    instrument, band = item[0]
    return instrument or "", band or ""
