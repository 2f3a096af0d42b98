"""Uploads in parts, by the offsets of draft-ietf-httpbis-resumable-upload."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import threading
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from service.jobs.disk import SPARE_BYTES
from service.jobs.retention import Sweeper
from service.storage.errors import NotFoundError
from service.storage.records import BlobRef, Scope
from tests.api.conftest import OWNER, House, fits_bytes, open_house
from tests.api.tenants import bearer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from httpx import Response

PART = {"Content-Type": "application/partial-upload"}
CONTENT = fits_bytes()


def digest(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


def begin(house: House, size: int | None = len(CONTENT), **headers: str) -> str:
    given = {"Upload-Complete": "?0", **({} if size is None else {"Upload-Length": str(size)}), **headers}
    answer = house.client.post("/v1/uploads?filename=night/one.fits", headers=given)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Upload-Offset"] == "0"
    assert answer.headers["Location"] == f"/v1/uploads/{answer.json()['id']}"
    return str(answer.headers["Location"])


def send(house: House, path: str, offset: int, content: Any, *, last: bool, **headers: str) -> Response:
    given = {**PART, "Upload-Offset": str(offset), "Upload-Complete": f"?{int(last)}", **headers}
    answer: Response = house.client.patch(path, content=content, headers=given)
    return answer


def offset(house: House, path: str) -> int:
    answer = house.client.head(path)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    return int(answer.headers["Upload-Offset"])


def partial_files(house: House) -> list[Path]:
    return list((house.settings.blob_dir / "partial").iterdir())


def code(answer: Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_parts_become_the_exposure_that_one_body_is(house: House) -> None:
    path = begin(house, **{"Repr-Digest": digest(CONTENT)})
    cuts = [0, 1, 100, 2879, 2880, 2881, 5000, len(CONTENT)]
    for start, stop in pairwise(cuts):
        answer = send(house, path, start, CONTENT[start:stop], last=stop == len(CONTENT))
        if stop < len(CONTENT):
            assert (answer.status_code, answer.headers["Upload-Complete"]) == (204, "?0")
            assert answer.headers["Upload-Offset"] == str(stop)
            assert offset(house, path) == stop
    assert (answer.status_code, answer.headers["Upload-Complete"]) == (201, "?1")
    whole = house.client.put("/v1/exposures?filename=one.fits", content=CONTENT)
    assert whole.status_code == 200  # they were there
    assert answer.json() == whole.json()
    assert answer.headers["Location"] == whole.headers["Location"]
    document = house.client.get(path).json()
    assert (document["phase"], document["exposure_id"]) == ("COMPLETED", whole.json()["id"])
    assert document["links"]["exposure"] == whole.headers["Location"]
    assert house.client.head(path).headers["Upload-Complete"] == "?1"
    assert partial_files(house) == []
    again = send(house, path, len(CONTENT), b"", last=True)
    assert code(again) == (409, "upload.ended")
    assert again.json()["exposure_id"] == whole.json()["id"]


def test_all_in_the_first_request(house: House) -> None:
    answer = house.client.post("/v1/uploads", content=CONTENT, headers={"Upload-Complete": "?1"})
    assert answer.status_code == 201, answer.text
    assert answer.json()["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert answer.headers["Upload-Complete"] == "?1"
    first = house.client.post("/v1/uploads", content=CONTENT[:3000], headers={"Upload-Complete": "?0"})
    assert (first.status_code, first.headers["Upload-Offset"]) == (201, "3000")
    assert send(house, first.headers["Location"], 3000, CONTENT[3000:], last=True).status_code == 200


def test_length_may_be_said_late_and_is_shown(house: House) -> None:
    path = begin(house, None)
    assert "Upload-Length" not in house.client.head(path).headers
    send(house, path, 0, CONTENT[:4000], last=False, **{"Upload-Length": str(len(CONTENT))})
    limits = house.client.head(path).headers["Upload-Limit"]
    assert limits == f"max-size={house.settings.max_upload_bytes}, max-age=86400"
    short = send(house, path, 4000, CONTENT[4000:-1], last=True, **{"Upload-Length": str(len(CONTENT))})
    assert code(short) == (400, "upload.length_mismatch")
    assert send(house, path, 4000, CONTENT[4000:], last=True).status_code == 201


def test_wrong_offsets_are_told_the_right_one(house: House) -> None:
    path = begin(house)
    send(house, path, 0, CONTENT[:5000], last=False)
    for wrong in (0, 4999, 5001, len(CONTENT)):
        answer = send(house, path, wrong, CONTENT[wrong:], last=True)
        assert code(answer) == (409, "upload.offset_mismatch")
        assert answer.headers["Upload-Offset"] == "5000"
        assert (answer.json()["expected_offset"], answer.json()["provided_offset"]) == (5000, wrong)
    assert offset(house, path) == 5000
    assert send(house, path, 5000, CONTENT[5000:], last=True).status_code == 201


def endless(content: bytes) -> Iterator[bytes]:
    yield content
    for _ in range(100):  # many times what is taken
        yield bytes(100_000)


def test_more_bytes_than_announced_are_refused(house: House) -> None:
    path = begin(house)
    assert code(send(house, path, 0, CONTENT + b"x", last=True)) == (400, "upload.length_mismatch")
    assert offset(house, path) == 0
    assert code(send(house, path, 0, endless(CONTENT[:5000]), last=False)) == (400, "upload.length_mismatch")
    other = send(house, path, 0, CONTENT, last=True, **{"Upload-Length": str(len(CONTENT) + 1)})
    assert code(other) == (400, "upload.length_mismatch")
    unknown = begin(house, None)
    assert code(send(house, unknown, 0, endless(CONTENT), last=False)) == (413, "upload.too_large")
    assert offset(house, unknown) <= house.settings.max_upload_bytes
    too_large = {"Upload-Complete": "?0", "Upload-Length": str(house.settings.max_upload_bytes + 1)}
    assert code(house.client.post("/v1/uploads", headers=too_large)) == (413, "upload.too_large")


def test_what_came_before_a_break_is_kept(house: House) -> None:
    """Cut at random places, as often as it takes; each time the rest goes on from what HEAD tells."""
    chance = random.Random(8)
    path = begin(house, **{"Repr-Digest": digest(CONTENT)})
    at, breaks = 0, 0
    while True:
        length = chance.randrange(1, 3000)
        if at + length >= len(CONTENT):
            break
        # More is announced than comes: to the server that is a connection that was closed early.
        answer = send(
            house, path, at, CONTENT[at : at + length], last=True, **{"Content-Length": str(len(CONTENT) - at)}
        )
        assert code(answer) == (400, "upload.incomplete")
        assert offset(house, path) == at + length
        at, breaks = at + length, breaks + 1
    assert breaks > 4
    assert send(house, path, at, CONTENT[at:], last=True).status_code == 201


def test_digest_of_the_whole_decides_at_the_end(house: House) -> None:
    path = begin(house, **{"Repr-Digest": digest(CONTENT)})
    other = bytearray(CONTENT)
    other[-1] ^= 1
    send(house, path, 0, bytes(other[:6000]), last=False)
    assert code(send(house, path, 6000, bytes(other[6000:]), last=True)) == (400, "upload.digest_mismatch")
    document = house.client.get(path).json()
    assert (document["phase"], document["error"]["code"]) == ("ERROR", "upload.digest_mismatch")
    assert document["error"]["actual"] == hashlib.sha256(other).hexdigest()
    assert code(send(house, path, 0, CONTENT, last=True)) == (409, "upload.ended")
    assert [path for path in house.settings.blob_dir.rglob("*") if path.is_file()] == []


def test_digest_of_a_part_takes_it_whole_or_not_at_all(house: House) -> None:
    path = begin(house)
    send(house, path, 0, CONTENT[:4000], last=False, **{"Content-Digest": digest(CONTENT[:4000])})
    wrong = send(house, path, 4000, b"x" * 2000, last=False, **{"Content-Digest": digest(CONTENT[4000:6000])})
    assert code(wrong) == (400, "upload.digest_mismatch")
    assert offset(house, path) == 4000
    part = {"Content-Digest": digest(CONTENT[4000:]), "Content-Length": str(len(CONTENT) - 4000)}
    assert code(send(house, path, 4000, CONTENT[4000:6000], last=True, **part)) == (400, "upload.incomplete")
    assert offset(house, path) == 4000
    done = send(house, path, 4000, CONTENT[4000:], last=True, **{"Content-Digest": digest(CONTENT[4000:])})
    assert done.json()["sha256"] == hashlib.sha256(CONTENT).hexdigest()


def test_what_is_not_fits_ends_with_its_first_block(house: House) -> None:
    path = begin(house, 1_000_000)
    assert code(send(house, path, 0, b"x" * 2000, last=False)) if False else True
    assert send(house, path, 0, b"x" * 2879, last=False).status_code == 204
    assert code(send(house, path, 2879, b"xx", last=False)) == (415, "upload.not_fits")
    assert house.client.get(path).json()["error"]["code"] == "upload.not_fits"
    assert partial_files(house) == []
    short = begin(house, None)
    assert code(send(house, short, 0, b"hello", last=True)) == (415, "upload.not_fits")
    empty = begin(house, None)
    assert code(send(house, empty, 0, b"", last=True)) == (400, "upload.empty")
    truncated = begin(house, 2880)
    assert code(send(house, truncated, 0, CONTENT[:2880], last=True)) == (422, "exposure.unreadable")
    assert house.client.get(truncated).json()["error"]["reason"] == "format.truncated"


def test_one_request_sends_at_a_time(house: House) -> None:
    path = begin(house)
    upload = house.services.uploads.find(OWNER, path.rpartition("/")[2])
    with house.services.uploads.opened(upload) as partial:  # as another request, or process, would
        partial.write(CONTENT[:3000], len(CONTENT))
        answer = send(house, path, 0, CONTENT, last=True)
        assert code(answer) == (409, "upload.busy")
        assert int(answer.headers["Retry-After"]) > 0
        assert offset(house, path) == 3000
    assert send(house, path, 3000, CONTENT[3000:], last=True).status_code == 201


def test_another_process_goes_on(house: House) -> None:
    """The digest is made of the file where this process has not seen its bytes."""
    path = begin(house, **{"Repr-Digest": digest(CONTENT)})
    send(house, path, 0, CONTENT[:3000], last=False)
    with open_house(house.directory) as other:
        assert offset(other, path) == 3000
        assert send(other, path, 3000, CONTENT[3000:5000], last=False).status_code == 204
    assert send(house, path, 5000, CONTENT[5000:6000], last=False).status_code == 204
    with open_house(house.directory) as other:
        assert send(other, path, 6000, CONTENT[6000:], last=True).status_code == 201


def test_another_host_without_the_bytes_says_so(house: House) -> None:
    path = begin(house)
    send(house, path, 0, CONTENT[:3000], last=False)
    house.services.uploads._host = "another"
    (file,) = partial_files(house)
    hidden = file.rename(house.directory / "hidden")
    for answer in (house.client.get(path), send(house, path, 3000, CONTENT[3000:], last=True)):
        assert code(answer) == (409, "upload.elsewhere")
    hidden.rename(file)  # hosts that share the directory may all go on
    assert send(house, path, 3000, CONTENT[3000:], last=True).status_code == 201


def test_bytes_that_were_lost_are_asked_for_again(house: House) -> None:
    path = begin(house)
    send(house, path, 0, CONTENT[:3000], last=False)
    partial_files(house)[0].unlink()
    assert offset(house, path) == 0
    assert send(house, path, 0, CONTENT, last=True).status_code == 201


def test_cancel_ends_also_what_is_being_sent(house: House) -> None:
    path = begin(house)
    upload = house.services.uploads.find(OWNER, path.rpartition("/")[2])
    with pytest.raises(NotFoundError), house.services.uploads.opened(upload) as partial:  # noqa: PT012
        partial.write(CONTENT[:3000], len(CONTENT))
        assert house.client.delete(path).status_code == 204
        partial.write(CONTENT[3000:4000], len(CONTENT))
    assert partial_files(house) == []
    for answer in (house.client.get(path), house.client.delete(path), send(house, path, 0, CONTENT, last=True)):
        assert code(answer) == (404, "upload.not_found")


def test_a_crash_between_store_and_row_loses_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    path = begin(house, None)
    add = house.services.storage.exposures.add

    def crash(*_: Any, **__: Any) -> Any:
        raise RuntimeError("killed")

    monkeypatch.setattr(house.services.storage.exposures, "add", crash)
    assert send(house, path, 0, CONTENT, last=True).status_code == 500
    monkeypatch.setattr(house.services.storage.exposures, "add", add)
    assert offset(house, path) == len(CONTENT)
    more = send(house, path, len(CONTENT), b"x" * 10, last=True)
    assert code(more) == (400, "upload.length_mismatch")  # or the stored file would be changed
    done = send(house, path, len(CONTENT), b"", last=True)
    assert done.status_code == 201
    stored = house.services.storage.blobs.read(done.json()["sha256"])
    assert stored == CONTENT


# -- limits


def test_a_sweep_between_store_and_row_is_made_good(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, content = house.services.storage, fits_bytes(77.0)
    add, swept = storage.exposures.add, []

    def swept_before(owner: Scope, blob: BlobRef, **values: Any) -> Any:
        if not swept:
            swept.append(storage.blobs.delete(blob.sha256))
        return add(owner, blob, **values)

    monkeypatch.setattr(storage.exposures, "add", swept_before)
    path = begin(house, len(content))
    answer = send(house, path, 0, content, last=True)
    assert answer.status_code == 201, answer.text
    assert swept == [True]
    assert storage.blobs.exists(hashlib.sha256(content).hexdigest())
    assert partial_files(house) == []


def test_owners_have_so_many_unfinished_ones(tmp_path: Path) -> None:
    with open_house(tmp_path, max_owner_uploads=2) as house:
        first, _ = begin(house), begin(house)
        third = house.client.post("/v1/uploads", headers={"Upload-Complete": "?0"})
        assert code(third) == (409, "upload.too_many")
        assert send(house, first, 0, CONTENT, last=True).status_code == 201
        begin(house)


def test_what_is_announced_counts_for_the_quota(tmp_path: Path) -> None:
    size = len(CONTENT)
    with open_house(tmp_path, quota_bytes=2 * size) as house:
        path = begin(house)
        begin(house)
        third = {"Upload-Complete": "?0", "Upload-Length": "1"}
        assert code(house.client.post("/v1/uploads", headers=third)) == (507, "quota.exceeded")
        assert code(house.client.put("/v1/exposures", content=CONTENT)) == (507, "quota.exceeded")
        assert send(house, path, 0, CONTENT, last=True).status_code == 201
        assert house.services.submissions.quotas.room("local") == 0


def test_what_was_not_announced_is_held_to_the_quota(tmp_path: Path) -> None:
    size = len(CONTENT)
    with open_house(tmp_path, quota_bytes=size + 10) as house:
        first, second = begin(house, None), begin(house, None)
        late = {"Upload-Length": str(size + 11)}
        assert code(send(house, second, 0, CONTENT[:2880], last=False, **late)) == (507, "quota.exceeded")
        assert send(house, first, 0, CONTENT[:-1], last=False).status_code == 204
        assert code(send(house, second, 0, CONTENT[:12], last=False)) == (413, "upload.too_large")
        assert send(house, second, 0, CONTENT[:11], last=False).status_code == 204
        assert house.services.submissions.quotas.room("local") == 0
        assert code(send(house, first, size - 1, CONTENT[-1:], last=True)) == (413, "upload.too_large")
        assert house.client.delete(second).status_code == 204
        assert send(house, first, size - 1, CONTENT[-1:], last=True).status_code == 201


def test_disk_is_promised_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    free = SPARE_BYTES + len(CONTENT) + 10
    monkeypatch.setattr(type(house.services.storage.blobs), "free_bytes", lambda self: free)
    begin(house)
    second = {"Upload-Complete": "?0", "Upload-Length": str(len(CONTENT))}
    assert code(house.client.post("/v1/uploads", headers=second)) == (507, "storage.full")


def test_uploads_have_their_time(house: House) -> None:
    old, ended, young = begin(house), begin(house), begin(house)
    send(house, old, 0, CONTENT[:3000], last=False)
    send(house, ended, 0, CONTENT, last=True)
    send(house, young, 0, CONTENT[:3000], last=False)
    storage = house.services.storage
    with storage.database.write() as transaction:
        for path in (old, ended):
            transaction.connection.exec_driver_sql(
                "UPDATE uploads SET expires_at = '2020-01-01 00:00:00.000000' WHERE id = ?",
                (path.rpartition("/")[2],),
            )
    for path in (old, ended):
        assert code(house.client.get(path)) == (404, "upload.not_found")
        assert code(send(house, path, 3000, CONTENT[3000:], last=True)) == (404, "upload.not_found")
    for file in partial_files(house):
        os.utime(file, (0, 0))
    Sweeper(storage, house.settings, threading.Event()).step()
    assert [file.name for file in partial_files(house)] == [young.rpartition("/")[2]]
    assert [one.id for one in storage.uploads.list(Scope.everything()).items] == [young.rpartition("/")[2]]
    assert send(house, young, 3000, CONTENT[3000:], last=True).status_code == 200


# -- owners


def test_a_client_finds_its_own_upload_and_exposure_by_digest(tmp_path: Path) -> None:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    with open_house(tmp_path, require_tokens=True) as house:
        ada, bob = bearer(house, "ada"), bearer(house, "bob")
        path = begin(house, **{"Repr-Digest": digest(CONTENT)}, **ada)
        begin(house, **ada)

        def found(kind: str, who: dict[str, str]) -> list[dict[str, Any]]:
            items: list[dict[str, Any]] = house.client.get(f"/v1/{kind}?sha256={sha256}", headers=who).json()["items"]
            return items

        assert [item["links"]["self"] for item in found("uploads", ada)] == [path]
        assert found("uploads", bob) == found("exposures", ada) == []
        for answer in (
            house.client.head(path, headers=bob),
            send(house, path, 0, CONTENT, last=True, **bob),
            house.client.delete(path, headers=bob),
        ):
            assert answer.status_code == 404
        exposure = send(house, path, 0, CONTENT, last=True, **ada).json()
        assert found("exposures", ada) == [exposure]
        assert found("exposures", bob) == []  # it tells nobody what others have
