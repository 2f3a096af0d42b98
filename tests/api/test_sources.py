"""Files that the service fetches from where their owners say."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from service.jobs import source_request, web_target
from service.jobs.source_fetcher import SourceFetcher
from service.jobs.source_request import FetchLimits, fetch_url
from service.jobs.sources import SOURCE_FAILURES, SourceError
from service.jobs.web_target import WebPolicy
from service.storage.records import Scope
from tests.api.conftest import OWNER, House, fits_bytes, open_house
from tests.api.tenants import bearer
from tests.file_host import FileHost, file_host
from tests.service.object_store import KEYS, Bucket, bucket, s3_proxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["bucket", "s3_proxy"]

CONTENT = fits_bytes(3.0)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OPEN = {"source_allow_http": True, "source_allow_private": True, "source_ports": (), "source_pause": 0.01}


@pytest.fixture
def host() -> Iterator[FileHost]:
    with file_host(CONTENT) as server:
        yield server


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with open_house(tmp_path, **OPEN, source_silence=0.5, min_upload_rate=10_000) as house:
        yield house


@pytest.fixture(scope="module")
def empty_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Where nothing that is fetched is kept."""
    with open_house(tmp_path_factory.mktemp("empty"), **OPEN, source_silence=0.5, min_upload_rate=10_000) as house:
        yield house


@pytest.fixture(scope="module")
def strict_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """As an operator has it who sets nothing."""
    with open_house(tmp_path_factory.mktemp("strict")) as house:
        yield house


def ask(house: House, url: str, **more: Any) -> Any:
    return house.client.post("/v1/exposures", json={"url": url, **more})


def fetch(house: House, url: str, steps: int = 1, **more: Any) -> dict[str, Any]:
    """What has become of a file after so many attempts."""
    answer = ask(house, url, **more)
    assert answer.status_code == 202, answer.text
    document = answer.json()
    assert (document["phase"], document["offset"], document["exposure_id"]) == ("QUEUED", 0, None)
    fetcher = SourceFetcher(house.services.storage, house.settings)
    for _ in range(steps):
        while not fetcher.step():
            time.sleep(0.01)
    found: dict[str, Any] = house.client.get(answer.headers["Location"]).json()
    return found


