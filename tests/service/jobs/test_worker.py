"""Jobs that cannot be lost: real workers in processes of their own, killed in every way."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from service.jobs.engine import Delivery
from service.jobs.errors import PhaseConflictError
from service.jobs.queue_view import QueueView
from service.jobs.submission import Submissions
from service.storage.records import Phase
from tests.service.jobs.conftest import OWNER, REPO, House, on_each_database

pytestmark = pytest.mark.end_to_end


def diary(path: Path) -> list[str]:
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


@on_each_database
def test_a_job_runs_and_all_it_leaves_is_published(house: House) -> None:
    house.start_worker()
    job = house.wait(house.submit())
    assert job.phase is Phase.COMPLETED
    assert (job.progress, job.attempt, job.worker, job.warnings) == (1.0, 1, None, ("mind the gap",))
    assert job.started_at is not None
    assert job.ended_at is not None
    assert job.created_at <= job.started_at <= job.ended_at
    (product,) = house.storage.jobs.products(job)
    assert house.storage.blobs.read(product.sha256) == job.id.encode()
    summary = house.storage.summaries.get(job)
    assert summary is not None
    assert (summary["psfSigma"], summary["ra"], summary["nPsfStar"]) == (1.5, None, 3)
    assert house.storage.jobs.document(job, "metadata") == {"count": 3, "bad": None}
    (stage,) = house.storage.jobs.stages(job)
    assert (stage.name, stage.numbers) == ("first", {"answer": 42, "nothing": None})
    assert [line.message for line in house.storage.jobs.log(job)] == ["nothing to do"]
    assert house.phases(job) == ["QUEUED", "EXECUTING", "COMPLETED"]
    assert list(house.settings.scratch_dir.glob("job_*")) == []


@on_each_database
def test_worker_killed_with_another_alive(house: House, tmp_path: Path) -> None:
    first = house.start_worker()
    job = house.submit("sleep", seconds=1.5, diary=str(tmp_path / "diary"))
    house.until(lambda: diary(tmp_path / "diary") or None)  # the task itself has begun, not only the attempt
    (child,) = [p for p in psutil.Process(first.pid).children() if "service.jobs.child" in p.cmdline()]
    house.start_worker()
    first.kill()
    done = house.wait(job)
    assert (done.phase, done.attempt, done.losses) == (Phase.COMPLETED, 2, 1)
    assert house.phases(job) == ["QUEUED", "EXECUTING", "QUEUED", "EXECUTING", "COMPLETED"]
    assert diary(tmp_path / "diary") == [job.id, job.id]
    assert not child.is_running()
    # Neither attempt leaves files: the first one's are taken away by who found the lease past due.
    house.until(lambda: True if not list(house.settings.scratch_dir.glob("job_*")) else None, 5.0)


@on_each_database
def test_the_only_worker_killed_then_another_started(house: House) -> None:
    worker = house.start_worker()
    job = house.submit("sleep", seconds=1.0)
    waiting = house.submit()
    house.wait(job, Phase.EXECUTING)
    worker.kill()
    worker.wait()
    house.start_worker()
    assert house.wait(job).phase is Phase.COMPLETED
    assert house.wait(waiting).phase is Phase.COMPLETED


@on_each_database
def test_worker_killed_between_the_engines_claim_and_ours(house: House) -> None:
    """The engine counts the delivery as started, the job still waits: it is resumed after the lease."""
    job = house.submit()
    house.until(lambda: house.job(job).sent_attempt or None)
    house.in_engine("UPDATE workflow_status SET status = 'PENDING', executor_id = 'dead', started_at_epoch_ms = 1")
    house.start_worker()
    done = house.wait(job)
    assert (done.phase, done.attempt) == (Phase.COMPLETED, 1)


@on_each_database
def test_stopped_worker_that_wakes_up_publishes_nothing(house: House, tmp_path: Path) -> None:
    zombie = house.start_worker()
    job = house.submit("sleep", seconds=1.0, diary=str(tmp_path / "diary"))
    house.wait(job, Phase.EXECUTING)
    zombie.send_signal(signal.SIGSTOP)
    house.start_worker()
    done = house.wait(job)
    assert (done.phase, done.attempt) == (Phase.COMPLETED, 2)
    zombie.send_signal(signal.SIGCONT)
    time.sleep(1.5)  # long enough for the zombie to read its child's result and to try
    assert zombie.poll() is None
    assert house.job(job) == done
    assert len(diary(tmp_path / "diary")) == 2
    assert house.phases(job).count("COMPLETED") == 1
    assert len(house.storage.jobs.products(job)) == 1


@on_each_database
def test_job_that_always_kills_its_process_is_given_up(house: House, tmp_path: Path) -> None:
    house.start_worker()
    job = house.submit("die", diary=str(tmp_path / "diary"))
    done = house.wait(job)
    assert done.phase is Phase.ERROR
    assert done.error is not None
    assert done.error["code"] == "job.process_died"
    assert "SIGSEGV" in done.error["message"]
    assert done.error["numbers"] == {"losses": 3, "max_attempts": 3}
    assert len(diary(tmp_path / "diary")) == 3
    assert house.wait(house.submit()).phase is Phase.COMPLETED  # the worker is none the worse


def test_job_whose_process_dies_once_is_run_again(house: House, tmp_path: Path) -> None:
    house.start_worker()
    done = house.wait(house.submit("die_once", mark=str(tmp_path / "mark")))
    assert (done.phase, done.attempt, done.losses) == (Phase.COMPLETED, 2, 1)


@on_each_database
def test_memory_limit(house: House) -> None:
    house.settings = house.settings.model_copy(update={"memory_limit_bytes": 128 << 20})
    house.submissions.intake._settings = house.settings
    house.start_worker()
    job = house.submit("allocate", mebibytes=512)
    done = house.wait(job)
    assert done.phase is Phase.ERROR
    assert done.error is not None
    assert (done.error["code"], done.attempt) == ("job.memory_limit", 1)
    assert "128 MiB" in done.error["message"]
    assert house.wait(house.submit("allocate", mebibytes=32)).phase is Phase.COMPLETED


@on_each_database
def test_time_limit_stops_the_cpu(house: House) -> None:
    house.start_worker()
    job = house.submit("spin", seconds=30.0, time_limit_s=1.0)
    done = house.wait(job)
    assert done.phase is Phase.ERROR
    assert done.error is not None
    assert (done.error["code"], done.error["stage"], done.attempt) == ("job.time_limit", "first", 1)
    assert done.started_at is not None
    assert done.ended_at is not None
    assert 1.0 <= (done.ended_at - done.started_at).total_seconds() < 3.0


@on_each_database
def test_cancel_of_a_running_job_stops_its_cpu_within_a_second(house: House, tmp_path: Path) -> None:
    house.start_worker()
    job = house.submit("spin", seconds=30.0, diary=str(tmp_path / "diary"))
    house.wait(job, Phase.EXECUTING)
    house.until(lambda: diary(tmp_path / "diary") or None)
    child = psutil.Process(int((tmp_path / "diary").read_text().split()[1]))
    before = time.monotonic()
    assert house.submissions.abort(OWNER, job.id).cancel_requested
    house.until(lambda: True if not child.is_running() or child.status() == psutil.STATUS_ZOMBIE else None)
    assert time.monotonic() - before < 1.0
    done = house.wait(job)
    assert (done.phase, done.error) == (Phase.ABORTED, None)
    with pytest.raises(PhaseConflictError):
        house.submissions.abort(OWNER, job.id)


def test_deleting_a_running_job_stops_its_cpu(house: House, tmp_path: Path) -> None:
    house.start_worker()
    job = house.submit("spin", seconds=30.0, diary=str(tmp_path / "diary"))
    house.until(lambda: diary(tmp_path / "diary") or None)
    child = psutil.Process(int((tmp_path / "diary").read_text().split()[1]))
    house.submissions.delete(OWNER, job.id)
    assert house.storage.jobs.get(OWNER, job.id) is None
    house.until(lambda: True if not child.is_running() else None, timeout=1.0)


@on_each_database
def test_cancel_of_a_waiting_job(house: House, tmp_path: Path) -> None:
    job = house.submit("finish", diary=str(tmp_path / "diary"))
    assert house.submissions.abort(OWNER, job.id).phase is Phase.ABORTED
    house.start_worker()
    house.wait(house.submit())
    assert house.job(job).phase is Phase.ABORTED
    assert diary(tmp_path / "diary") == []


@on_each_database
def test_priority_then_age(house: House, tmp_path: Path) -> None:
    path = str(tmp_path / "diary")
    jobs = [house.submit(priority=priority, diary=path) for priority in (10, 50, 50, 90)]
    queue = QueueView(house.storage, house.settings, 0.0)  # looks each time
    assert [queue.place(job).position for job in jobs] == [3, 1, 2, 0]
    house.start_worker()
    for job in jobs:
        house.wait(job)
    assert diary(tmp_path / "diary") == [jobs[3].id, jobs[1].id, jobs[2].id, jobs[0].id]


@on_each_database
def test_delivery_store_deleted(house: House) -> None:
    jobs = [house.submit() for _ in range(3)]
    house.submissions.close()
    if house.is_sqlite:
        for file in house.settings.data_dir.glob("queue.sqlite*"):
            file.unlink()
    else:
        house.in_engine("DELETE FROM workflow_status")
    house.start_worker()
    for job in jobs:
        assert house.wait(job).phase is Phase.COMPLETED


@on_each_database
def test_submitter_killed_in_a_burst(house: House, tmp_path: Path) -> None:
    """Every job that was committed runs, also the one whose delivery was never sent; none runs twice."""
    script = tmp_path / "burst.py"
    script.write_text(
        "import sys\n"
        "from service.jobs.submission import JobRequest, Submissions\n"
        "from service.settings import Settings\n"
        "from service.storage import Storage\n"
        "from service.storage.records import Scope\n"
        "settings = Settings(); submissions = Submissions(Storage(settings), settings)\n"
        "request = JobRequest((sys.argv[1],), metadata={'do': 'finish', 'diary': sys.argv[2]})\n"
        "print('go', flush=True)\n"
        "while True: submissions.submit(Scope('local'), request)\n"
    )
    path = tmp_path / "diary"
    submitter = subprocess.Popen(
        [sys.executable, str(script), house.exposure, str(path)],
        env=os.environ | house.settings.environment() | {"PYTHONPATH": str(REPO)},
        stdout=subprocess.PIPE,
    )
    assert submitter.stdout is not None
    submitter.stdout.readline()
    house.until(lambda: True if house.storage.jobs.count(OWNER) >= 5 else None)
    submitter.kill()
    submitter.wait()
    submitter.stdout.close()
    # one delivery that was never sent
    house.in_engine(
        "DELETE FROM workflow_status WHERE workflow_uuid = (SELECT max(workflow_uuid) FROM workflow_status)"
    )
    total = house.storage.jobs.count(OWNER)
    house.start_worker()
    house.until(lambda: True if house.storage.jobs.count(OWNER, [Phase.COMPLETED]) == total else None)
    assert len(diary(path)) == len(set(diary(path))) == total


class Nowhere:
    """A delivery engine that is away."""

    def send(self, delivery: Delivery, *, priority: int) -> None:
        raise ConnectionError(delivery.id, priority)

    def drop(self, delivery: Delivery) -> None:
        raise ConnectionError(delivery.id)

    def close(self) -> None:
        pass


def test_job_that_could_not_be_sent_runs_all_the_same(house: House) -> None:
    house.start_worker()
    house.wait(house.submit())
    unheard = Submissions(house.storage, house.settings, Nowhere())
    job, created = unheard.submit(OWNER, house.request("finish"))
    assert created
    assert house.wait(job).phase is Phase.COMPLETED


def test_failure_of_the_algorithm_is_a_result(house: House) -> None:
    house.start_worker()
    done = house.wait(house.submit("fail"))
    assert (done.phase, done.attempt) == (Phase.ERROR, 1)
    assert done.error == {
        "code": "astrometry.bad_fit",
        "type": "BadAstrometryFit",
        "message": "no good",
        "stage": "astrometry",
        "numbers": {"sigma": 1.0},
        "hint": "try",
        "suggested_config": {"a": 1},
    }
    summary = house.storage.summaries.get(done)
    assert summary is not None
    assert summary["psfSigma"] == 2.0


def test_fault_of_the_service_is_told_and_not_repeated(house: House) -> None:
    house.start_worker()
    done = house.wait(house.submit("stumble"))
    assert (done.phase, done.attempt) == (Phase.ERROR, 1)
    assert done.error is not None
    assert (done.error["code"], done.error["type"]) == ("service.fault", "ValueError")
    assert "a fault of ours" in "".join(line.message for line in house.storage.jobs.log(done))


def test_a_child_may_not_use_the_network(house: House) -> None:
    house.start_worker()
    with socket.create_server(("127.0.0.1", 0)) as server:
        job = house.wait(house.submit("call", port=server.getsockname()[1]))
    assert job.phase is Phase.ERROR
    assert job.error is not None
    assert "PermissionError: this process may not look up the host" in job.error["message"]


@on_each_database
def test_stopping_worker_hands_its_job_back(house: House) -> None:
    worker = house.start_worker()
    job = house.submit("sleep", seconds=1.5)
    house.wait(job, Phase.EXECUTING)
    worker.terminate()
    assert worker.wait(10) == 0
    after = house.job(job)
    assert (after.phase, after.losses, after.attempt) == (Phase.QUEUED, 0, 1)
    house.start_worker()
    assert house.wait(job).attempt == 2


@on_each_database
@pytest.mark.parametrize("count", [150, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
def test_long_queue_is_drained_none_lost_none_twice(house: House, tmp_path: Path, count: int) -> None:
    house.settings = house.settings.model_copy(update={"slots": 4, "queue_poll": 0.02})
    path = tmp_path / "diary"
    for _ in range(count):
        house.submit(diary=str(path))
    house.start_worker()
    done = [Phase.COMPLETED]
    house.until(lambda: True if house.storage.jobs.count(OWNER, done) == count else None, timeout=60 + count / 2)
    assert len(diary(path)) == len(set(diary(path))) == count
    published = house.storage.summaries.list(OWNER, fields=[], limit=count + 1)
    assert len(published.items) == count
