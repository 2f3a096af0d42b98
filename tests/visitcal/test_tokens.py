"""Tokens on the command line and in the client."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from service.identity.token_text import read_token
from service.identity.tokens import Tokens
from service.settings import Settings
from service.storage import Storage
from service.storage.migration import migrate
from visitcal import AuthenticationError, Client, cli
from visitcal.options import OptionError, token_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    settings = Settings(data_dir=tmp_path / "data")
    migrate(settings)
    storage = Storage(settings)
    yield storage
    storage.close()


def test_operator_makes_lists_and_revokes(storage: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--data-dir", str(tmp_path / "data")]
    assert cli.main(["token", "create", "--scope", "admin", "--name", "first", *where]) == 0
    out, err = capsys.readouterr()
    text = out.strip()
    token = read_token(text)
    assert token is not None  # and nothing else, so that it can be piped
    assert token.token_id in err
    assert text not in err
    tokens = Tokens(storage, Settings(data_dir=tmp_path / "data"))
    principal = tokens.authenticate(text)
    assert (principal.owner, principal.is_admin) == ("local", True)
    assert cli.main(["token", "create", "--owner", "ada", "--no-expiry", "--json", *where]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["owner"], made["scopes"], made["expires_at"]) == ("ada", ["read"], None)
    assert cli.main(["token", "list", *where]) == 0
    listed = capsys.readouterr().out
    assert [line.split()[:3] for line in listed.splitlines()] == [
        [made["id"], "ada", "read"],
        [token.token_id, "local", "admin"],
    ]
    assert "without end" in listed
    assert made["token"] not in listed
    assert cli.main(["token", "revoke", made["id"], *where]) == 0
    assert capsys.readouterr().out == f"revoked {made['id']}\n"
    assert cli.main(["token", "list", "--owner", "ada", "--json", *where]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert document["revoked_at"] is not None
    assert cli.main(["token", "revoke", "tok_absent", *where]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_a_database_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["token", "list", "--data-dir", str(tmp_path / "none")]) == 1
    assert "visitcal migrate" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--days", "0"], ["--days", "x"], ["--days", "1", "--no-expiry"], ["--scope", "x"]]
)
def test_wrong_wishes_are_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["token", "create", *arguments])
    assert caught.value.code == 2


def test_token_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("  vc_secret\n")
    assert token_of(path) == "vc_secret"
    assert token_of(None) is None
    for content in (b"", b"two words", b"\xff"):
        path.write_bytes(content)
        with pytest.raises(OptionError, match="token-file"):
            token_of(path)
    with pytest.raises(OptionError, match="cannot be read"):
        token_of(tmp_path / "absent")


def answering(status: int, **problem: Any) -> tuple[httpx.MockTransport, list[httpx.Request]]:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(status, json=problem)

    return httpx.MockTransport(answer), asked


def test_client_shows_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISITCAL_TOKEN", "vc_of_the_environment")
    for given, shown in (("vc_given", "vc_given"), (None, "vc_of_the_environment")):
        transport, asked = answering(200, items=[])
        with Client("http://service", token=given, transport=transport) as client:
            client.refcats()
        assert asked[0].headers["Authorization"] == f"Bearer {shown}"


def test_errors_say_what_to_do() -> None:
    transport, asked = answering(401, code="auth.required", detail="The request has no token.")
    with Client("http://service", transport=transport) as client, pytest.raises(AuthenticationError) as caught:
        client.refcats()
    assert "VISITCAL_TOKEN" in str(caught.value)
    assert len(asked) == 1  # it does not get better by asking again
    transport, _ = answering(403, code="auth.forbidden", detail="This needs more.", hint="Ask the operator.")
    with Client("http://service", transport=transport) as client, pytest.raises(AuthenticationError, match="operator"):
        client.refcats()


def test_commands_take_the_token_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    path.write_text("vc_of_the_file")
    shown: list[str | None] = []

    def client(url: str | None, *, token: str | None) -> Client:
        shown.append(token)
        return Client("http://service", token=token, transport=answering(200, items=[], next=None)[0])

    monkeypatch.setattr("visitcal.commands.connection.Client", client)
    assert cli.main(["status", "--token-file", str(path)]) == 0
    assert shown == ["vc_of_the_file"]
    assert cli.main(["status", "--token-file", str(tmp_path / "absent")]) == 2
