"""Batches and reruns from the client and the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.visitcal.test_client import Script, job_document
from visitcal import cli
from visitcal.client import Client
from visitcal.errors import WaitTimeoutError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.visitcal.conftest import Kind


def batch_document(version: str, *, active: bool, **phases: int) -> dict[str, Any]:
    return {"id": "batch_1", "version": version, "active": active, "phases": phases, "progress": 0.5, "failures": []}


def test_batch_of_files_and_ids(kind: Kind, tmp_path: Path) -> None:
    (tmp_path / "one.fits").write_bytes(b"SIMPLE")
    script = Script().on("PUT /v1/exposures", httpx.Response(201, json={"id": "exp_new"}))
    script.on("POST /v1/batches", httpx.Response(202, json=batch_document("2.2", active=True, QUEUED=2)))
    exposures = [tmp_path / "one.fits", ["exp_1", "exp_2"]]
    batch = kind(kind.connect(script).submit_batch(exposures, references="gaia", preset=None))
    post = script.seen[-1]
    assert json.loads(post.content) == {
        "exposures": ["exp_new", ["exp_1", "exp_2"]],
        "parameters": {"references": "gaia"},
    }
    assert post.headers["Idempotency-Key"]
    assert (batch.id, batch.phases, batch.is_active) == ("batch_1", {"QUEUED": 2}, True)


def test_wait_follows_the_versions(kind: Kind) -> None:
    script = Script().on(
        "GET /v1/batches/batch_1",
        httpx.Response(200, json=batch_document("2.2", active=True, QUEUED=2)),
        httpx.Response(304),
        httpx.Response(200, json=batch_document("2.9", active=False, COMPLETED=2)),
    )
    seen: list[str] = []
    batch = kind(kind.connect(script).batch("batch_1"))
    assert kind(batch.wait(on_update=lambda document: seen.append(document["version"]))) is batch.document
    assert seen == ["2.2", "2.9"]
    assert not batch.is_active
    assert script.seen[1].headers["If-None-Match"] == '"2.2"'
    assert float(script.seen[1].url.params["wait"]) > 1


def test_wait_gives_up(kind: Kind) -> None:
    script = Script().on(
        "GET /v1/batches/batch_1", httpx.Response(200, json=batch_document("2.2", active=True, QUEUED=2))
    )
    batch = kind(kind.connect(script).batch("batch_1"))
    with pytest.raises(WaitTimeoutError, match="batch_1 is still active"):
        kind(batch.wait(timeout=0.05))


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Script:
    script = Script()
    script.on("POST /v1/batches", httpx.Response(202, json=batch_document("3.3", active=True, QUEUED=3)))
    script.on("POST /v1/jobs/job_1/rerun", httpx.Response(202, json=job_document()))
    script.on("POST /v1/jobs", httpx.Response(202, json=job_document(progress=0.0, stage=None)))
    monkeypatch.setattr(
        "visitcal.commands.connection.Client",
        lambda *_arguments, **_options: Client("http://service", transport=httpx.MockTransport(script)),
    )
    return script


def test_submit_as_a_batch(service: Script, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["submit", "exp_1", "exp_2", "exp_3", "--batch", "--refcat", "gaia", "--variant", "adaptive"]
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out.strip() == "batch_1"
    body = json.loads(service.seen[-1].content)
    assert body["exposures"] == ["exp_1", "exp_2", "exp_3"]
    assert body["parameters"]["config"] == {"do_adaptive_threshold_detection": True}
    assert body["parameters"]["references"] == {"astrometry": "gaia", "photometry": "gaia"}
    assert cli.main(["submit", "exp_1", "exp_2", "--batch", "--companion", "mask=exp_3"]) == 2
    assert cli.main(["submit", "exp_1", "exp_2", "exp_3", "--snaps"]) == 2


def test_rerun_sends_only_what_is_to_differ(service: Script, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["rerun", "job_1", "--config", '{"photometry": {"match_radius_arcsec": 1}}', "--astrometry", "gaia"]
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out.strip() == "job_1"
    assert json.loads(service.seen[-1].content) == {
        "config": {"photometry": {"match_radius_arcsec": 1}},
        "references": {"astrometry": "gaia"},
        "force": False,
    }
    assert cli.main(["rerun", "job_1", "--variant", "classic", "--force"]) == 0
    assert json.loads(service.seen[-1].content) == {"config": {"do_adaptive_threshold_detection": False}, "force": True}


def test_variant_and_force_of_submit(service: Script) -> None:
    assert cli.main(["submit", "exp_1", "--variant", "adaptive", "--force"]) == 0
    body = json.loads(service.seen[-1].content)
    assert (body["config"], body["force"]) == ({"do_adaptive_threshold_detection": True}, True)
