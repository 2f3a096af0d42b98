"""Damaged codes in compressed tiles, which lead astropy's compiled decoders beyond their memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from service.formats.errors import FormatError
from service.formats.headers import header_number, header_value
from service.formats.tiles import heap_start, rice_options, tile_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.formats.headers import HduHeader

__all__ = ["check_codes"]

_HCOMPRESS_HEADER = 25  # bytes: which it is, two sides, scale, sum, bit planes


def check_codes(stream: BinaryIO, hdu: HduHeader) -> None:
    """Refuse codes of RICE_1 that end before their pixels, and of HCOMPRESS_1 for another size than the tile's.

    Parameters
    ----------
    stream : binary file
        Plain FITS, seekable.
    hdu : HduHeader
        A compressed image that passed `service.formats.tiles.check_tiles`.

    Raises
    ------
    FormatError
        ``format.corrupt``.
    """
    algorithm = header_value(hdu.header, "ZCMPTYPE")
    if algorithm not in ("RICE_1", "RICE_ONE", "HCOMPRESS_1"):
        return
    stream.seek(heap_start(hdu))
    heap = np.frombuffer(bytearray(stream.read(int(header_number(hdu.header, "PCOUNT", 0)))), np.uint8)
    for name, (kind, cells) in tile_columns(stream, hdu).items():
        if name.upper() != "COMPRESSED_DATA":
            continue
        if kind not in ("PB", "QB"):
            raise _damaged()
        places = np.ascontiguousarray(cells).view(">i4" if kind == "PB" else ">i8").astype(np.int64)
        sizes = _tile_sizes(hdu, len(places))
        if np.any(places[:, 0] > heap.size - places[:, 1]):
            raise _damaged()
        if algorithm == "HCOMPRESS_1":
            _check_hcompress(heap, places[: len(sizes)], sizes)
        else:
            _check_rice(heap, places[: len(sizes)], sizes, *rice_options(hdu.header))


def _tile_sizes(hdu: HduHeader, rows: int) -> NDArray[np.int64]:
    """Pixels of each tile, of which there may be as many as rows."""
    shape = hdu.shape
    defaults = (1,) * (len(shape) - 1) + shape[-1:]
    tile = [int(header_number(hdu.header, f"ZTILE{len(shape) - axis}", side)) for axis, side in enumerate(defaults)]
    if min(tile) < 1 or math.prod(-(-side // step) for side, step in zip(shape, tile, strict=True)) > rows:
        raise _damaged()
    sizes = np.ones(1, np.int64)
    for side, step in zip(shape, tile, strict=True):
        sizes = np.outer(sizes, np.minimum(step, side - np.arange(0, side, step))).ravel()
    return sizes


def _check_rice(
    heap: NDArray[np.uint8], places: NDArray[np.int64], sizes: NDArray[np.int64], block: int, bytepix: int
) -> None:
    from service.formats.tile_kernels import rice_tiles  # numba, which only those need who decode

    pixels = np.empty((1, int(sizes.max())), np.int32)
    for tile in range(len(sizes)):
        one = slice(tile, tile + 1)
        if rice_tiles(heap, places[one], sizes[one], bytepix, block, pixels) >= 0:
            raise _damaged()


def _check_hcompress(heap: NDArray[np.uint8], places: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
    for (length, start), size in zip(places, sizes, strict=True):
        if length:
            sides = heap[start + 2 : start + 10].tobytes()
            if length < _HCOMPRESS_HEADER or math.prod(np.frombuffer(sides, ">u4").tolist()) != size:
                raise _damaged()


def _damaged() -> FormatError:
    return FormatError("format.corrupt", "a tile of the compressed image is damaged")
