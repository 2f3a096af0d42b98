"""Which header keywords mean what, over the dialects of many observatories."""

from __future__ import annotations

import math
import re
import warnings
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from service.formats.headers import header_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from service.formats.metadata import Metadata

__all__ = ["RULES", "Found", "Rule", "as_number", "integer", "lookup", "mid_of_start", "number", "text"]

#: A value and where it comes from.
Found: TypeAlias = tuple[Any, str] | None
#: Looks one value up.
Rule: TypeAlias = "Callable[[Metadata], Found]"

#: A GAIN above this is a camera setting, not electrons per count.
_LARGEST_GAIN = 50.0
_INTEGER_END = 2**63  # what databases and catalogues hold
_FIRST_MJD, _LAST_MJD = -100_000.0, 200_000.0  # 1585 to 2406
_BAND = re.compile(
    r"^(?:HSC-|SDSS-|SDSS_|PS1-|DECAM-|ZTF_|bok)?([ugrizyw])(?:p|s|d|2|_\d+|\'|\.MP\d+)?$", re.IGNORECASE
)
_ELECTRON_UNITS = {"electron", "electrons", "e", "e-", "e/s*s"}
_PER_SECOND = re.compile(r"^(.+?)\s*(?:/\s*s(?:ec(?:ond)?)?|\s+s\^?-1)$")
_COUNT_UNITS = {"adu", "adus", "dn", "dns", "count", "counts", "ct", "du"}


def lookup(metadata: Metadata, keys: Iterable[str]) -> Found:
    """First card that is there with its origin; image header before primary."""
    for key in keys:
        for header in metadata.headers:
            value = header_value(header, key)
            if value is not None:
                return value, f"header {key}"
    return None


def as_number(value: Any) -> float | None:
    """A number, also from text; None where it is none or not finite."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def number(*keys: str, minimum: float = -math.inf) -> Callable[[Metadata], Found]:
    """Rule for the first keyword that holds a number of at least ``minimum``."""

    def rule(metadata: Metadata) -> Found:
        for key in keys:
            found = lookup(metadata, (key,))
            value = as_number(found[0]) if found else None
            if found and value is not None and value >= minimum:
                return value, found[1]
        return None

    return rule


def integer(*keys: str) -> Callable[[Metadata], Found]:
    """Rule for the first keyword that holds a whole number of at least 0, also as text."""

    def rule(metadata: Metadata) -> Found:
        for key in keys:
            found = lookup(metadata, (key,))
            value = as_number(found[0]) if found else None
            if found and value is not None and 0 <= value < _INTEGER_END and value == int(value):
                return int(value), found[1]
        return None

    return rule


def text(*keys: str) -> Callable[[Metadata], Found]:
    """Rule for the first keyword with text."""

    def rule(metadata: Metadata) -> Found:
        found = lookup(metadata, keys)
        return (str(found[0]), found[1]) if found else None

    return rule


def _mean(metadata: Metadata, keys: list[str], label: str) -> Found:
    values = [as_number(found[0]) for key in keys if (found := lookup(metadata, (key,)))]
    good = [value for value in values if value is not None and value > 0]
    return (float(np.mean(good)), f"header {label} mean") if good else None


def _amplifier_keys(metadata: Metadata, start: str) -> list[str]:
    return sorted({key for header in metadata.headers for key in header if key.startswith(start)})


def gain(metadata: Metadata) -> Found:
    """Electrons per count: one keyword, or the mean of the amplifiers; at last CCDGAIN, to Rubin a rough guess."""
    return (
        _one_gain(metadata, "EGAIN", "GAIN")
        or _mean(metadata, ["GAINA", "GAINB"], "GAINA/GAINB")
        or _mean(metadata, [f"T_GAIN{n}" for n in range(1, 5)], "T_GAIN1..4")
        or _mean(metadata, _amplifier_keys(metadata, "LSST ISR GAIN "), "LSST ISR GAIN")
        or _one_gain(metadata, "CCDGAIN")
    )


def _one_gain(metadata: Metadata, *keys: str) -> Found:
    for key in keys:
        found = lookup(metadata, (key,))
        value = as_number(found[0]) if found else None
        if found is None or value is None or value <= 0:
            continue
        if value > _LARGEST_GAIN:
            metadata.warn(f"{key} = {value:g} looks like a camera setting, not like electrons per count: not used")
            continue
        return value, found[1]
    return None


def read_noise(metadata: Metadata) -> Found:
    """Read noise in electrons: one keyword, or the mean of the amplifiers."""
    return (
        number("RDNOISE", "READNOIS", "READNOI", "ENOISE", "RON", "NOISE", minimum=0.0)(metadata)
        or _mean(metadata, ["RDNOISEA", "RDNOISEB"], "RDNOISEA/RDNOISEB")
        or _mean(metadata, _amplifier_keys(metadata, "LSST ISR READNOISE "), "LSST ISR READNOISE")
    )


def saturation(metadata: Metadata) -> Found:
    """Saturation level: the lowest of the amplifiers, or one keyword; 0 means unknown."""
    levels = [as_number(found[0]) for key in ("SATURATA", "SATURATB") if (found := lookup(metadata, (key,)))]
    good = [level for level in levels if level is not None and level > 0]
    if good:
        return min(good), "header SATURATA/SATURATB minimum"
    return number("SATURATE", "SATLEVEL", "DATAMAX", minimum=1e-30)(metadata)


def physical_filter(metadata: Metadata) -> Found:
    """Name of the filter as the camera has it."""
    return text("FILTER", "FILTER01", "INSFLNAM", "FILTNAM", "FILTER1", "FILTER2", "FILTBAND", "BAND")(metadata)


def band(metadata: Metadata) -> Found:
    """Generic band: a keyword that says so, or the physical filter without its camera's decoration."""
    if "physical_filter" in metadata.overrides:
        found: Found = (metadata.overrides["physical_filter"], "job parameter physical_filter")
    else:
        found = text("FILTBAND", "BAND")(metadata) or physical_filter(metadata)
    if found is None or not str(found[0]).split():
        return None
    name = str(found[0]).split()[0]
    match = _BAND.match(name)
    return (match[1].lower() if match else name), found[1]


