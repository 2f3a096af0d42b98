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
from service.jobs.night_report import verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.analysis.control_limits import Limits
    from service.analysis.exposure_quality import Quantity
    from service.jobs.night_baseline import Group
    from service.jobs.night_report import Night, NightExposure

__all__ = ["cut", "night_document", "trends_document"]


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
    """All that was measured in a night, quantity by quantity."""
    groups: dict[Group, list[NightExposure]] = {}
    for exposure in reversed(night.counted):
        groups.setdefault(exposure.group, []).append(exposure)
    ordered = sorted(groups.items(), key=_group_order)
    trends = [
        TrendDocument(
            quantity=_quantity(quantity),
            series=[_series(night, quantity.name, group, exposures) for group, exposures in ordered],
        )
        for quantity in QUANTITIES.values()
    ]
    return TrendsDocument(night=night.night, baseline=list(night.baseline.nights), trends=trends)


def _series(night: Night, name: str, group: Group, exposures: Sequence[NightExposure]) -> SeriesDocument:
    as_difference = name == "zero_point"
    shown = [
        (exposure, figure, figure.difference if as_difference else figure.value)
        for exposure in exposures
        if (figure := exposure.figures.get(name)) is not None
    ]
    points = [(exposure, figure, value) for exposure, figure, value in shown if value is not None]
    limits = night.baseline.limits.get(group, {}).get(name)
    medians = night.baseline.medians.get(group, {}).get(name)
    return SeriesDocument(
        instrument=group[0],
        band=group[1],
        job_id=[exposure.row["id"] for exposure, _, _ in points],
        time=[exposure.row["observed_at"] or exposure.row["created_at"] for exposure, _, _ in points],
        value=[value for _, _, value in points],
        standing=[figure.standing for _, figure, _ in points],
        limits=None if limits is None else _limits(group, name, limits),
        before=[] if medians is None else [value if math.isfinite(value) else None for value in medians.tolist()],
    )


def _exposure(exposure: NightExposure) -> NightExposureDocument:
    row = exposure.row
    same = ("phase", "stage", "progress", "observed_at", "instrument", "band", "target", "visit", "detector")
    return NightExposureDocument(
        job_id=row["id"],
        state=exposure.state,  # type: ignore[arg-type]
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
                standing=figure.standing,  # type: ignore[arg-type]
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
        worse=quantity.worse,  # type: ignore[arg-type]
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
