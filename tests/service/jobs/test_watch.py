from __future__ import annotations

import asyncio
import time

import pytest

from service.jobs.watch import JobWatcher
from tests.service.jobs.conftest import OWNER, House


def test_many_waiters_one_query_an_interval(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [house.submit() for _ in range(3)]
    watcher = JobWatcher(house.storage, house.settings)
    queries: list[int] = []
    versions = house.storage.jobs.versions

    def counted(ids: tuple[str, ...]) -> dict[str, int]:
        queries.append(len(ids))
        return versions(ids)

    monkeypatch.setattr(house.storage.jobs, "versions", counted)

    async def scene() -> float:
        await watcher.start()
        waiters = [asyncio.create_task(watcher.wait(job.id, job.version, 30.0)) for job in jobs for _ in range(100)]
        await asyncio.sleep(0.6)
        assert not any(waiter.done() for waiter in waiters)
        before = time.monotonic()
        for job in jobs:
            await asyncio.to_thread(house.submissions.abort, OWNER, job.id)
        await asyncio.gather(*waiters)
        took = time.monotonic() - before
        asked = len(queries)
        await asyncio.sleep(0.6)
        assert len(queries) <= asked + 1  # nobody waits, nobody asks
        await watcher.stop()
        return took

    assert asyncio.run(scene()) < 1.5
    assert max(queries) == 3
    assert len(queries) < 12


def test_waiting_ends_at_once_where_the_job_has_changed_or_is_gone(house: House) -> None:
    job = house.submit()
    watcher = JobWatcher(house.storage, house.settings)

    async def scene() -> list[float]:
        await watcher.start()
        times = []
        for name, version, timeout in ((job.id, 0, 30.0), ("job_nothing", 1, 30.0), (job.id, job.version, 0.4)):
            before = time.monotonic()
            await watcher.wait(name, version, timeout)
            times.append(time.monotonic() - before)
        held = asyncio.create_task(watcher.wait(job.id, job.version, 30.0))
        await asyncio.sleep(0.05)
        await watcher.stop()
        await held
        return times

    changed, gone, timed_out = asyncio.run(scene())
    assert changed < 1.0
    assert gone < 1.0
    assert 0.4 <= timed_out < 1.0


def test_a_failed_look_is_not_the_last(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    job = house.submit()
    watcher = JobWatcher(house.storage, house.settings)
    versions, failures = house.storage.jobs.versions, [RuntimeError("a fault of ours")]

    def failing_once(ids: tuple[str, ...]) -> dict[str, int]:
        if failures:
            raise failures.pop()
        return versions(ids)

    monkeypatch.setattr(house.storage.jobs, "versions", failing_once)

    async def scene() -> float:
        await watcher.start()
        before = time.monotonic()
        await watcher.wait(job.id, 0, 30.0)
        await watcher.stop()
        return time.monotonic() - before

    assert asyncio.run(scene()) < 5.0
    assert failures == []
