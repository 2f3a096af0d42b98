"""A worker's signs of life: there while it lives, gone when it ends in order."""

from __future__ import annotations

import threading
from pathlib import Path

from service.jobs.presence import Presence
from service.jobs.version import code_version
from service.settings import Settings
from service.storage import Storage
from tests.service.jobs.conftest import House, on_each_database


@on_each_database
def test_signs_come_and_go(house: House) -> None:
    operations = house.storage.operations
    presence = Presence(house.storage, "a-host:1:abc", 2, lambda: 1)
    ended = threading.Event()
    thread = threading.Thread(target=presence.run, args=[ended])
    thread.start()
    (sign,) = house.until(lambda: operations.workers(30.0) or None)
    assert (sign.id, sign.host, sign.slots, sign.busy, sign.version) == ("a-host:1:abc", "a-host", 2, 1, code_version())
    assert sign.resident_bytes > 10_000_000
    presence.sign()
    (later,) = operations.workers(30.0)
    assert later.started_at == sign.started_at
    assert later.seen_at > sign.seen_at
    ended.set()
    thread.join()
    assert operations.workers(30.0) == []


@on_each_database
def test_a_silent_worker_is_not_alive_and_forgotten_some_day(house: House) -> None:
    operations = house.storage.operations
    for worker in ("old:1:a", "new:1:a"):
        operations.sign(worker, host=worker[:3], version="1", slots=1, busy=0, resident_bytes=1)
        if worker == "old:1:a":
            with house.storage.database.write() as transaction:
                transaction.connection.exec_driver_sql("UPDATE workers SET seen_at = '2026-01-01 00:00:00.000000'")
    assert [sign.id for sign in operations.workers(30.0)] == ["new:1:a"]
    assert [sign.id for sign in operations.workers(1e9)] == ["new:1:a"]


def test_the_file_is_touched_while_the_database_is_away(house: House, tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    missing = Storage(Settings(data_dir=tmp_path, database_url="postgresql+psycopg://nobody@127.0.0.1:1/none"))  # type: ignore[arg-type]
    presence = Presence(missing, "a-host:1:abc", 1, lambda: 0, alive)
    ended = threading.Event()
    thread = threading.Thread(target=presence.run, args=[ended])
    thread.start()
    house.until(lambda: alive.exists() or None)
    ended.set()
    thread.join()
    assert not alive.exists()
    missing.close()


def test_a_worker_gives_signs(house: House, tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    worker = house.start_worker(alive_file=alive)
    (sign,) = house.until(lambda: house.storage.operations.workers(30.0) or None)
    assert sign.id.split(":")[1] == str(worker.pid)
    house.until(lambda: alive.exists() or None)
    worker.terminate()
    assert worker.wait(20) == 0
    assert not alive.exists()
    assert house.storage.operations.workers(30.0) == []
