"""Opening a file: what it is compressed with, how much comes out, and its planes as arrays."""

from __future__ import annotations

import io
import math
import os
import tempfile
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from service.formats.errors import FormatError
from service.formats.headers import HduHeader, ReadLimits, header_number, header_value, scan_headers
from service.formats.packing import MAGIC_BYTES, UNPACK_ERRORS, inflate_beginning, is_packed, open_packed
from service.formats.tile_damage import check_codes
from service.formats.tile_decoder import decode_tiles
from service.formats.tiles import check_tiles

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from service.formats.packing import Unpacking

__all__ = ["FitsSource", "file_headers", "open_bytes", "open_fits", "sniff_is_fits"]

_FITS = b"SIMPLE  ="
_COPY_BYTES = 1 << 20
_CHUNK_PIXELS = 1 << 20
_BLOCK_BYTES = 1 << 18
#: How much of a compressed beginning is inflated to look at its headers.
_PEEK_BYTES = 16 << 20
#: How much may come out of a compressed file behind its last extension, where nothing has a meaning.
_TAIL_BYTES = 64 << 20
_NO_END = 1 << 62  # of a stream whose length nobody knows yet


def sniff_is_fits(first_bytes: bytes) -> bool:
    """Whether a file that begins like this is FITS, bare or packed.

    Parameters
    ----------
    first_bytes : bytes
        Beginning of the file; bzip2 and zstd show their content only with their first block (up to 900 kB), and are
        taken on trust when there is less.
    """
    try:
        plain = inflate_beginning(first_bytes, 64)
    except FormatError:
        return False
    return plain.startswith(_FITS) or (is_packed(first_bytes) and not plain)


