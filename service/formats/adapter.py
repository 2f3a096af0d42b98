"""What an adapter is: it recognises a family of files and says which of their planes to read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from service.formats.errors import FormatError
from service.formats.headers import card_value, header_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from astropy.io import fits

    from service.exposure.masked_image import MaskedImage
    from service.formats.container import FitsSource
    from service.formats.headers import HduHeader
    from service.formats.metadata import Metadata
    from service.formats.reader import ReadResult

__all__ = ["Adapter", "Layout", "exposure_metadata", "refuse_bayer"]

_STRUCTURE = re.compile(
    r"^(SIMPLE|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|XTENSION|EXTNAME|EXTVER|EXTLEVEL|EXTTYPE|INHERIT|GROUPS|BSCALE|BZERO"
    r"|BLANK|BUNIT|CHECKSUM|DATASUM|COMMENT|HISTORY|CONTINUE|END|TFIELDS|T(TYPE|FORM|DIM|UNIT|NULL|SCAL|ZERO)\d+|THEAP"
    r"|Z(IMAGE|SIMPLE|TENSION|BITPIX|NAXIS\d*|TILE\d+|CMPTYPE|NAME\d+|VAL\d+|QUANTIZ|DITHER0|EXTEND|PCOUNT|GCOUNT"
    r"|BLANK|SCALE|ZERO|HECKSUM|DATASUM|MASKCMP|BLOCKED)|LTV\d|LTM\d_\d|MP_.*|MSK[NMD]\d+|"
    r"(WCSAXES|WCSNAME|RADESYS|RADECSYS|EQUINOX|LONPOLE|LATPOLE|CTYPE\d|CUNIT\d|CRPIX\d|CRVAL\d|CDELT\d|CROTA\d|CD\d_\d"
    r"|PC\d+_\d+|PV\d_\d+|[AB]P?_ORDER|[AB]P?_\d_\d)[A-Z]?)$"
)


_MOSAICS = {"RGGB", "BGGR", "GRBG", "GBRG", "CYYM", "CMYG", "RGBG"}


@dataclass(frozen=True, slots=True)
class Layout:
    """Which parts of a file are the exposure.

    Parameters
    ----------
    image : HduHeader
        The pixels.
    mask : HduHeader or None
        Its mask.
    noise : HduHeader or None
        Its variance, weight, inverse variance or standard deviation.
    noise_kind : str
        Which of them.
    x0, y0 : int
        Parent coordinates of the first pixel.
    primary : astropy.io.fits.Header or None
        Header of the file as a whole, where it is not that of the image.
    warnings : tuple of str
        What a person should know.
    """

    image: HduHeader
    mask: HduHeader | None = None
    noise: HduHeader | None = None
    noise_kind: str = "variance"
    x0: int = 0
    y0: int = 0
    primary: fits.Header | None = None
    warnings: tuple[str, ...] = field(default=())

    @property
    def headers(self) -> tuple[fits.Header, ...]:
        """Where metadata are looked up, the image first."""
        return (self.image.header,) if self.primary is None else (self.image.header, self.primary)


class Adapter(Protocol):
    """Reader of one family of files."""

    name: str

    def sniff(self, hdus: Sequence[HduHeader]) -> float:
        """How well the headers fit: 0 not at all, 1 surely."""

    def layout(self, hdus: Sequence[HduHeader], overrides: Mapping[str, Any]) -> Layout:
        """Which HDUs to read; raises `FormatError` where there is nothing to calibrate."""

    def planes(
        self, source: FitsSource, layout: Layout, metadata: Metadata, companions: Mapping[str, Path]
    ) -> MaskedImage:
        """Read the pixels."""

    def complete(self, source: FitsSource, result: ReadResult, overrides: Mapping[str, Any]) -> None:
        """Add what only this family of files has, once the exposure is assembled."""


def refuse_bayer(header: fits.Header) -> None:
    """Refuse a colour-filter mosaic.

    Raises
    ------
    FormatError
        ``format.bayer``.
    """
    for key in ("BAYERPAT", "COLORTYP", "CFAIMAGE", "BAYER", "FILTER"):
        value = str(header_value(header, key) or "").strip().upper()
        if value in _MOSAICS:
            raise FormatError(
                "format.bayer",
                f"the pixels are a {value} colour mosaic ({key}): split the colours into separate images first",
                pattern=value,
            )


def exposure_metadata(headers: Sequence[fits.Header]) -> dict[str, Any]:
    """Cards about the observation: all but those of file structure, WCS and mask planes."""
    result: dict[str, Any] = {}
    for header in reversed(headers):
        for card in header.cards:
            if card.keyword and not _STRUCTURE.match(card.keyword):
                value = card_value(card)
                if value is not None:
                    result[card.keyword] = value
    return result
