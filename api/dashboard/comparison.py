"""Differences of two runs: statistics, counts, configuration, times."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.exposure.summary import summary_fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from service.storage.records import StageRecord

__all__ = [
    "Difference",
    "config_differences",
    "count_differences",
    "stage_differences",
    "statistic_differences",
]


@dataclass(frozen=True, slots=True)
class Difference:
    """A value in both runs.

    Parameters
    ----------
    name, doc, unit : str
        What it is.
    a, b : JSON value
        Of each run; None where it has none.
    delta : float or None
        Second less first, where both are numbers.
    sigmas : float or None
        The same in standard errors of the difference, where these are known.
    """

    name: str
    doc: str
    unit: str
    a: Any
    b: Any
    delta: float | None = None
    sigmas: float | None = None

    @property
    def is_equal(self) -> bool:
        """Whether both are the same."""
        return bool(self.a == self.b)


def statistic_differences(
    a: Mapping[str, Any], b: Mapping[str, Any], metadata_a: Mapping[str, Any], metadata_b: Mapping[str, Any]
) -> list[Difference]:
    """Scalar summary statistics that either run has, in the order of their declaration.

    Parameters
    ----------
    a, b : mapping
        Summary statistics by name.
    metadata_a, metadata_b : mapping
        Task metadata, for standard errors.
    """
    found = []
    for one in summary_fields():
        first, second = _known(a.get(one.name)), _known(b.get(one.name))
        if one.length > 1 or (first is None and second is None):
            continue
        errors = (_error(one.name, a, metadata_a), _error(one.name, b, metadata_b))
        found.append(_difference(one.name, one.doc, one.unit, first, second, errors))
    return found


def count_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """Counts among the task metadata that either run has."""
    names = [name for name, value in {**a, **b}.items() if isinstance(value, int) and not isinstance(value, bool)]
    return [_difference(name, "", "", a.get(name), b.get(name), (None, None)) for name in names]


def config_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """Values of the configuration that are not the same."""
    first, second = dict(_flat(a)), dict(_flat(b))
    found = (Difference(name, "", "", first.get(name), second.get(name)) for name in {**first, **second})
    return [one for one in found if not one.is_equal]


def stage_differences(a: Sequence[StageRecord], b: Sequence[StageRecord]) -> list[Difference]:
    """Seconds of each stage in both runs, in their order."""
    first, second = ({stage.name: stage.seconds for stage in stages} for stages in (a, b))
    names = {**first, **second}
    stages = [_difference(name, "", "s", first.get(name), second.get(name), (None, None)) for name in names]
    total = _difference("all", "", "s", sum(first.values()), sum(second.values()), (None, None))
    return [*stages, total]


def _difference(
    name: str, doc: str, unit: str, a: Any, b: Any, errors: tuple[float | None, float | None]
) -> Difference:
    if not (_is_number(a) and _is_number(b)):
        return Difference(name, doc, unit, a, b)
    delta, sigmas = b - a, None
    if errors[0] is not None and errors[1] is not None and (error := math.hypot(errors[0], errors[1])) > 0:
        sigmas = delta / error
    return Difference(name, doc, unit, a, b, delta, sigmas)


def _error(name: str, summary: Mapping[str, Any], metadata: Mapping[str, Any]) -> float | None:
    """Standard error of a statistic, where a run says it."""
    error: Any = None
    if name == "zeroPoint":
        error = metadata.get("zero_point_sigma")
    elif name == "astromOffsetMean" and metadata.get("astrometry_matches_count"):
        spread = _known(summary.get("astromOffsetStd"))
        error = None if spread is None else spread / math.sqrt(metadata["astrometry_matches_count"])
    return float(error) if _is_number(error) else None


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
