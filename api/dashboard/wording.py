"""How values are written for people; a value that is not there is a dash that says so to screen readers too."""

from __future__ import annotations

import json
import math
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from service.storage.records import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "FILTERS",
    "NOTHING",
    "ago",
    "as_json",
    "day",
    "file_size",
    "number",
    "seconds",
    "sentence",
    "signed",
    "significant",
    "stage",
    "utc",
]

NOTHING = Markup('<span class="nothing" title="not measured"><span aria-hidden="true">–</span></span>')
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_KILO = 1000.0


def number(value: Any, digits: int = 3, unit: str = "") -> Markup | str:
    """A number with a fixed count of decimals and its unit; whole numbers stay whole."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return NOTHING
    text = f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"
    text = text.replace("-", "−").replace(",", "\N{NARROW NO-BREAK SPACE}")
    return Markup("{}<span class='unit'>&nbsp;{}</span>").format(text, unit) if unit else text


def utc(moment: datetime | None, form: str = "%Y-%m-%d %H:%M:%S") -> Markup:
    """A moment in UTC, with the machine's form beside it."""
    if moment is None:
        return NOTHING
    return Markup('<time datetime="{}">{}</time>').format(moment.isoformat(), moment.strftime(form))


def ago(moment: datetime | None) -> Markup:
    """How long ago, for a glance; the moment itself on hover."""
    if moment is None:
        return NOTHING
    past = max((utc_now() - moment).total_seconds(), 0.0)
    return Markup('<time datetime="{}" title="{} UTC">{} ago</time>').format(
        moment.isoformat(), moment.strftime("%Y-%m-%d %H:%M:%S"), seconds(past)
    )


def seconds(value: float | None) -> Markup | str:
    """A length of time in its largest fitting units: ``3.2 s``, ``4 min 5 s``, ``2 h 10 min``, ``3 d``."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value < _MINUTE:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    if value < _HOUR:
        return f"{value // _MINUTE:.0f} min {value % _MINUTE:.0f} s"
    if value < _DAY:
        return f"{value // _HOUR:.0f} h {value % _HOUR // _MINUTE:.0f} min"
    return f"{value / _DAY:.0f} d"


def file_size(value: float | None) -> Markup | str:
    """Bytes in decimal multiples, as disks are sold: ``201 MB``."""
    if value is None:
        return NOTHING
    for unit in ("B", "kB", "MB", "GB"):
        if value < _KILO:
            return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
        value /= _KILO
    return f"{value:.1f} TB"


def significant(value: Any, digits: int = 5) -> Markup | str:
    """A value of any kind and size: numbers with so many digits that count, ``1.2346e-05`` where they are small."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.{digits}g}".replace("-", "−")
    return number(value) if value is None or isinstance(value, int | float) else str(value)


def as_json(value: Any) -> str:
    """A value of a configuration as one would write it there."""
    return json.dumps(value, ensure_ascii=False)


def day(night: date, *, short: bool = False) -> str:
    """A date in words: ``21 November 2026``, or ``21 Nov``."""
    return f"{night.day} {night:%b}" if short else f"{night.day} {night:%B %Y}"


def signed(value: float | None, digits: int = 3, unit: str = "") -> Markup | str:
    """A difference with its sign, unless it is none at these decimals."""
    if value is None or not math.isfinite(value):
        return NOTHING
    rounded = round(value, digits) + 0.0
    return Markup("{}{}").format("+" if rounded > 0 else "", number(rounded, digits, unit))


def sentence(text: str) -> str:
    """A message that begins with a capital."""
    return text[:1].upper() + text[1:]


def stage(name: str) -> str:
    """A stage of the calibration in words: ``psf: first pass``."""
    return name.replace(".", ": ").replace("_", " ")


FILTERS: dict[str, Callable[..., Any]] = {
    "number": number,
    "utc": utc,
    "ago": ago,
    "seconds": seconds,
    "file_size": file_size,
    "day": day,
    "signed": signed,
    "sentence": sentence,
    "stage": stage,
    "significant": significant,
    "as_json": as_json,
}
