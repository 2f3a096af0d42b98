"""Nights: exposures against what is usual."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import Field

from api.schemas.common import Document
from api.schemas.jobs import JobErrorDocument, PhaseName

__all__ = [
    "FigureDocument",
    "Finding",
    "LimitsDocument",
    "NightCountDocument",
    "NightDocument",
    "NightExposureDocument",
    "QuantityDocument",
    "SeriesDocument",
    "StateName",
    "TrendDocument",
    "TrendsDocument",
]

StateName = Literal["waiting", "running", "done", "failed", "aborted"]
Standing = Annotated[
    Literal["usual", "better", "outside"] | None,
    Field(description="`outside` the limits on the side of trouble, `better` on the other; null without limits."),
]


class NightCountDocument(Document):
    """A night with jobs."""

    night: Annotated[date, Field(description="Date of its evening at the observatory.")]
    jobs: int
    active: Annotated[int, Field(description="Not ended yet.")]
    failed: int


class FigureDocument(Document):
    """A value against the usual."""

    value: float
    expected: Annotated[float | None, Field(description="Median of the nights before.")]
    low: float | None
    high: float | None
    standing: Standing


class NightExposureDocument(Document):
    """A job of a night."""

    job_id: str
    phase: PhaseName
    state: StateName
    stage: str | None
    progress: Annotated[float, Field(ge=0, le=1)]
    submitted_at: datetime
    observed_at: Annotated[datetime | None, Field(description="Middle of the exposure.")]
    instrument: str | None
    band: str | None
    target: Annotated[str | None, Field(description="What was looked at, as the header names it.")]
    visit: int | None
    detector: int | None
    exposure_time: Annotated[float | None, Field(description="s")]
    superseded: Annotated[bool, Field(description="A later job has calibrated the same exposure: this does not count.")]
    stars: Annotated[int | None, Field(description="Rows of the catalogue of stars.")]
    psf_stars: Annotated[int | None, Field(description="Stars that made the PSF.")]
    figures: Annotated[dict[str, FigureDocument], Field(description="By name of `quantities`.")]
    warnings: list[str]
    error: JobErrorDocument | None


class QuantityDocument(Document):
    """A figure of quality."""

    name: str
    title: str
    unit: str
    worse: Annotated[Literal["high", "low", "both"], Field(description="The side that tells of trouble.")]
    description: str


class LimitsDocument(Document):
    """What is usual for an instrument in a band; of the zero point for its difference from the expected."""

    instrument: str | None
    band: str | None
    quantity: str
    center: Annotated[float, Field(description="Median.")]
    low: Annotated[float, Field(description="Center less 3 x 1.4826 MAD.")]
    high: Annotated[float, Field(description="Center and 3 x 1.4826 MAD.")]
    n: Annotated[int, Field(description="Exposures of the nights before.")]


class Finding(Document):
    """An exposure, and the quantity in which it lies farthest outside."""

    job_id: str
    quantity: str


class NightDocument(Document):
    """A night, or what was chosen of it."""

    night: Annotated[date, Field(description="Date of its evening at the observatory.")]
    previous: Annotated[date | None, Field(description="The night with jobs before it.")]
    following: Annotated[date | None, Field(description="The night with jobs after it.")]
    verdict: Annotated[str, Field(description="A sentence or two for a person.")]
    counts: Annotated[dict[str, int], Field(description="Exposures by state, and those `outside` the limits.")]
    medians: Annotated[
        dict[str, float | None],
        Field(description="Of what is done, by quantity; of the zero point its difference from the expected."),
    ]
    worst: Finding | None
    choices: Annotated[dict[str, list[str]], Field(description="What the whole night has to choose from.")]
    quantities: list[QuantityDocument]
    baseline: Annotated[list[date], Field(description="Nights before that say what is usual.")]
    limits: list[LimitsDocument]
    exposures: Annotated[list[NightExposureDocument], Field(description="Newest first.")]
    next: Annotated[str | None, Field(description="Give it as `after` for more exposures; null at the end.")]


class TrendDocument(Document):
    """A quantity of an instrument in a band over a night; the zero point as difference from the expected."""

    value: Annotated[list[float | None], Field(description="An item an exposure, in the order of time.")]
    outside: Annotated[list[int], Field(description="Places in `value` of what lies outside the limits.")]
    limits: LimitsDocument | None
    before: Annotated[list[float | None], Field(description="Medians of the nights of `baseline`.")]


class SeriesDocument(Document):
    """An instrument in a band over a night."""

    instrument: str | None
    band: str | None
    job_id: list[str]
    time: Annotated[list[datetime], Field(description="Middle of the exposure, or of submission where not known.")]
    trends: Annotated[dict[str, TrendDocument], Field(description="By name of `quantities`.")]


class TrendsDocument(Document):
    """All that was measured in a night."""

    night: date
    baseline: Annotated[list[date], Field(description="Nights before.")]
    quantities: list[QuantityDocument]
    series: list[SeriesDocument]