def _angle(value: Any, *, hours: bool) -> float | None:
    """Degrees of a number or of sexagesimal text."""
    plain = as_number(value)
    if plain is not None:
        return plain
    parts = re.split(r"[:\s]+", str(value).strip())
    numbers = [as_number(part) for part in parts]
    if not 2 <= len(parts) <= 3 or any(part is None for part in numbers):
        return None
    total = sum(abs(part) / 60.0**power for power, part in enumerate(numbers) if part is not None)
    return (-total if parts[0].startswith("-") else total) * (15.0 if hours else 1.0)


def _pointing(axis: int) -> Callable[[Metadata], Found]:
    pairs = (
        ("BORE-RA", "BORE-DEC"),
        ("RA2000", "DEC2000"),
        ("OBJCTRA", "OBJCTDEC"),
        ("RA", "DEC"),
        ("TELRA", "TELDEC"),
    )

    def rule(metadata: Metadata) -> Found:
        for pair in pairs:
            found = lookup(metadata, (pair[axis],))
            value = _angle(found[0], hours=axis == 0) if found else None
            if found and value is not None:
                return value, found[1]
        return None

    return rule


def pixel_scale(metadata: Metadata) -> Found:
    """Arcsec per pixel: stated, or from focal length (mm) and pixel size (um, binned)."""
    stated = number("PIXSCALE", "PIXSCAL1", "SECPIX", "SECPIX1", "SCALE", minimum=1e-6)(metadata)
    if stated:
        return stated
    focal, size = number("FOCALLEN", minimum=1.0)(metadata), number("XPIXSZ", minimum=1e-3)(metadata)
    if focal and size:
        return 206.2648 * size[0] / focal[0], "header XPIXSZ/FOCALLEN"
    return None


def airmass(metadata: Metadata) -> Found:
    """Airmass of the pointing."""
    return number("BORE-AIRMASS", "AIRMASS", "SECZ", minimum=1.0)(metadata)


def longitude(metadata: Metadata) -> Found:
    """East longitude of the observatory, deg; NOIRLab's OBS-LONG counts westward."""
    found = _site("OBS-LONG", "SITELONG", "LONGITUD", "LONG-OBS", "OBSLONG")(metadata)
    if found and found[1] == "header OBS-LONG" and found[0] > 0 and lookup(metadata, ("OBSERVAT",)):
        return -found[0], "header OBS-LONG, westward"
    return found


def latitude(metadata: Metadata) -> Found:
    """Latitude of the observatory, deg."""
    return _site("OBS-LAT", "SITELAT", "LATITUDE", "LAT-OBS", "OBSLAT")(metadata)


def _site(*keys: str) -> Callable[[Metadata], Found]:
    def rule(metadata: Metadata) -> Found:
        for key in keys:
            found = lookup(metadata, (key,))
            value = _angle(found[0], hours=False) if found else None
            if found and value is not None:
                return value, found[1]
        return None

    return rule


def unit(metadata: Metadata) -> Found:
    """Unit of the pixels in our words."""
    found = text("BUNIT", "BUNITS", "LSST ISR UNITS")(metadata)
    if found is None:
        return None
    name = found[0].strip().lower()
    if name in _ELECTRON_UNITS:
        return "electron", found[1]
    if name in _COUNT_UNITS:
        return "adu", found[1]
    rate = _PER_SECOND.match(name)
    if rate and rate[1] in _ELECTRON_UNITS | _COUNT_UNITS:
        return ("electron/s" if rate[1] in _ELECTRON_UNITS else "adu/s"), found[1]
    return ("nJy" if name == "njy" else found[0]), found[1]


