"""The clients against a service that answers from a script; each test is for both."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from visitcal import CalibrationFailedError, Client, JobFailedError
from visitcal.errors import NotFoundError, WaitTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.visitcal.conftest import Clock, Kind


def job_document(phase: str = "QUEUED", version: int = 1, **changes: Any) -> dict[str, Any]:
    return {"id": "job_1", "phase": phase, "version": version, "error": None, "stages": [], "products": []} | changes


class Script:
    """Requests seen, and an answer for each method and path."""

    def __init__(self, **answers: Callable[[httpx.Request], httpx.Response]) -> None:
        self.seen: list[httpx.Request] = []
        self.answers: dict[str, Callable[[httpx.Request], httpx.Response]] = {}

    def on(self, route: str, *answers: httpx.Response) -> Script:
        left = list(answers)

        def next_answer(request: httpx.Request) -> httpx.Response:
            return left.pop(0) if len(left) > 1 else left[0]

        self.answers[route] = next_answer
        return self

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.seen.append(request)
        return self.answers[f"{request.method} {request.url.path}"](request)

    def client(self) -> Client:
        return Client("http://service", transport=httpx.MockTransport(self))


def test_submit_uploads_files_and_names_exposures(kind: Kind, tmp_path: Path) -> None:
    (tmp_path / "one.fits").write_bytes(b"SIMPLE")
    (tmp_path / "mask.fits").write_bytes(b"SIMPLE")
    script = Script()
    script.on("PUT /v1/exposures", httpx.Response(201, json={"id": "exp_new"}))
    script.on("POST /v1/jobs", httpx.Response(202, json=job_document()))
    client = kind.connect(script)
    job = kind(
        client.submit(
            [tmp_path / "one.fits", "exp_old"],
            astrometry="gaia",
            config={"photometry": {"match_radius_arcsec": 0.5}},
            companions={"mask": tmp_path / "mask.fits"},
            run_id="night",
        )
    )
    put, _, post = script.seen
    assert put.url.params["filename"] == "one.fits"
    assert put.content == b"SIMPLE"
    assert json.loads(post.content) == {
        "exposures": ["exp_new", "exp_old"],
        "references": {"astrometry": "gaia", "photometry": "none"},
        "config": {"photometry": {"match_radius_arcsec": 0.5}},
        "companions": {"mask": "exp_new"},
        "run_id": "night",
    }
    assert len(post.headers["Idempotency-Key"]) == 36
    assert (job.id, job.phase) == ("job_1", "QUEUED")


def test_each_submission_has_its_own_key_and_a_given_one_is_kept(kind: Kind) -> None:
    script = Script().on("POST /v1/jobs", httpx.Response(202, json=job_document()))
    client = kind.connect(script)
    kind(client.submit("exp_1", references="gaia"))
    kind(client.submit("exp_1", references="gaia"))
    kind(client.submit("exp_1", references="gaia", idempotency_key="mine"))
    first, second, third = (request.headers["Idempotency-Key"] for request in script.seen)
    assert first != second
    assert third == "mine"


def test_references_cannot_be_said_twice(kind: Kind) -> None:
    with pytest.raises(ValueError, match="either references or"):
        kind(kind.connect(Script()).submit("exp_1", references="gaia", astrometry="gaia"))


def test_wait_polls_with_the_version_it_has_until_the_end(kind: Kind) -> None:
    script = Script().on(
        "GET /v1/jobs/job_1",
        httpx.Response(200, json=job_document()),
        httpx.Response(304),
        httpx.Response(200, json=job_document("EXECUTING", 2)),
        httpx.Response(200, json=job_document("COMPLETED", 3)),
    )
    seen: list[str] = []
    job = kind(kind.connect(script).job("job_1"))
    assert kind(job.wait(on_update=lambda document: seen.append(document["phase"]))) is job.result
    assert job.phase == "COMPLETED"
    assert seen == ["QUEUED", "QUEUED", "EXECUTING", "COMPLETED"]
    polls = script.seen[1:]
    assert [request.headers["If-None-Match"] for request in polls] == ['"1"', '"1"', '"2"']
    assert all(float(request.url.params["wait"]) == 25 for request in polls)


def test_failed_job_is_raised_with_its_error_and_what_there_is(kind: Kind) -> None:
    error = {"code": "astrometry.bad_fit", "type": "BadAstrometryFit", "message": "Mean distance above the limit"}
    script = Script().on("GET /v1/jobs/job_1", httpx.Response(200, json=job_document("ERROR", 4, error=error)))
    script.on("GET /v1/jobs/job_1/summary", httpx.Response(200, json={"psfSigma": 1.9}))
    gone = {"code": "product.not_made", "detail": "Job job_1 ended without image."}
    script.on("GET /v1/jobs/job_1/images/image", httpx.Response(404, json=gone))
    job = kind(kind.connect(script).job("job_1"))
    with pytest.raises(CalibrationFailedError, match=r"ERROR: Mean distance .*\[astrometry\.bad_fit\]") as caught:
        kind(job.wait())
    assert caught.value.error == error
    assert kind.load(caught.value.result, "summary") == {"psfSigma": 1.9}
    with pytest.raises(NotFoundError, match="ended without image"):
        kind.load(caught.value.result, "image")
    assert kind(job.wait(check=False)) is caught.value.result is job.result


def test_aborted_job_is_no_failed_calibration(kind: Kind) -> None:
    script = Script().on("GET /v1/jobs/job_1", httpx.Response(200, json=job_document("ABORTED", 4)))
    job = kind(kind.connect(script).job("job_1"))
    with pytest.raises(JobFailedError, match=r"ended as ABORTED$") as caught:
        kind(job.wait())
    assert not isinstance(caught.value, CalibrationFailedError)


def test_wait_gives_up_after_its_time(kind: Kind, clock: Clock) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if "wait" not in request.url.params:
            return httpx.Response(200, json=job_document())
        clock.now += float(request.url.params["wait"])
        return httpx.Response(304)

    job = kind(kind.connect(answer).job("job_1"))
    with pytest.raises(WaitTimeoutError, match="job_1 is still active"):
        kind(job.wait(timeout=60.0))
    assert clock.now == 1060.0
    with pytest.raises(TimeoutError):
        kind(job.wait(timeout=0.0))


def test_wait_outlasts_a_restart_of_the_service(kind: Kind, clock: Clock) -> None:
    down = [True] * 8

    def answer(request: httpx.Request) -> httpx.Response:
        if "wait" in request.url.params and down:
            down.pop()
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json=job_document("COMPLETED" if "wait" in request.url.params else "EXECUTING"))

    job = kind(kind.connect(answer, retries=1).job("job_1"))
    kind(job.wait())
    assert job.phase == "COMPLETED"
    assert len(clock.pauses) == 8


def test_lists_are_followed_to_their_end_and_no_further_than_asked(kind: Kind) -> None:
    script = Script().on(
        "GET /v1/jobs",
        httpx.Response(200, json={"items": [job_document(), job_document()], "next": "c1"}),
        httpx.Response(200, json={"items": [job_document()], "next": None}),
    )
    assert len(kind(kind.connect(script).jobs(run_id="night", phase=["QUEUED", "HELD"]))) == 3
    assert [request.url.params.get("after") for request in script.seen] == [None, "c1"]
    assert all(request.url.params["run_id"] == "night" for request in script.seen)
    assert all(request.url.params.get_list("phase") == ["QUEUED", "HELD"] for request in script.seen)
    script = Script().on("GET /v1/jobs", httpx.Response(200, json={"items": [job_document()] * 2, "next": "c1"}))
    assert len(kind(kind.connect(script).jobs(limit=2))) == 2
    assert len(script.seen) == 1


def test_rows_come_page_by_page(kind: Kind) -> None:
    script = Script()
    script.on("GET /v1/jobs/job_1", httpx.Response(200, json=job_document("COMPLETED")))
    script.on(
        "GET /v1/jobs/job_1/catalogs/stars",
        httpx.Response(200, json={"items": [{"id": 1}, {"id": 2}], "next": "c"}),
        httpx.Response(200, json={"items": [{"id": 3}], "next": None}),
    )
    result = kind(kind.connect(script).job("job_1")).result
    rows = kind(result.rows("stars", columns=["id"], where="id>0", order="-id", cone=(61.5, -38, 0.125)))
    assert rows == [{"id": 1}, {"id": 2}, {"id": 3}]
    assert dict(script.seen[-1].url.params) == {
        "columns": "id", "where": "id>0", "order": "-id", "cone": "61.5,-38,0.125", "limit": "1000", "after": "c",
    }  # fmt: skip


def test_what_was_fetched_is_kept(kind: Kind) -> None:
    script = Script().on("GET /v1/jobs/job_1", httpx.Response(200, json=job_document("COMPLETED")))
    script.on("GET /v1/jobs/job_1/summary", httpx.Response(200, json={"psfSigma": 1.9}))
    job = kind(kind.connect(script).job("job_1"))
    assert kind.load(job.result, "summary") is kind.load(job.result, "summary")
    assert len(script.seen) == 2


PRODUCT = {
    "id": "preliminary_visit_image",
    "aliases": ["image"],
    "kind": "image",
    "links": {"fits": "/fits", "png": "/png", "file": "/file"},
}


def test_download_appears_only_when_complete(kind: Kind, tmp_path: Path) -> None:
    script = Script()
    script.on("GET /v1/jobs/job_1", httpx.Response(200, json=job_document("COMPLETED")))
    script.on("GET /v1/jobs/job_1/products", httpx.Response(200, json={"items": [PRODUCT]}))
    script.on("GET /file", httpx.Response(200, content=b"SIMPLE"))
    script.on("GET /png", httpx.Response(500, json={"detail": "no"}))
    result = kind(kind.connect(script).job("job_1")).result
    path = kind(result.download("image", tmp_path))
    assert path == tmp_path / "preliminary_visit_image.fits"
    assert path.read_bytes() == b"SIMPLE"
    with pytest.raises(NotFoundError, match="comes as fits, png, file, not csv"):
        kind(result.download("image", tmp_path, file_format="csv"))
    with pytest.raises(NotFoundError, match="no product stars"):
        kind(result.download("stars", tmp_path))
    with pytest.raises(Exception, match="no"):
        kind(result.download("image", tmp_path, file_format="png"))
    assert [file.name for file in tmp_path.iterdir()] == ["preliminary_visit_image.fits"]


def test_token_comes_from_the_environment(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISITCAL_TOKEN", "secret")
    script = Script().on("GET /v1/refcats", httpx.Response(200, json={"items": []}))
    assert kind(kind.connect(script).refcats()) == []
    assert script.seen[0].headers["Authorization"] == "Bearer secret"


def test_column_mapping_of_a_reference_catalogue_is_sent(kind: Kind, tmp_path: Path) -> None:
    (tmp_path / "ref.csv").write_bytes(b"a,b")
    script = Script().on("PUT /v1/refcats/gaia", httpx.Response(201, json={"name": "gaia"}))
    columns = {"ra": "RAJ2000", "dec": "DEJ2000"}
    kind(kind.connect(script).put_refcat("gaia", tmp_path / "ref.csv", columns=columns, epoch=2016.0))
    assert dict(script.seen[0].url.params) == {"columns": "ra=RAJ2000,dec=DEJ2000", "epoch": "2016.0"}
    assert script.seen[0].content == b"a,b"


def test_is_ready_is_false_where_nobody_answers(kind: Kind) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    assert not kind(kind.connect(refuse).is_ready())
    assert not kind(kind.connect(lambda _: httpx.Response(503, json={})).is_ready())
    assert kind(kind.connect(lambda _: httpx.Response(200, json={})).is_ready())


def test_things_say_what_they_are(kind: Kind) -> None:
    script = Script().on("GET /v1/jobs/job_1", httpx.Response(200, json=job_document()))
    job = kind(kind.connect(script).job("job_1"))
    name = "AsyncJob" if kind.is_async else "Job"
    assert repr(job) == f"<{name} job_1 QUEUED>"
    assert repr(job.result) == f"<{name.replace('Job', 'Result')} of job_1>"


def test_a_client_gives_its_connections_back(kind: Kind) -> None:
    script = Script().on("GET /v1/queue", httpx.Response(200, json={}))
    client = kind.connect(script)

    async def use() -> None:
        async with client as entered:
            await entered.queue()

    if kind.is_async:
        kind(use())
    else:
        with client as entered:
            entered.queue()
    with pytest.raises(RuntimeError, match="closed"):
        kind(client.queue())
