"""One job: what was observed and how good it is, the image with what was found on it, and all that made it so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Query, Request, Response

from api.dashboard.failure import explain
from api.dashboard.job_config import changed, matching, settings
from api.dashboard.job_facts import LOOKS, figures, observed, stage_bars, statistics, title
from api.dashboard.job_layers import LAYERS
from api.dashboard.route import page_router
from api.dashboard.templating import render
from api.dependencies import Job, Using, missing_product
from api.image_work import IMAGE
from api.job_documents import error_document, full_document
from service.analysis.diagnostics import DIAGNOSTICS
from service.instruments import UnknownInstrumentError
from service.storage.products import PRODUCTS
from service.storage.records import Phase, Scope

if TYPE_CHECKING:
    from api.dependencies import Services
    from service.storage.records import JobRecord

__all__ = ["router"]

router = page_router()

_MAX_LOG_LINES = 500
#: What a good run looks like in each figure.
_GOOD = {
    "background": "Good: smooth, without the shapes of stars or galaxies. Steps along amplifiers: bias or gain.",
    "psf_residuals": "Good: scatter about zero without a pattern. A gradient asks for a higher order of the model.",
    "ellipticity_whiskers": "Good: short whiskers, those of stars along those of the model beside them.",
    "aperture_correction_map": "Good: within some percent of one, and smooth. Slopes at the rim: few stars.",
    "astrometric_residuals": "Good: no swirl, a cloud about zero. Vectors that turn together: a distortion is left.",
    "zero_point": "Good: a narrow peak, level with magnitude and colour. A slope with colour asks for colour terms.",
    "completeness": "Good: counts rise to near the limit. An early fall tells of clouds, or of too high a threshold.",
}


@router.get("/jobs/{job_id}")
def show_job(request: Request, services: Using, job: Job) -> Response:
    """All of a job."""
    return render(request, "job.html", is_part=False, **_status(services, job), **_results(services, job))


@router.get("/parts/jobs/{job_id}/status")
def show_status(request: Request, services: Using, job: Job) -> Response:
    """What changes while a job waits and runs; once it has ended the page as a whole is another."""
    response = render(request, "parts/job_status.html", is_part=True, **_status(services, job))
    if job.is_terminal:
        response.headers["HX-Refresh"] = "true"
    return response


@router.get("/jobs/{job_id}/config")
def show_config(
    request: Request,
    services: Using,
    job: Job,
    words: Annotated[str, Query(alias="q", max_length=200)] = "",
) -> Response:
    """Every value of the configuration, or those that have to do with some words."""
    config = services.storage.jobs.document(job, "config")
    if config is None:
        raise missing_product(job, "configuration")
    found = settings(config, job, _of_instrument(services, job))
    return render(
        request, "job_config.html", job=job, settings=matching(found, words), total=len(found), words=words.strip()
    )


def _status(services: Services, job: JobRecord) -> dict[str, Any]:
    """Where a job stands."""
    return {
        "job": full_document(services, job),
        "is_active": not job.is_terminal,
        "look": LOOKS[job.phase],
        "error": None if job.error is None else error_document(job.error),
    }


def _results(services: Services, job: JobRecord) -> dict[str, Any]:
    """What it was made of, and what it has come to."""
    reads = services.storage.jobs
    metadata = reads.document(job, "metadata") or {}
    provenance = reads.document(job, "provenance")
    config = reads.document(job, "config")
    summary = services.storage.summaries.get(job)
    inputs = _inputs(services, job, provenance)
    seen = observed(inputs[0]["metadata"] if inputs else {}, job)
    made = {stored.product for stored in reads.products(job)}
    found = [] if config is None else settings(config, job, _of_instrument(services, job))
    lines = reads.log(job)
    return {
        "failure": None if job.error is None else explain(services, job),
        "seen": seen,
        "title": title(seen, inputs[0]["filename"] if inputs else None, job.id),
        "figures": [] if summary is None else figures(summary, metadata),
        "groups": {} if summary is None else statistics(summary),
        "has_image": job.phase is not Phase.ARCHIVED and IMAGE in made,
        "layers": " ".join(layer for layer, product in LAYERS.items() if product in made),
        "diagnostics": [(name, kind.title, kind.doc, _GOOD[name]) for name, kind in DIAGNOSTICS.items()],
        "stages": stage_bars(reads.stages(job)),
        "settings": changed(found),
        "setting_count": len(found),
        "metadata": {name: value for name, value in metadata.items() if not isinstance(value, dict | list)},
        "provenance": provenance,
        "inputs": inputs,
        "kinds": PRODUCTS,
        "log": lines[-_MAX_LOG_LINES:],
        "log_length": len(lines),
    }


def _of_instrument(services: Services, job: JobRecord) -> dict[str, Any]:
    """What the instrument of a job puts into its configuration, as far as it is known here today."""
    try:
        return services.submissions.instruments.get(job.spec["instrument"]["name"]).configuration
    except UnknownInstrumentError:
        return {}


def _inputs(services: Services, job: JobRecord, provenance: dict[str, Any] | None) -> list[dict[str, Any]]:
    """What a run has read of its files; before it, what the service has read of them when they came."""
    if provenance is not None and provenance.get("inputs"):
        inputs: list[dict[str, Any]] = provenance["inputs"]
        return inputs
    exposures = (services.storage.exposures.get(Scope(job.owner), given["id"]) for given in job.spec["exposures"])
    return [
        {"filename": one.filename, "sha256": one.sha256, "format": one.format, "metadata": _with_origins(one.metadata)}
        for one in exposures
        if one is not None
    ]


def _with_origins(metadata: dict[str, Any]) -> dict[str, Any]:
    origins = metadata.get("origins", {})
    return {name: {"value": value, "origin": origins.get(name)} for name, value in metadata.get("values", {}).items()}
