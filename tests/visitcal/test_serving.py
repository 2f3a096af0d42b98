"""What `visitcal serve` listens with."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from visitcal import cli
from visitcal.commands.serving import _listener


def test_small_answers_are_not_held_back() -> None:
    # asyncio sets TCP_NODELAY only on sockets whose protocol is said.
    with _listener("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP
        assert listener.getsockname()[1] > 0
        # A client that reads the address in the first line may ask at once.
        socket.create_connection(listener.getsockname(), timeout=5.0).close()


def test_port_in_use_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with _listener("127.0.0.1", 0) as taken:
        taken.listen()
        port = str(taken.getsockname()[1])
        assert cli.main(["serve", "--port", port, "--data-dir", str(tmp_path / "data")]) == 2
    assert f"port {port}" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
