"""Unpacking tile-compressed images, several tiles at a time.

What is decoded here is what nearly all files have: RICE_1, GZIP_1 and GZIP_2 of integers, floats as they are, and
floats quantised with or without dither. Whatever is unusual about a file is left to astropy, whose pixels these are bit
for bit.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from service import threads
from service.formats.headers import header_number, header_value
from service.formats.tiles import heap_start, rice_options, tile_columns

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from numpy.typing import NDArray

    from service.formats.headers import HduHeader

__all__ = ["decode_tiles"]

_CHUNK_PIXELS = 1 << 16  # decoded at a time, so that the integers stay in the cache until they are floats
_TYPES = {8: "u1", 16: "i2", 32: "i4", 64: "i8", -32: "f4", -64: "f8"}
_RICE = ("RICE_1", "RICE_ONE")
_GZIP = ("GZIP_1", "GZIP_2")
_DITHERS = ("NONE", "SUBTRACTIVE_DITHER_1", "SUBTRACTIVE_DITHER_2")  # astropy adds dither also where it is NONE
_INT32 = np.iinfo(np.int32)


class _UnusualError(Exception):
    """Nothing for us."""


def decode_tiles(stream: BinaryIO, hdu: HduHeader) -> NDArray[Any] | None:
    """Pixels of a compressed image.

    Parameters
    ----------
    stream : binary file
        Plain FITS, seekable.
    hdu : HduHeader
        The image, whose descriptors point into its own data (`service.formats.tiles.check_tiles`).

    Returns
    -------
    ndarray or None
        As astropy gives them, in native byte order; None where the file is unusual or damaged.
    """
    try:
        image = _Image(stream, hdu)
        threads.each(image.decode, image.chunks())
    except _UnusualError:
        return None
    return image.result()


@dataclass(frozen=True, slots=True)
class _Quantisation:
    """How integers become floats, tile by tile."""

    scale_and_zero: NDArray[np.float64]
    rows: NDArray[np.int64]  # none without dither
    blank: NDArray[np.int32]  # none where all pixels are defined
    keeps_zero: bool


class _Image:
    """What is known of an image before its first tile is decoded, and its pixels."""

    def __init__(self, stream: BinaryIO, hdu: HduHeader) -> None:
        self._header = hdu.header
        self._algorithm = str(header_value(hdu.header, "ZCMPTYPE"))
        _require(self._algorithm in (*_RICE, *_GZIP) and len(hdu.shape) == 2)
        _require(header_value(hdu.header, "XTENSION") == "BINTABLE")
        _require(not any(key.startswith(("TSCAL", "TZERO")) for key in hdu.header))
        self._block, self._bytepix = rice_options(hdu.header) if self._algorithm in _RICE else (32, 4)
        columns = tile_columns(stream, hdu)
        self._places = _places(columns, "COMPRESSED_DATA")
        if np.any(self._places[:, 0] == 0):
            self._raw_places = _places(columns, "GZIP_COMPRESSED_DATA")
        else:
            self._raw_places = np.zeros((0, 2), np.int64)
        self._lay_out(hdu)
        self._quantisation = self._quantised(columns) if "ZSCALE" in columns else None
        self._offset = self._unsigned_offset(hdu, columns)
        _require(self._quantisation is None or (hdu.bitpix == -32 and self._bytepix == 4))
        _require(hdu.bitpix > 0 or self._quantisation is not None or self._algorithm in _GZIP)
        start = heap_start(hdu)
        n_bytes = hdu.offset + hdu.size - start
        for places in (self._places, self._raw_places):
            _require(_inside(places, n_bytes))
        self._heap = np.empty(n_bytes, np.uint8)
        stream.seek(start)
        _require(stream.readinto(self._heap.data) == self._heap.size)  # type: ignore[attr-defined]
        self._pixels = np.empty(hdu.shape, _TYPES[hdu.bitpix])

    def _lay_out(self, hdu: HduHeader) -> None:
        """Where the tiles are."""
        height, width = hdu.shape
        self._tile_width = min(width, int(header_number(hdu.header, "ZTILE1", width)))
        self._tile_height = min(height, int(header_number(hdu.header, "ZTILE2", 1)))
        _require(self._tile_width > 0 and self._tile_height > 0)
        # Before anything of that length is made: the places were read, so there is room for as many.
        _require(-(-height // self._tile_height) * -(-width // self._tile_width) == len(self._places))
        tops, lefts = np.arange(0, height, self._tile_height), np.arange(0, width, self._tile_width)
        heights = np.minimum(self._tile_height, height - tops)
        widths = np.minimum(self._tile_width, width - lefts)
        self._across = len(lefts)
        self._sizes = np.outer(heights, widths).ravel().astype(np.int64)

    def _quantised(self, columns: dict[str, tuple[str, NDArray[Any]]]) -> _Quantisation:
        kinds = {name: columns[name][0] for name in ("ZSCALE", "ZZERO", "ZBLANK") if name in columns}
        _require(kinds.get("ZZERO") == kinds["ZSCALE"] == "D" and kinds.get("ZBLANK", "J") == "J")
        method = header_value(self._header, "ZQUANTIZ") or "NO_DITHER"
        _require(method in (*_DITHERS, "NO_DITHER"))
        rows = np.zeros(0, np.int64)
        if method in _DITHERS:
            seed = header_value(self._header, "ZDITHER0")
            _require(isinstance(seed, int) and 1 <= seed <= 10_000)
            rows = np.arange(len(self._places)) + seed
        blank = _numbers(columns, "ZBLANK", np.int32) if "ZBLANK" in columns else self._blank()
        scale_and_zero = np.stack([_numbers(columns, name, np.float64) for name in ("ZSCALE", "ZZERO")], axis=1)
        return _Quantisation(scale_and_zero, rows, blank, method == "SUBTRACTIVE_DITHER_2")

    def _blank(self) -> NDArray[np.int32]:
        given = next((key for key in ("ZBLANK", "BLANK") if key in self._header), None)
        if given is None:
            return np.zeros(0, np.int32)
        value = header_value(self._header, given)
        _require(isinstance(value, int) and not isinstance(value, bool) and _INT32.min <= value <= _INT32.max)
        return np.full(len(self._places), value, np.int32)

    def _unsigned_offset(self, hdu: HduHeader, columns: Container[str]) -> int:
        """What is added to integers that stand for unsigned ones; every other scaling is unusual."""
        zero = header_number(hdu.header, "BZERO", 0)
        _require(header_number(hdu.header, "BSCALE", 1) == 1 and "BLANK" not in hdu.header)
        if self._quantisation is None:
            _require("ZBLANK" not in hdu.header and "ZBLANK" not in columns)
        _require(zero == 0 or (hdu.bitpix in (16, 32) and zero == 1 << (hdu.bitpix - 1)))
        return int(zero)

    def chunks(self) -> Iterator[slice]:
        """Tiles that are decoded one after the other."""
        tiles = max(1, _CHUNK_PIXELS // (self._tile_width * self._tile_height))
        for first in range(0, len(self._sizes), tiles):
            yield slice(first, min(first + tiles, len(self._sizes)))

    def decode(self, tiles: slice) -> None:
        """Decode some tiles into their places; any thread may."""
        sizes = self._sizes[tiles]
        if self._across == 1 and np.all(sizes == self._tile_width * self._tile_height):
            top = tiles.start * self._tile_height
            rows = self._pixels[top : top + len(sizes) * self._tile_height]
            self._decode(tiles, rows.reshape(len(sizes), -1))
            return
        values = np.empty((len(sizes), int(sizes.max())), self._pixels.dtype)
        self._decode(tiles, values)
        for tile, value in enumerate(values, tiles.start):
            down, right = divmod(tile, self._across)
            place = self._pixels[
                down * self._tile_height : (down + 1) * self._tile_height,
                right * self._tile_width : (right + 1) * self._tile_width,
            ]
            place[...] = value[: place.size].reshape(place.shape)

    def _decode(self, tiles: slice, out: NDArray[Any]) -> None:
        """Decode tiles into rows, each as long as the largest."""
        if self._quantisation is None and self._algorithm in _GZIP:
            self._inflate(tiles, out)
        else:
            codes = out if out.dtype == np.int32 else np.empty(out.shape, np.int32)
            if self._algorithm in _GZIP:
                self._inflate(tiles, codes)
            else:
                self._decode_rice(tiles, codes)
            self._convert(tiles, codes, out)
        for tile in np.flatnonzero(self._places[tiles, 0] == 0):  # whose floats could not be quantised
            place, size = self._raw_places[tiles][tile], self._sizes[tiles][tile]
            self._inflate_tile(place, out[tile, :size], shuffled=False)

    def _decode_rice(self, tiles: slice, codes: NDArray[np.int32]) -> None:
        from service.formats.tile_kernels import rice_tiles  # numba, which only those need who decode

        damaged = rice_tiles(self._heap, self._places[tiles], self._sizes[tiles], self._bytepix, self._block, codes)
        _require(damaged < 0)

    def _convert(self, tiles: slice, codes: NDArray[np.int32], out: NDArray[Any]) -> None:
        given = self._quantisation
        if given is None:
            if codes is not out:
                out[...] = codes
            return
        from service.formats.tile_kernels import dither, undither_tiles, unquantise_tiles

        sizes, scale_and_zero, blank = self._sizes[tiles], given.scale_and_zero[tiles], given.blank[tiles]
        if len(given.rows):
            rows = given.rows[tiles]
            undither_tiles(codes, sizes, scale_and_zero, rows, dither(), given.keeps_zero, blank, out)
        else:
            unquantise_tiles(codes, sizes, scale_and_zero, blank, out)

    def _inflate(self, tiles: slice, out: NDArray[Any]) -> None:
        for place, size, row in zip(self._places[tiles], self._sizes[tiles], out, strict=True):
            if place[0]:
                self._inflate_tile(place, row[:size], shuffled=self._algorithm == "GZIP_2")

    def _inflate_tile(self, place: NDArray[np.int64], out: NDArray[Any], *, shuffled: bool) -> None:
        length, start = place
        inflater = zlib.decompressobj(wbits=31)
        try:
            data = inflater.decompress(self._heap[start : start + length].data, out.nbytes + 1)
        except zlib.error:
            raise _UnusualError from None
        _require(len(data) == out.nbytes and inflater.eof and not inflater.unused_data)
        if shuffled:
            planes = np.frombuffer(data, np.uint8).reshape(out.itemsize, -1)
            np.copyto(out.view(np.uint8).reshape(-1, out.itemsize)[:, ::-1], planes.T)
        else:
            out[...] = np.frombuffer(data, out.dtype.newbyteorder(">"))

    def result(self) -> NDArray[Any]:
        """All pixels."""
        if not self._offset:
            return self._pixels
        unsigned = self._pixels.view(f"u{self._pixels.itemsize}")
        unsigned += unsigned.dtype.type(self._offset)
        return unsigned


def _require(usual: bool) -> None:
    if not usual:
        raise _UnusualError


def _places(columns: dict[str, tuple[str, NDArray[Any]]], name: str) -> NDArray[np.int64]:
    """Length and offset of each tile's bytes."""
    _require(name in columns and columns[name][0] in ("PB", "QB"))
    kind, cells = columns[name]
    dtype = np.dtype(">i4" if kind == "PB" else ">i8")
    _require(cells.shape[1] == 2 * dtype.itemsize)
    return np.ascontiguousarray(cells).view(dtype).astype(np.int64)


def _inside(places: NDArray[np.int64], n_bytes: int) -> bool:
    return bool(np.all((places >= 0) & (places <= n_bytes)) and np.all(places.sum(axis=1) <= n_bytes))


def _numbers(columns: dict[str, tuple[str, NDArray[Any]]], name: str, dtype: type[np.generic]) -> NDArray[Any]:
    """One number of each tile."""
    kind = np.dtype(dtype).newbyteorder(">")
    cells = columns[name][1]
    _require(cells.shape[1] == kind.itemsize)
    return np.ascontiguousarray(cells).view(kind)[:, 0].astype(dtype)
