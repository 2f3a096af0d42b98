"""What is usual for an instrument in a band, from the nights before."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from service.analysis.control_limits import LEAST_VALUES, Limits, control_limits
from service.analysis.exposure_quality import QUANTITIES, quality_figures

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date

    from numpy.typing import NDArray

__all__ = ["Baseline", "Group", "Usual", "baseline_of", "figures_of"]

#: Instrument and band.
Group: TypeAlias = "tuple[str | None, str | None]"

#: Expected value and limits by quantity.
Usual: TypeAlias = "Mapping[str, tuple[float, Limits | None]]"

_COLUMNS = ("psfSigma", "pixelScale", "zeroPoint", "skyBg", "magLim", "astromOffsetMean", "exposure_time")


@dataclass(frozen=True, slots=True)
class Baseline:
    """Expectations for a night.

    Parameters
    ----------
    nights : tuple of date
        Nights that they come from, oldest first.
    limits : dict
        By group and quantity; those of the zero point are of its difference from the expected.
    zero_points : dict
        Expected zero points by group, and by group and detector where these have values enough.
    medians : dict
        By group, then quantity: the median of each night, NaN where there is none.
    """

    nights: tuple[date, ...]
    limits: Mapping[Group, Mapping[str, Limits]]
    zero_points: Mapping[tuple[Group, int | None], float]
    medians: Mapping[Group, Mapping[str, NDArray[np.float64]]]

    def usual(self, instrument: str | None, band: str | None, detector: int | None) -> Usual:
        """Expected value and limits of each quantity of a detector, as far as enough is known."""
        group = (instrument, band)
        known = self.limits.get(group, {})
        found: dict[str, tuple[float, Limits | None]] = {
            name: (limits.center, limits) for name, limits in known.items() if name != "zero_point"
        }
        expected = self.zero_points.get((group, detector), self.zero_points.get((group, None)))
        if expected is not None:
            found["zero_point"] = expected, _shifted(known.get("zero_point"), expected)
        return found


def _shifted(limits: Limits | None, by: float) -> Limits | None:
    return limits and Limits(limits.center + by, limits.low + by, limits.high + by, limits.n)


def figures_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[np.float64]]:
    """Figures of quality of rows of the database, as `service.analysis.exposure_quality.quality_figures`."""
    columns = {
        name: np.array([np.nan if row[name] is None else row[name] for row in rows], np.float64) for name in _COLUMNS
    }
    return quality_figures(columns, np.array([bool(row["is_rate"]) for row in rows], bool))


def baseline_of(rows: Sequence[Mapping[str, Any]]) -> Baseline:
    """Expectations from the results of earlier nights.

    Parameters
    ----------
    rows : sequence of mapping
        As `service.storage.repositories.nights.NightRepository.results` gives them: of an exposure that was calibrated
        several times the newest result counts.
    """
    newest = list({row["exposure_id"] or number: row for number, row in enumerate(rows)}.values())
    figures = figures_of(newest)
    nights = sorted({row["night"] for row in newest})
    members: dict[Group, list[int]] = defaultdict(list)
    for number, row in enumerate(newest):
        members[row["instrument"], row["band"]].append(number)
    limits, zero_points, medians = {}, {}, {}
    place = {night: number for number, night in enumerate(nights)}
    for group, numbers in members.items():
        detectors = [newest[number]["detector"] for number in numbers]
        values = {name: figures[name][numbers] for name in QUANTITIES}
        expected = _expected(values["zero_point"], detectors)
        zero_points.update({(group, detector): value for detector, value in expected.items()})
        values["zero_point"] = values["zero_point"] - np.array(
            [expected.get(detector, expected.get(None, np.nan)) for detector in detectors]
        )
        found = {name: control_limits(values[name]) for name in QUANTITIES}
        limits[group] = {name: limit for name, limit in found.items() if limit is not None}
        index = np.array([place[newest[number]["night"]] for number in numbers])
        medians[group] = {name: _by_night(values[name], index, len(nights)) for name in QUANTITIES}
    return Baseline(tuple(nights), limits, zero_points, medians)


def _expected(values: NDArray[np.float64], detectors: Iterable[int | None]) -> dict[int | None, float]:
    """Median of all (under None) and of each detector, where enough is known."""
    numbers = np.array([-1 if detector is None else detector for detector in detectors])
    found = {}
    for detector in (None, *np.unique(numbers[numbers >= 0]).tolist()):
        chosen = values if detector is None else values[numbers == detector]
        known = chosen[np.isfinite(chosen)]
        if known.size >= LEAST_VALUES:
            found[detector] = float(np.median(known))
    return found


def _by_night(values: NDArray[np.float64], index: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    medians = np.full(n, np.nan)
    for night in np.unique(index):
        known = values[(index == night) & np.isfinite(values)]
        if known.size:
            medians[night] = np.median(known)
    return medians
