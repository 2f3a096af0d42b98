"""The client against a service that answers from a script."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from visitcal import Client, JobFailedError
from visitcal.errors import NotFoundError, WaitTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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


def test_submit_uploads_files_and_names_exposures(tmp_path: Path) -> None:
    (tmp_path / "one.fits").write_bytes(b"SIMPLE")
    script = Script()
    script.on("PUT /v1/exposures", httpx.Response(201, json={"id": "exp_new"}))
    script.on("POST /v1/jobs", httpx.Response(202, json=job_document()))
    with script.client() as client:
        job = client.submit(
            [tmp_path / "one.fits", "exp_old"],
            astrometry="gaia",
            config={"photometry": {"match_radius_arcsec": 0.5}},
            run_id="night",
        )
    put, post = script.seen
    assert put.url.params["filename"] == "one.fits"
    assert put.content == b"SIMPLE"
    assert json.loads(post.content) == {
        "exposures": ["exp_new", "exp_old"],
        "references": {"astrometry": "gaia", "photometry": "none"},
        "config": {"photometry": {"match_radius_arcsec": 0.5}},
        "run_id": "night",
    }
    assert len(post.headers["Idempotency-Key"]) == 36
    assert job.id == "job_1"


def test_each_submission_has_its_own_key_and_a_given_one_is_kept() -> None:
    script = Script().on("POST /v1/jobs", httpx.Response(202, json=job_document()))
    with script.client() as client:
        client.submit("exp_1", references="gaia")
        client.submit("exp_1", references="gaia")
        client.submit("exp_1", references="gaia", idempotency_key="mine")
    first, second, third = (request.headers["Idempotency-Key"] for request in script.seen)
    assert first != second
    assert third == "mine"


def test_references_cannot_be_said_twice() -> None:
    with Script().client() as client, pytest.raises(ValueError, match="either references or"):
        client.submit("exp_1", references="gaia", astrometry="gaia")


def test_wait_polls_with_the_version_it_has_until_the_end() -> None:
    script = Script().on(
        "GET /v1/jobs/job_1",
        httpx.Response(200, json=job_document()),
        httpx.Response(304),
        httpx.Response(200, json=job_document("EXECUTING", 2)),
        httpx.Response(200, json=job_document("COMPLETED", 3)),
    )
    seen = []
    with script.client() as client:
        job = client.job("job_1").wait(on_update=lambda document: seen.append(document["phase"]))
    assert job.phase == "COMPLETED"
    assert seen == ["QUEUED", "QUEUED", "EXECUTING", "COMPLETED"]
    polls = script.seen[1:]
    assert [request.headers["If-None-Match"] for request in polls] == ['"1"', '"1"', '"2"']
    assert all(float(request.url.params["wait"]) == 25 for request in polls)


def test_failed_job_is_raised_with_its_error() -> None:
    error = {"code": "astrometry.bad_fit", "type": "BadAstrometryFit", "message": "Mean distance above the limit"}
    script = Script().on("GET /v1/jobs/job_1", httpx.Response(200, json=job_document("ERROR", 4, error=error)))
    with script.client() as client:
        job = client.job("job_1")
        with pytest.raises(JobFailedError, match=r"ended as ERROR: Mean distance .*\[astrometry\.bad_fit\]") as caught:
            job.wait()
        assert job.wait(raise_on_error=False) is job
    assert caught.value.error == error


def test_wait_gives_up_after_its_time() -> None:
    script = Script().on("GET /v1/jobs/job_1", httpx.Response(200, json=job_document()), httpx.Response(304))
    with script.client() as client:
        job = client.job("job_1")
        with pytest.raises(WaitTimeoutError, match="still QUEUED"):
            job.wait(timeout=0.05)
        with pytest.raises(TimeoutError):
            job.wait(timeout=0.0)


def test_lists_are_followed_to_their_end_and_no_further_than_asked() -> None:
    script = Script().on(
        "GET /v1/jobs",
        httpx.Response(200, json={"items": [job_document(), job_document()], "next": "c1"}),
        httpx.Response(200, json={"items": [job_document()], "next": None}),
    )
    with script.client() as client:
        assert len(list(client.jobs(run_id="night"))) == 3
    assert [request.url.params.get("after") for request in script.seen] == [None, "c1"]
    assert all(request.url.params["run_id"] == "night" for request in script.seen)
    script = Script().on("GET /v1/jobs", httpx.Response(200, json={"items": [job_document()] * 2, "next": "c1"}))
    with script.client() as client:
        assert len(list(client.jobs(limit=2))) == 2
    assert len(script.seen) == 1


def test_rows_come_page_by_page() -> None:
    script = Script()
    script.on("GET /v1/jobs/job_1", httpx.Response(200, json=job_document("COMPLETED")))
    script.on(
        "GET /v1/jobs/job_1/catalogs/stars",
        httpx.Response(200, json={"items": [{"id": 1}, {"id": 2}], "next": "c"}),
        httpx.Response(200, json={"items": [{"id": 3}], "next": None}),
    )
    with script.client() as client:
        rows = list(client.job("job_1").rows("stars", columns=["id"], where="id>0", order="-id"))
    assert rows == [{"id": 1}, {"id": 2}, {"id": 3}]
    assert dict(script.seen[-1].url.params) == {
        "columns": "id", "where": "id>0", "order": "-id", "limit": "1000", "after": "c",
    }  # fmt: skip


PRODUCT = {
    "id": "preliminary_visit_image",
    "aliases": ["image"],
    "kind": "image",
    "links": {"fits": "/fits", "png": "/png", "file": "/file"},
}


def test_download_appears_only_when_complete(tmp_path: Path) -> None:
    script = Script()
    script.on("GET /v1/jobs/job_1", httpx.Response(200, json=job_document("COMPLETED")))
    script.on("GET /v1/jobs/job_1/products", httpx.Response(200, json={"items": [PRODUCT]}))
    script.on("GET /file", httpx.Response(200, content=b"SIMPLE"))
    script.on("GET /png", httpx.Response(500, json={"detail": "no"}))
    with script.client() as client:
        job = client.job("job_1")
        path = job.download("image", tmp_path)
        assert path == tmp_path / "preliminary_visit_image.fits"
        assert path.read_bytes() == b"SIMPLE"
        with pytest.raises(NotFoundError, match="comes as fits, png, file, not csv"):
            job.download("image", tmp_path, file_format="csv")
        with pytest.raises(NotFoundError, match="no product stars"):
            job.download("stars", tmp_path)
        with pytest.raises(Exception, match="no"):
            job.download("image", tmp_path, file_format="png")
    assert [file.name for file in tmp_path.iterdir()] == ["preliminary_visit_image.fits"]


def test_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISITCAL_TOKEN", "secret")
    script = Script().on("GET /v1/refcats", httpx.Response(200, json={"items": []}))
    with script.client() as client:
        assert client.refcats() == []
    assert script.seen[0].headers["Authorization"] == "Bearer secret"


def test_column_mapping_of_a_reference_catalogue_is_sent(tmp_path: Path) -> None:
    (tmp_path / "ref.csv").write_bytes(b"a,b")
    script = Script().on("PUT /v1/refcats/gaia", httpx.Response(201, json={"name": "gaia"}))
    with script.client() as client:
        client.put_refcat("gaia", tmp_path / "ref.csv", columns={"ra": "RAJ2000", "dec": "DEJ2000"}, epoch=2016.0)
    assert dict(script.seen[0].url.params) == {"columns": "ra=RAJ2000,dec=DEJ2000", "epoch": "2016.0"}
    assert script.seen[0].content == b"a,b"


def test_is_ready_is_false_where_nobody_answers() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with Client("http://service", transport=httpx.MockTransport(refuse)) as client:
        assert not client.is_ready()