def nothing_is_left(house: House) -> bool:
    return [path for path in house.settings.blob_dir.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("path", ["/night/one.fits", "/chunked", "/slow", "/to?url=/to?url=/good"])
def test_a_file_becomes_the_exposure_that_an_upload_is(house: House, host: FileHost, path: str) -> None:
    document = fetch(house, host.url(f"{path}"), sha256=SHA256)
    assert (document["phase"], document["error"]) == ("COMPLETED", None)
    assert document["offset"] == document["size"] == len(CONTENT)
    put = house.client.put("/v1/exposures", content=CONTENT)
    assert (put.status_code, put.json()["id"]) == (200, document["exposure_id"])
    assert document["links"]["exposure"] == f"/v1/exposures/{document['exposure_id']}"
    assert put.json()["filename"] == path.partition("?")[0].rpartition("/")[2]


def test_what_is_told_to_the_host(house: House, host: FileHost) -> None:
    document = fetch(house, host.url("/good?signature=secret"), filename="one.fits")
    path, headers = host.asked[0]
    assert path == "/good?signature=secret"
    assert not {"cookie", "authorization", "referer"} & headers.keys()
    assert headers["accept-encoding"] == "identity"
    assert document["source"] == host.url("/good")
    row = house.services.storage.uploads.list(OWNER).items[0]
    assert row.source == host.url("/good")  # the secret has gone with the end


@pytest.mark.parametrize(
    ("path", "code", "attempts"),
    [
        ("/status/404", "source.not_found", 1),
        ("/status/403", "source.forbidden", 1),
        ("/status/418", "source.status", 1),
        ("/status/503", "source.status", 3),
        ("/short", "source.incomplete", 3),
        ("/words", "source.bad_answer", 1),
        ("/silent", "source.timeout", 3),
        ("/drip", "source.too_slow", 3),
        ("/endless", "upload.too_large", 1),
        ("/announced?1048577", "upload.too_large", 1),
        ("/announced?0", "upload.empty", 1),
        ("/to?url=ftp://example.org/", "source.refused", 1),
        ("/to?url=http://127.1/", "source.refused", 1),
        ("/to?url=http://user@127.0.0.1/", "source.refused", 1),
        ("/to?url=s3://bucket/key", "source.refused", 1),
    ],
)
def test_what_goes_wrong_out_there(empty_house: House, host: FileHost, path: str, code: str, attempts: int) -> None:
    begin = time.monotonic()
    document = fetch(empty_house, host.url(path), attempts)
    assert (document["phase"], document["error"]["code"], document["attempt"]) == ("ERROR", code, attempts)
    assert "127.0.0.1" not in document["error"]["message"]
    assert time.monotonic() - begin < 6.0
    assert nothing_is_left(empty_house)


def test_what_passes_is_tried_again(house: House, host: FileHost) -> None:
    host.failures = 2
    waiting = fetch(house, host.url("/good"), 1)
    assert (waiting["phase"], waiting["error"]["code"], waiting["attempt"]) == ("QUEUED", "source.status", 1)
    fetcher = SourceFetcher(house.services.storage, house.settings)
    for _ in range(2):
        while not fetcher.step():
            time.sleep(0.01)
    document = house.client.get(waiting["links"]["self"]).json()
    assert (document["phase"], document["error"], document["attempt"]) == ("COMPLETED", None, 3)


def test_redirections_end(house: House, host: FileHost) -> None:
    loop = "/to?url=/to"
    document = fetch(house, host.url(f"{loop}?url=/good"), 1)
    assert document["phase"] == "COMPLETED"
    limits = FetchLimits(silence=1.0, deadline=5.0, min_rate=0, redirects=1)
    policy = WebPolicy(allow_http=True, allow_private=True, ports=())
    with pytest.raises(SourceError) as caught:
        fetch_url(host.url(f"{loop}?url=/good"), Nothing(), policy, limits)
    assert caught.value.code == "source.too_many_redirects"


def test_a_redirection_to_no_address(house: House, host: FileHost) -> None:
    assert fetch(house, host.url("/to?url=http://[x/"), 1)["error"]["code"] == "source.bad_answer"


class Nothing:
    """A sink that keeps nothing."""

    def begin(self, length: int | None) -> None:
        pass

    def write(self, data: bytes) -> None:
        pass


def test_another_digest_and_no_fits(house: House, host: FileHost) -> None:
    document = fetch(house, host.url("/good"), sha256="0" * 64)
    assert document["error"]["code"] == "upload.digest_mismatch"
    host.content = b"<html>" * 1000
    assert fetch(house, host.url("/good"))["error"]["code"] == "upload.not_fits"
    host.content = CONTENT[:2880]
    assert fetch(house, host.url("/good"))["error"]["code"] == "exposure.unreadable"
    assert nothing_is_left(house)


# -- where nothing is fetched from


REFUSED = [
    "http://example.org/x.fits",
    "ftp://example.org/x.fits",
    "file:///etc/passwd",
    "gopher://example.org/",
    "https://user:secret@example.org/",
    "https://example.org:22/",
    "https://127.0.0.1/",
    "https://10.1.2.3/",
    "https://192.168.1.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://[::1]/",
    "https://[::ffff:10.0.0.1]/",
    "https://[fd00::1]/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://example.org/a b",
    "https://example.org/#part",
    "s3://not-declared/key",
    "s3://",
    "x",
    "",
]


@pytest.mark.parametrize("url", REFUSED)
def test_addresses_that_are_refused(strict_house: House, url: str) -> None:
    answer = ask(strict_house, url)
    assert (answer.status_code, answer.json()["code"]) == (422, "source.refused")
    assert answer.json()["errors"][0]["pointer"] == "/url"
    assert strict_house.client.get("/v1/uploads").json()["items"] == []


@pytest.mark.parametrize(
    "inside", ["http://127.0.0.1:{port}/good", "http://10.0.0.1/", "http://[::1]:{port}/", "http://169.254.169.254/"]
)
def test_a_redirection_is_judged_like_the_first_address(
    host: FileHost, monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    """A public host that leads into the network of the service."""
    port = host.server_address[1]
    resolving = web_target.resolve
    connected = []
    real = socket.create_connection

    def look_up(name: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("203.0.114.7", port))]

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        connected.append(address[0])
        return real(("127.0.0.1", port), timeout)

    monkeypatch.setattr(source_request, "resolve", lambda target, policy: resolving(target, policy, look_up))
    monkeypatch.setattr(socket, "create_connection", connect)
    policy = WebPolicy(allow_http=True, allow_private=False, ports=())
    limits = FetchLimits(silence=1.0, deadline=5.0, min_rate=0, redirects=5)
    fetch_url("http://public.example/good", Nothing(), policy, limits)
    with pytest.raises(SourceError) as caught:
        fetch_url(f"http://public.example/to?url={inside.format(port=port)}", Nothing(), policy, limits)
    assert caught.value.code == "source.refused"
    assert connected == ["203.0.114.7", "203.0.114.7"]
    with pytest.raises(SourceError) as caught:  # without TLS where that is not allowed
        fetch_url("http://public.example/", Nothing(), replace(policy, allow_http=False), limits)
    assert caught.value.code == "source.refused"


def test_a_name_that_changes_its_address_is_asked_once(host: FileHost, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ["203.0.114.7", "127.0.0.1", "127.0.0.1"]
    connected = []

    def look_up(name: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(0), port))]

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        connected.append(address[0])
        raise ConnectionRefusedError

    resolving = web_target.resolve
    monkeypatch.setattr(source_request, "resolve", lambda target, policy: resolving(target, policy, look_up))
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket, "create_connection", connect)
    policy = WebPolicy(allow_http=True, allow_private=False, ports=())
    limits = FetchLimits(silence=1.0, deadline=5.0, min_rate=0, redirects=5)
    for code in ("source.connection", "source.refused"):
        with pytest.raises(SourceError) as caught:
            fetch_url(host.url("/good").replace("127.0.0.1", "rebinding.example"), Nothing(), policy, limits)
        assert caught.value.code == code
    assert connected == ["203.0.114.7"]
    assert host.asked == []


