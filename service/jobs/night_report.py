"""A night: its exposures, and how they stand against the nights before."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from service.analysis.exposure_quality import QUANTITIES
from service.jobs.night_baseline import Baseline, baseline_of, figures_of
from service.jobs.nights import night_of
from service.storage.records import ACTIVE_PHASES, Phase, utc_now

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from service.jobs.night_baseline import Group, Usual
    from service.storage import Storage
    from service.storage.records import Scope

__all__ = [
    "BASELINE_NIGHTS",
    "STATES",
    "Figure",
    "Night",
    "NightExposure",
    "Nights",
    "Selection",
    "compared",
    "verdict",
]

#: Nights with exposures that say what is usual.
BASELINE_NIGHTS = 30
STATES = ("waiting", "running", "done", "failed", "aborted")
_KEPT_BASELINES = 64
_BASELINE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Figure:
    """A value against the usual.

    Parameters
    ----------
    value : float
        In the unit of its quantity.
    expected, low, high : float or None
        Centre and control limits of the nights before; None where they tell too little.
    standing : {"usual", "better", "outside"} or None
        ``outside`` the limits on the side of trouble, ``better`` on the other.
    excess : float
        Distance from the centre in units of that of the limits; 0 where there are none.
    """

    value: float
    expected: float | None = None
    low: float | None = None
    high: float | None = None
    standing: str | None = None
    excess: float = 0.0

    @property
    def difference(self) -> float | None:
        """Value less expected."""
        return None if self.expected is None else self.value - self.expected


@dataclass(frozen=True, slots=True)
class NightExposure:
    """A job of a night.

    Parameters
    ----------
    row : mapping
        As `service.storage.repositories.nights.NightRepository.jobs` gives it.
    state : str
        One of `STATES`.
    figures : dict of str to Figure
        By quantity; absent where there is none.
    outside : tuple of str
        Quantities outside their limits, the worst first, where the job is done.
    is_superseded : bool
        A later job of the night has calibrated the same exposure: this one does not count.
    """

    row: Mapping[str, Any]
    state: str
    figures: Mapping[str, Figure]
    outside: tuple[str, ...]
    is_superseded: bool

    @property
    def group(self) -> Group:
        """Instrument and band."""
        return self.row["instrument"], self.row["band"]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which exposures; None means all."""

    instrument: str | None = None
    band: str | None = None
    target: str | None = None
    run_id: str | None = None

    def takes(self, row: Mapping[str, Any]) -> bool:
        """Whether an exposure is meant."""
        return all(wanted is None or row[name] == wanted for name, wanted in self.wanted.items())

    @property
    def wanted(self) -> dict[str, str | None]:
        """Values by column."""
        return {"instrument": self.instrument, "band": self.band, "target": self.target, "run_id": self.run_id}


_ALL = Selection()


@dataclass(frozen=True, slots=True)
class Night:
    """A night, or what was chosen of it.

    Parameters
    ----------
    night : date
        Date of its evening.
    previous, following : date or None
        Nights with exposures beside it.
    baseline : Baseline
        Of the nights before.
    exposures : tuple of NightExposure
        Newest first.
    choices : dict of str to tuple of str
        What there is in the whole night to choose from: ``instrument``, ``band``, ``target``, ``run_id``.
    """

    night: date
    previous: date | None
    following: date | None
    baseline: Baseline
    exposures: tuple[NightExposure, ...]
    choices: Mapping[str, tuple[str, ...]]

    @property
    def counted(self) -> tuple[NightExposure, ...]:
        """Without results that a later job has replaced."""
        return tuple(exposure for exposure in self.exposures if not exposure.is_superseded)

    def filtered(self, state: str | None = None, *, outside: bool = False) -> tuple[NightExposure, ...]:
        """Those in a state, or with something outside the limits."""
        return tuple(
            exposure
            for exposure in self.exposures
            if (state is None or exposure.state == state) and (exposure.outside or not outside)
        )

    @property
    def counts(self) -> dict[str, int]:
        """Exposures by state, and how many of them have something outside the limits."""
        states = Counter(exposure.state for exposure in self.counted)
        return {state: states[state] for state in STATES} | {"outside": sum(bool(e.outside) for e in self.counted)}

    @property
    def medians(self) -> dict[str, float | None]:
        """Of the exposures that are done; of the zero point the median difference from the expected."""
        done = [exposure for exposure in self.counted if exposure.state == "done"]
        return {name: _median([compared(name, e.figures.get(name)) for e in done]) for name in QUANTITIES}

    @property
    def worst(self) -> tuple[NightExposure, str] | None:
        """The exposure farthest outside the limits, and the quantity in which it is."""
        found = [(exposure, exposure.outside[0]) for exposure in self.counted if exposure.outside]
        return max(found, key=lambda item: abs(item[0].figures[item[1]].excess), default=None)


