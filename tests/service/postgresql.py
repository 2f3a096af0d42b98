"""A private PostgreSQL server for tests, where the binaries of one are installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


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


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of an empty database on a private server that listens on a Unix socket alone."""
    binaries = _pg_bin()
    if binaries is None:
        pytest.skip("no PostgreSQL server binaries")
    who = _server_user()
    with tempfile.TemporaryDirectory(prefix="visitcal-pg-") as directory:
        root = Path(directory)
        if who:
            os.chown(root, who["user"], who["group"])
        data, log = root / "data", root / "log"
        options = f"-c listen_addresses='' -c unix_socket_directories={root} -c fsync=off"

        def run(program: str, *arguments: object) -> None:
            command = [binaries / program, *map(str, arguments)]
            quiet = subprocess.DEVNULL
            subprocess.run(command, check=True, stdout=quiet, stderr=quiet, cwd=root, **who)  # type: ignore[call-overload]

        run("initdb", "-D", data, "-U", "visitcal", "-A", "trust", "-E", "UTF8")
        run("pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start")
        try:
            run("createdb", "-h", root, "-U", "visitcal", "visitcal")
            yield f"postgresql+psycopg://visitcal@/visitcal?host={root}"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")
