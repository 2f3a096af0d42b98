"""Forecasts: smoothed costs against the closed formula, expected ends against a queue that is counted by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import sqlalchemy as sa

from service.jobs import states
from service.jobs.forecast import Forecaster, family, predicted_seconds
from service.jobs.outcome import JobError, JobOutcome
from service.jobs.publish import publish
from service.jobs.queue_view import QueueView, Snapshot, forecast_quality
from service.jobs.submission import JobRequest
from service.settings import OwnerLimits, Settings
from service.storage import tables
from service.storage.records import Fence, JobRecord, Phase, StageRecord, utc_now
from service.storage.repositories.costs import StageCost
from service.storage.repositories.turns import EndedJob, RunningJob, WaitingGroup
from tests.service.jobs.conftest import OWNER, House, on_each_database
from tests.service.jobs.test_fairness import limited, queue_jobs, taken
from tests.service.jobs.test_limits import add_exposure

NOW = datetime(2026, 11, 22, tzinfo=UTC)
KIND = "classic/generic"
SPEC = {"family": KIND, "references": {"astrometry": {"name": "gaia"}, "photometry": None}}


def ended(start: float, seconds: float, forecast: float | None = None) -> EndedJob:
    began = NOW + timedelta(seconds=start)
    return EndedJob(began, began + timedelta(seconds=seconds), forecast)


def snapshot(**values: object) -> Snapshot:
    parts = {"groups": (), "running": (), "completed": (), "ended": 0, "slots": 0}
    return Snapshot(NOW, **{**parts, **values})  # type: ignore[arg-type]


def finish(house: House, job: JobRecord, *stages: tuple[str, float], error: JobError | None = None) -> JobRecord:
    records = tuple(StageRecord(name, seconds, {}) for name, seconds in stages)
    fence = Fence(job.id, job.attempt, "w")
    after = publish(house.storage, fence, JobOutcome(error=error), [], states.Report(stages=records))
    assert after is not None
    return after


@on_each_database
def test_costs_are_smoothed(house: House) -> None:
    random = np.random.default_rng(1)
    seconds = random.uniform(1.0, 9.0, 40)
    mean = 0.0
    for n, value in enumerate(seconds, start=1):
        with house.storage.database.write() as transaction:
            house.storage.costs.learn(transaction, "k/0", {"a": value, "b": 2.0 * value}, 4.0)
        mean += (value - mean) * max(1.0 / n, 0.1)
        if n == 10:
            assert mean == pytest.approx(seconds[:10].mean())  # the first ten count alike
    costs = {cost.stage: cost for cost in house.storage.costs.all()}
    assert (costs["a"].n, costs["a"].seconds) == (40, pytest.approx(mean))
    assert costs["a"].seconds_per_megapixel == pytest.approx(mean / 4.0)
    assert costs["b"].seconds == pytest.approx(2.0 * mean)


def test_forecast_scales_with_pixels_and_takes_the_nearest_size() -> None:
    costs = [
        StageCost(f"{KIND}/0", "detect", 3, 1.0, 1.0),
        StageCost(f"{KIND}/4", "detect", 3, 8.0, 0.5),
        StageCost(f"{KIND}/4", "astrometry", 3, 4.0, 0.25),
        StageCost("adaptive/generic/4", "detect", 3, 99.0, 99.0),
    ]
    assert predicted_seconds(costs, KIND, 16_000_000) == pytest.approx(12.0)
    assert predicted_seconds(costs, KIND, 20_000_000, ["astrometry"]) == pytest.approx(10.0)
    assert predicted_seconds(costs, KIND, 1_200_000) == pytest.approx(1.2)
    assert predicted_seconds(costs, KIND, 64_000_000, ["photometry"]) == pytest.approx(48.0)
    assert predicted_seconds(costs, KIND, None) is None
    assert predicted_seconds(costs, "classic/parity", 16_000_000) is None
    assert predicted_seconds([], KIND, 16_000_000) is None


def test_kind_of_a_job() -> None:
    assert family("generic", {"do_adaptive_threshold_detection": False}) == "classic/generic"
    assert family("parity", {"do_adaptive_threshold_detection": True}) == "adaptive/parity"


@on_each_database
def test_completed_jobs_teach_failed_ones_do_not(house: House) -> None:
    forecaster = Forecaster(house.storage, seconds=0.0)
    assert forecaster.seconds(SPEC, 4_000_000) is None
    exposure = add_exposure(house, 1000, shape=[2000, 2000])
    request = JobRequest((exposure,))
    first, _ = house.submissions.submit(OWNER, request)
    assert (first.pixels, first.predicted_seconds, first.predicted_end_at) == (4_000_000, None, None)
    finish(house, taken(house), ("read", 1.0), error=JobError("a.b", "B", "no"))
    assert house.storage.costs.all() == []
    house.submissions.submit(OWNER, request)
    done = finish(house, taken(house), ("read", 1.0), ("detect", 2.0), ("detect", 0.5))
    costs = {cost.stage: cost.seconds for cost in house.storage.costs.all()}
    assert costs == {"read": 1.0, "detect": 2.5, "rest": 0.0}  # what the stages do not account for, here less than none
    assert done.ended_at is not None
    assert forecaster.seconds(SPEC, 5_000_000) == pytest.approx(3.5 * 1.25)
    house.submissions.intake.forecaster = forecaster
    job, _ = house.submissions.submit(OWNER, request)
    assert job.predicted_seconds == pytest.approx(3.5)
    assert job.predicted_end_at is not None
    assert (job.predicted_end_at - job.created_at).total_seconds() == pytest.approx(3.5, abs=1.5)


def test_stages_of_fits_that_are_left_out_are_not_expected(house: House) -> None:
    with house.storage.database.write() as transaction:
        house.storage.costs.learn(
            transaction, f"{KIND}/2", {"astrometry": 8.0, "photometry.match": 4.0, "detect": 2.0}, 4.0
        )
    none = {"family": KIND, "references": {"astrometry": None, "photometry": None}}
    assert Forecaster(house.storage).seconds(none, 4_000_000) == pytest.approx(2.0)
    assert Forecaster(house.storage).seconds(SPEC, 4_000_000) == pytest.approx(10.0)


class TestExpectedEnd:
    """Jobs of 10 s by forecast; the wait is the work before divided by the slots."""

    def place(self, house: House, job: JobRecord) -> float | None:
        return QueueView(house.storage, house.settings, seconds=0.0).place(job).eta_s

    def test_of_the_jobs_of_a_queue(self, house: House) -> None:
        jobs = queue_jobs(house, "ada", 4, predicted_seconds=10.0)
        assert [self.place(house, job) for job in jobs] == pytest.approx([10.0, 20.0, 30.0, 40.0])
        running = taken(house)
        assert self.place(house, running) == pytest.approx(10.0, abs=1.0)
        assert self.place(house, jobs[1]) == pytest.approx(20.0, abs=1.0)

    def test_of_owners_in_turn(self, house: House) -> None:
        queue_jobs(house, "ada", 100, predicted_seconds=10.0)
        (one,) = queue_jobs(house, "bob", 1, predicted_seconds=10.0)
        assert self.place(house, one) == pytest.approx(20.0)

    def test_with_several_slots(self, settings: Settings) -> None:
        house = House(limited(settings, slots=2))
        jobs = queue_jobs(house, "ada", 5, predicted_seconds=10.0)
        assert self.place(house, jobs[1]) == pytest.approx(10.0)
        assert self.place(house, jobs[4]) == pytest.approx(30.0)
        house.close()

    def test_with_the_slots_that_workers_report(self, house: House) -> None:
        jobs = queue_jobs(house, "ada", 5, predicted_seconds=10.0)
        assert self.place(house, jobs[4]) == pytest.approx(50.0)  # nobody is there: as if one slot were
        for number in (1, 2):
            house.storage.operations.sign(f"w{number}", host="h", version="1", slots=number, busy=0, resident_bytes=1)
        assert self.place(house, jobs[4]) == pytest.approx(10.0 + 40.0 / 3)
        assert self.place(house, jobs[2]) == pytest.approx(10.0)
        house.storage.operations.sign_off("w2")
        assert self.place(house, jobs[4]) == pytest.approx(50.0)

    def test_with_a_limit_of_running_jobs(self, settings: Settings) -> None:
        house = House(limited(settings, slots=4, owner_limits={"ada": OwnerLimits(max_running=1)}))
        jobs = queue_jobs(house, "ada", 4, predicted_seconds=10.0)
        assert self.place(house, jobs[3]) == pytest.approx(40.0)
        stopped = House(limited(house.settings, owner_limits={"ada": OwnerLimits(max_running=0)}))
        assert self.place(stopped, jobs[0]) is None
        stopped.close()
        house.close()

    def test_is_unknown_without_history(self, house: House) -> None:
        jobs = queue_jobs(house, "ada", 2)
        assert [self.place(house, job) for job in jobs] == [None, None]
        running = taken(house)
        assert self.place(house, running) is None

    def test_of_jobs_that_came_before_the_first_forecast(self, house: House) -> None:
        done, *waiting = queue_jobs(house, "ada", 3)
        assert taken(house).id == done.id
        began = utc_now()
        with house.storage.database.write() as transaction:
            values = {"phase": Phase.COMPLETED, "started_at": began - timedelta(seconds=8), "ended_at": began}
            transaction.connection.execute(sa.update(tables.jobs).where(tables.jobs.c.id == done.id).values(values))
        assert [self.place(house, job) for job in waiting] == pytest.approx([8.0, 16.0])

    def test_is_unknown_where_the_forecast_has_passed(self, house: House) -> None:
        queue_jobs(house, "ada", 1, predicted_seconds=1e-6)
        assert self.place(house, taken(house)) is None


def test_work_before_a_job_without_forecasts_is_as_of_late() -> None:
    groups = (WaitingGroup("ada", 50, 4, 0, 0.0),)
    late = snapshot(groups=groups, completed=(ended(-100, 20), ended(-50, 10)))
    assert late.mean_waiting({"ada"}) == pytest.approx(15.0)
    assert snapshot(groups=groups).mean_waiting({"ada"}) is None
    running = (RunningJob("ada", NOW - timedelta(seconds=4), None), RunningJob("bob", NOW, 7.0))
    busy = snapshot(running=running, completed=(ended(-100, 20), ended(-50, 10)))
    assert busy.remaining() == pytest.approx(11.0 + 7.0)
    assert busy.remaining("bob") == pytest.approx(7.0)


def test_quality_of_forecasts() -> None:
    random = np.random.default_rng(2)
    actual, forecast = random.uniform(5, 20, 100), random.uniform(5, 20, 100)
    jobs = [ended(0, float(a), float(f)) for a, f in zip(actual, forecast, strict=True)]
    errors = np.abs(forecast - actual) / actual
    quality = forecast_quality([*jobs, ended(0, 5)])
    assert quality is not None
    assert quality.jobs == 100
    assert (quality.median, quality.percentile_90) == pytest.approx(np.quantile(errors, [0.5, 0.9]), rel=1e-5)
    assert forecast_quality([ended(0, 5), ended(0, 0.0, 3.0)]) is None


def test_throughput(house: House) -> None:
    view = QueueView(house.storage, house.settings, seconds=0.0)
    assert view.snapshot().throughput is None
    queue_jobs(house, "ada", 3)
    for _ in range(2):
        finish(house, taken(house))
    now = view.snapshot()
    assert (now.depth, len(now.completed), now.ended) == (1, 2, 2)
    assert now.throughput == pytest.approx(2 / 600)
    assert house.storage.turns.counts(OWNER, [Phase.QUEUED]) == {Phase.QUEUED: 0}
