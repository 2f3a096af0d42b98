"""Nights: to which one an exposure belongs, and what is known of it before it is calibrated."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["night_of", "observation", "utc_of_mjd"]

# Leap seconds are known for these only; a header with another date is wrong anyway.
_FIRST_MJD, _LAST_MJD = 41317.0, 88069.0
_COUNTS = ("adu", "electron")
_INT4 = 2**31 - 1  # of SQL


def night_of(moment: datetime, longitude: float | None = None) -> date:
    """Night of a moment, named by the date of its evening at the observatory.

    A night goes from noon to noon of the mean solar time of the observatory. Where its longitude is not known the noon
    is that of UTC.

    Parameters
    ----------
    moment : datetime
        Aware.
    longitude : float or None
        Of the observatory, east positive, deg; any turn of the circle.
    """
    known = longitude is not None and math.isfinite(longitude)
    east = (longitude + 180.0) % 360.0 - 180.0 if known else 0.0  # type: ignore[operator]
    return (moment.astimezone(UTC) + timedelta(hours=east / 15.0 - 12.0)).date()


def utc_of_mjd(mjd_tai: float | None) -> datetime | None:
    """Moment of an MJD (TAI), to the millisecond; None for a date that no camera had."""
    if mjd_tai is None or not _FIRST_MJD <= mjd_tai <= _LAST_MJD:
        return None
    from astropy.time import Time  # slow to import, and not every caller comes here

    return datetime.fromisoformat(f"{Time(mjd_tai, format='mjd', scale='tai').utc.isot}+00:00")


def observation(
    values: Mapping[str, Any], submitted_at: datetime, said: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What is known of an exposure by its metadata.

    Parameters
    ----------
    values : mapping
        By the names of `service.formats.METADATA_KEYS`.
    submitted_at : datetime
        Gives the night where the exposure does not say when it was taken.
    said : mapping, optional
        What the job says; it goes before the values, but for None.

    Returns
    -------
    dict
        Columns of the table of observations, but for the job's own; None where unknown.
    """
    values = {**values, **{name: value for name, value in (said or {}).items() if value is not None}}
    observed_at, detector = utc_of_mjd(values.get("mjd")), values.get("detector")
    exposure_time, unit = values.get("exposure_time"), values.get("unit")
    return {
        "night": night_of(observed_at or submitted_at, values.get("longitude") if observed_at else None),
        "observed_at": observed_at,
        "instrument": _line(values.get("instrument"), 255),
        "band": _line(values.get("band"), 40),
        "target": _line(values.get("target"), 255),
        "visit": values.get("visit"),
        "detector": detector if detector is None or detector <= _INT4 else None,
        "exposure_time": exposure_time if exposure_time and exposure_time > 0 else None,
        "is_rate": unit is not None and unit not in _COUNTS,
    }


def _line(text: Any, length: int) -> str | None:
    """Text of a header as a line of a column."""
    line = "".join(sign for sign in str(text) if sign.isprintable()).strip()[:length] if text is not None else ""
    return line or None
