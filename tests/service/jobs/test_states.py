"""The state machine against a model: whatever two workers, a client and time do, the story stays legal."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.jobs import states
from service.jobs.outcome import JobError, JobOutcome
from service.jobs.publish import publish
from service.settings import Settings
from service.storage import Storage
from service.storage.migration import migrate
from service.storage.records import TERMINAL_PHASES, Fence, JobRecord, Phase, Scope, new_id

LEGAL = {
    (None, "QUEUED"),
    ("QUEUED", "EXECUTING"),
    ("QUEUED", "ABORTED"),
    ("EXECUTING", "EXECUTING"),  # a cancel was asked for
    ("EXECUTING", "QUEUED"),
    ("EXECUTING", "COMPLETED"),
    ("EXECUTING", "ERROR"),
    ("EXECUTING", "ABORTED"),
}
WORKERS = st.sampled_from(["a", "b"])
LONG, GONE = 1000.0, -1.0  # leases: for ever, and past already


class JobMachine(RuleBasedStateMachine):
    """One job; workers keep what they believe, also after it has become untrue."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        settings = Settings(data_dir=Path(self.directory.name))
        migrate(settings)
        self.storage = Storage(settings)
        with self.storage.database.write() as transaction:
            self.job = states.queue(
                self.storage,
                transaction,
                {
                    "id": new_id("job"),
                    "owner": "ada",
                    "dedup_key": "0" * 64,
                    "priority": 50,
                    "max_attempts": 3,
                    "spec": {},
                    "time_limit": 60.0,
                    "memory_limit_bytes": 1 << 30,
                },
            )
        self.fences: list[Fence] = []
        self.published = 0
        self.ended: JobRecord | None = None

    def teardown(self) -> None:
        self.storage.close()
        self.directory.cleanup()

    @property
    def now(self) -> JobRecord:
        job = self.storage.jobs.get(Scope.everything(), self.job.id)
        assert job is not None
        return job

    @rule(worker=WORKERS, attempt=st.integers(1, 5), lease=st.sampled_from([LONG, GONE]))
    def claim(self, worker: str, attempt: int, lease: float) -> None:
        before = self.now
        job = states.claim(self.storage, self.job.id, attempt, worker, lease)
        assert (job is not None) == (before.phase is Phase.QUEUED and before.attempt == attempt - 1)
        if job is not None:
            self.fences.append(Fence(job.id, attempt, worker))

    @precondition(lambda self: self.fences)
    @rule(data=st.data(), error=st.booleans())
    def publish(self, data: st.DataObject, error: bool) -> None:
        fence, holds = self.some_fence(data)
        outcome = JobOutcome(error=JobError("a.b", "B", "no") if error else None, summary={"psfSigma": 1.0})
        job = publish(self.storage, fence, outcome, [], states.Report())
        assert (job is not None) == holds
        self.published += job is not None

    @precondition(lambda self: self.fences)
    @rule(data=st.data(), died=st.booleans())
    def hand_back(self, data: st.DataObject, died: bool) -> None:
        fence, holds = self.some_fence(data)
        job = states.hand_back(self.storage, fence, reason="test", died=died, report=states.Report())
        assert (job is not None) == holds

    @precondition(lambda self: self.fences)
    @rule(data=st.data(), lease=st.sampled_from([LONG, GONE]))
    def beat(self, data: st.DataObject, lease: float) -> None:
        fence, holds = self.some_fence(data)
        assert (states.beat(self.storage, fence, lease, states.Report("s", 0.5)) is not None) == holds

    @precondition(lambda self: self.fences)
    @rule(data=st.data())
    def abort_running(self, data: st.DataObject) -> None:
        fence, holds = self.some_fence(data)
        assert (states.abort_running(self.storage, fence, states.Report()) is not None) == holds

    @rule()
    def cancel(self) -> None:
        before = self.now.phase
        aborted = states.abort_queued(self.storage, self.job.id)
        asked = states.request_cancel(self.storage, self.job.id)
        assert (aborted is not None, asked is not None) == (before is Phase.QUEUED, before is Phase.EXECUTING)

    @rule()
    def expire(self) -> None:
        before = self.now
        past = before.lease_until is not None and before.lease_until.timestamp() < time.time()
        after = states.expire(self.storage, before)
        assert (after is not None) == (before.phase is Phase.EXECUTING and past)
        if after is not None:
            assert after.losses == before.losses + 1
            if before.cancel_requested:
                assert after.phase is Phase.ABORTED
            else:
                assert after.phase is (Phase.ERROR if after.losses == 3 else Phase.QUEUED)

    def some_fence(self, data: st.DataObject) -> tuple[Fence, bool]:
        fence = data.draw(st.sampled_from(self.fences))
        job = self.now
        holds = job.phase is Phase.EXECUTING and (job.attempt, job.worker) == (fence.attempt, fence.worker)
        return fence, holds

    @invariant()
    def the_story_is_legal(self) -> None:
        events = self.storage.jobs.events(Scope.everything(), job_id=self.job.id)
        phases = [event.data["phase"] for event in events if event.kind == "phase"]
        assert set(zip([None, *phases], phases, strict=False)) <= LEGAL
        assert phases[-1] == self.now.phase

    @invariant()
    def a_job_is_published_at_most_once(self) -> None:
        assert self.published <= 1
        assert (self.storage.summaries.get(self.job) is not None) == (self.published == 1)

    @invariant()
    def the_end_is_the_end(self) -> None:
        job = self.now
        if self.ended is not None:
            assert job == self.ended
        elif job.phase in TERMINAL_PHASES:
            self.ended = job
            assert (job.worker, job.lease_until) == (None, None)
            assert job.ended_at is not None
            assert (job.error is not None) == (job.phase is Phase.ERROR)


TestJobMachine = JobMachine.TestCase
TestJobMachine.settings = hypothesis_settings(
    max_examples=12, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_news_of_an_attempt_is_written_once(tmp_path: Path) -> None:
    from service.jobs.progress import ProgressLog

    log = ProgressLog()
    log.take({"kind": "stage", "name": "one", "fraction": 0.1})
    log.take({"kind": "stage_end", "name": "one", "fraction": 0.3, "seconds": 2.0, "numbers": {"n": 1}})
    first = log.report()
    assert (first.stage, first.progress, first.new_stages, first.changed) == ("one", 0.3, 1, True)
    log.take(
        {"kind": "log", "at": "2026-01-01T00:00:00+00:00", "level": "INFO", "logger": "x", "message": "while away"}
    )
    assert log.report().stages == first.stages  # not acknowledged: told again
    log.acknowledge(first)
    second = log.report()
    assert (second.new_stages, second.changed, len(second.stages)) == (0, False, 1)
    assert [line.message for line in second.log] == ["while away"]
    log.acknowledge(second)
    assert log.report().log == ()


def test_a_chatty_job_does_not_fill_the_database() -> None:
    from service.jobs.progress import ProgressLog

    log = ProgressLog()
    for _ in range(5000):
        log.take({"kind": "log", "at": "2026-01-01T00:00:00+00:00", "level": "INFO", "logger": "x", "message": "again"})
    assert len(log.report().log) == pytest.approx(2000, abs=1)
