"""Guarding the unpacking of tile-compressed images: no tile may inflate beyond its size."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from service.formats.errors import FormatError
from service.formats.headers import header_number, header_value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.formats.headers import HduHeader, ReadLimits

__all__ = ["check_tiles", "heap_start", "tile_columns"]

_WIDTHS = {"L": 1, "B": 1, "A": 1, "I": 2, "J": 4, "K": 8, "E": 4, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}
_FORMAT = re.compile(r"^(\d{0,18})([LXBAIJKEDCMPQ])([A-Z]?)")
_POINTERS = ("COMPRESSED_DATA", "GZIP_COMPRESSED_DATA")
_GZIP_RATIO = 1032  # deflate cannot do better


def check_tiles(stream: BinaryIO, hdu: HduHeader, limits: ReadLimits) -> None:
    """Refuse tiles whose gzip data unpack to more than the tile holds.

    Only gzip can inflate without bound; the other algorithms stop at the size of the tile. Tiles so short that they
    cannot exceed the limits are not looked at.

    Raises
    ------
    FormatError
        ``format.decompression_limit``, or ``format.corrupt`` where descriptors point outside the file.
    """
    heap = heap_start(hdu)
    if not hdu.offset <= heap <= hdu.offset + hdu.size:
        raise FormatError("format.corrupt", "a compressed image points outside its own data")
    tile_bytes = 8 * hdu.tile_pixels
    for descriptors in _descriptors(stream, hdu):
        lengths, offsets = descriptors[:, 0], descriptors[:, 1]
        if np.any(lengths < 0) or np.any(offsets < 0) or np.any(offsets + lengths > hdu.size):
            raise FormatError("format.corrupt", "a compressed image points outside its own data")
        for row in np.flatnonzero(lengths * _GZIP_RATIO > max(limits.max_bytes // 64, tile_bytes)):
            stream.seek(heap + int(offsets[row]))
            data = stream.read(int(lengths[row]))
            if data.startswith(b"\x1f\x8b") and _inflates_beyond(data, tile_bytes):
                raise FormatError(
                    "format.decompression_limit", "a tile of the compressed image unpacks to more than its size"
                )


def _inflates_beyond(data: bytes, n_bytes: int) -> bool:
    inflater = zlib.decompressobj(wbits=31)
    try:
        return len(inflater.decompress(data, n_bytes + 1)) > n_bytes
    except zlib.error:
        return False  # the decoder will say so


def heap_start(hdu: HduHeader) -> int:
    """Where the compressed bytes begin in the file."""
    rows, row_bytes = _table_size(hdu)
    return hdu.offset + int(header_number(hdu.header, "THEAP", rows * row_bytes))


def _table_size(hdu: HduHeader) -> tuple[int, int]:
    """Rows, and bytes of each."""
    return int(header_number(hdu.header, "NAXIS2", 0)), int(header_number(hdu.header, "NAXIS1", 0))


def _descriptors(stream: BinaryIO, hdu: HduHeader) -> list[NDArray[np.int64]]:
    """(length, offset) of every tile in each column that may hold gzip data."""
    found: list[NDArray[np.int64]] = []
    columns = tile_columns(stream, hdu)
    for name, (kind, cells) in columns.items():
        if name.upper() in _POINTERS and kind[0] in "PQ" and cells.shape[1]:  # astropy takes names in any case
            number = np.dtype(">i4" if kind[0] == "P" else ">i8")
            if cells.shape[1] != 2 * number.itemsize:
                raise FormatError("format.corrupt", "the table of a compressed image does not fit its columns")
            found.append(np.ascontiguousarray(cells).view(number).astype(np.int64))
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
        ``format.corrupt``: the table is cut short, a format is none, or two columns have one name.
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
        name = str(header_value(hdu.header, f"TTYPE{number}") or "")
        if name and name in columns:
            raise FormatError("format.corrupt", f"two columns of a compressed image are {name}")
        columns[name] = (letter + match[3] if letter in "PQ" else letter, table[:, position : position + width])
        position += width
    return columns