@dataclass(slots=True)
class FitsSource:
    """An open FITS file.

    Parameters
    ----------
    stream : binary file
        Plain FITS, seekable.
    hdus : list of HduHeader
        Its headers.
    limits : ReadLimits
        What it may ask for.
    """

    stream: BinaryIO
    hdus: list[HduHeader]
    limits: ReadLimits

    def read_float(self, hdu: HduHeader) -> NDArray[np.float32]:
        """Physical pixel values, float32 of the HDU's two dimensions; undefined integers as NaN."""
        raw = self._read(hdu)
        if raw.dtype == np.float32:
            return raw
        blank = header_value(hdu.header, "ZBLANK" if hdu.is_compressed else "BLANK")
        scale, zero = (1.0, 0.0) if hdu.is_compressed else _scaling(hdu)  # astropy applies that of compressed images
        result = np.empty(raw.shape, np.float32)
        rows = max(1, _CHUNK_PIXELS // raw.shape[1])
        for start in range(0, raw.shape[0], rows):
            piece = raw[start : start + rows]
            values = piece * scale + zero
            if isinstance(blank, int) and piece.dtype.kind in "iu":
                values[piece == blank] = np.nan
            result[start : start + rows] = values
        return result

    def read_integers(self, hdu: HduHeader) -> NDArray[Any]:
        """Physical pixel values of a mask, of an integer type that holds them.

        Raises
        ------
        FormatError
            ``format.not_numeric``: the values are not whole numbers.
        """
        raw = self._read(hdu)
        if not hdu.is_compressed:
            scale, zero = _scaling(hdu)
            if scale != 1 or zero != int(zero):
                raise FormatError("format.not_numeric", f"mask values scaled by {scale} and {zero} are no bits")
            if zero and raw.dtype.kind in "iu":
                wide = raw.astype("i4" if raw.itemsize <= 2 else "i8")
                wide += int(zero)
                return wide
        if raw.dtype.kind == "f":
            finite = np.isfinite(raw)
            if np.any(raw[finite] != np.floor(raw[finite])):
                raise FormatError("format.not_numeric", "the mask holds fractions, not bits")
            return np.where(finite, raw, 1).astype(np.int64)
        return raw

    def read_cube(self, hdu: HduHeader) -> NDArray[Any]:
        """Values as stored of an image with any number of axes, slowest axis first."""
        return self._read(hdu, hdu.shape)

    def _read(self, hdu: HduHeader, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
        """Pixels as stored (compressed: scaled by astropy), native byte order; two axes unless a shape is given."""
        shape = shape or plane_shape(hdu)
        if hdu.is_compressed:
            unpacked = self._read_compressed(hdu)
            if unpacked.size != math.prod(shape):
                raise FormatError("format.corrupt", f"a compressed image unpacks to {unpacked.shape}, not {shape}")
            return unpacked.reshape(shape)
        kind = {8: "u1", 16: "i2", 32: "i4", 64: "i8", -32: "f4", -64: "f8"}[hdu.bitpix]
        pixels: NDArray[Any] = np.empty(shape, dtype=kind)
        self.stream.seek(hdu.offset)
        flat = pixels.reshape(-1)
        block = np.empty(min(flat.size, _BLOCK_BYTES // flat.itemsize), flat.dtype.newbyteorder(">"))
        for start in range(0, flat.size, block.size):
            piece = block[: flat.size - start]
            if self.stream.readinto(piece.data.cast("B")) != piece.nbytes:  # type: ignore[attr-defined]
                raise FormatError("format.truncated", "the file ends inside an image: the transfer was cut short")
            flat[start : start + piece.size] = piece  # while it is in the cache
        return pixels.astype(np.float64) if pixels.dtype == np.float32 and _scaling(hdu) != (1.0, 0.0) else pixels

    def _read_compressed(self, hdu: HduHeader) -> NDArray[Any]:
        check_tiles(self.stream, hdu, self.limits)
        pixels = decode_tiles(self.stream, hdu)
        if pixels is None:
            check_codes(self.stream, hdu)
            return self._read_by_astropy(hdu)
        return pixels

    def _read_by_astropy(self, hdu: HduHeader) -> NDArray[Any]:
        self.stream.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)  # untidy cards do not concern the pixels
            try:
                hdus = fits.open(self.stream, memmap=False, lazy_load_hdus=True)
                data = np.asarray(hdus[hdu.index].data)
                hdus.close(closed=False)  # the stream stays open for the other planes
            except Exception as error:  # the decoders raise whatever comes to their mind
                raise FormatError("format.corrupt", f"a compressed image cannot be unpacked: {error}") from error
            return data.astype(data.dtype.newbyteorder("="), copy=False)


def _scaling(hdu: HduHeader) -> tuple[float, float]:
    """BSCALE and BZERO."""
    return float(header_number(hdu.header, "BSCALE", 1.0)) or 1.0, float(header_number(hdu.header, "BZERO", 0.0))


def plane_shape(hdu: HduHeader) -> tuple[int, int]:
    """(height, width) of an image HDU; further axes must have length 1.

    Raises
    ------
    FormatError
        ``format.wrong_dimensions``.
    """
    shape = hdu.shape
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) != 2:
        what = "a colour image or cube" if len(shape) > 2 else "not an image"
        axes = " x ".join(str(n) for n in hdu.shape[::-1])
        raise FormatError(
            "format.wrong_dimensions",
            f"{axes} pixels are {what}; one detector has two axes: send one channel of it as a file of its own",
            shape=list(hdu.shape),
        )
    return shape[0], shape[1]


@contextmanager
def open_fits(path: Path, limits: ReadLimits) -> Iterator[FitsSource]:
    """Open a FITS file; what it is packed in is unpacked as a whole.

    Parameters
    ----------
    path : Path
        The file.
    limits : ReadLimits
        What it may ask for.

    Raises
    ------
    FormatError
        It is no usable FITS file.
    """
    with path.open("rb") as file:
        start = file.read(MAGIC_BYTES)
        file.seek(0)
        with _unpacked(file, start, limits) as stream:
            size = stream.seek(0, io.SEEK_END)
            yield FitsSource(stream, scan_headers(stream, size, limits), limits)


@contextmanager
def _unpacked(file: BinaryIO, start: bytes, limits: ReadLimits) -> Iterator[BinaryIO]:
    if not is_packed(start):
        yield file
        return
    with tempfile.TemporaryFile() as plain, open_packed(file, start) as packed:
        total = 0
        try:
            while piece := packed.read(_COPY_BYTES):
                if not total and not piece.startswith(_FITS):
                    raise FormatError("format.not_fits", "the compressed file does not contain FITS")
                total += len(piece)
                if total > limits.max_bytes:
                    raise _inflates_too_far(limits.max_bytes)
                plain.write(piece)
        except UNPACK_ERRORS as error:
            raise FormatError("format.corrupt", f"the compressed file is damaged: {error}") from error
        if not total:
            raise FormatError("format.corrupt", "nothing comes out of the compressed file: it is damaged or cut short")
        plain.flush()
        with os.fdopen(os.dup(plain.fileno()), "rb") as readable:  # astropy takes no file that could be written
            yield readable


def file_headers(path: Path, limits: ReadLimits) -> list[HduHeader]:
    """All headers of a file; what it is compressed with is inflated in passing, and goes nowhere.

    Raises
    ------
    FormatError
        It is no usable FITS file, or inflates to more than its headers speak of.
    """
    with path.open("rb") as file:
        start = file.read(MAGIC_BYTES)
        if not is_packed(start):
            return scan_headers(file, file.seek(0, io.SEEK_END), limits)
        file.seek(0)
        with open_packed(file, start) as packed:
            stream = _Inflated(packed, limits)
            hdus = scan_headers(cast("BinaryIO", stream), _NO_END, limits)
            end = hdus[-1].offset + hdus[-1].size
            stream.seek(end)
            if stream.position < end:
                raise FormatError(
                    "format.truncated",
                    f"the file ends after {stream.position} bytes, but its headers speak of {end}: "
                    "the transfer was cut short",
                    size=stream.position,
                    expected=end,
                )
            stream.seek(end + _TAIL_BYTES)
            if stream.position == end + _TAIL_BYTES:
                raise _inflates_too_far(end + _TAIL_BYTES)
            return hdus


class _Inflated:
    """What a compressed file holds, read forwards, once.

    Parameters
    ----------
    packed : Unpacking
        Gives the inflated bytes.
    limits : ReadLimits
        How many there may be.
    """

    def __init__(self, packed: Unpacking, limits: ReadLimits) -> None:
        self._packed = packed
        self._limit = limits.max_bytes
        self.position = 0

    def read(self, size: int) -> bytes:
        """Up to so many bytes, fewer at the end only."""
        try:
            data = self._packed.read(size)
        except UNPACK_ERRORS as error:
            raise FormatError("format.corrupt", f"the compressed file is damaged: {error}") from error
        self.position += len(data)
        if self.position > self._limit:
            raise _inflates_too_far(self._limit)
        return data

    def seek(self, position: int) -> None:
        """Go on to a position, or to the end where that comes first."""
        while self.position < position and self.read(min(_COPY_BYTES, position - self.position)):
            pass


def _inflates_too_far(n_bytes: int) -> FormatError:
    return FormatError(
        "format.decompression_limit", f"the compressed file unpacks to more than {n_bytes} bytes", max_bytes=n_bytes
    )


def open_bytes(data: bytes, limits: ReadLimits) -> list[HduHeader]:
    """Headers in the beginning of a file, as far as they are there.

    Raises
    ------
    FormatError
        It does not begin like FITS, or a header cannot be used.
    """
    plain = inflate_beginning(data, _PEEK_BYTES)
    return scan_headers(io.BytesIO(plain), len(plain), limits, partial=True)
