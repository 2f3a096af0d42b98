"""Files packed with gzip, against the standard library."""

from __future__ import annotations

import gzip
import io
import zlib

import numpy as np
import pytest

from service.formats.packing import MAGIC_BYTES, UNPACK_ERRORS, open_packed

CONTENT = np.random.default_rng(1).integers(0, 60, 300_000, "u1").tobytes() + bytes(500_000)


def unpacked(packed: bytes, size: int = 1 << 16) -> bytes:
    """All that comes out; every piece but the last is as long as was asked for."""
    pieces = []
    with open_packed(io.BytesIO(packed), packed[:MAGIC_BYTES]) as stream:
        while piece := stream.read(size):
            pieces.append(piece)
    assert all(len(piece) == size for piece in pieces[:-1])
    return b"".join(pieces)


@pytest.mark.parametrize("size", [1, 2880, 1 << 16, 1 << 22])
def test_what_went_in_comes_out(size: int) -> None:
    content = CONTENT if size > 1 else CONTENT[:3000]
    assert unpacked(gzip.compress(content), size) == content


@pytest.mark.parametrize("padding", [b"", bytes(10), bytes(100_000)])
def test_members_follow_each_other(padding: bytes) -> None:
    packed = gzip.compress(CONTENT) + padding + gzip.compress(b"") + padding + gzip.compress(CONTENT[::-1]) + padding
    assert unpacked(packed) == gzip.decompress(packed) == CONTENT + CONTENT[::-1]


@pytest.mark.parametrize("cut", [1, 8, 200, 100_000])
def test_a_file_that_ends_too_soon_is_damaged(cut: int) -> None:
    with pytest.raises(UNPACK_ERRORS):
        unpacked(gzip.compress(CONTENT)[:-cut])


def test_sums_are_checked() -> None:
    packed = bytearray(gzip.compress(CONTENT))
    packed[-6] ^= 1
    with pytest.raises(zlib.error):
        unpacked(bytes(packed))


def test_garbage_behind_a_member_is_damage() -> None:
    with pytest.raises(UNPACK_ERRORS):
        unpacked(gzip.compress(CONTENT) + b"garbage")
