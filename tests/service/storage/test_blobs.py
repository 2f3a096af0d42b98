"""What every blob store keeps to, in a directory and on S3."""

from __future__ import annotations

import hashlib
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service.settings import Settings
from service.storage.blobs import BlobStore, LocalBlobStore, open_blobs
from service.storage.errors import DigestMismatchError, NotFoundError, TooLargeError
from tests.service.object_store import bucket, s3_proxy

__all__ = ["bucket", "s3_proxy"]

FRESH = [HealthCheck.function_scoped_fixture]


@pytest.fixture(params=["local", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    values = request.getfixturevalue("bucket").settings if request.param == "s3" else {}
    return open_blobs(Settings(data_dir=tmp_path / "data", **values))


def left(blobs: BlobStore, tmp_path: Path) -> tuple[list[str], list[Path]]:
    """Everything stored, and every file on disk."""
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    return [blob.sha256 for blob in blobs.list()], files


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@given(chunks=st.lists(st.binary(max_size=3000), max_size=5))
@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=FRESH)
def test_what_goes_in_comes_out_under_its_digest(blobs: BlobStore, chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    reference = blobs.put_stream(chunks)
    assert (reference.sha256, reference.size) == (digest(whole), len(whole))
    assert blobs.read(reference.sha256) == whole
    assert blobs.size(reference.sha256) == len(whole)


def test_the_same_bytes_are_one_file(blobs: BlobStore) -> None:
    assert blobs.put_stream([b"ab", b"c"]) == blobs.put_stream([b"abc"])
    assert len(list(blobs.list())) == 1


def test_nothing_is_left_of_a_stream_that_is_refused(blobs: BlobStore, tmp_path: Path) -> None:
    with pytest.raises(TooLargeError):
        blobs.put_stream([b"12345", b"6"], max_bytes=5)
    with pytest.raises(DigestMismatchError):
        blobs.put_stream([b"12345"], expected_sha256="0" * 64)
    with blobs.writer() as writer:
        writer.write(b"half")
    assert left(blobs, tmp_path) == ([], [])


def test_nothing_is_left_where_the_commit_fails(
    blobs: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, sha256: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(blobs, "adopt", full)
    with pytest.raises(OSError, match="No space"):
        blobs.put_stream([b"abc"])
    assert left(blobs, tmp_path) == ([], [])


def test_announced_digest_in_capitals(blobs: BlobStore) -> None:
    blobs.put_stream([b"x"], expected_sha256=digest(b"x").upper())


def test_head_is_what_came_first(blobs: BlobStore) -> None:
    with blobs.writer() as writer:
        writer.write(b"SIMPLE")
        writer.write(b"  = " + b"x" * (1 << 17))
        assert writer.head[:10] == b"SIMPLE  = "
        assert len(writer.head) == 1 << 16


@pytest.mark.parametrize("link", [True, False])
def test_file_is_stored_and_stays(blobs: BlobStore, tmp_path: Path, link: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    first, second = blobs.put_file(path, link=link), blobs.put_file(path, link=link)
    assert first == second
    assert path.read_bytes() == b"content"
    path.unlink()
    assert blobs.read(first.sha256) == b"content"


@pytest.mark.parametrize("link", [True, False])
def test_a_known_digest_is_not_made_again(
    blobs: BlobStore, tmp_path: Path, link: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    known = blobs.put_file(path)
    monkeypatch.setattr("hashlib.file_digest", None)
    assert blobs.put_file(path, link=link, sha256=known.sha256) == known
    assert blobs.read(known.sha256) == b"content"


@pytest.mark.parametrize("name", ["../../etc/passwd", "0" * 63, "0" * 63 + "G", "0" * 64, "", "ab/" + "0" * 61])
def test_only_digests_are_names(blobs: BlobStore, name: str, tmp_path: Path) -> None:
    assert not blobs.exists(name)
    for act in (blobs.read, blobs.size, blobs.open, lambda n: blobs.fetch(n, tmp_path)):
        with pytest.raises(NotFoundError):
            act(name)
    with pytest.raises(NotFoundError), blobs.local_copy(name):
        pytest.fail("there is no such file")


def test_any_part_can_be_read(blobs: BlobStore) -> None:
    content = os.urandom(700_000)
    sha256 = blobs.put_stream([content]).sha256
    with blobs.open(sha256) as reader:
        assert reader.size == len(content)
        for start, stop in [(0, 700_000), (5, 6), (699_999, 700_000), (100, 600_000), (7, 7)]:
            assert b"".join(reader.pieces(start, stop)) == content[start:stop]


def test_a_local_path_while_it_is_needed(blobs: BlobStore, tmp_path: Path) -> None:
    sha256 = blobs.put_stream([b"content"]).sha256
    with blobs.local_copy(sha256) as path:
        assert path.read_bytes() == b"content"
    directory = tmp_path / "attempt"
    directory.mkdir()
    fetched = blobs.fetch(sha256, directory)
    assert blobs.fetch(sha256, directory) == fetched
    assert fetched.read_bytes() == b"content"
    assert list((tmp_path / "data/blobs/incoming").iterdir()) == []


def test_list_by_beginning(blobs: BlobStore) -> None:
    stored = {blobs.put_stream([bytes([i])]).sha256: i for i in range(40)}
    assert {blob.sha256: blob.size for blob in blobs.list()} == dict.fromkeys(stored, 1)
    for prefix in ("6", "6e", "6e3", "6e340", next(iter(stored))):
        assert {b.sha256 for b in blobs.list(prefix)} == {s for s in stored if s.startswith(prefix)}
    assert any(s.startswith("6e340") for s in stored)
    assert list(blobs.list("*")) == list(blobs.list("..")) == []


def test_list_and_delete_by_age(blobs: BlobStore) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    sha256 = blobs.put_stream([b"content"]).sha256
    (found,) = blobs.list()
    assert before < found.modified < datetime.now(UTC) + timedelta(seconds=2)
    later = datetime.now(UTC) + timedelta(seconds=2)
    assert list(blobs.list(older_than=before)) == []
    assert [blob.sha256 for blob in blobs.list(older_than=later)] == [sha256]
    assert not blobs.delete(sha256, older_than=before)
    assert blobs.exists(sha256)
    assert blobs.delete(sha256, older_than=later)
    assert not blobs.exists(sha256)
    assert not blobs.delete(sha256)
    assert list(blobs.list()) == []


def test_stored_again_is_young_again(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = blobs.put_stream([b"content"]).sha256
    if isinstance(blobs, LocalBlobStore):
        os.utime(blobs.path(sha256), (1e9, 1e9))
    else:
        monkeypatch.setattr("service.storage.blobs.s3._YOUNG", timedelta(seconds=0))
        time.sleep(1.1)  # S3 tells whole seconds
    (old,) = blobs.list()
    seen = datetime.now(UTC)  # by a sweep
    assert blobs.put_stream([b"content"]).sha256 == sha256
    (young,) = blobs.list()
    assert young.modified > old.modified
    assert not blobs.delete(sha256, older_than=old.modified + timedelta(milliseconds=1))
    assert young.modified > seen - timedelta(seconds=1)
    assert blobs.exists(sha256)


def test_answers_when_asked(blobs: BlobStore) -> None:
    blobs.check()
    assert blobs.free_bytes() > 0
