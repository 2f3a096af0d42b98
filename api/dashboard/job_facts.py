"""What a job's page says of it: what was observed, the numbers that decide, where its seconds went."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.exposure.summary import summary_fields
from service.jobs.nights import observation
from service.storage.records import Phase

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.exposure.summary import SummaryField
    from service.storage.records import JobRecord, StageRecord

__all__ = [
    "GROUPS",
    "LOOKS",
    "Figure",
    "StageBar",
    "Statistic",
    "figures",
    "observed",
    "stage_bars",
    "statistics",
    "title",
]

_FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
_MAS = 1000.0

#: Class and word of each phase; the word tells the state where colours do not.
LOOKS = {
    Phase.PENDING: ("", "pending"),
    Phase.QUEUED: ("", "queued"),
    Phase.HELD: ("warn", "held"),
    Phase.SUSPENDED: ("warn", "suspended"),
    Phase.EXECUTING: ("run", "running"),
    Phase.COMPLETED: ("good", "completed"),
    Phase.ERROR: ("bad", "failed"),
    Phase.ABORTED: ("warn", "aborted"),
    Phase.UNKNOWN: ("warn", "unknown"),
    Phase.ARCHIVED: ("", "archived"),
}

#: Statistics by what they tell of; what stands in none is with the others at the end.
GROUPS: Mapping[str, Sequence[str]] = {
    "Depth and sky": (
        "magLim",
        "zeroPoint",
        "skyBg",
        "skyNoise",
        "meanVar",
        "expTime",
        "effTime",
        "effTimePsfSigmaScale",
        "effTimeSkyBgScale",
        "effTimeZeroPointScale",
    ),
    "PSF": (
        "psfSigma",
        "psfArea",
        "psfIxx",
        "psfIyy",
        "psfIxy",
        "nPsfStar",
        "maxDistToNearestPsf",
        "psfTraceRadiusDelta",
        "psfApFluxDelta",
        "psfApCorrSigmaScaledDelta",
        "psfAdaptiveThresholdValue",
        "psfAdaptiveIncludeThresholdMultiplier",
    ),
    "Stars against the PSF": (
        "psfStarDeltaE1Median",
        "psfStarDeltaE2Median",
        "psfStarDeltaE1Scatter",
        "psfStarDeltaE2Scatter",
        "psfStarDeltaSizeMedian",
        "psfStarDeltaSizeScatter",
        "psfStarScaledDeltaSizeScatter",
    ),
    "Place and astrometry": (
        "ra",
        "dec",
        "pixelScale",
        "zenithDistance",
        "astromOffsetMean",
        "astromOffsetStd",
        "refCatSourceDensity",
        "raCorners",
        "decCorners",
    ),
    "Shapes of stars": (
        "starEMedian",
        "starUnNormalizedEMedian",
        "starComa1Median",
        "starComa2Median",
        "starTrefoil1Median",
        "starTrefoil2Median",
        "starKurtosisMedian",
        "starE41Median",
        "starE42Median",
    ),
}
_OTHERS = "Image quality by shapelets"


@dataclass(frozen=True, slots=True)
class Figure:
    """One of the numbers at the top; ``doc`` is what it means, ``beside`` what is said below it."""

    label: str
    value: float | int | None
    digits: int
    unit: str
    doc: str
    beside: str = ""


@dataclass(frozen=True, slots=True)
class Statistic:
    """A declared statistic with its value; lists are of numbers or None."""

    field: SummaryField
    value: Any


@dataclass(frozen=True, slots=True)
class StageBar:
    """A stage with the part of the run before it and in it, percent."""

    stage: StageRecord
    start: float
    share: float


def observed(values: Mapping[str, Any], job: JobRecord) -> dict[str, Any]:
    """What an exposure is of.

    Parameters
    ----------
    values : mapping
        By the names of `service.formats.METADATA_KEYS`, each plain or with its origin (``{"value": ...}``).
    job : JobRecord
        Its own metadata go before those of the file.
    """
    plain = {name: item["value"] if isinstance(item, dict) else item for name, item in values.items()}
    given = {name: value for name, value in job.spec["metadata"].items() if value is not None}
    merged = {**plain, **given}
    return {**observation(merged, job.created_at), "physical_filter": merged.get("physical_filter")}


def title(seen: Mapping[str, Any], filename: str | None, job_id: str) -> str:
    """How a job is called: by its visit and detector, else by its file."""
    if seen["visit"] is None:
        return filename or job_id
    detector = "" if seen["detector"] is None else f", detector {seen['detector']}"
    return f"Visit {seen['visit']}{detector}"


def figures(summary: Mapping[str, Any], metadata: Mapping[str, Any]) -> list[Figure]:
    """The numbers by which an observer tells a good exposure from a bad one."""

    def number(name: str) -> Any:
        return summary.get(name)

    sigma, scale, offset = number("psfSigma"), number("pixelScale"), number("astromOffsetMean")
    seeing = None if sigma is None or scale is None else sigma * scale * _FWHM_PER_SIGMA
    return [
        Figure(
            "Seeing",
            seeing,
            2,
            "arcsec",
            "FWHM of a Gaussian with the PSF's size at the centre of the image",
            _said("{:.2f} px", None if sigma is None else sigma * _FWHM_PER_SIGMA),
        ),
        Figure(
            "Zero point",
            number("zeroPoint"),
            3,
            "mag",
            "AB magnitude of one count",
            _said("± {:.4f} mag", metadata.get("zero_point_sigma")),
        ),
        Figure(
            "Depth",
            number("magLim"),
            2,
            "mag",
            "AB magnitude of a point source at S/N 5",
            _said("sky noise {:.1f} ct", number("skyNoise")),
        ),
        Figure(
            "Astrometry",
            None if offset is None else _MAS * offset,
            1,
            "mas",
            "clipped mean of the distances of stars to their references",
            _said("{} references", metadata.get("astrometry_matches_count")),
        ),
        Figure(
            "PSF stars",
            number("nPsfStar"),
            0,
            "",
            "stars that made the model of the PSF",
            _said("of {} candidates", metadata.get("psf_measure_psf.numAvailStars")),
        ),
        Figure(
            "Stars",
            metadata.get("star_count"),
            0,
            "",
            "rows of the star catalogue without places of empty sky; a blend counts beside its parts",
            _said("{} for the zero point", metadata.get("zero_point_n_stars")),
        ),
    ]


def _said(words: str, value: Any) -> str:
    return "" if value is None else words.format(value)


def statistics(summary: Mapping[str, Any]) -> dict[str, list[Statistic]]:
    """All statistics of a job in groups."""
    fields = {field.name: field for field in summary_fields()}
    grouped = {group: [fields.pop(name) for name in names] for group, names in GROUPS.items()}
    grouped[_OTHERS] = list(fields.values())
    return {
        group: [Statistic(field, summary.get(field.name)) for field in members] for group, members in grouped.items()
    }


def stage_bars(stages: Sequence[StageRecord]) -> list[StageBar]:
    """Stages one after another on a common scale."""
    total = sum(stage.seconds for stage in stages) or 1.0
    bars, before = [], 0.0
    for stage in stages:
        bars.append(StageBar(stage, 100.0 * before / total, 100.0 * stage.seconds / total))
        before += stage.seconds
    return bars
