"""What whole files are packed with: gzip, bzip2 and zstd, told apart by their first bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from service.formats.errors import FormatError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["MAGIC_BYTES", "UNPACK_ERRORS", "Unpacking", "inflate_beginning", "is_packed", "open_packed"]

#: So many bytes tell.
MAGIC_BYTES = 4
_GZIP, _BZIP2, _ZSTD = b"\x1f\x8b", b"BZh", b"\x28\xb5\x2f\xfd"
#: What damaged files raise.
UNPACK_ERRORS = (OSError, EOFError, zlib.error)


class Unpacking(Protocol):
    """A stream of what a packed file holds."""

    def read(self, size: int, /) -> bytes:
        """Up to so many bytes, none at the end; raises one of `UNPACK_ERRORS`."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class _Zstd:
    """Frames of zstd, one after the other; windows up to the library's limit of 128 MiB."""

    def __init__(self, file: BinaryIO) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        self._stream: Any = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True, closefd=False)

    def read(self, size: int, /) -> bytes:
        try:
            return bytes(self._stream.read(size))
        except self._error as error:
            raise OSError(str(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._stream.close()


def is_packed(start: bytes) -> bool:
    """Whether a file that begins like this is packed as a whole."""
    return start.startswith((_GZIP, _BZIP2, _ZSTD))


def open_packed(file: BinaryIO, start: bytes) -> Unpacking:
    """What is in a packed file, read forwards.

    Parameters
    ----------
    file : binary file
        At its beginning.
    start : bytes
        Its first bytes, for which `is_packed` is true.
    """
    if start.startswith(_ZSTD):
        return _Zstd(file)
    return gzip.GzipFile(fileobj=file, mode="rb") if start.startswith(_GZIP) else bz2.BZ2File(file)


def inflate_beginning(data: bytes, length: int) -> bytes:
    """Up to ``length`` bytes of what is in the beginning of a file, packed or not.

    Raises
    ------
    FormatError
        ``format.corrupt``: it is packed and damaged.
    """
    try:
        if data.startswith(_GZIP):
            return zlib.decompressobj(wbits=31).decompress(data, length)
        if data.startswith(_BZIP2):
            return bz2.BZ2Decompressor().decompress(data, length)
        if data.startswith(_ZSTD):
            with _Zstd(io.BytesIO(data)) as stream:
                return stream.read(length)
    except (*UNPACK_ERRORS, ValueError) as error:
        raise FormatError("format.corrupt", f"the compressed file is damaged: {error}") from error
    return data
