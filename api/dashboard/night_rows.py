"""Rows of the table of a night: what a person reads in each cell."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from api.dashboard.wording import number, signed
from api.problem_types import PROBLEM_TYPES
from api.routers.config import get_errors
from service.analysis.exposure_quality import QUANTITIES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.jobs.night_report import Figure, NightExposure

__all__ = ["Cell", "Row", "failure_title", "night_rows"]

#: Word and mark of what lies outside its limits, below and above.
_WORDS = {
    "seeing": (("▼", "sharp"), ("▲", "blurred")),
    "zero_point": (("▼", "dim"), ("▲", "bright")),
    "sky": (("▼", "bright"), ("▲", "dark")),
    "depth": (("▼", "shallow"), ("▲", "deep")),
    "astrometry": (("▼", "tight"), ("▲", "loose")),
}
#: Mark and word of each state; the class colours both.
STATES = {
    "waiting": ("", "◦", "waiting"),
    "running": ("run", "▸", "running"),
    "done": ("good", "✓", "done"),
    "failed": ("bad", "✕", "failed"),
    "aborted": ("warn", "◼", "aborted"),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure in a row.

    Parameters
    ----------
    value : float or None
        What stands first.
    digits : int
        Its decimals.
    signed : bool
        Whether it is a difference.
    beside : str
        What stands below it.
    mark, word : str
        What is said of a value outside the limits; empty for others.
    usual : str
        The limits.
    standing : str or None
        As of the figure.
    """

    value: float | None
    digits: int
    signed: bool = False
    beside: str = ""
    mark: str = ""
    word: str = ""
    usual: str = ""
    standing: str | None = None

    @property
    def text(self) -> str:
        """The value as it is written."""
        return (signed if self.signed else number)(self.value, self.digits)


@dataclass(frozen=True, slots=True)
class Row:
    """A job of a night as it is shown.

    Parameters
    ----------
    exposure : NightExposure
        The job.
    name : str
        Visit and detector, or the end of the job's id.
    look, mark, word : str
        Class, sign and word of its state.
    cells : dict of str to Cell
        By quantity.
    failure : str
        Title of the error; empty without one.
    """

    exposure: NightExposure
    name: str
    look: str
    mark: str
    word: str
    cells: dict[str, Cell]
    failure: str

    @property
    def row(self) -> Any:
        """What the database has of it."""
        return self.exposure.row


def night_rows(exposures: Iterable[NightExposure]) -> list[Row]:
    """Exposures as rows."""
    return [_row(exposure) for exposure in exposures]


def _row(exposure: NightExposure) -> Row:
    row = exposure.row
    look, mark, word = STATES[exposure.state]
    return Row(
        exposure=exposure,
        name=_name(row),
        look=look,
        mark=mark,
        word=word,
        cells={name: _cell(name, exposure.figures.get(name), row) for name in QUANTITIES},
        failure="" if row["error"] is None else failure_title(row["error"]["code"]),
    )


def _name(row: Any) -> str:
    if row["visit"] is None:
        return f"…{row['id'][-8:]}"
    return f"{row['visit']}" if row["detector"] is None else f"{row['visit']} · {row['detector']}"


def _cell(name: str, figure: Figure | None, row: Any) -> Cell:
    digits = QUANTITIES[name].digits
    if figure is None:
        return Cell(None, digits)
    value, is_difference = figure.value, False
    if name == "zero_point" and figure.difference is not None:
        value, is_difference = figure.difference, True
    elif name == "depth":
        value = row["magLim"]  # as it is; the limits are those of an exposure of the common length
    mark, word = _WORDS[name][figure.excess > 0] if figure.standing in ("outside", "better") else ("", "")
    usual = _usual(figure, digits, is_difference=is_difference)
    return Cell(value, digits, is_difference, _beside(name, figure, row), mark, word, usual, figure.standing)


def _usual(figure: Figure, digits: int, *, is_difference: bool) -> str:
    if figure.low is None or figure.high is None or figure.expected is None:
        return ""
    if is_difference:
        return f"{signed(figure.low - figure.expected, digits)} to {signed(figure.high - figure.expected, digits)}"
    return f"{max(figure.low, 0.0):.{digits}f} to {figure.high:.{digits}f}"


def _beside(name: str, figure: Figure, row: Any) -> str:
    match name:
        case "seeing":
            ellipticity = _ellipticity(row["psfIxx"], row["psfIyy"], row["psfIxy"])
            return "" if ellipticity is None else f"e {ellipticity:.3f}"
        case "zero_point":
            return "itself" if figure.difference is None else f"{figure.value:.3f}"
        case "sky":
            counts, seconds = row["skyBg"], 1.0 if row["is_rate"] else row["exposure_time"]
            return "" if counts is None or seconds is None else f"{counts / seconds:.1f} ct/s"
        case "depth":
            return "" if figure.difference is None else str(signed(figure.difference, 2))
        case _:
            spread = row["astromOffsetStd"]
            return "" if spread is None else f"± {1000.0 * spread:.1f}"


def _ellipticity(ixx: float | None, iyy: float | None, ixy: float | None) -> float | None:
    """Absolute distortion of the PSF, sqrt((Ixx - Iyy)^2 + 4 Ixy^2) / (Ixx + Iyy)."""
    if ixx is None or iyy is None or ixy is None or not ixx + iyy > 0:
        return None
    return math.hypot(ixx - iyy, 2.0 * ixy) / (ixx + iyy)


@cache
def _failure_titles() -> dict[str, str]:
    problems = {kind.code: kind.title for kind in PROBLEM_TYPES.values()}
    return problems | {error.code: error.title for error in get_errors().job_errors}


def failure_title(code: str) -> str:
    """What an error code of a job means; the code itself where it is of another version."""
    return _failure_titles().get(code, code).rstrip(".")
