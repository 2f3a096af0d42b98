"""Two runs side by side: what was done differently, and what that made of the same stars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Query, Request, Response

from api.dashboard.comparison import (
    config_differences,
    count_differences,
    stage_differences,
    statistic_differences,
)
from api.dashboard.job_facts import LOOKS
from api.dashboard.route import page_router
from api.dashboard.templating import render
from api.dependencies import Reach, Using, find_job
from api.image_work import IMAGE
from api.pictures import SOURCES, read_rows
from service.analysis.diagnostics import DIAGNOSTICS
from service.analysis.star_comparison import COMPARED_COLUMNS, compare_stars
from service.storage.records import Phase

if TYPE_CHECKING:
    from api.dependencies import Services
    from service.storage.records import JobRecord, Scope

__all__ = ["router"]

router = page_router()

_MOST_CHOICES = 50
#: Catalogues in which runs are compared, the later one first: both must have it.
_STARS = (SOURCES["sources"], SOURCES["psf_stars"])
One = Annotated[str, Query(max_length=100, description="Job id.")]
Other = Annotated[str | None, Query(max_length=100, description="Job id.")]


@router.get("/compare")
def show_comparison(request: Request, services: Using, owner: Reach, a: One, b: Other = None) -> Response:
    """Two runs, or the choice of the second among the runs of the first one's exposure."""
    first = find_job(services, owner, a)
    others = _runs_of_same(services, owner, first)
    if not b:
        return render(request, "compare_choice.html", first=first, others=others, looks=LOOKS)
    second = find_job(services, owner, b)
    return render(
        request,
        "compare.html",
        runs=[_run(services, run) for run in (first, second)],
        others=others,
        is_same_exposure=_exposures(first) == _exposures(second),
        looks=LOOKS,
        diagnostics=DIAGNOSTICS,
        **_differences(services, first, second),
    )


@router.get("/parts/compare/stars")
async def show_stars(request: Request, services: Using, owner: Reach, a: One, b: One) -> Response:
    """The stars of two runs against each other."""
    return await services.images.draw(lambda: _stars(request, services, owner, a, b))


def _stars(request: Request, services: Services, owner: Scope, a: str, b: str) -> Response:
    jobs = [find_job(services, owner, one) for one in (a, b)]
    made = [{product.product for product in services.storage.jobs.products(job)} for job in jobs]
    product = next((name for name in _STARS if all(name in products for products in made)), None)
    found = None
    if product is not None:
        first, second = (read_rows(services, job, product, COMPARED_COLUMNS) for job in jobs)
        found = compare_stars(first, second)
    is_active = not all(job.is_terminal for job in jobs)
    return render(
        request, "parts/compare_stars.html", found=found, is_active=is_active, is_psf_stage=product == _STARS[1]
    )


def _differences(services: Services, first: JobRecord, second: JobRecord) -> dict[str, Any]:
    reads = services.storage.jobs
    summaries = [services.storage.summaries.get(job) or {} for job in (first, second)]
    metadata = [reads.document(job, "metadata") or {} for job in (first, second)]
    configs = [reads.document(job, "config") or {} for job in (first, second)]
    return {
        "statistics": statistic_differences(summaries[0], summaries[1], metadata[0], metadata[1]),
        "counts": count_differences(metadata[0], metadata[1]),
        "settings": config_differences(configs[0], configs[1]),
        "stages": stage_differences(reads.stages(first), reads.stages(second)),
    }


def _run(services: Services, job: JobRecord) -> dict[str, Any]:
    """One of the two as the page heads its column."""
    products = {product.product: product for product in services.storage.jobs.products(job)}
    provenance = services.storage.jobs.document(job, "provenance") or {}
    return {
        "job": job,
        "look": LOOKS[job.phase],
        "has_image": job.phase is not Phase.ARCHIVED and IMAGE in products,
        "products": products,
        "references": {use: given["name"] if given else "none" for use, given in job.spec["references"].items()},
        "code": provenance.get("code_version") or provenance.get("code"),
    }


def _exposures(job: JobRecord) -> list[str]:
    return [given["id"] for given in job.spec["exposures"]]


def _runs_of_same(services: Services, owner: Scope, job: JobRecord) -> list[JobRecord]:
    """Other runs of the exposure, newest first."""
    page = services.storage.jobs.list(owner, input_id=_exposures(job)[0], limit=_MOST_CHOICES)
    return [one for one in page.items if one.id != job.id]
