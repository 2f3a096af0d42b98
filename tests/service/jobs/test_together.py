from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from service.jobs.batches import Batches
from service.jobs.configuration import complete_config
from service.jobs.errors import IdempotencyMismatchError, QueueFullError, UnknownExposureError
from service.jobs.intake import Candidate
from service.jobs.submission import JobRequest, Submissions
from service.jobs.together import Together
from service.storage.errors import StorageUnavailableError
from service.storage.records import JobRecord, Phase
from tests.service.jobs.conftest import OWNER, House, on_each_database


class TestThread:
    def test_those_who_come_meanwhile_are_done_at_once(self) -> None:
        groups: list[list[int]] = []
        first_came, go_on = threading.Event(), threading.Event()

        def work(items: Sequence[int]) -> None:
            groups.append(list(items))
            first_came.set()
            go_on.wait(10.0)

        together = Together("test", work)
        with ThreadPoolExecutor(5) as pool:
            done = [pool.submit(together.do, 0)]
            assert first_came.wait(10.0)
            done += [pool.submit(together.do, number) for number in range(1, 5)]
            while together._waiting.qsize() < 4:
                pass
            assert not any(future.done() for future in done)
            go_on.set()
            for future in done:
                future.result(10.0)
        together.close()
        assert [sorted(group) for group in groups] == [[0], [1, 2, 3, 4]]

    def test_what_is_raised_reaches_who_asked_and_the_thread_goes_on(self) -> None:
        def work(items: Sequence[int]) -> None:
            if 1 in items:
                raise ValueError("one")

        together = Together("test", work)
        with pytest.raises(ValueError, match="one"):
            together.do(1)
        together.do(2)
        together.close()
        assert not together._thread.is_alive()

    def test_who_comes_after_the_end_is_told_at_once(self) -> None:
        done: list[int] = []
        together = Together("test", done.extend)
        together.do(1)
        together.close()
        together.close()
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(together.do, 2)
            with pytest.raises(RuntimeError, match="test is closed"):
                late.result(10.0)
        assert done == [1]


def candidate(request: JobRequest, key: str | None = None) -> Candidate:
    return Candidate(OWNER, request, complete_config(request.preset, request.config), held=False, key=key)


def rows_of(house: House, job: JobRecord) -> tuple[int, list[str], bool]:
    """Inputs, story, and whether there is a configuration."""
    with house.storage.database.read() as transaction:
        query = sa.text("SELECT count(*) FROM job_inputs WHERE job_pk = :pk")
        inputs = transaction.connection.execute(query, {"pk": job.pk}).scalar_one()
    return inputs, house.phases(job), house.storage.jobs.document(job, "config") is not None


@on_each_database
def test_a_group_of_good_and_bad_ones(house: House) -> None:
    """Each gets what it would have got alone."""
    known, _ = house.submissions.submit(OWNER, house.request("finish"), "known")
    given = {
        "plain": candidate(house.request("finish", run_id="1")),
        "no exposure": candidate(JobRequest(("exp_nothing",)), "used later"),
        "repeated": candidate(house.request("finish"), "known"),
        "other request": candidate(house.request("sleep"), "known"),
        "twin": candidate(house.request("finish", run_id="2"), "twin"),
        "same twin": candidate(house.request("finish", run_id="2"), "twin"),
        "other twin": candidate(house.request("finish", run_id="3"), "twin"),
    }
    house.submissions._admit(list(given.values()))
    errors = {name: type(found.error) for name, found in given.items() if found.error is not None}
    assert errors == {
        "no exposure": UnknownExposureError,
        "other request": IdempotencyMismatchError,
        "other twin": IdempotencyMismatchError,
    }
    assert [name for name, found in given.items() if found.created] == ["plain", "twin"]
    assert given["repeated"].job.id == known.id
    assert given["same twin"].job == given["twin"].job
    assert house.storage.jobs.count(OWNER) == 3
    for name in ("plain", "twin"):
        assert rows_of(house, given[name].job) == (1, ["QUEUED"], True)
    # The key of one that was refused was not used up.
    assert house.submissions.submit(OWNER, house.request("finish"), "used later")[1]


