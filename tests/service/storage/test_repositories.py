from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.exposure.star_schema import star_schema
from service.exposure.summary import ExposureSummaryStats, summary_fields
from service.storage import Storage
from service.storage.errors import BlobLostError, InUseError, NotFoundError
from service.storage.json_values import JsonText
from service.storage.records import JobRecord, Phase, ProductRecord, Scope, new_id, utc_now
from service.storage.repositories.uploads import UploadRecord

STRANGER = Scope("eve")
STARS = "single_visit_star_unstandardized"


def make_job(storage: Storage, owner: Scope, **values: object) -> JobRecord:
    row = {
        "id": new_id("job"),
        "owner": owner.name,
        "run_id": None,
        "dedup_key": "0" * 64,
        "phase": Phase.QUEUED,
        "priority": 50,
        "max_attempts": 3,
        "spec": {},
        "time_limit": 60.0,
        "memory_limit_bytes": 1 << 30,
        "destruction_at": None,
    }
    with storage.database.write() as transaction:
        return storage.job_changes.insert_many(transaction, [row | values])[0]


def add_product(storage: Storage, job: JobRecord, product: str, path: Path, rows: int) -> ProductRecord:
    blob = storage.blobs.put_file(path)
    record = ProductRecord(product, "parquet", "application/x", path.name, blob.sha256, blob.size, rows, utc_now())
    with storage.database.write() as transaction:
        storage.job_changes.add_products(transaction, job, [record])
        if storage.catalogs.has_table(product):
            assert storage.catalogs.insert(transaction, job, product, storage.blobs.path(blob.sha256)) == rows
    return record


def test_what_is_being_fetched_is_not_fetched_twice(storage: Storage) -> None:
    """Also where many ask at one moment; another owner, address or digest, and one that has ended, are fetches anew."""
    gate = threading.Barrier(8)

    def ask(owner: Scope, source: str, sha256: str | None = None, *, together: bool = False) -> UploadRecord:
        if together:
            gate.wait(10.0)
        return storage.uploads.add(owner, host="h", life=60.0, limit=4, source=source, sha256=sha256)

    ada, bob, here = Scope("ada"), Scope("bob"), "https://example.org/a.fits"
    with ThreadPoolExecutor(8) as pool:
        asked = list(pool.map(lambda _: ask(ada, here, together=True).id, range(8)))
    assert len(set(asked)) == 1
    others = {ask(bob, here).id, ask(ada, here + "z").id, ask(ada, here, "0" * 64).id}
    assert len(others - {asked[0]}) == 3
    taken = storage.uploads.take(60.0, host="h", per_owner=9)
    assert taken is not None
    assert ask(ada, here).id == taken.id == asked[0]
    assert storage.uploads.fail(taken, {"code": "source.dns", "message": "no"}, life=60.0)
    assert ask(ada, here).id != asked[0]


