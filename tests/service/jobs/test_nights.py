from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.time import Time

from service.jobs.night_report import Nights, Selection, verdict
from service.jobs.nights import night_of, observation, utc_of_mjd
from service.jobs.prepare import prepare
from service.settings import Settings
from service.storage import Storage
from service.storage.json_values import JsonText
from service.storage.records import JobRecord, Phase, Scope, new_id

OWNER = Scope("ada")
NIGHT = date(2026, 11, 21)


class TestNightOf:
    @pytest.mark.parametrize(
        ("longitude", "moment", "night"),
        [
            # Cerro Pachon: mean noon is at 16:43 UTC
            (-70.7494, "2026-11-22T16:42", "2026-11-21"),
            (-70.7494, "2026-11-22T16:44", "2026-11-22"),
            (-70.7494, "2026-11-23T05:00", "2026-11-22"),
            (289.2506, "2026-11-22T16:42", "2026-11-21"),  # the same place
            (289.2506, "2026-11-22T16:44", "2026-11-22"),
            # Mauna Kea: 22:22 UTC; its whole night has one date in UTC, the morning's
            (-155.4761, "2026-11-22T05:00", "2026-11-21"),
            (-155.4761, "2026-11-22T15:00", "2026-11-21"),
            (-155.4761, "2026-11-22T22:21", "2026-11-21"),
            (-155.4761, "2026-11-22T22:23", "2026-11-22"),
            # Siding Spring: 02:04 UTC
            (149.0661, "2026-11-22T02:03", "2026-11-21"),
            (149.0661, "2026-11-22T02:05", "2026-11-22"),
            (149.0661, "2026-11-22T18:00", "2026-11-22"),
            # nobody knows where
            (None, "2026-11-22T11:59", "2026-11-21"),
            (None, "2026-11-22T12:01", "2026-11-22"),
            (float("nan"), "2026-11-22T12:01", "2026-11-22"),
        ],
    )
    def test_from_noon_to_noon(self, longitude: float | None, moment: str, night: str) -> None:
        at = datetime.fromisoformat(moment).replace(tzinfo=UTC)
        assert night_of(at, longitude) == date.fromisoformat(night)
        elsewhere = at.astimezone(timezone(timedelta(hours=9)))
        assert night_of(elsewhere, longitude) == date.fromisoformat(night)


class TestObservation:
    now = datetime(2026, 12, 1, 3, 0, tzinfo=UTC)

    def test_moment_is_utc_of_tai(self) -> None:
        moment = datetime(2026, 11, 22, 3, 0, 0, 500_000, tzinfo=UTC)
        mjd = Time(moment.replace(tzinfo=None), scale="utc").tai.mjd
        assert utc_of_mjd(mjd) == moment
        assert utc_of_mjd(mjd - 37.0 / 86400) == moment - timedelta(seconds=37)

    @pytest.mark.parametrize("mjd", [None, float("nan"), float("inf"), 0.0, 1e6])
    def test_no_date_is_none(self, mjd: float | None) -> None:
        assert utc_of_mjd(mjd) is None
        found = observation({"mjd": mjd, "longitude": -155.0}, self.now)
        assert found["observed_at"] is None
        assert found["night"] == date(2026, 11, 30)  # of the submission, by UTC's noon

    def test_hostile_text_is_one_short_line(self) -> None:
        found = observation({"target": " M31\n\x00\x1b[31m" + "x" * 999, "band": "\t", "instrument": 7}, self.now)
        assert found["target"] == "M31[31m" + "x" * 248
        assert found["band"] is None
        assert found["instrument"] == "7"

    @pytest.mark.parametrize(
        ("unit", "is_rate"), [(None, False), ("adu", False), ("electron", False), ("electron/s", True), ("nJy", True)]
    )
    def test_rates_do_not_grow_with_time(self, unit: str | None, is_rate: bool) -> None:
        assert observation({"unit": unit}, self.now)["is_rate"] is is_rate


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    settings = Settings(data_dir=tmp_path)
    prepare(settings)
    storage = Storage(settings)
    yield storage
    storage.close()


def add(
    storage: Storage,
    night: date,
    *,
    owner: Scope = OWNER,
    phase: Phase = Phase.COMPLETED,
    hour: float = 3.0,
    stats: dict[str, float] | None = None,
    **observed: Any,
) -> JobRecord:
    """A job of a night, with statistics where it has ended."""
    at = datetime(night.year, night.month, night.day, tzinfo=UTC) + timedelta(days=1, hours=hour)
    row = {
        "id": new_id("job"),
        "owner": owner.name,
        "dedup_key": "0" * 64,
        "phase": phase,
        "priority": 50,
        "max_attempts": 3,
        "spec": {},
        "time_limit": 60.0,
        "memory_limit_bytes": 1 << 30,
        "error": {"code": "psf.no_stars", "message": "nothing there"} if phase is Phase.ERROR else None,
    }
    seen = {
        "night": night,
        "observed_at": at,
        "exposure_id": new_id("exp"),
        "instrument": "Cam",
        "band": "r",
        "target": "M31",
        "visit": 1,
        "detector": 0,
        "exposure_time": 100.0,
        "is_rate": False,
        **observed,
    }
    with storage.database.write() as transaction:
        [job] = storage.job_changes.insert_many(transaction, [row])
        storage.job_changes.furnish(transaction, [(job, JsonText("{}"), [], seen)])
        if phase is Phase.COMPLETED or stats:
            usual = {"psfSigma": 2.0, "pixelScale": 0.2, "zeroPoint": 30.0, "magLim": 24.0, "astromOffsetMean": 0.01}
            storage.summaries.insert(transaction, job, usual | (stats or {}), {})
    return job


