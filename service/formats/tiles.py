"""Guarding the unpacking of tile-compressed images: no tile may inflate beyond its size."""

from __future__ import annotations

import math
import re
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from service.formats.errors import FormatError
from service.formats.headers import header_number, header_value

if TYPE_CHECKING:
    from astropy.io import fits
    from numpy.typing import NDArray

    from service.formats.headers import HduHeader, ReadLimits

__all__ = ["check_tiles", "heap_start", "rice_options", "tile_columns"]

_WIDTHS = {"L": 1, "B": 1, "A": 1, "I": 2, "J": 4, "K": 8, "E": 4, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}
_FORMAT = re.compile(r"^(\d{0,18})([LXBAIJKEDCMPQ])([A-Z]?)")
_POINTERS = ("COMPRESSED_DATA", "GZIP_COMPRESSED_DATA")
_GZIP_RATIO = 1032  # deflate cannot do better
_MOST_IN_BLOCK = 1 << 16
_RAW_BYTES = 16  # of a pixel, generously: nothing that is compressed is longer


def check_tiles(stream: BinaryIO, hdu: HduHeader, limits: ReadLimits) -> None:
    """Refuse tiles whose gzip data unpack to more than the tile holds.

    Only gzip can inflate without bound; the other algorithms stop at the size of the tile. Tiles so short that they
    cannot exceed the limits are not looked at.

    Raises
    ------
    FormatError
        ``format.decompression_limit``, or ``format.corrupt`` where descriptors point outside the file, or so many
        to the same bytes that there would be no end to it.
    """
    heap = heap_start(hdu)
    if not hdu.offset <= heap <= hdu.offset + hdu.size:
        raise FormatError("format.corrupt", "a compressed image points outside its own data")
    tile_bytes = 8 * hdu.tile_pixels
    for descriptors, width in _descriptors(stream, hdu):
        lengths, offsets = descriptors[:, 0], descriptors[:, 1]
        if np.any(lengths < 0) or np.any(offsets < 0) or np.any(lengths > (hdu.size - offsets) // width):
            raise FormatError("format.corrupt", "a compressed image points outside its own data")
        lengths = lengths * width
        if lengths.sum(dtype=np.float64) > hdu.size + _RAW_BYTES * math.prod(hdu.shape):
            raise FormatError(
                "format.corrupt", "the tiles of a compressed image share more bytes than they have pixels"
            )
        for row in np.flatnonzero(lengths * _GZIP_RATIO > max(limits.max_bytes // 64, tile_bytes)):
            stream.seek(heap + int(offsets[row]))
            data = stream.read(int(lengths[row]))
            if data.startswith(b"\x1f\x8b") and _inflates_beyond(data, tile_bytes):
                raise FormatError(
                    "format.decompression_limit", "a tile of the compressed image unpacks to more than its size"
                )


def _inflates_beyond(data: bytes, n_bytes: int) -> bool:
    """Whether more comes out; of a second member, which no program writes, nobody looks how much."""
    inflater = zlib.decompressobj(wbits=31)
    try:
        return len(inflater.decompress(data, n_bytes + 1)) > n_bytes or bool(inflater.unused_data.strip(b"\0"))
    except zlib.error:
        return False  # the decoder will say so


def heap_start(hdu: HduHeader) -> int:
    """Where the compressed bytes begin in the file."""
    rows, row_bytes = _table_size(hdu)
    return hdu.offset + int(header_number(hdu.header, "THEAP", rows * row_bytes))


def _table_size(hdu: HduHeader) -> tuple[int, int]:
    """Rows, and bytes of each."""
    return int(header_number(hdu.header, "NAXIS2", 0)), int(header_number(hdu.header, "NAXIS1", 0))


def _descriptors(stream: BinaryIO, hdu: HduHeader) -> list[tuple[NDArray[np.int64], int]]:
    """(length, offset) of every tile, and bytes of what the length counts, of each column that may hold gzip data."""
    found: list[tuple[NDArray[np.int64], int]] = []
    for name, (kind, cells) in tile_columns(stream, hdu).items():
        if name.upper() in _POINTERS and kind[0] in "PQ" and cells.shape[1]:  # astropy takes names in any case
            number = np.dtype(">i4" if kind[0] == "P" else ">i8")
            if cells.shape[1] != 2 * number.itemsize:
                raise FormatError("format.corrupt", "the table of a compressed image does not fit its columns")
            found.append((np.ascontiguousarray(cells).view(number).astype(np.int64), _WIDTHS.get(kind[1:], 1)))
    return found


def tile_columns(stream: BinaryIO, hdu: HduHeader) -> dict[str, tuple[str, NDArray[np.uint8]]]:
    """The columns of the table of a compressed image.

    Returns
    -------
    dict
        By name: letters of the format, and the bytes of the cells, shape (rows, bytes).

    Raises
    ------
    FormatError
        ``format.corrupt``: the table is cut short, a format is none, two columns have one name, or a row is not as
        long as they are.
    """
    rows, row_bytes = _table_size(hdu)
    size = rows * row_bytes if min(rows, row_bytes) > 0 else 0
    stream.seek(hdu.offset)
    table = np.frombuffer(stream.read(min(size, hdu.size)), np.uint8)
    if table.size != size or not size:
        raise FormatError("format.corrupt", "the table of a compressed image is cut short")
    table = table.reshape(rows, row_bytes)
    columns: dict[str, tuple[str, NDArray[np.uint8]]] = {}
    position = 0
    for number in range(1, int(header_number(hdu.header, "TFIELDS", 0)) + 1):
        match = _FORMAT.match(str(header_value(hdu.header, f"TFORM{number}") or ""))
        if match is None:
            raise FormatError("format.corrupt", f"TFORM{number} of a compressed image is no format")
        count, letter = int(match[1] or 1), match[2]
        width = -(-count // 8) if letter == "X" else count * _WIDTHS[letter]
        name = _text(hdu.header, f"TTYPE{number}")
        if name and name in columns:
            raise FormatError("format.corrupt", f"two columns of a compressed image are {name}")
        columns[name] = (letter + match[3] if letter in "PQ" else letter, table[:, position : position + width])
        position += width
    if position != row_bytes:  # astropy would look for the next row elsewhere
        raise FormatError("format.corrupt", "the table of a compressed image does not fit its columns")
    return columns


def rice_options(header: fits.Header) -> tuple[int, int]:
    """Pixels of a block and bytes of an integer: of several the first, and none behind a gap, as astropy has it.

    Raises
    ------
    FormatError
        ``format.corrupt``: they cannot be; astropy's decoder does not look.
    """
    given: dict[str, Any] = {}
    number = 1
    while f"ZNAME{number}" in header:
        given.setdefault(_text(header, f"ZNAME{number}").upper(), header_value(header, f"ZVAL{number}"))
        number += 1
    block, bytepix = given.get("BLOCKSIZE", 32), given.get("BYTEPIX", 4)
    if (
        type(block) is not int
        or not 0 < block <= _MOST_IN_BLOCK
        or type(bytepix) is not int
        or bytepix not in (1, 2, 4)
    ):
        raise FormatError("format.corrupt", f"blocks of {block} integers of {bytepix} bytes are no Rice code")
    return block, bytepix


def _text(header: fits.Header, key: str) -> str:
    """Text of a card with the blanks before it, which are part of a name."""
    return "" if header_value(header, key) is None else str(header[key])