def test_what_the_database_refuses_harms_nobody_else(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    insert_many = house.storage.job_changes.insert_many

    def insert(transaction: object, rows: Sequence[dict[str, object]]) -> list[JobRecord]:
        if any(row["run_id"] == "bad" for row in rows):
            raise sa.exc.DataError("", {}, ValueError("unstorable"))
        return insert_many(transaction, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(house.storage.job_changes, "insert_many", insert)
    group = [candidate(house.request("finish", run_id=name), name) for name in ("a", "bad", "b")]
    house.submissions._admit(group)
    assert [type(found.error) for found in group] == [type(None), sa.exc.DataError, type(None)]
    assert {job.run_id for job in house.storage.jobs.list(OWNER).items} == {"a", "b"}


def test_a_database_that_is_away_is_told_to_all(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise StorageUnavailableError("away")

    monkeypatch.setattr(house.storage.database, "write", away)
    with pytest.raises(StorageUnavailableError):
        house.submit()


def at_once(count: int, submit: Callable[[int], object]) -> list[object]:
    """Results or errors of calls from as many threads."""
    gate = threading.Barrier(count)

    def call(number: int) -> object:
        gate.wait()
        try:
            return submit(number)
        except Exception as error:  # noqa: BLE001 - what is raised is looked at
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(call, range(count)))


@on_each_database
def test_many_clients_meet_one_limit(house: House) -> None:
    small = Submissions(house.storage, house.settings.model_copy(update={"max_queued_jobs": 7}))
    request = house.request("finish")
    results = at_once(20, lambda _: small.submit(OWNER, request))
    small.close()
    assert sum(isinstance(result, QueueFullError) for result in results) == 13
    assert house.storage.jobs.count(OWNER, [Phase.QUEUED]) == 7


@on_each_database
def test_many_clients_with_one_key_make_one_job(house: House) -> None:
    """Also over two processes, here two ways in."""
    other = Submissions(house.storage, house.settings)
    request = house.request("finish")
    ways = (house.submissions, other)
    results = at_once(12, lambda number: ways[number % 2].submit(OWNER, request, "key"))
    other.close()
    jobs = [result for result in results if isinstance(result, tuple)]
    assert len(jobs) == 12
    assert len({job.id for job, _ in jobs}) == 1
    assert sum(created for _, created in jobs) == 1
    assert house.storage.jobs.count(OWNER) == 1


@pytest.mark.parametrize("held", [False, True])
def test_many_jobs_take_as_many_statements_as_one(house: House, *, held: bool) -> None:
    counts = []
    for size in (1, 300):
        group = [candidate(house.request("finish", run_id=str(number))) for number in range(size)]
        for one in group:
            one.held = held
        seen: list[str] = []
        with house.storage.database.write() as transaction:
            note = seen.append
            sa.event.listen(transaction.connection, "before_cursor_execute", lambda *call, note=note: note(call[2]))
            house.submissions.intake.take(transaction, group)
        counts.append(len(seen))
        assert house.phases(group[-1].job) == (["QUEUED", "HELD"] if held else ["QUEUED"])
    assert counts[0] == counts[1] <= 10


@on_each_database
def test_a_batch_is_stopped_as_its_jobs_would_be_alone(house: House) -> None:
    batches = Batches(house.storage, house.settings, house.submissions)
    batch, _ = batches.submit(OWNER, [house.request("finish", run_id=str(number)) for number in range(4)])
    alone = house.submit()
    house.submissions.abort(OWNER, alone.id)
    batches.abort(OWNER, batch.id)
    single = house.job(alone)
    for job in house.storage.jobs.list(OWNER, batch_id=batch.id).items:
        assert (job.phase, job.version, job.cancel_requested) == (single.phase, single.version, True)
        assert job.ended_at is not None
        assert house.phases(job) == house.phases(alone) == ["QUEUED", "ABORTED"]
