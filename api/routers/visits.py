"""Visits: all detectors of one pointing together."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path, Query

from api.dependencies import Owner, Using
from api.job_documents import error_document
from api.problems import Problem
from api.responses import problems
from api.schemas.visits import DetectorDocument, SpreadDocument, VisitSummaryDocument
from service.jobs.visits import AmbiguousVisitError, VisitSummary, summarize_visit

__all__ = ["router"]

router = APIRouter(prefix="/v1/visits", tags=["summaries"])

_LARGEST = (1 << 63) - 1  # of SQL


@router.get("/{visit}/summary", responses=problems(404, 422))
def get_visit_summary(
    services: Using,
    owner: Owner,
    visit: Annotated[int, Path(ge=0, le=_LARGEST, description="Visit number.")],
    instrument: Annotated[
        str | None, Query(max_length=200, description="Needed where several have a visit of this number.")
    ] = None,
    run_id: Annotated[str | None, Query(max_length=200, description="Only jobs of this run.")] = None,
) -> VisitSummaryDocument:
    """The newest result of each detector, complete or partial, and the range of each statistic over them."""
    try:
        found = summarize_visit(services.storage, owner, visit, instrument=instrument, run_id=run_id)
    except AmbiguousVisitError as error:
        names = ", ".join(error.args)
        raise Problem(
            "request.invalid",
            f"Several instruments have a visit {visit}: {names}.",
            errors=[{"parameter": "instrument", "detail": f"must be one of {names}", "code": "missing"}],
        ) from None
    if found is None:
        raise Problem("visit.not_found", f"There is no result of a visit {visit}.")
    return _document(found)


def _document(found: VisitSummary) -> VisitSummaryDocument:
    detectors = []
    for row in found.detectors:
        error, base = row["error"], f"/v1/jobs/{row['job_id']}"
        links = {"job": base, **{part: f"{base}/{part}" for part in ("summary", "metadata", "products")}}
        detectors.append(
            DetectorDocument.model_validate(
                row | {"error": None if error is None else error_document(error), "links": links}
            )
        )
    return VisitSummaryDocument(
        visit=found.visit,
        instrument=found.instrument,
        n_detectors=len(detectors),
        n_partial=sum(detector.error is not None for detector in detectors),
        detectors=detectors,
        statistics={
            name: None if spread is None else SpreadDocument(**asdict(spread)) for name, spread in found.spreads.items()
        },
    )
