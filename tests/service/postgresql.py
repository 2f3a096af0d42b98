"""A private PostgreSQL server for tests, where the binaries of one are installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.jobs.prepare import prepare
from service.settings import Settings


class PostgresServer:
    """A server that listens on a Unix socket in a directory of its own alone; it can be stopped and started."""

    def __init__(self, binaries: Path, root: Path, who: dict[str, int], *, fsync: bool = False) -> None:
        self._binaries, self._root, self._who, self._fsync = binaries, root, who, "on" if fsync else "off"
        self._run("initdb", "-D", root / "data", "-U", "visitcal", "-A", "trust", "-E", "UTF8")
        self._template: str | None = None

    def start(self) -> None:
        names = {"listen_addresses": "''", "unix_socket_directories": self._root, "max_connections": 200}
        options = " ".join(f"-c {name}={value}" for name, value in (names | {"fsync": self._fsync}).items())
        self._run("pg_ctl", "-D", self._root / "data", "-l", self._root / "log", "-o", options, "-w", "start")

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "-D", self._root / "data", "-m", mode, "-w", "stop")

    def let_everybody_in(self) -> None:
        """Let processes of other users reach the socket."""
        self._root.chmod(0o755)

    def create_database(self, *, template: str = "template1") -> str:
        """Name of a new database."""
        name = f"visitcal_{uuid.uuid4().hex[:12]}"
        self._run("createdb", "-h", self._root, "-U", "visitcal", "-T", template, name)
        return name

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://visitcal@/{name}?host={self._root}"

    def service_database(self) -> str:
        """URL of a new database with all tables of the service and none of their rows."""
        if self._template is None:
            name = self.create_database()
            prepare(Settings(data_dir=self._root / "prepared", database_url=self.url(name)))  # type: ignore[arg-type]
            self._template = name
        return self.url(self.create_database(template=self._template))

    def _run(self, program: str, *arguments: object) -> None:
        command = [self._binaries / program, *map(str, arguments)]
        quiet = subprocess.DEVNULL
        subprocess.run(command, check=True, stdout=quiet, stderr=quiet, cwd=self._root, **self._who)  # type: ignore[call-overload]


def _pg_bin() -> Path | None:
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    found = str(newest[-1]) if newest else shutil.which("pg_ctl")
    return Path(found).resolve().parent if found else None


def _server_user() -> dict[str, int]:
    """PostgreSQL refuses to run as root: take another account there."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": account.pw_uid, "group": account.pw_gid}
    pytest.skip("no account to run PostgreSQL under")


@contextmanager
def running_server(*, fsync: bool = False) -> Iterator[PostgresServer]:
    binaries = _pg_bin()
    if binaries is None:
        pytest.skip("no PostgreSQL server binaries")
    who = _server_user()
    with tempfile.TemporaryDirectory(prefix="visitcal-pg-") as directory:
        root = Path(directory)
        if who:
            os.chown(root, who["user"], who["group"])
        server = PostgresServer(binaries, root, who, fsync=fsync)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The server of the session; a test that stops it takes one of its own."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgresql(postgres_server: PostgresServer) -> str:
    """URL of an empty database, for the whole session."""
    return postgres_server.url(postgres_server.create_database())


@pytest.fixture
def service_database(postgres_server: PostgresServer) -> str:
    """URL of a database of this test alone, with the tables of the service."""
    return postgres_server.service_database()
