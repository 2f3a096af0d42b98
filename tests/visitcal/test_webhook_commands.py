"""`visitcal webhook`, against the API in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import House, open_house
from visitcal.cli import main
from visitcal.client import Client
from visitcal.exit_codes import EXIT_OK, EXIT_REFUSED

HOOK = "https://203.0.114.1/hook"


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    with open_house(tmp_path) as house:
        monkeypatch.setattr("visitcal.commands.connection.Client", lambda *_, **__: _client(house))
        yield house


def _client(house: House) -> Client:
    return Client("http://127.0.0.1:8470", transport=house.client._transport)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == EXIT_OK
    return json.loads(capsys.readouterr().out)


def test_a_secret_a_job_and_its_message(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", house.upload(), "--callback", HOOK]) == EXIT_REFUSED
    capsys.readouterr()
    assert main(["webhook", "secret"]) == EXIT_OK
    said = capsys.readouterr()
    assert said.out.startswith("whsec_")
    assert said.out.strip() not in said.err
    job = printed(capsys, "submit", house.upload(), "--callback", HOOK)
    house.client.post(f"/v1/jobs/{job['id']}/abort")
    (message,) = printed(capsys, "webhook", "list", "--job", job["id"], "--state", "waiting")
    assert message["url"] == HOOK
    assert printed(capsys, "webhook", "replay", message["id"])["id"] == message["id"]
    assert main(["webhook", "list"]) == EXIT_OK
    assert "job.aborted" in capsys.readouterr().out
    assert main(["webhook", "replay", "msg_x"]) == EXIT_REFUSED
