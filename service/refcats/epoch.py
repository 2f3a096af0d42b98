"""Moving catalogue positions to the epoch of an exposure."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.exposure.catalog import SourceCatalog

__all__ = [
    "UNKNOWN_MOTION",
    "apply_parallax",
    "julian_year_to_mjd",
    "mjd_to_julian_year",
    "move_along",
    "observer_position",
    "propagate",
]

#: Proper motion assumed for the error of stars that have none: 10 mas/yr in rad/yr, a common motion at 18 mag.
UNKNOWN_MOTION = np.radians(10.0 / 3.6e6)

_J2000_MJD = 51544.5
_JULIAN_YEAR = 365.25  # days


def julian_year_to_mjd(year: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """MJD of Julian epochs (the 32 s between TT and TAI are left out: 1e-6 yr)."""
    return np.asarray(_J2000_MJD + (np.asarray(year, np.float64) - 2000.0) * _JULIAN_YEAR)


def mjd_to_julian_year(mjd: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Julian epochs of MJDs."""
    return np.asarray(2000.0 + (np.asarray(mjd, np.float64) - _J2000_MJD) / _JULIAN_YEAR)


def move_along(
    ra: NDArray[np.float64], dec: NDArray[np.float64], east: NDArray[np.float64], north: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Move points along great circles.

    Parameters
    ----------
    ra, dec : ndarray of float64, shape (n,)
        Start, rad.
    east, north : ndarray of float64, shape (n,)
        Length and direction of the arc at the start, rad.

    Returns
    -------
    ra, dec : ndarray of float64, shape (n,)
        End, rad; RA in [0, 2 pi).
    """
    length = np.hypot(east, north)
    along = np.sinc(length / np.pi)  # sin(length)/length, finite at 0
    cos_dec, sin_dec = np.cos(dec), np.sin(dec)
    # components of the end point along the local radial, east and north directions
    radial, to_east, to_north = np.cos(length), along * east, along * north
    horizontal = radial * cos_dec - to_north * sin_dec
    new_dec = np.arctan2(radial * sin_dec + to_north * cos_dec, np.hypot(horizontal, to_east))
    return np.mod(ra + np.arctan2(to_east, horizontal), 2 * np.pi), new_dec


def propagate(table: SourceCatalog, epoch: float) -> None:
    """Apply proper motions to ``coord_ra/dec`` and their errors, in place.

    A star without a usable proper motion stays where it is, with the error that `UNKNOWN_MOTION` would bring. Parallax
    is the matter of `apply_parallax`. Method: Rubin reference loader (straight motion along a great circle).

    Parameters
    ----------
    table : SourceCatalog
        Columns of `service.exposure.reference.reference_schema`.
    epoch : float
        MJD TAI to move to; NaN moves nothing.
    """
    if not np.isfinite(epoch) or len(table) == 0:
        return
    years = (epoch - table["epoch"]) / _JULIAN_YEAR
    years = np.where(np.isfinite(years), years, 0.0)
    known = ~table["pm_flag"] & np.isfinite(table["pm_ra"]) & np.isfinite(table["pm_dec"])
    east = np.where(known, table["pm_ra"], 0.0) * years
    north = np.where(known, table["pm_dec"], 0.0) * years
    table["coord_ra"], table["coord_dec"] = move_along(table["coord_ra"], table["coord_dec"], east, north)
    for coordinate in ("ra", "dec"):
        motion_error = np.where(known, np.nan_to_num(table[f"pm_{coordinate}Err"], nan=0.0), UNKNOWN_MOTION)
        table[f"coord_{coordinate}Err"] = np.hypot(table[f"coord_{coordinate}Err"], motion_error * np.abs(years))


@lru_cache(maxsize=16)
def observer_position(epoch: float) -> tuple[float, float, float]:
    """Barycentric ICRS position of the Earth at an MJD TAI, au; the observatory's place on it is 4e-5 au."""
    from astropy import units as u  # only this option needs the ephemeris
    from astropy.coordinates import get_body_barycentric
    from astropy.time import Time

    x, y, z = get_body_barycentric("earth", Time(epoch, format="mjd", scale="tai"), ephemeris="builtin").xyz.to_value(
        u.au
    )
    return float(x), float(y), float(z)


def apply_parallax(table: SourceCatalog, epoch: float) -> None:
    """Shift ``coord_ra/dec`` to where the stars are seen from the Earth, in place; their errors grow accordingly.

    A star without a usable parallax stays where it is. Measured parallaxes are taken as they are: negative ones are
    noise about small ones, and leaving them out would bias the rest.

    Parameters
    ----------
    table : SourceCatalog
        Columns of `service.exposure.reference.reference_schema`, barycentric positions.
    epoch : float
        MJD TAI of the observation; NaN shifts nothing.
    """
    if not np.isfinite(epoch) or len(table) == 0:
        return
    known = ~table["parallax_flag"] & np.isfinite(table["parallax"])
    parallax = np.where(known, table["parallax"], 0.0)
    error = np.where(known, np.nan_to_num(table["parallaxErr"], nan=0.0), 0.0)
    x, y, z = observer_position(float(epoch))
    ra, dec = table["coord_ra"], table["coord_dec"]
    east = x * np.sin(ra) - y * np.cos(ra)
    north = (x * np.cos(ra) + y * np.sin(ra)) * np.sin(dec) - z * np.cos(dec)
    table["coord_ra"], table["coord_dec"] = move_along(ra, dec, parallax * east, parallax * north)
    table["coord_raErr"] = np.hypot(table["coord_raErr"], error * np.abs(east))
    table["coord_decErr"] = np.hypot(table["coord_decErr"], error * np.abs(north))
