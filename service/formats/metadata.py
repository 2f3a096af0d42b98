"""What is known about an exposure, and where each value comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from service.formats.errors import FormatError
from service.formats.headers import header_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from astropy.io import fits

__all__ = ["METADATA_KEYS", "VALUE_UNITS", "Instrument", "Metadata", "MetadataKey", "checked_overrides"]

JOB = "job parameter"
_MAX_TEXT = 200
_INTEGER_END = 2**63  # what databases and catalogues hold


@dataclass(frozen=True, slots=True)
class MetadataKey:
    """A value that a job may give.

    Parameters
    ----------
    type : {"number", "integer", "text"}
        Kind of value.
    unit : str
        Unit, empty for none.
    doc : str
        What it is.
    positive : bool
        Only values above 0 make sense.
    """

    type: str
    unit: str
    doc: str
    positive: bool = False


METADATA_KEYS: dict[str, MetadataKey] = {
    "band": MetadataKey("text", "", "generic band, e.g. r"),
    "physical_filter": MetadataKey("text", "", "the camera's own name of the filter"),
    "gain": MetadataKey("number", "electron/count", "electrons per count of the image", positive=True),
    "read_noise": MetadataKey("number", "electron", "read noise of a pixel"),
    "saturation": MetadataKey("number", "count", "counts from which a pixel of the file is saturated", positive=True),
    "exposure_time": MetadataKey("number", "s", "open-shutter time"),
    "visit": MetadataKey("integer", "", "visit number"),
    "detector": MetadataKey("integer", "", "detector number in the camera"),
    "exposure_id": MetadataKey("integer", "", "number of the exposure, seeds random choices"),
    "instrument": MetadataKey("text", "", "camera"),
    "pedestal": MetadataKey("number", "count", "counts added to every pixel of the file; subtracted on reading"),
    "pixel_scale": MetadataKey("number", "arcsec/pix", "for a WCS that the file does not have", positive=True),
    "ra": MetadataKey("number", "deg", "ICRS right ascension of the image centre, for the WCS"),
    "dec": MetadataKey("number", "deg", "ICRS declination of the image centre, for the WCS"),
    "rotation": MetadataKey("number", "deg", "position angle of the +y axis, east of north, for the WCS"),
    "parity": MetadataKey("text", "", "normal: east is left when north is up; flipped: east is right"),
    "mjd": MetadataKey("number", "d", "MJD (TAI) of mid-exposure"),
    "airmass": MetadataKey("number", "", "airmass of the pointing", positive=True),
    "longitude": MetadataKey("number", "deg", "of the observatory, east positive"),
    "latitude": MetadataKey("number", "deg", "of the observatory"),
    "elevation": MetadataKey("number", "m", "of the observatory"),
    "target": MetadataKey("text", "", "what was looked at, by the name that the observer gave it"),
    "unit": MetadataKey("text", "", "unit of the pixels: adu, electron, nJy or another"),
    "hdu": MetadataKey("text", "", "name or number of the image extension of a file with several"),
}

#: Units of the values in use, those that only files say among them.
VALUE_UNITS = {name: key.unit for name, key in METADATA_KEYS.items() if key.unit} | {
    "stated_zero_point": "mag",
    "stated_fwhm": "pix",
}


def checked_overrides(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """A job's values with their declared types; None means not given.

    Raises
    ------
    FormatError
        ``format.bad_metadata``: an unknown key or an impossible value.
    """
    result: dict[str, Any] = {}
    for name, value in (metadata or {}).items():
        key = METADATA_KEYS.get(name)
        if key is None:
            known = ", ".join(METADATA_KEYS)
            raise FormatError("format.bad_metadata", f"'{name}' is no metadata key; these are: {known}", key=name)
        if value is not None:
            result[name] = _converted(name, key, value)
    if result.get("parity", "normal") not in ("normal", "flipped"):
        raise FormatError("format.bad_metadata", "parity is 'normal' or 'flipped'", key="parity")
    return result


def _converted(name: str, key: MetadataKey, value: Any) -> Any:
    if key.type == "text":
        text = str(value)
        if not text.isprintable() or len(text) > _MAX_TEXT:
            raise FormatError("format.bad_metadata", f"metadata '{name}' is no short line of text", key=name)
        return text
    try:
        number = np.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = np.nan
    if key.type == "integer" and not (number % 1 == 0 and 0 <= number < _INTEGER_END):
        raise FormatError("format.bad_metadata", f"metadata '{name}' is {value!r:.80}, no whole number", key=name)
    if not np.isfinite(number) or (key.positive and number <= 0):
        kind = f"positive {key.type}" if key.positive else key.type
        raise FormatError("format.bad_metadata", f"metadata '{name}' is {value!r:.80}, no {kind}", key=name)
    if key.type == "integer":
        return value if isinstance(value, int) else int(number)
    return number


class _Flag(Protocol):
    @property
    def value(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def planes(self) -> Sequence[str]: ...


class MaskMeaning(Protocol):
    """What the numbers of a mask mean that does not say so itself; see `service.formats.mask_flags.MaskFlag`."""

    @property
    def values(self) -> str:
        """``bits`` or ``codes``."""

    @property
    def flags(self) -> Sequence[_Flag]:
        """Meaning of each."""


class Instrument(Protocol):
    """What is known of a camera besides what its files say."""

    @property
    def name(self) -> str:
        """Name of what is known."""

    @property
    def mask(self) -> MaskMeaning | None:
        """Meaning of its masks, where adapters do not know it."""

    def complete(self, metadata: Metadata) -> None:
        """Record what neither the job nor the file says, and what the file is known to say wrongly."""


@dataclass(slots=True)
class Metadata:
    """Values with their origins, collected while a file is read.

    Parameters
    ----------
    overrides : dict
        From the job; they win.
    headers : sequence of Header
        Image header first, then primary.
    instrument : Instrument or None
        What is known of the camera.
    values, origins : dict
        What has been found.
    warnings : list of str
        What a person should know.
    """

    overrides: dict[str, Any]
    headers: Sequence[fits.Header] = ()
    instrument: Instrument | None = None
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def set(self, key: str, value: Any, origin: str) -> Any:
        """Record a value."""
        self.values[key] = value
        self.origins[key] = origin
        return value

    def get(self, key: str) -> Any:
        """A recorded value or None."""
        return self.values.get(key)

    def number(self, key: str) -> float:
        """A recorded value or NaN."""
        value = self.values.get(key)
        return np.nan if value is None else float(value)

    def card(self, key: str) -> Any:
        """Value of the first card of this name, or None."""
        return next((value for header in self.headers if (value := header_value(header, key)) is not None), None)

    def warn(self, sentence: str) -> None:
        """Note something a person should know, once."""
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    def resolve(self, rules: Mapping[str, Callable[[Metadata], tuple[Any, str] | None]]) -> None:
        """Take every value from the job, from the rule that finds it in the headers, or from the instrument.

        What has been recorded before, from elsewhere in the file, comes before the headers.
        """
        for key in [*METADATA_KEYS, *(key for key in rules if key not in METADATA_KEYS)]:
            if key in self.overrides:
                self.set(key, self.overrides[key], JOB)
            elif key not in self.values and key in rules and (found := rules[key](self)) is not None:
                self.set(key, *found)
        if self.instrument is not None:
            self.instrument.complete(self)
