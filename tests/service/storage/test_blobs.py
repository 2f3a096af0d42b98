from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service.storage.blobs import LocalBlobStore
from service.storage.errors import DigestMismatchError, NotFoundError, TooLargeError


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobStore:
    return LocalBlobStore(tmp_path / "blobs")


def files(blobs: LocalBlobStore) -> list[Path]:
    return [path for path in blobs.root.rglob("*") if path.is_file()]


@given(chunks=st.lists(st.binary(max_size=3000), max_size=5))
@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_goes_in_comes_out_under_its_digest(blobs: LocalBlobStore, chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    reference = blobs.put_stream(chunks)
    assert (reference.sha256, reference.size) == (hashlib.sha256(whole).hexdigest(), len(whole))
    assert blobs.read(reference.sha256) == whole
    assert blobs.size(reference.sha256) == len(whole)


def test_the_same_bytes_are_one_file(blobs: LocalBlobStore) -> None:
    assert blobs.put_stream([b"ab", b"c"]) == blobs.put_stream([b"abc"])
    assert len(files(blobs)) == 1


def test_nothing_is_left_of_a_stream_that_is_refused(blobs: LocalBlobStore) -> None:
    with pytest.raises(TooLargeError):
        blobs.put_stream([b"12345", b"6"], max_bytes=5)
    with pytest.raises(DigestMismatchError):
        blobs.put_stream([b"12345"], expected_sha256="0" * 64)
    with blobs.writer() as writer:
        writer.write(b"half")
    assert files(blobs) == []


def test_nothing_is_left_where_the_commit_fails(blobs: LocalBlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, sha256: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(blobs, "adopt", full)
    with pytest.raises(OSError, match="No space"):
        blobs.put_stream([b"abc"])
    assert files(blobs) == []


def test_announced_digest_in_capitals(blobs: LocalBlobStore) -> None:
    blobs.put_stream([b"x"], expected_sha256=hashlib.sha256(b"x").hexdigest().upper())


def test_head_is_what_came_first(blobs: LocalBlobStore) -> None:
    with blobs.writer() as writer:
        writer.write(b"SIMPLE")
        writer.write(b"  = " + b"x" * (1 << 17))
        assert writer.head[:10] == b"SIMPLE  = "
        assert len(writer.head) == 1 << 16


@pytest.mark.parametrize("link", [True, False])
def test_file_is_stored_and_stays(blobs: LocalBlobStore, tmp_path: Path, link: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    first, second = blobs.put_file(path, link=link), blobs.put_file(path, link=link)
    assert first == second
    path.unlink()
    assert blobs.read(first.sha256) == b"content"


@pytest.mark.parametrize("name", ["../../etc/passwd", "0" * 63, "0" * 63 + "G", "0" * 64, ""])
def test_only_digests_are_names(blobs: LocalBlobStore, name: str) -> None:
    assert not (len(name) == 64 and name == "0" * 64 and blobs.exists(name))
    with pytest.raises(NotFoundError):
        blobs.path(name)
