"""The headers of a FITS file, read without trusting them and without touching a pixel."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from service.formats.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

__all__ = ["HduHeader", "ReadLimits", "card_value", "header_number", "header_value", "iter_headers", "scan_headers"]

BLOCK = 2880
_CARD = 80
_MAX_HEADER_BLOCKS = 1500  # 54,000 cards
_BITPIX = (8, 16, 32, 64, -32, -64)


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """What a file may ask for.

    Parameters
    ----------
    max_pixels : int
        Of one image, judged by its header before anything is allocated.
    max_bytes : int
        Of the file once decompressed.
    max_hdus : int
        Of one file.
    """

    max_pixels: int = 300_000_000
    max_bytes: int = 8 << 30
    max_hdus: int = 2000


def header_value(header: fits.Header, key: str) -> Any:
    """Value of a card, or None where it is absent, undefined, empty or cannot be parsed."""
    return card_value(header.cards[key]) if key in header else None


def header_number(header: fits.Header, key: str, default: float) -> float:
    """Number of a structural card, ``default`` where it is absent.

    Raises
    ------
    FormatError
        ``format.corrupt``: it is there and is no finite number.
    """
    value = header_value(header, key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise FormatError("format.corrupt", f"the FITS header has no usable {key}", key=key)
    return value


def card_value(card: fits.Card) -> Any:
    """Value of a card, or None where it is undefined, empty or cannot be parsed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            value = card.value
        except (fits.VerifyError, ValueError):
            return None
    if isinstance(value, fits.card.Undefined):
        return None
    if isinstance(value, str):
        value = value.strip()
        return value or None
    return value


@dataclass(frozen=True, slots=True)
class HduHeader:
    """One header-data unit.

    Parameters
    ----------
    index : int
        Position in the file.
    header : astropy.io.fits.Header
        As in the file; of a compressed image the header of its table.
    offset, size : int
        Where its data are, bytes.
    """

    index: int
    header: fits.Header
    offset: int
    size: int

    @property
    def is_compressed(self) -> bool:
        """A tile-compressed image."""
        return header_value(self.header, "ZIMAGE") is True

    @property
    def is_image(self) -> bool:
        """An image with pixels, compressed or not."""
        if self.is_compressed:
            return bool(self.shape)
        kind = header_value(self.header, "XTENSION")
        return (self.index == 0 or kind == "IMAGE") and bool(self.shape)

    @property
    def name(self) -> str:
        """Upper-case EXTNAME, or EXTTYPE where there is none."""
        name = header_value(self.header, "EXTNAME") or ""
        if not name or str(name).upper() == "COMPRESSED_IMAGE":
            name = header_value(self.header, "EXTTYPE") or name
        return str(name).strip().upper()

    @property
    def shape(self) -> tuple[int, ...]:
        """Array shape, slowest axis first; empty without pixels."""
        prefix = "Z" if self.is_compressed else ""
        shape = tuple(_integer(self.header, f"{prefix}NAXIS{axis}") for axis in range(self._naxis(prefix), 0, -1))
        return shape if math.prod(shape) > 0 else ()

    @property
    def bitpix(self) -> int:
        """Pixel type."""
        return _integer(self.header, "ZBITPIX" if self.is_compressed else "BITPIX")

    @property
    def tile_pixels(self) -> int:
        """Pixels of a tile of a compressed image."""
        shape = self.shape
        default = (1,) * (len(shape) - 1) + shape[-1:]
        return math.prod(
            _integer(self.header, key) if (key := f"ZTILE{axis + 1}") in self.header else side
            for axis, side in enumerate(default[::-1])
        )

    def _naxis(self, prefix: str) -> int:
        return _integer(self.header, f"{prefix}NAXIS")

    def describe(self) -> dict[str, Any]:
        """For a listing."""
        kind = "image" if self.is_image else "table" if header_value(self.header, "XTENSION") == "BINTABLE" else "empty"
        return {
            "index": self.index,
            "name": self.name,
            "kind": kind,
            "shape": list(self.shape) if kind == "image" else [],
            "compressed": self.is_compressed,
        }


def _integer(header: fits.Header, key: str) -> int:
    value = header_value(header, key)
    if isinstance(value, bool) or not isinstance(value, int) or (key != "BITPIX" and key != "ZBITPIX" and value < 0):
        raise FormatError("format.corrupt", f"the FITS header has no usable {key}", key=key)
    return value


