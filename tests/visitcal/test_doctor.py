"""`visitcal doctor`: what is well, doubtful and broken is told apart."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from service.jobs.prepare import prepare
from service.settings import Settings
from service.storage import Storage
from service.storage.repositories.job_changes import JobChanges
from tests.service.postgresql import postgres_server, service_database
from visitcal.cli import main
from visitcal.exit_codes import EXIT_FAILED, EXIT_OK, EXIT_REFUSED

__all__ = ["postgres_server", "service_database"]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("VISITCAL_")]:
        monkeypatch.delenv(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("VISITCAL_KERNEL_CACHE_DIR", str(tmp_path / "kernels"))
    monkeypatch.setenv("VISITCAL_DATA_DIR", str(tmp_path / "data"))
    if request.param == "postgresql":
        monkeypatch.setenv("VISITCAL_DATABASE_URL", request.getfixturevalue("service_database"))
    settings = Settings()
    prepare(settings)
    return settings


def examined(capsys: pytest.CaptureFixture[str], expected: int = EXIT_OK) -> dict[str, dict[str, Any]]:
    assert main(["doctor", "--json"]) == expected
    document = json.loads(capsys.readouterr().out)
    assert document["status"] == ("ok" if expected == EXIT_OK else "failed")
    return {finding["name"]: finding for finding in document["findings"]}


def test_a_new_installation(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    parts = examined(capsys)
    doubtful = {name for name, part in parts.items() if part["verdict"] != "ok"}
    assert doubtful == {"kernel cache", "workers"}
    assert parts["blobs"]["detail"] == "written, read, deleted"
    assert list(settings.blob_dir.rglob("*.tmp")) == []
    storage = Storage(settings)
    storage.operations.sign("host:1:a", host="host", version="0.0.1", slots=2, busy=1, resident_bytes=1)
    storage.close()
    workers = examined(capsys)["workers"]
    assert workers["value"] == 1
    assert "0.0.1" in workers["detail"]


def test_what_is_broken(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("service.operations.checks.head_revision", lambda: "9999")
        parts = examined(capsys, EXIT_FAILED)
        assert parts["migration"]["verdict"] == "failed"
        assert "blobs" not in parts
    with monkeypatch.context() as patch:
        patch.setenv("VISITCAL_HOST", "0.0.0.0")
        assert examined(capsys, EXIT_FAILED)["address"]["verdict"] == "failed"
    with monkeypatch.context() as patch:
        patch.setattr("service.storage.blobs.LocalBlobStore.read", lambda *_: b"other")
        assert "not what is read" in examined(capsys, EXIT_FAILED)["blobs"]["detail"]
    with monkeypatch.context() as patch:
        patch.setenv("VISITCAL_REQUIRE_TOKENS", "true")
        patch.setenv("VISITCAL_SLOTZ", "2")
        parts = examined(capsys)
        assert (parts["tokens"]["verdict"], parts["settings"]["verdict"]) == ("warning", "warning")
        assert "VISITCAL_SLOTZ" in parts["settings"]["detail"]


def test_a_clock_that_is_wrong(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import timedelta

    genuine = JobChanges.now
    monkeypatch.setattr(JobChanges, "now", lambda self: genuine(self) - timedelta(seconds=7))
    clock = examined(capsys)["clock"]
    assert clock["verdict"] == "warning"
    assert clock["value"] == pytest.approx(7.0, abs=1.0)


def test_a_database_that_does_not_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISITCAL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("VISITCAL_DATABASE_URL", "postgresql+psycopg://me:hunter22@127.0.0.1:1/visitcal")
    assert main(["doctor"]) == EXIT_FAILED
    said = capsys.readouterr()
    assert "hunter22" not in said.out + said.err
    assert "failed" in said.out


def test_looking_makes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISITCAL_DATA_DIR", str(tmp_path / "absent"))
    assert examined(capsys, EXIT_FAILED)["directories"]["verdict"] == "failed"
    assert not (tmp_path / "absent").exists()


def test_settings_that_cannot_be_read(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISITCAL_SLOTS", "hunter22")
    assert main(["doctor"]) == EXIT_REFUSED
    said = capsys.readouterr().err
    assert "slots" in said
    assert "hunter22" not in said
