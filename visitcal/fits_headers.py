"""The headers of a FITS file without its data: kilobytes that tell what hundreds of megabytes hold."""

from __future__ import annotations

import bz2
import gzip
import math
import re
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FileStart", "announced_bytes", "file_start"]

BLOCK = 2880
CARD = 80
#: Sent of a file that is no FITS file, so that the service may say what it is.
FIRST_BYTES = 256 << 10
#: What the service takes.
MAX_BYTES = 4 << 20
_GZIP, _BZIP2 = _PACKED = (b"\x1f\x8b", b"BZh")
_INTEGER = re.compile(rb"(\w+) *= +([+-]?\d{1,18})(?: |/|$)")


@dataclass(frozen=True, slots=True)
class FileStart:
    """What is sent of a file.

    Parameters
    ----------
    data : bytes
        All of its headers, or its first bytes.
    headers_only : bool
        Which of the two.
    size : int or None
        Bytes of the whole file; None where headers are those of a file that is compressed as a whole.
    """

    data: bytes
    headers_only: bool
    size: int | None


def file_start(path: Path) -> FileStart:
    """The headers of a file, plain or in gzip or bzip2; the first bytes of anything else.

    Raises
    ------
    OSError
        It cannot be read.
    """
    with path.open("rb") as file:
        first = file.read(FIRST_BYTES)
    packed = first.startswith(_PACKED)
    try:
        with _opened(path, first) as file:
            headers = _headers(file)
    except (OSError, EOFError, zlib.error):
        headers = b""  # damaged: the service says how
    size = None if packed and headers else path.stat().st_size
    return FileStart(headers or first, headers_only=bool(headers), size=size)


def _opened(path: Path, first: bytes) -> IO[bytes]:
    if first.startswith(_GZIP):
        return cast("IO[bytes]", gzip.open(path, "rb"))
    return bz2.open(path, "rb") if first.startswith(_BZIP2) else path.open("rb")


def _headers(file: IO[bytes]) -> bytes:
    """All headers one after another, as many as are taken."""
    found = b""
    offset = 0
    while len(found) < MAX_BYTES:
        file.seek(offset)
        header = _header(file, b"XTENSION=" if found else b"SIMPLE  =")
        if not header or len(found) + len(header) > MAX_BYTES:
            break
        found += header
        offset += len(header) + -(-_data_bytes(header) // BLOCK) * BLOCK
    return found


def _header(file: IO[bytes], begin: bytes) -> bytes:
    blocks = b""
    while len(blocks) < MAX_BYTES:
        block = file.read(BLOCK)
        if len(block) < BLOCK or (not blocks and not block.startswith(begin)):
            return b""
        blocks += block
        if any(block[start : start + CARD].rstrip() == b"END" for start in range(0, BLOCK, CARD)):
            return blocks
    return b""


def _data_bytes(header: bytes) -> int:
    """Length of the data behind a header, as the standard has it."""
    cards: dict[bytes, int] = {}
    groups = False
    for start in range(0, len(header), CARD):
        card = header[start : start + CARD]
        match = _INTEGER.match(card)
        if match is not None:
            cards.setdefault(match[1], int(match[2]))
        groups = groups or card.startswith(b"GROUPS  =                    T")
    axes = [cards.get(b"NAXIS%d" % axis, 0) for axis in range(1, min(cards.get(b"NAXIS", 0), 999) + 1)]
    if not axes:
        return 0
    if groups and axes[0] == 0:
        axes = axes[1:]
    count = cards.get(b"GCOUNT", 1) * (cards.get(b"PCOUNT", 0) + math.prod(axes))
    return max(abs(cards.get(b"BITPIX", 8)) // 8 * count, 0)


def announced_bytes(path: Path) -> int | None:
    """How many bytes a plain FITS file has at least, by its headers; None for what is no FITS file.

    A header that breaks off announces one block more than there is.

    Raises
    ------
    OSError
        It cannot be read.
    """
    end = 0
    with path.open("rb") as file:
        size = file.seek(0, 2)
        while end < size:
            file.seek(end)
            header = _header(file, b"XTENSION=" if end else b"SIMPLE  =")
            if not header:
                file.seek(end)
                begins = (b"XTENSION=" if end else b"SIMPLE  =").startswith(file.read(9))
                return size + 1 if begins else end or None
            start = end + len(header)
            data = _data_bytes(header)
            if start + data > size:
                return start + data
            end = start + -(-data // BLOCK) * BLOCK
    return min(end, size)