# -- who fetches, and for whom


def test_a_fetch_is_cancelled_while_it_runs(house: House, host: FileHost) -> None:
    house_settings = house.settings.model_copy(update={"source_silence": 10.0, "min_upload_rate": 0})
    answer = ask(house, host.url("/drip"))
    fetcher = SourceFetcher(house.services.storage, house_settings)
    running = threading.Thread(target=fetcher.step)
    running.start()
    path = answer.headers["Location"]
    while house.client.get(path).json()["phase"] != "EXECUTING":
        time.sleep(0.01)
    sent = house.client.patch(
        path,
        content=b"x",
        headers={"Content-Type": "application/partial-upload", "Upload-Offset": "0", "Upload-Complete": "?0"},
    )
    assert (sent.status_code, sent.json()["code"]) == (409, "upload.ended")
    assert house.client.delete(path).status_code == 204
    running.join(5.0)
    assert not running.is_alive()
    assert house.client.get(path).status_code == 404
    assert nothing_is_left(house)


def test_a_fetcher_that_dies_leaves_it_to_another(house: House, host: FileHost) -> None:
    path = ask(house, host.url("/good")).headers["Location"]
    uploads = house.services.storage.uploads
    dead = uploads.take(0.05, host="dead", per_owner=1)
    assert dead is not None
    assert uploads.take(0.05, host="other", per_owner=1) is None
    time.sleep(0.1)
    fetcher = SourceFetcher(house.services.storage, house.settings)
    assert fetcher.step()
    assert house.client.get(path).json()["phase"] == "COMPLETED"
    # The dead one comes back: what it writes changes nothing.
    assert not uploads.beat(dead, 1, 60.0)
    assert not uploads.fail(dead, {"code": "source.failed"}, life=60.0)
    assert house.client.get(path).json()["error"] is None