class Nights:
    """Nights of owners; what is usual is worked out anew once a minute at most.

    Parameters
    ----------
    storage : Storage
        The jobs.
    seconds : float
        Age at which a baseline is worked out anew.
    """

    def __init__(self, storage: Storage, seconds: float = _BASELINE_SECONDS) -> None:
        self._storage = storage
        self._seconds = seconds
        self._lock = threading.Lock()
        self._baselines: OrderedDict[tuple[Scope, date], tuple[float, Baseline]] = OrderedDict()

    def latest(self, scope: Scope, run_id: str | None = None) -> date | None:
        """The newest night with jobs, of a run where it has any.

        A date in the future, of a camera's wrong clock, only where there is no other.
        """
        nights = self._storage.nights
        today = night_of(utc_now(), 180.0)  # nowhere is it later
        for run in (None,) if run_id is None else (run_id, None):
            found = nights.dates(scope, until=today, run_id=run, limit=1) or nights.dates(scope, run_id=run, limit=1)
            if found:
                return found[0][0]
        return None

    def report(self, scope: Scope, night: date, selection: Selection = _ALL) -> Night | None:
        """A night; None where the owner has no jobs of it.

        Parameters
        ----------
        scope : Scope
            Whose jobs.
        night : date
            Which.
        selection : Selection
            Which exposures of it.
        """
        rows = self._storage.nights.jobs(scope, night)
        if not rows:
            return None
        before = [date for date, _ in self._storage.nights.dates(scope, before=night, limit=BASELINE_NIGHTS)]
        first = before[-1] if before else night
        baseline = self._baseline(scope, night, first)
        choices = {
            name: tuple(sorted({row[name] for row in rows if row[name] is not None})) for name in selection.wanted
        }
        chosen = _exposures([row for row in rows if selection.takes(row)], baseline)
        previous = before[0] if before else None
        return Night(night, previous, self._storage.nights.following(scope, night), baseline, chosen, choices)

    def _baseline(self, scope: Scope, night: date, first: date) -> Baseline:
        key, now = (scope, night), time.monotonic()
        with self._lock:
            until, known = self._baselines.get(key, (0.0, None))
        if known is not None and now < until:
            return known
        found = baseline_of(self._storage.nights.results(scope, first, night))
        with self._lock:
            self._baselines[key] = (time.monotonic() + self._seconds, found)
            self._baselines.move_to_end(key)
            while len(self._baselines) > _KEPT_BASELINES:
                self._baselines.popitem(last=False)
        return found


def _exposures(rows: Sequence[Mapping[str, Any]], baseline: Baseline) -> tuple[NightExposure, ...]:
    values = {name: column.tolist() for name, column in figures_of(rows).items()}
    newest: dict[str, str] = {}
    for row in rows:
        if row["exposure_id"] is not None and row["error"] is None:
            newest[row["exposure_id"]] = max(row["id"], newest.get(row["exposure_id"], ""))
    usual = {key: baseline.usual(*key) for key in {(row["instrument"], row["band"], row["detector"]) for row in rows}}
    exposures = []
    for row, *given in zip(rows, *values.values(), strict=True):
        figures = _figures(
            dict(zip(values, given, strict=True)), usual[row["instrument"], row["band"], row["detector"]]
        )
        state = _state(row)
        # of a run that has failed the failure is told: what it has of figures was not accepted
        outside = [name for name, figure in figures.items() if figure.standing == "outside" and state == "done"]
        outside.sort(key=lambda name: -abs(figures[name].excess))
        is_superseded = row["id"] < newest.get(row["exposure_id"], "")
        exposures.append(NightExposure(row, state, figures, tuple(outside), is_superseded))
    return tuple(exposures)


def _state(row: Mapping[str, Any]) -> str:
    phase = Phase(row["phase"])
    if phase is Phase.EXECUTING:
        return "running"
    if phase in ACTIVE_PHASES:
        return "waiting"
    if row["error"] is not None:
        return "failed"
    return "done" if phase in (Phase.COMPLETED, Phase.ARCHIVED) else "aborted"


def _figures(values: Mapping[str, float], usual: Usual) -> dict[str, Figure]:
    found = {}
    for name, value in values.items():
        if not math.isfinite(value):
            continue
        expected, limits = usual.get(name, (None, None))
        if limits is None:
            found[name] = Figure(value, expected)
            continue
        excess = limits.excess(value)
        found[name] = Figure(value, expected, limits.low, limits.high, _standing(name, excess), excess)
    return found


def _standing(name: str, excess: float) -> str:
    if abs(excess) <= 1.0:
        return "usual"
    side = "high" if excess > 0 else "low"
    return "outside" if QUANTITIES[name].worse in (side, "both") else "better"


def compared(name: str, figure: Figure | None) -> float | None:
    """What is compared over exposures: the value, of the zero point its difference from the expected."""
    if figure is None:
        return None
    return figure.difference if name == "zero_point" else figure.value


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def verdict(night: Night) -> str:
    """One sentence on a night."""
    counts = night.counts
    parts = [f"{_exposures_of(counts['done'])} calibrated"]
    parts += [f"{counts[state]} {state}" for state in ("failed", "running", "waiting", "aborted") if counts[state]]
    done = ", ".join(parts)
    if night.worst is not None:
        exposure, name = night.worst
        quantity, figure = QUANTITIES[name], exposure.figures[name]
        side = "above" if figure.excess > 0 else "below"
        visit = "" if exposure.row["visit"] is None else f" of visit {exposure.row['visit']}"
        difference = abs(figure.value - (figure.expected or 0.0))
        return (
            f"{done}. {counts['outside']} outside the limits; farthest is the {quantity.title.lower()}{visit}, "
            f"{difference:.{quantity.digits}f} {quantity.unit} {side} the expected."
        )
    judged = any(figure.standing for exposure in night.counted for figure in exposure.figures.values())
    if judged:
        return f"{done}. Everything measured lies within the limits of the nights before."
    return f"{done}. There are too few exposures of the nights before to say what is usual."


def _exposures_of(n: int) -> str:
    return f"{n} exposure{'' if n == 1 else 's'}"