def test_the_blobs_of_a_result_are_asked_for_together(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A far store takes a round trip for each, and the transaction is open as long."""
    stored = [storage.blobs.put_stream([bytes([number])]).sha256 for number in range(12)]
    all_are_asking, exists = threading.Barrier(len(stored)), storage.blobs.exists

    def far(sha256: str) -> bool:
        all_are_asking.wait(10.0)
        return exists(sha256)

    monkeypatch.setattr(storage.blobs, "exists", far)
    with storage.database.write() as transaction:
        storage.blob_references.refer(transaction, stored)
    storage.blobs.delete(stored[7])
    with pytest.raises(BlobLostError, match=stored[7]), storage.database.write() as transaction:
        storage.blob_references.refer(transaction, stored)


def random_stars(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    columns = {}
    for column in star_schema():
        match column.dtype:
            case "?":
                columns[column.name] = rng.random(n) < 0.5
            case "i4" | "i8":
                columns[column.name] = rng.integers(0, 2**31 - 1 if column.dtype == "i4" else 2**62, n, column.dtype)
            case _:
                columns[column.name] = rng.normal(size=n).astype(column.dtype)
                columns[column.name][rng.random(n) < 0.1] = np.nan
    return columns


def test_ids_sort_by_time() -> None:
    ids = [new_id("job") for _ in range(3000)]  # many in each millisecond
    assert all(len(name) == 30 for name in ids)
    assert ids == sorted(set(ids))
    assert new_id("a") < "a_1"  # until the year 10895


class TestExposures:
    def add(self, storage: Storage, owner: Scope, digit: str = "a") -> str:
        metadata = {"band": {"value": "r", "origin": "header FILTER"}, "gain": float("nan")}
        blob = storage.blobs.put_stream([digit.encode()])
        record, _ = storage.exposures.add(owner, blob, filename="x.fits", file_format="plain", metadata=metadata)
        return record.id

    def test_same_bytes_same_id_but_not_across_owners(self, storage: Storage, owner: Scope) -> None:
        first, again, other = self.add(storage, owner), self.add(storage, owner), self.add(storage, STRANGER)
        assert first == again != other

    def test_read_back(self, storage: Storage, owner: Scope) -> None:
        record = storage.exposures.get(owner, self.add(storage, owner))
        assert record is not None
        assert record.metadata == {"band": {"value": "r", "origin": "header FILTER"}, "gain": None}
        assert record.created_at.tzinfo is not None
        assert abs(record.created_at - utc_now()) < timedelta(seconds=30)

    def test_pages_newest_first(self, storage: Storage, owner: Scope) -> None:
        ids = [self.add(storage, owner, digit) for digit in "abcde"]
        self.add(storage, STRANGER)
        seen, after = [], None
        while True:
            page = storage.exposures.list(owner, after=after, limit=2)
            seen += [record.id for record in page.items]
            if (after := page.next) is None:
                break
        assert seen == sorted(ids, reverse=True)

    def test_needed_exposure_stays(self, storage: Storage, owner: Scope) -> None:
        exposure = self.add(storage, owner)
        job = make_job(storage, owner)
        with storage.database.write() as transaction:
            seen = {"night": date(2026, 11, 21), "is_rate": False}
            storage.job_changes.furnish(transaction, [(job, JsonText("{}"), [("exposure", exposure, "a" * 64)], seen)])
        with pytest.raises(InUseError):
            storage.exposures.delete(owner, exposure)
        with storage.database.write() as transaction:
            storage.job_changes.compare_and_set(transaction, job.id, {"phase": Phase.COMPLETED}, phase=Phase.QUEUED)
        storage.exposures.delete(owner, exposure)
        with pytest.raises(NotFoundError):
            storage.exposures.delete(owner, exposure)

    def test_a_strangers_exposure_does_not_exist(self, storage: Storage, owner: Scope) -> None:
        exposure = self.add(storage, owner)
        assert storage.exposures.get(STRANGER, exposure) is None
        assert storage.exposures.get(Scope.everything(), exposure) is not None
        with pytest.raises(NotFoundError):
            storage.exposures.delete(STRANGER, exposure)


class TestRefcats:
    def test_put_get_replace_delete(self, storage: Storage, owner: Scope) -> None:
        first, created = storage.refcats.put(owner, name="gaia", sha256="a" * 64, rows=3, info={"bands": ["g"]})
        assert created
        second, created = storage.refcats.put(owner, name="gaia", sha256="b" * 64, rows=4, info={})
        assert not created
        assert (second.id, second.sha256, second.rows) == (first.id, "b" * 64, 4)
        assert storage.refcats.get(STRANGER, "gaia") is None
        assert [record.name for record in storage.refcats.list(owner)] == ["gaia"]
        storage.refcats.delete(owner, "gaia")
        assert storage.refcats.get(owner, "gaia") is None
        with pytest.raises(NotFoundError):
            storage.refcats.delete(owner, "gaia")


class TestJobs:
    def test_compare_and_set_changes_only_what_is_as_expected(self, storage: Storage, owner: Scope) -> None:
        job = make_job(storage, owner)
        changes = storage.job_changes

        def attempt(changed: dict[str, object], **expected: object) -> JobRecord | None:
            with storage.database.write() as transaction:
                return changes.compare_and_set(transaction, job.id, changed, **expected)  # type: ignore[arg-type]

        assert attempt({"priority": 1}, phase=Phase.EXECUTING) is None
        assert attempt({"priority": 1}, phase=Phase.QUEUED, attempt=1) is None
        assert attempt({"priority": 1}, phase=Phase.QUEUED, worker="w") is None
        assert attempt({"priority": 1}, phase=Phase.QUEUED, cancel_requested=True) is None
        assert attempt({"priority": 1}, phase=Phase.QUEUED, lease_before=utc_now()) is None
        assert storage.jobs.get(owner, job.id) == job
        after = attempt({"priority": 1}, phase=Phase.QUEUED, attempt=0)
        assert after is not None
        assert (after.priority, after.version) == (1, job.version + 1)
        hidden = attempt({"priority": 2}, phase=Phase.QUEUED, visible_change=False)
        assert hidden is not None
        assert (hidden.version, hidden.updated_at) == (after.version, after.updated_at)

    def test_list_filters(self, storage: Storage, owner: Scope) -> None:
        queued = make_job(storage, owner, run_id="night")
        done = make_job(storage, owner, phase=Phase.COMPLETED)
        archived = make_job(storage, owner, phase=Phase.ARCHIVED)
        make_job(storage, STRANGER)

        def ids(**filters: object) -> list[str]:
            return [job.id for job in storage.jobs.list(owner, **filters).items]  # type: ignore[arg-type]

        assert ids() == sorted([queued.id, done.id], reverse=True)
        assert ids(phases=[Phase.ARCHIVED]) == [archived.id]
        assert ids(run_id="night") == [queued.id]
        assert storage.jobs.count(owner) == 2
        assert storage.jobs.count(Scope.everything(), [Phase.QUEUED]) == 2

    def test_deleted_job_takes_all_with_it(self, storage: Storage, owner: Scope, tmp_path: Path) -> None:
        job = make_job(storage, owner)
        pq.write_table(pa.table({"id": [1, 2]}), tmp_path / "stars.parquet")
        add_product(storage, job, STARS, tmp_path / "stars.parquet", 2)
        with storage.database.write() as transaction:
            storage.job_changes.set_document(transaction, job, "config", {"a": 1})
            storage.job_changes.add_events(transaction, job, [("phase", {})])
            storage.summaries.insert(transaction, job, {}, {})
        with storage.database.write() as transaction:
            assert not storage.job_changes.delete(transaction, STRANGER, job.id)
            assert storage.job_changes.delete(transaction, owner, job.id)
        with storage.database.read() as transaction:
            for table in ("jobs", "job_documents", "job_events", "products", "stars", "summaries"):
                count = transaction.connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()
                assert (table, count) == (table, 0)

    def test_events_are_numbered_and_never_reuse_a_number(self, storage: Storage, owner: Scope) -> None:
        first, second = make_job(storage, owner), make_job(storage, owner)
        with storage.database.write() as transaction:
            storage.job_changes.add_events(
                transaction, first, [("phase", {"phase": "QUEUED"}), ("stage", {"x": np.nan})]
            )
            storage.job_changes.add_events(transaction, second, [("phase", {})])
        events = storage.jobs.events(owner, job_id=first.id)
        assert [(event.kind, event.data) for event in events] == [
            ("phase", {"phase": "QUEUED"}),
            ("stage", {"x": None}),
        ]
        assert storage.jobs.events(owner, after=events[-1].seq)[0].job_id == second.id
        assert storage.jobs.events(STRANGER) == []
        last = storage.jobs.events(owner)[-1].seq
        with storage.database.write() as transaction:
            storage.job_changes.delete(transaction, owner, second.id)
            storage.job_changes.add_events(transaction, first, [("phase", {})])
        assert storage.jobs.events(owner)[-1].seq > last

    def test_only_a_finished_job_with_results_is_found_again(self, storage: Storage, owner: Scope) -> None:
        def found() -> JobRecord | None:
            with storage.database.write() as transaction:
                assert storage.job_changes.find_finished(transaction, STRANGER, "b" * 64) is None
                return storage.job_changes.find_finished(transaction, owner, "b" * 64)

        for phase in set(Phase) - {Phase.COMPLETED}:
            make_job(storage, owner, dedup_key="b" * 64, phase=phase)
        past = utc_now() - timedelta(seconds=1)
        make_job(storage, owner, dedup_key="b" * 64, phase=Phase.COMPLETED, destruction_at=past)
        assert found() is None
        job = make_job(storage, owner, dedup_key="b" * 64, phase=Phase.COMPLETED)
        assert found() == job
        soon = utc_now() + timedelta(hours=1)
        newer = make_job(storage, owner, dedup_key="b" * 64, phase=Phase.COMPLETED, destruction_at=soon)
        assert found() == newer


class TestCatalogs:
    def test_every_value_of_every_column_comes_back(self, storage: Storage, owner: Scope, tmp_path: Path) -> None:
        columns, path = random_stars(2500), tmp_path / "stars.parquet"
        pq.write_table(pa.table(columns), path)
        job = make_job(storage, owner)
        make_job(storage, owner)
        add_product(storage, job, STARS, path, 2500)
        seen, after = [], None
        while True:
            page = storage.catalogs.page(job, STARS, after=after, limit=700)
            assert page is not None
            assert page.total == 2500
            seen += page.rows
            if (after := page.next) is None:
                break
        assert [column.name for column in page.columns] == star_schema().names
        for i, (name, expected) in enumerate(columns.items()):
            values = [row[i] for row in seen]
            if expected.dtype.kind == "f":
                assert [value is None for value in values] == np.isnan(expected).tolist(), name
                found = np.array([np.nan if value is None else value for value in values], expected.dtype)
                np.testing.assert_array_equal(found, expected, name)
            else:
                assert values == expected.tolist(), name

    def test_columns_by_name_and_alias(self, storage: Storage, owner: Scope, tmp_path: Path) -> None:
        columns, path = random_stars(3), tmp_path / "stars.parquet"
        columns["base_SdssCentroid_x"] = np.array([1.5, np.nan, np.inf])
        pq.write_table(pa.table(columns), path)
        job = make_job(storage, owner)
        add_product(storage, job, STARS, path, 3)
        page = storage.catalogs.page(job, STARS, columns=["slot_Centroid_x", "id"])
        assert page is not None
        assert [(column.name, column.unit) for column in page.columns] == [("slot_Centroid_x", "pix"), ("id", "")]
        assert page.rows == [(x, i) for x, i in zip([1.5, None, None], columns["id"].tolist(), strict=True)]
        with pytest.raises(KeyError, match="nonsense"):
            storage.catalogs.page(job, STARS, columns=["nonsense"])
        with pytest.raises(ValueError, match="x"):
            storage.catalogs.page(job, STARS, after="x")
        for cursor in ("-1", "+1", "1_0", "\u0661", "9" * 40):
            with pytest.raises(ValueError, match="not a cursor"):
                storage.catalogs.page(job, STARS, after=cursor)

    def test_partial_file_leaves_nulls(self, storage: Storage, owner: Scope, tmp_path: Path) -> None:
        pq.write_table(pa.table({"id": [5], "unheard_of": [1.0]}), tmp_path / "stars.parquet")
        job = make_job(storage, owner)
        add_product(storage, job, STARS, tmp_path / "stars.parquet", 1)
        page = storage.catalogs.page(job, STARS, columns=["id", "parent"])
        assert page is not None
        assert page.rows == [(5, None)]

    def test_matches_are_paged_from_their_file(self, storage: Storage, owner: Scope, tmp_path: Path) -> None:
        product, path = "initial_astrometry_match_detector", tmp_path / "matches.parquet"
        pq.write_table(pa.table({"ref_id": np.arange(10), "distance": np.where(np.arange(10) == 4, np.nan, 0.5)}), path)
        job = make_job(storage, owner)
        add_product(storage, job, product, path, 10)
        page = storage.catalogs.page(job, product, columns=["distance", "ref_id"], after="2", limit=3)
        assert page is not None
        assert page.rows == [(0.5, 3), (None, 4), (0.5, 5)]
        assert page.next == "5"
        columns = storage.catalogs.columns(job, product)
        assert columns is not None
        assert [(column.name, column.dtype) for column in columns] == [("ref_id", "i8"), ("distance", "f8")]
        assert storage.catalogs.page(job, STARS) is None
        assert storage.catalogs.columns(job, STARS) is None


class TestSummaries:
    def test_typed_row(self, storage: Storage, owner: Scope) -> None:
        stats = ExposureSummaryStats(psfSigma=2.5, nPsfStar=9, ra=10.125)
        stats.raCorners = [1.0, 2.0, float("nan"), 4.0]
        job = make_job(storage, owner)
        when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        with storage.database.write() as transaction:
            storage.summaries.insert(
                transaction, job, stats.as_dict(), {"instrument": "cam", "visit": 7, "observed_at": when}
            )
        row = storage.summaries.get(job)
        assert row == stats.as_dict()
        assert list(row) == [field.name for field in summary_fields()]
        with storage.database.write() as transaction, pytest.raises(KeyError, match="nonsense"):
            storage.summaries.insert(transaction, job, {"nonsense": 1.0}, {})

    def test_across_jobs(self, storage: Storage, owner: Scope) -> None:
        jobs = []
        for i, band in enumerate("rrg"):
            job = make_job(storage, owner)
            jobs.append(job)
            with storage.database.write() as transaction:
                storage.summaries.insert(transaction, job, {"psfSigma": float(i)}, {"instrument": "cam", "band": band})
        found = storage.summaries.list(owner, band="r", fields=["psfSigma"])
        assert {item["job_id"]: item["psfSigma"] for item in found.items} == {jobs[0].id: 0.0, jobs[1].id: 1.0}
        assert "meanVar" not in found.items[0]
        assert storage.summaries.list(STRANGER).items == ()
        assert storage.summaries.list(owner, since=utc_now() + timedelta(hours=1)).items == ()
        with pytest.raises(KeyError, match="owner"):
            storage.summaries.list(owner, fields=["owner"])

    def test_newest_of_a_visit(self, storage: Storage, owner: Scope) -> None:
        def publish(detector: int | None, psf_sigma: float, who: Scope = owner, **identity: object) -> str:
            job = make_job(storage, who, run_id=identity.pop("run_id", None))
            with storage.database.write() as transaction:
                what = {"instrument": "cam", "visit": 7, "detector": detector} | identity
                storage.summaries.insert(transaction, job, {"psfSigma": psf_sigma}, what)
            return job.id

        publish(3, 1.0, run_id="first")
        publish(1, 2.0, bbox_min_x=4, bbox_max_x=103, dark_time=float("nan"), sky_rotation=12.5)
        newer = publish(3, 3.0, run_id="second")
        publish(3, 4.0, visit=8)
        publish(2, 5.0, who=STRANGER)
        publish(3, 6.0, instrument="other")
        rows = storage.summaries.newest_of_visit(owner, 7, instrument="cam")
        assert [(row["detector"], row["psfSigma"]) for row in rows] == [(1, 2.0), (3, 3.0)]
        assert (rows[1]["job_id"], rows[1]["run_id"], rows[1]["phase"]) == (newer, "second", Phase.QUEUED)
        frame = [rows[0][name] for name in ("bbox_min_x", "bbox_max_x", "bbox_min_y", "dark_time", "sky_rotation")]
        assert frame == [4, 103, None, None, 12.5]
        (older,) = storage.summaries.newest_of_visit(owner, 7, run_id="first")
        assert older["psfSigma"] == 1.0
        assert {row["instrument"] for row in storage.summaries.newest_of_visit(owner, 7)} == {"cam", "other"}
        assert [row["detector"] for row in storage.summaries.newest_of_visit(STRANGER, 7)] == [2]
        assert storage.summaries.newest_of_visit(owner, 9) == ()