def test_fetchers_that_always_die_end_it(house: House, host: FileHost) -> None:
    path = ask(house, host.url("/good")).headers["Location"]
    for _ in range(house.settings.source_attempts):
        assert house.services.storage.uploads.take(0.0, host="dead", per_owner=1) is not None
        time.sleep(0.01)
    assert SourceFetcher(house.services.storage, house.settings).step()
    assert house.client.get(path).json()["error"]["code"] == "source.interrupted"
    assert host.asked == []


@pytest.mark.parametrize("path", ["/drip", "/silent"])
def test_a_clean_stop_is_no_attempt(house: House, host: FileHost, path: str) -> None:
    """Whether bytes come or the host is waited for: restarts of the workers must not end a fetch."""
    settings = house.settings.model_copy(update={"source_silence": 15.0, "min_upload_rate": 0})
    answer = ask(house, host.url(path))
    for _ in range(2):
        fetcher = SourceFetcher(house.services.storage, settings)
        fetcher.start()
        wait_for(house, answer, "EXECUTING")
        fetcher.stop()
        document = house.client.get(answer.headers["Location"]).json()
        assert (document["phase"], document["attempt"], document["error"]) == ("QUEUED", 0, None)
    host.let_go.set()
    time.sleep(0.2)  # a thread that still waited for the host comes back, and changes nothing
    document = house.client.get(answer.headers["Location"]).json()
    assert (document["phase"], document["attempt"], document["error"]) == ("QUEUED", 0, None)
    assert house.client.delete(answer.headers["Location"]).status_code == 204


def wait_for(house: House, answer: Any, phase: str) -> dict[str, Any]:
    deadline = time.monotonic() + 10.0
    document: dict[str, Any] = {"phase": None}
    while document["phase"] != phase:
        assert time.monotonic() < deadline, document
        time.sleep(0.02)
        document = house.client.get(answer.headers["Location"]).json()
    return document


def test_owners_take_turns(house: House, host: FileHost) -> None:
    """One owner's many files do not keep another's waiting."""
    uploads, storage = house.services.uploads, house.services.storage
    for owner in ("ada", "ada", "ada", "bob"):
        uploads.begin(Scope(owner), source=host.url("/good"))
    taken = [storage.uploads.take(60.0, host="here", per_owner=1) for _ in range(3)]
    assert [None if one is None else one.owner for one in taken] == ["ada", "bob", None]


def test_quota_holds_for_files_that_come_together_and_do_not_say_how_large_they_are(
    tmp_path: Path, host: FileHost
) -> None:
    size = len(CONTENT)
    with (
        file_host(fits_bytes(5.0)) as other,
        open_house(tmp_path, **OPEN, quota_bytes=2 * size - 1, source_per_owner=2, source_threads=2) as house,
    ):
        fetcher = SourceFetcher(house.services.storage, house.settings)
        first, second = ask(house, host.url("/held")), ask(house, other.url("/held"))
        fetcher.start()
        for answer in (first, second):
            wait_for(house, answer, "EXECUTING")
        while not (host.asked and other.asked):
            time.sleep(0.01)
        time.sleep(0.3)  # all bytes of both are here: each had room when it began
        host.let_go.set()
        assert wait_for(house, first, "COMPLETED")["size"] == size
        other.let_go.set()
        assert wait_for(house, second, "ERROR")["error"]["code"] == "quota.exceeded"
        fetcher.stop()