def before(storage: Storage, nights: int = 5, each: int = 4, **observed: Any) -> None:
    """Earlier nights whose zero points and seeing scatter about 30 and 0.94 arcsec in a known way."""
    offsets = np.linspace(-0.02, 0.02, nights * each)
    for number, offset in enumerate(offsets):
        stats = {"zeroPoint": 30.0 + offset, "psfSigma": 2.0 + 5 * offset}
        add(storage, NIGHT - timedelta(days=1 + number % nights), stats=stats, **observed)


class TestReport:
    def test_clouds_stand_out(self, storage: Storage) -> None:
        before(storage)
        add(storage, NIGHT, hour=1.0, visit=11)
        clouded = add(storage, NIGHT, hour=2.0, visit=12, stats={"zeroPoint": 29.7})
        night = Nights(storage).report(OWNER, NIGHT)
        assert night is not None
        assert [exposure.row["visit"] for exposure in night.exposures] == [12, 11]  # newest first
        figure = night.exposures[0].figures["zero_point"]
        assert figure.expected == pytest.approx(25.0)  # a count a second
        assert figure.difference == pytest.approx(-0.3)
        assert night.exposures[0].outside == ("zero_point",)
        assert night.exposures[1].outside == ()
        assert night.worst is not None
        assert night.worst[0].row["id"] == clouded.id
        assert night.medians["zero_point"] == pytest.approx(-0.15)
        assert night.counts["outside"] == 1
        assert verdict(night) == (
            "2 exposures calibrated. 1 outside the limits; farthest is the zero point of visit 12, 0.300 mag below the "
            "expected."
        )

    def test_limits_are_those_of_the_nights_before(self, storage: Storage) -> None:
        before(storage)
        add(storage, NIGHT, stats={"zeroPoint": 12.0})  # its own night says nothing of what is usual
        night = Nights(storage).report(OWNER, NIGHT)
        assert night is not None
        limits = night.baseline.limits["Cam", "r"]["zero_point"]
        offsets = np.linspace(-0.02, 0.02, 20)
        half = 3 * 1.4826 * np.median(np.abs(offsets - np.median(offsets)))
        assert limits.n == 20
        assert (limits.low, limits.high) == (pytest.approx(-half, abs=1e-6), pytest.approx(half, abs=1e-6))
        assert night.baseline.nights == tuple(NIGHT - timedelta(days=days) for days in range(5, 0, -1))

    def test_other_lengths_compare(self, storage: Storage) -> None:
        before(storage)
        zero_point = 30.0 + 2.5 * np.log10(3.0)
        add(storage, NIGHT, exposure_time=300.0, stats={"zeroPoint": zero_point})
        add(storage, NIGHT, exposure_time=300.0, is_rate=True, stats={"zeroPoint": 25.0})
        night = Nights(storage).report(OWNER, NIGHT)
        assert night is not None
        for exposure in night.exposures:
            assert exposure.figures["zero_point"].difference == pytest.approx(0.0, abs=1e-6)

    def test_each_detector_has_a_zero_point_of_its_own(self, storage: Storage) -> None:
        for detector, offset in ((0, 0.0), (1, -0.4)):
            for number in range(10):
                stats = {"zeroPoint": 30.0 + offset + 0.002 * (number - 4.5)}
                add(storage, NIGHT - timedelta(days=1), detector=detector, stats=stats)
        for number in range(3):  # too few to have one
            add(storage, NIGHT - timedelta(days=2), detector=2, stats={"zeroPoint": 29.0 + number})
        usual = add(storage, NIGHT, detector=1, stats={"zeroPoint": 29.6})
        odd = add(storage, NIGHT, detector=0, stats={"zeroPoint": 29.6})
        unknown = add(storage, NIGHT, detector=2, stats={"zeroPoint": 29.6})
        night = Nights(storage).report(OWNER, NIGHT)
        assert night is not None
        found = {exposure.row["id"]: exposure.figures["zero_point"] for exposure in night.exposures}
        assert found[usual.id].standing == "usual"
        assert found[odd.id].standing == "outside"
        assert found[odd.id].difference == pytest.approx(-0.4, abs=1e-6)
        assert found[unknown.id].expected == pytest.approx(night.baseline.zero_points[("Cam", "r"), None])

    def test_better_is_no_trouble(self, storage: Storage) -> None:
        before(storage)
        add(storage, NIGHT, stats={"psfSigma": 1.0})
        add(storage, NIGHT, stats={"psfSigma": 4.0})
        night = Nights(storage).report(OWNER, NIGHT)
        assert night is not None
        assert sorted(str(e.figures["seeing"].standing) for e in night.exposures) == ["better", "outside"]

    def test_a_failure_is_told_as_one_not_by_figures_that_were_not_accepted(self, storage: Storage) -> None:
        before(storage)
        add(storage, NIGHT, phase=Phase.ERROR, stats={"psfSigma": 9.0, "zeroPoint": None})
        night = Nights(storage).report(OWNER, NIGHT)
        assert night is not None
        assert night.exposures[0].figures["seeing"].standing == "outside"
        assert night.exposures[0].outside == ()
        assert night.worst is None
        assert (night.counts["failed"], night.counts["outside"]) == (1, 0)

    def test_instruments_and_bands_do_not_mix(self, storage: Storage) -> None:
        before(storage)
        before(storage, band="g", instrument="Other")
        add(storage, NIGHT, instrument="Other", stats={"zeroPoint": 20.0})
        night = Nights(storage).report(OWNER, NIGHT)
        assert night is not None
        assert night.exposures[0].figures["zero_point"].standing is None  # of Other in r nothing is known
        assert "too few exposures" in verdict(night)

    def test_what_was_calibrated_again_counts_once(self, storage: Storage) -> None:
        before(storage)
        add(storage, NIGHT, exposure_id="exp_1", stats={"zeroPoint": 25.0})
        add(storage, NIGHT, exposure_id="exp_1")
        add(storage, NIGHT, exposure_id="exp_1", phase=Phase.ERROR)  # a failure takes no result's place
        night = Nights(storage).report(OWNER, NIGHT)
        assert night is not None
        assert [exposure.is_superseded for exposure in night.exposures] == [False, False, True]
        assert night.counts == {"waiting": 0, "running": 0, "done": 1, "failed": 1, "aborted": 0, "outside": 0}

    def test_choice_is_of_what_is_shown_and_counted(self, storage: Storage) -> None:
        add(storage, NIGHT, target="M31")
        add(storage, NIGHT, target="M33", band="g")
        night = Nights(storage).report(OWNER, NIGHT, Selection(target="M33"))
        assert night is not None
        assert [exposure.row["target"] for exposure in night.exposures] == ["M33"]
        assert night.counts["done"] == 1
        assert night.choices == {"instrument": ("Cam",), "band": ("g", "r"), "target": ("M31", "M33"), "run_id": ()}

    def test_states(self, storage: Storage) -> None:
        phases = {
            Phase.QUEUED: "waiting",
            Phase.HELD: "waiting",
            Phase.EXECUTING: "running",
            Phase.COMPLETED: "done",
            Phase.ERROR: "failed",
            Phase.ABORTED: "aborted",
            Phase.ARCHIVED: "done",
        }
        jobs = {add(storage, NIGHT, phase=phase).id: state for phase, state in phases.items()}
        night = Nights(storage).report(OWNER, NIGHT)
        assert night is not None
        assert {exposure.row["id"]: exposure.state for exposure in night.exposures} == jobs
        assert [e.state for e in night.filtered("failed")] == ["failed"]

    def test_another_owner_is_not_there(self, storage: Storage) -> None:
        add(storage, NIGHT, owner=Scope("grace"))
        nights = Nights(storage)
        assert nights.latest(OWNER) is None
        assert nights.report(OWNER, NIGHT) is None
        before(storage, owner=Scope("grace"))
        add(storage, NIGHT)
        night = nights.report(OWNER, NIGHT)
        assert night is not None
        assert len(night.exposures) == 1
        assert night.baseline.limits == {}

    def test_a_camera_that_believes_in_the_future_does_not_hold_the_page(self, storage: Storage) -> None:
        nights = Nights(storage)
        add(storage, date(2101, 1, 1))
        assert nights.latest(OWNER) == date(2101, 1, 1)
        add(storage, date(2020, 1, 1))
        assert nights.latest(OWNER) == date(2020, 1, 1)

    def test_neighbours(self, storage: Storage) -> None:
        for days in (0, 3, 7):
            add(storage, NIGHT - timedelta(days=days))
        night = Nights(storage).report(OWNER, NIGHT - timedelta(days=3))
        assert night is not None
        assert (night.previous, night.following) == (NIGHT - timedelta(days=7), NIGHT)

    def test_usual_is_worked_out_anew_in_time(self, storage: Storage) -> None:
        patient, eager = Nights(storage), Nights(storage, seconds=0.0)
        add(storage, NIGHT)
        for nights in (patient, eager):
            assert nights.report(OWNER, NIGHT) is not None
        before(storage)
        found = [nights.report(OWNER, NIGHT) for nights in (patient, eager)]
        assert [len(night.baseline.nights) for night in found if night is not None] == [0, 5]
