"""What a report shows, asked of the service; what a job has not made is left out."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from visitcal.documents import ACTIVE_PHASES
from visitcal.errors import ApiError, ServerError
from visitcal.report.config_changes import changes
from visitcal.report.inline_svg import SvgError, inline_svg

if TYPE_CHECKING:
    from collections.abc import Callable

    from visitcal.client import Client
    from visitcal.documents import JobDocument
    from visitcal.report.config_changes import Change
    from visitcal.result import Result

__all__ = ["Figure", "Report", "collect"]

T = TypeVar("T")
PICTURE_SIZE = 1100
OVERLAY = "psf_stars,references,residuals"


@dataclass(frozen=True)
class Figure:
    """A diagnostic with its figure, or the reason why there is none."""

    title: str
    description: str
    svg: str | None
    reason: str | None = None


@dataclass(frozen=True)
class Report:
    """All that a page shows of a job.

    Parameters
    ----------
    job : JobDocument
        The job.
    files : list of dict
        Exposures that it was made of, as the service keeps them.
    statistics : list of tuple
        Name, value, unit and meaning of each that was computed.
    figures : list of Figure
        Diagnostics.
    changes : list of Change
        Configuration other than the defaults.
    provenance : dict
        Versions, inputs, references; empty where there is none.
    picture : bytes, optional
        JPEG of the image with stars and references.
    """

    job: JobDocument
    files: list[dict[str, Any]] = field(default_factory=list)
    statistics: list[tuple[str, Any, str, str]] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    picture: bytes | None = None


def collect(client: Client, job_id: str) -> Report:
    """Ask for everything of a job.

    Raises
    ------
    NotFoundError
        There is no such job.
    """
    job = client.job(job_id)
    document, result = job.document, job.result
    files = [_if_there(partial(client.exposure, name)) for name in document["exposures"]]
    if document["phase"] in ACTIVE_PHASES:
        return Report(document, files=[dict(file) for file in files if file])
    config = _if_there(lambda: result.config)
    return Report(
        document,
        files=[dict(file) for file in files if file],
        statistics=_statistics(client, document),
        figures=_figures(result),
        changes=list(changes(config, client.config_schema())) if config else [],
        provenance=_if_there(lambda: result.provenance) or {},
        picture=_picture(result),
    )


def _if_there(question: Callable[[], T]) -> T | None:
    """An answer, or None where it is refused; a service that fails is another matter."""
    try:
        return question()
    except ServerError:
        raise
    except ApiError:
        return None


def _statistics(client: Client, job: JobDocument) -> list[tuple[str, Any, str, str]]:
    summary = job["summary"] or {}
    fields = client.summary_schema() if summary else []
    found = [(one["name"], summary.get(one["name"]), one["unit"], one["description"]) for one in fields]
    return [row for row in found if row[1] is not None and not isinstance(row[1], list)]


def _figures(result: Result) -> list[Figure]:
    figures: list[Figure] = []
    for name, told in (_if_there(lambda: result.diagnostics) or {}).items():
        svg = None
        if told["available"]:
            with suppress(SvgError):
                svg = inline_svg(result.figure(name), f"figure-{len(figures)}")
        figures.append(Figure(told["title"], told["description"], svg, told["reason"]))
    return figures


def _picture(result: Result) -> bytes | None:
    """With what was found drawn over it; plain where a failed job has not found that."""
    looks: list[dict[str, Any]] = [{"overlay": OVERLAY}, {"overlay": "psf_stars"}, {}]
    for look in looks:
        picture = _if_there(partial(result.picture, file_format="jpg", size=PICTURE_SIZE, **look))
        if picture is not None:
            return picture
    return None
