"""Retries, problem documents and streamed bodies, for both clients."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visitcal.errors import (
    AuthenticationError,
    ConflictError,
    NotFoundError,
    RequestRefusedError,
    ServerError,
    ServiceUnreachableError,
    UploadInterruptedError,
)
from visitcal.steps import FileBody, Pause, Send
from visitcal.transport import Transport, asked_pause

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.visitcal.conftest import Clock, Kind


class Wire:
    """The requests of a client to a service that gives one answer after the other."""

    def __init__(self, kind: Kind, *answers: httpx.Response | Exception, **options: Any) -> None:
        self._kind = kind
        self._left = list(answers)
        self.seen: list[httpx.Request] = []
        self.client = kind.connect(self._answer, **options)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        answer = self._left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        response: httpx.Response = self._run(self.client._transport.request(method, path, **options))
        return response

    def download(self, target: BytesIO) -> int:
        written: int = self._run(self.client._transport.download("/x", target))
        return written

    def _run(self, flow: Any) -> Any:
        return self._kind(self.client._driver.run(flow))


def test_busy_service_is_asked_again_after_the_pause_it_names(kind: Kind, clock: Clock) -> None:
    wire = Wire(kind, httpx.Response(503, headers={"Retry-After": "7"}), httpx.Response(200, json={"a": 1}))
    assert wire.request("GET", "/x").json() == {"a": 1}
    assert len(wire.seen) == 2
    assert clock.pauses == [7.0]


@pytest.mark.parametrize("own_clock", [True, False])
def test_pause_may_be_a_date(own_clock: bool) -> None:
    # The service's clock is an hour off: what counts is the distance.
    now = datetime.now(UTC) + (timedelta(hours=1) if own_clock else timedelta())
    headers = {"Retry-After": format_datetime(now + timedelta(seconds=90), usegmt=True)}
    if own_clock:
        headers["Date"] = format_datetime(now, usegmt=True)
    assert asked_pause(headers) == pytest.approx(90, abs=2)
    past = {"Retry-After": format_datetime(now - timedelta(hours=2), usegmt=True)}
    assert asked_pause(past) == 0.0


@pytest.mark.parametrize("text", ["", "soon", "-5", "1.5", "٣", "Mon, 99 Nov 2026 03:00:00 GMT"])
def test_pause_that_nobody_can_read_is_none(text: str) -> None:
    assert asked_pause({"Retry-After": text}) is None


@given(
    st.lists(st.sampled_from(["broken", 429, 502, 503, 504, 500, 404, 200]), max_size=12),
    st.lists(st.one_of(st.none(), st.integers(0, 400)), min_size=12, max_size=12),
    st.integers(0, 8),
    st.booleans(),
)
def test_rules_of_repetition(outcomes: list[Any], asked: list[int | None], retries: int, again: bool) -> None:
    """Whatever happens: bounded, not before the time that was asked for, and nothing is done twice that must not."""
    clock = [0.0]
    patience = 120.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("visitcal.transport.time.monotonic", lambda: clock[0])
        flow = Transport(retries, patience).request("POST", "/x", again=again)
        sent, result = 0, None
        step: Any = next(flow)
        try:
            while True:
                assert isinstance(step, Send)
                outcome = outcomes[sent] if sent < len(outcomes) else 200
                pause_asked = asked[sent % 12] if outcome != "broken" else None
                sent += 1
                if outcome == "broken":
                    step = flow.throw(httpx.ConnectError("gone"))
                else:
                    headers = {} if pause_asked is None else {"Retry-After": str(pause_asked)}
                    step = flow.send(httpx.Response(outcome, headers=headers, json={}))
                assert isinstance(step, Pause)
                assert outcome in ("broken", 429, 502, 503, 504)
                assert again or outcome == 429
                assert pause_asked is None or step.seconds == pause_asked
                clock[0] += step.seconds
                assert clock[0] <= patience
                step = flow.send(None)
        except StopIteration as end:
            result = end.value.status_code
        except (ServiceUnreachableError, ServerError, RequestRefusedError, NotFoundError) as error:
            result = error
    assert sent <= retries + 1
    last = outcomes[sent - 1] if sent <= len(outcomes) else 200
    assert (result == 200) == (last == 200)
    if last == "broken" and again and sent <= retries:
        assert clock[0] + 0.25 * 2 ** (sent - 1) > patience  # only time can have been the reason


def test_pause_without_a_hint_grows_and_stays_bounded(kind: Kind, clock: Clock) -> None:
    wire = Wire(kind, *[httpx.Response(503)] * 9, retries=8, patience=1000.0)
    with pytest.raises(ServerError):
        wire.request("GET", "/x")
    assert len(clock.pauses) == 8
    for attempt, pause in enumerate(clock.pauses):
        assert 0.5 * min(0.25 * 2**attempt, 30) <= pause <= min(0.25 * 2**attempt, 30)


def test_a_pause_beyond_the_patience_is_not_begun(kind: Kind, clock: Clock) -> None:
    wire = Wire(kind, httpx.Response(429, headers={"Retry-After": "600"}, json={"code": "queue.full"}), patience=60.0)
    with pytest.raises(RequestRefusedError) as caught:
        wire.request("GET", "/x")
    assert (caught.value.code, caught.value.retry_after) == ("queue.full", 600.0)
    assert clock.pauses == []


def test_broken_connection_is_tried_again_and_then_reported(kind: Kind, clock: Clock) -> None:
    wire = Wire(kind, *[httpx.ConnectError("refused")] * 4, retries=3)
    with pytest.raises(ServiceUnreachableError, match=r"GET .*/x: refused"):
        wire.request("GET", "/x")
    assert len(wire.seen) == 4
    assert len(clock.pauses) == 3


def test_waiting_is_bounded_by_time_only(kind: Kind, clock: Clock) -> None:
    wire = Wire(kind, *[httpx.ConnectError("refused")] * 9, httpx.Response(200), retries=1)
    assert wire.request("GET", "/x", waiting=True).status_code == 200
    with pytest.raises(ServiceUnreachableError):
        Wire(kind, *[httpx.ConnectError("refused")] * 2, retries=0).request("GET", "/x", waiting=True)


def test_post_is_repeated_only_with_an_idempotency_key(kind: Kind, clock: Clock) -> None:
    wire = Wire(kind, httpx.ReadTimeout("slow"))
    with pytest.raises(ServiceUnreachableError):
        wire.request("POST", "/x", json={})
    assert len(wire.seen) == 1
    wire = Wire(kind, httpx.ReadTimeout("slow"), httpx.Response(202, json={}))
    wire.request("POST", "/x", json={}, headers={"Idempotency-Key": "k"})
    assert [request.headers["Idempotency-Key"] for request in wire.seen] == ["k", "k"]


def test_a_submission_whose_answer_was_lost_is_asked_for_again(kind: Kind, clock: Clock) -> None:
    job = {"id": "job_1", "phase": "QUEUED"}
    at_work = httpx.Response(409, json={"code": "idempotency.in_progress"})
    wire = Wire(kind, httpx.ReadTimeout("slow"), at_work, httpx.Response(202, json=job))
    assert kind(wire.client.submit("exp_1", references="none")).id == "job_1"
    assert len({request.headers["Idempotency-Key"] for request in wire.seen}) == 1
    assert len({request.content for request in wire.seen}) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, AuthenticationError),
        (404, NotFoundError),
        (410, NotFoundError),
        (409, ConflictError),
        (422, RequestRefusedError),
        (500, ServerError),
    ],
)
def test_problem_document_becomes_an_exception(kind: Kind, status: int, error: type[Exception]) -> None:
    problem = {
        "title": "Title.",
        "detail": "What happened.",
        "code": "job.config_invalid",
        "hint": "Try this.",
        "errors": [{"pointer": "/config/a", "detail": "unknown"}],
    }
    wire = Wire(kind, httpx.Response(status, json=problem, headers={"X-Request-Id": "r1"}))
    with pytest.raises(error, match=r"What happened\. \[job\.config_invalid\]; /config/a: unknown") as caught:
        wire.request("GET", "/x")
    told: Any = caught.value
    assert (told.status, told.code, told.detail) == (status, "job.config_invalid", "What happened.")
    assert (told.hint, told.errors, told.problem) == ("Try this.", problem["errors"], problem)
    assert told.request_id == "r1"


@pytest.mark.parametrize("body", [b"<html>bad gateway</html>", b"[1, 2]"])
def test_answer_of_a_proxy_is_an_error_all_the_same(kind: Kind, body: bytes) -> None:
    wire = Wire(kind, httpx.Response(418, content=body))
    with pytest.raises(RequestRefusedError, match=r"HTTP 418 \[http\.418\]"):
        wire.request("GET", "/x")


def test_file_is_sent_whole_again_after_a_failure(kind: Kind, clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "body"
    content = bytes(range(256)) * 10_000
    path.write_bytes(content)
    wire = Wire(kind, httpx.Response(503), httpx.Response(201, json={}))
    sent: list[tuple[int, int]] = []
    body = FileBody(path, len(content), lambda done, total: sent.append((done, total)))
    wire.request("PUT", "/x", body=body)
    assert [request.content for request in wire.seen] == [content, content]
    assert wire.seen[0].headers["Content-Length"] == str(len(content))
    assert "Transfer-Encoding" not in wire.seen[0].headers
    assert sent[-1] == (len(content), len(content))
    assert sent == sent[: len(sent) // 2] * 2


def test_file_that_shrinks_while_it_is_sent_is_reported(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"x" * 50)
    wire = Wire(kind, httpx.Response(201, json={}))
    with pytest.raises(UploadInterruptedError, match="100 bytes and gave 50"):
        wire.request("PUT", "/x", body=FileBody(path, 100))


def test_files_are_read_and_written_beside_the_event_loop(kind: Kind, tmp_path: Path) -> None:
    threads: set[int] = set()

    class Noted(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            threads.add(threading.get_ident())
            return super().read(size)

        def write(self, data: Any) -> int:
            threads.add(threading.get_ident())
            return super().write(data)

    class Source:
        def open(self, mode: str) -> Noted:
            threads.add(threading.get_ident())
            return Noted(b"x" * 100)

    source: Any = Source()
    wire = Wire(kind, httpx.Response(201, json={}), httpx.Response(200, content=b"bytes"))
    wire.request("PUT", "/x", body=FileBody(source, 100))
    assert wire.seen[0].content == b"x" * 100
    wire.download(Noted())
    assert (threading.get_ident() in threads) != kind.is_async
    assert threads


def breaking(kind: Kind) -> Any:
    """A body that breaks off."""

    def broken() -> Any:
        yield b"half"
        raise httpx.ReadError("gone")

    async def broken_async() -> AsyncIterator[bytes]:
        for piece in broken():
            yield piece

    return broken_async() if kind.is_async else broken()


def test_download_starts_again_after_a_break(kind: Kind, clock: Clock) -> None:
    wire = Wire(kind, httpx.Response(200, content=breaking(kind)), httpx.Response(200, content=b"whole file"))
    target = BytesIO(b"before ")
    target.seek(7)
    assert wire.download(target) == 10
    assert target.getvalue() == b"before whole file"


def test_download_that_breaks_always_is_reported(kind: Kind, clock: Clock) -> None:
    answers = [httpx.Response(200, content=breaking(kind)) for _ in range(2)]
    with pytest.raises(ServiceUnreachableError, match="gone"):
        Wire(kind, *answers, retries=1).download(BytesIO())


def test_download_waits_for_a_busy_service(kind: Kind, clock: Clock) -> None:
    busy = httpx.Response(503, headers={"Retry-After": "3"}, json={"code": "image.busy"})
    target = BytesIO()
    assert Wire(kind, busy, httpx.Response(200, content=b"x")).download(target) == 1
    assert target.getvalue() == b"x"
    assert clock.pauses == [3.0]


def test_download_of_nothing_is_an_error(kind: Kind) -> None:
    wire = Wire(kind, httpx.Response(404, json={"code": "product.not_made", "detail": "No."}))
    with pytest.raises(NotFoundError, match="No"):
        wire.download(BytesIO())


@pytest.mark.parametrize("whole", [True, False])
def test_file_from_the_blob_store_is_fetched_there_without_the_token(kind: Kind, whole: bool) -> None:
    there = "https://bucket.example.org/ab?X-Amz-Signature=1"
    elsewhere = httpx.Response(307, headers={"Location": there})
    wire = Wire(kind, elsewhere, httpx.Response(200, content=b"bytes"), token="secret")
    target = BytesIO()
    if whole:
        target.write(wire.request("GET", "/x").content)
    else:
        wire.download(target)
    assert target.getvalue() == b"bytes"
    assert [str(request.url) for request in wire.seen] == ["http://service/x", there]
    assert [request.headers.get("Authorization") for request in wire.seen] == ["Bearer secret", None]


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_other_requests_are_not_sent_elsewhere(kind: Kind, status: int, method: str) -> None:
    """As by a proxy that leads from http to https: it is an error, or what was to be removed would count as removed."""
    wire = Wire(kind, httpx.Response(status, headers={"Location": "https://elsewhere.example.org/"}))
    with pytest.raises(RequestRefusedError, match=r"is now https://elsewhere\.example\.org/") as caught:
        wire.request(method, "/x", headers={"Idempotency-Key": "a"})
    assert (len(wire.seen), caught.value.code) == (1, "client.moved")


def test_what_is_opened_is_closed_whatever_happens(kind: Kind, tmp_path: Path) -> None:
    closed: list[bool] = []

    class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __iter__(self) -> Any:
            yield b"x" * 10

        async def __aiter__(self) -> Any:
            yield b"x" * 10

        def close(self) -> None:
            closed.append(True)

        async def aclose(self) -> None:
            closed.append(True)

    class Full(BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        Wire(kind, httpx.Response(200, stream=Body())).download(Full())
    assert closed == [True]