def _time_scale(metadata: Metadata) -> str:
    scale = str((lookup(metadata, ("TIMESYS",)) or ("UTC", ""))[0]).lower()
    return scale if scale in ("utc", "tai", "tt", "tdb", "ut1") else "utc"


def _half_exposure(metadata: Metadata) -> float:
    """Days."""
    half = (metadata.number("exposure_time") or 0.0) / 2 / 86400
    return half if half < 1.0 else 0.0  # no exposure lasts two days


def mid_of_start(*keys: str) -> Rule:
    """Rule for the MJD (TAI) of mid-exposure from the first keyword that holds the start, as a date or MJD."""

    def rule(metadata: Metadata) -> Found:
        scale = _time_scale(metadata)
        for key in keys:
            found = lookup(metadata, (key,))
            if found is None:
                continue
            mjd = as_number(found[0])
            if mjd is not None:
                start = _from_mjd(mjd, scale) if 1.0 <= mjd < _LAST_MJD else None
            else:
                start = _from_iso(str(found[0]), scale)
            if start is not None:
                return start + _half_exposure(metadata), f"{found[1]} and half the exposure time"
        return None

    return rule


def mid_exposure(metadata: Metadata) -> Found:
    """MJD (TAI) of mid-exposure."""
    scale, half = _time_scale(metadata), _half_exposure(metadata)
    is_hsc = str((lookup(metadata, ("INSTRUME",)) or ("",))[0]).startswith("Hyper Suprime")
    for key in ("DATE-AVG", "TIME-MID"):
        found = lookup(metadata, (key,))
        value = _from_iso(str(found[0]), "utc" if str(found[0]).endswith("Z") else scale) if found else None
        if value is not None:
            return value, f"header {key}"
    middle = number("MJD-AVG", "MJD-MID", minimum=_FIRST_MJD)(metadata)
    if middle and middle[0] < _LAST_MJD:
        return _from_mjd(middle[0], scale), middle[1]
    seconds = number("TAI", minimum=3e9)(metadata)
    if seconds and seconds[0] < _LAST_MJD * 86400:  # SDSS: since MJD 0
        return seconds[0] / 86400 + half, f"{seconds[1]} and half the exposure time"
    # Subaru's "typical" MJD is that of the start, and the MJD-OBS of its processed files is no time of the exposure
    start = number("MJD-STR", *(("MJD",) if is_hsc else ("MJD-OBS", "MJD")), minimum=1.0)(metadata)
    if start and start[0] < _LAST_MJD:
        return _from_mjd(start[0], scale) + half, f"{start[1]} and half the exposure time"
    return _from_date_obs(metadata, scale, half)


def _from_date_obs(metadata: Metadata, scale: str, half: float) -> Found:
    date = lookup(metadata, ("DATE-OBS", "DATE-BEG"))
    if date is None:
        return None
    stamp = str(date[0])
    if "T" not in stamp:
        clock = lookup(metadata, ("TIME-OBS", "UTSTART", "UT", "TAIHMS"))
        stamp = f"{stamp}T{clock[0]}" if clock else stamp
    value = _from_iso(stamp, scale)
    return None if value is None else (value + half, f"{date[1]} and half the exposure time")


def _from_mjd(mjd: float, scale: str) -> float:
    from astropy.time import Time

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*dubious year")  # beyond the table of leap seconds
        return float(Time(mjd, format="mjd", scale=scale).tai.mjd)


def _from_iso(stamp: str, scale: str) -> float | None:
    from astropy.time import Time

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*dubious year")
        try:
            return float(Time(stamp.removesuffix("Z"), scale=scale).tai.mjd)
        except ValueError:
            return None


#: In this order: later ones may look at earlier ones (`METADATA_KEYS` has the order of resolution).
RULES: dict[str, Rule] = {
    "band": band,
    "physical_filter": physical_filter,
    "gain": gain,
    "read_noise": read_noise,
    "saturation": saturation,
    "exposure_time": number("EXPTIME", "EXPOSURE", "EXP_TIME", "ITIME", minimum=0.0),
    "visit": integer("VISIT", "IDNUM", "EXPNUM", "VISITID"),
    "detector": integer("DETSER", "DET-ID", "CCDNUM", "DETECTOR", "CCDID"),
    "exposure_id": integer("EXPID", "IDNUM", "EXPNUM"),
    "instrument": text("INSTRUMENT", "INSTRUME", "TELESCOP", "ORIGIN"),
    "pedestal": number("SOFTBIAS"),
    "pixel_scale": pixel_scale,
    "ra": _pointing(0),
    "dec": _pointing(1),
    "mjd": mid_exposure,
    "airmass": airmass,
    "longitude": longitude,
    "latitude": latitude,
    "elevation": number("OBS-ELEV", "SITEELEV", "HEIGHT", "ALT-OBS", "OBSELEV"),
    "target": text("OBJECT", "TARGNAME", "TARGET"),
    "unit": unit,
}