def scan_headers(stream: BinaryIO, size: int, limits: ReadLimits, *, partial: bool = False) -> list[HduHeader]:
    """All headers of a file.

    Parameters
    ----------
    stream : binary file
        Seekable.
    size : int
        Bytes in it.
    limits : ReadLimits
        What it may ask for.
    partial : bool
        The stream holds only the beginning of the file: what lies beyond is no error.

    Raises
    ------
    FormatError
        ``format.not_fits``, ``format.corrupt``, ``format.truncated`` or ``format.too_large``.
    """
    found = list(iter_headers(stream, size, limits, partial=partial))
    if not found:
        raise FormatError("format.not_fits", "the file is empty, or its beginning holds no complete header")
    return found


def iter_headers(stream: BinaryIO, size: int, limits: ReadLimits, *, partial: bool = False) -> Iterator[HduHeader]:
    """The headers of a file one by one: what follows the last one that is asked for is not read.

    Parameters and errors are those of `scan_headers`.
    """
    offset = index = 0
    while offset < size:
        header, length = _read_header(stream, offset, is_first=not index, partial=partial)
        if header is None:
            return
        data_size = _data_size(header)
        hdu = HduHeader(index, header, offset + length, data_size)
        _check_pixels(hdu, limits)
        end = offset + length + data_size
        if end > size and not partial:
            raise FormatError(
                "format.truncated",
                f"the file ends after {size} bytes, but its headers speak of {end}: the transfer was cut short",
                size=size,
                expected=end,
            )
        yield hdu
        offset += length + -(-data_size // BLOCK) * BLOCK
        index += 1
        if index > limits.max_hdus:
            raise FormatError("format.too_large", f"the file has more than {limits.max_hdus} extensions")


def _read_header(stream: BinaryIO, offset: int, *, is_first: bool, partial: bool) -> tuple[fits.Header | None, int]:
    """Header at an offset and its length in bytes; None where the file ends or something else begins."""
    stream.seek(offset)
    blocks: list[bytes] = []
    while len(blocks) < _MAX_HEADER_BLOCKS:
        block = stream.read(BLOCK)
        if not blocks and not block.startswith(b"SIMPLE  =" if is_first else b"XTENSION="):
            if is_first:
                raise FormatError("format.not_fits", "this is not a FITS file")
            return None, 0  # bytes behind the last extension mean nothing
        if len(block) < BLOCK:
            if partial:
                return None, 0
            raise FormatError("format.truncated", "the file ends inside a header: the transfer was cut short")
        blocks.append(block)
        if any(block[start : start + _CARD].rstrip() == b"END" for start in range(0, BLOCK, _CARD)):
            text = b"".join(blocks).decode("ascii", "replace").replace("\ufffd", "?")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", AstropyWarning)
                return fits.Header.fromstring(text), len(text)
    raise FormatError("format.corrupt", "a FITS header without end")


def _data_size(header: fits.Header) -> int:
    bitpix, naxis = _integer(header, "BITPIX"), _integer(header, "NAXIS")
    if bitpix not in _BITPIX or naxis > 999:
        raise FormatError("format.not_numeric", f"BITPIX {bitpix} is no pixel type of FITS", bitpix=bitpix)
    if naxis == 0:
        return 0
    sizes = [_integer(header, f"NAXIS{axis}") for axis in range(1, naxis + 1)]
    if sizes[0] == 0 and header_value(header, "GROUPS") is True:
        sizes = sizes[1:]
    parameters = header_value(header, "PCOUNT") or 0
    groups = header_value(header, "GCOUNT") or 1
    if not isinstance(parameters, int) or not isinstance(groups, int) or parameters < 0 or groups < 0:
        raise FormatError("format.corrupt", "the FITS header has no usable PCOUNT or GCOUNT")
    return abs(bitpix) // 8 * groups * (parameters + math.prod(sizes))


def _check_pixels(hdu: HduHeader, limits: ReadLimits) -> None:
    if not hdu.is_image:
        return
    n_pixels = math.prod(hdu.shape)
    tile = hdu.tile_pixels if hdu.is_compressed else 0
    if max(n_pixels, tile) > limits.max_pixels:
        raise FormatError(
            "format.too_large",
            f"an image of {' x '.join(str(n) for n in hdu.shape[::-1])} pixels exceeds the limit of "
            f"{limits.max_pixels} pixels",
            n_pixels=n_pixels,
            max_pixels=limits.max_pixels,
        )
    if hdu.bitpix not in _BITPIX:
        raise FormatError("format.not_numeric", f"BITPIX {hdu.bitpix} is no pixel type of FITS", bitpix=hdu.bitpix)