def test_quota_counts_what_comes(tmp_path: Path, host: FileHost) -> None:
    with open_house(tmp_path, **OPEN, quota_bytes=len(CONTENT) + 10) as house:
        assert fetch(house, host.url("/good"))["phase"] == "COMPLETED"
        host.content = fits_bytes(4.0)
        for path in ("/good", "/chunked"):
            assert fetch(house, host.url(path))["error"]["code"] == "quota.exceeded"
    with open_house(tmp_path / "other", **OPEN, quota_bytes=len(CONTENT)) as house:
        house.client.put("/v1/exposures", content=CONTENT)
        assert ask(house, host.url("/good")).json()["code"] == "quota.exceeded"


def test_codes_are_told(strict_house: House) -> None:
    told = strict_house.client.get("/v1/schema/errors").json()
    assert {one["code"] for one in told["source_errors"]} == set(SOURCE_FAILURES)


# -- buckets


@pytest.fixture
def bucket_house(bucket: Bucket, tmp_path: Path) -> Iterator[House]:
    keys = {"access_key_id": KEYS["s3_access_key_id"], "secret_access_key": KEYS["s3_secret_access_key"]}
    declared = {"endpoint": bucket.endpoint, **keys}
    buckets = {
        bucket.name: {**declared, "prefix": "public/"},
        "bucket-of-ada": {**declared, "owners": ["ada"]},
        "bucket-that-is-gone": declared,
    }
    options = {**OPEN, "source_silence": 1.0, "source_attempts": 1}
    with open_house(tmp_path, source_buckets=buckets, **options) as house:
        yield house


def test_an_object_of_a_declared_bucket(bucket_house: House, bucket: Bucket) -> None:
    assert bucket.request("PUT", "/public/night/a%20b.fits", CONTENT)[0] == 200
    document = fetch(bucket_house, f"s3://{bucket.name}/public/night/a b.fits", sha256=SHA256)
    assert (document["phase"], document["filename"]) == ("COMPLETED", "a b.fits")
    assert bucket_house.services.storage.blobs.read(SHA256) == CONTENT
    missing = fetch(bucket_house, f"s3://{bucket.name}/public/none.fits")
    assert missing["error"]["code"] == "source.not_found"
    assert fetch(bucket_house, "s3://bucket-that-is-gone/x")["error"]["code"] == "source.not_found"
    assert bucket.request("PUT", "/public/large", CONTENT[:2880] + bytes(1 << 20))[0] == 200
    assert fetch(bucket_house, f"s3://{bucket.name}/public/large")["error"]["code"] == "upload.too_large"


@pytest.mark.parametrize("kind", ["away", "stall", "500"])
def test_a_bucket_that_does_not_answer(bucket_house: House, bucket: Bucket, kind: str) -> None:
    bucket.trouble.kind = kind
    document = fetch(bucket_house, f"s3://{bucket.name}/public/x.fits")
    assert document["error"]["code"] == "source.connection"


@pytest.mark.parametrize(
    "key", ["", "private/x", "public/../private/x", "public//x", "public/./x", "public/x\n", "public/" + "x" * 1100]
)
def test_keys_that_are_refused(bucket_house: House, bucket: Bucket, key: str) -> None:
    answer = ask(bucket_house, f"s3://{bucket.name}/{key}")
    assert (answer.status_code, answer.json()["code"]) == (422, "source.refused")


def test_a_bucket_is_for_whom_the_operator_says(bucket_house: House) -> None:
    refused = ask(bucket_house, "s3://bucket-of-ada/x.fits")
    unknown = ask(bucket_house, "s3://bucket-of-nobody/x.fits")
    assert refused.json()["detail"] == unknown.json()["detail"]
    ada = bearer(bucket_house, "ada")
    answer = bucket_house.client.post("/v1/exposures", json={"url": "s3://bucket-of-ada/x.fits"}, headers=ada)
    assert answer.status_code == 202
