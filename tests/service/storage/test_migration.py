from __future__ import annotations

import threading
from datetime import UTC, date, datetime
from typing import Any

import hpgeom
import numpy as np
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from service.exposure.sky_region import INDEX_COLUMN
from service.settings import Settings
from service.storage import Storage, migration
from service.storage.database import Database
from service.storage.errors import StorageUnavailableError
from service.storage.migration import current_revision, head_revision, migrate
from service.storage.records import Scope, utc_now
from service.storage.tables import exposures, jobs, metadata, stars


def test_models_and_migration_head_agree(storage: Storage) -> None:
    assert current_revision(storage.database) == head_revision()
    with storage.database.read() as transaction:
        connection = transaction.connection
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_several_processes_may_migrate_at_once(settings: Settings) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            migrate(settings)
        except BaseException as error:  # noqa: BLE001 - of any thread, told by the assertion
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_check_tells_an_old_database(settings: Settings) -> None:
    migrate(settings)
    storage = Storage(settings)
    storage.check()
    with storage.database.write() as transaction:
        transaction.connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    with pytest.raises(StorageUnavailableError, match="0000"):
        storage.check()
    with storage.database.write() as transaction:
        transaction.connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{head_revision()}'")
    storage.close()


def test_stars_of_earlier_jobs_get_their_place(settings: Settings) -> None:
    """A database of revision 0002 with two stars, a parent, and one without a position."""
    config = migration._config()
    database = Database(settings.jobs_url)
    with database.write() as transaction:
        config.attributes["connection"] = transaction.connection
        _empty(transaction.connection)
        command.upgrade(config, "0002")
        _insert(transaction.connection, jobs, _old_job("job_1"))
        pk = transaction.connection.execute(sa.select(jobs.c.pk)).scalar_one()
        names = ("job_pk", "row_index", "coord_ra", "coord_dec", "detect_isPrimary")
        rows = sa.table("stars", *(sa.column(name) for name in names))
        spots = [(0, 1.0, 0.5, True), (1, 2.0, -0.5, True), (2, 2.0, -0.5, False), (3, None, None, True)]
        for number, ra, dec, primary in spots:
            values = dict(zip(names, (pk, number, ra, dec, primary), strict=True))
            transaction.connection.execute(sa.insert(rows), values)
    database.close()
    migrate(settings)
    storage = Storage(settings)
    with storage.database.read() as transaction:
        query = sa.select(stars.c.owner, stars.c[INDEX_COLUMN]).order_by(stars.c.row_index)
        found = [tuple(row) for row in transaction.connection.execute(query)]
    storage.close()
    pixels = hpgeom.angle_to_pixel(1 << 29, np.degrees([1.0, 2.0]), np.degrees([0.5, -0.5])).tolist()
    assert found == [("ada", pixels[0]), ("ada", pixels[1]), (None, None), (None, None)]


def test_earlier_jobs_get_their_night(settings: Settings) -> None:
    """A database of revision 0002 with a job whose exposure knows its time, and one that knows nothing."""
    config = migration._config()
    database = Database(settings.jobs_url)
    moment = datetime(2026, 11, 20, 13, 0, tzinfo=UTC)
    with database.write() as transaction:
        config.attributes["connection"] = transaction.connection
        _empty(transaction.connection)
        command.upgrade(config, "0002")
        values = {"mjd": 61366.1, "longitude": -70.7, "band": "r", "target": "M31", "unit": "electron/s"}
        exposure = {"id": "exp_1", "owner": "ada", "sha256": "0" * 64, "size": 1, "format": "plain"}
        exposure |= {"metadata": {"values": values}, "created_at": moment}
        _insert(transaction.connection, exposures, exposure)
        spec = {"exposures": [{"id": "exp_1"}], "metadata": {"band": "g", "target": None}}
        for number, asked in enumerate((spec, {"exposures": [{"id": "exp_gone"}], "metadata": {}})):
            job = _old_job(f"job_{number}") | {"spec": asked, "created_at": moment}
            _insert(transaction.connection, jobs, job)
    database.close()
    migrate(settings)
    storage = Storage(settings)
    found = storage.nights.jobs(Scope("ada"), date(2026, 11, 21)), storage.nights.jobs(Scope("ada"), date(2026, 11, 20))
    storage.close()
    [known], [unknown] = found
    names = ("id", "exposure_id", "band", "target", "is_rate")
    assert tuple(known[name] for name in names) == ("job_0", "exp_1", "g", "M31", True)
    assert known["observed_at"] == datetime(2026, 11, 22, 2, 23, 23, tzinfo=UTC)  # TAI is 37 s ahead
    assert tuple(unknown[name] for name in names) == ("job_1", "exp_gone", None, None, False)
    assert unknown["observed_at"] is None


def _old_job(job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = dict.fromkeys(("dedup_key", "stage"), "x")
    job |= {"id": job_id, "owner": "ada", "phase": "COMPLETED"}
    numbers = ("progress", "version", "priority", "attempt", "sent_attempt", "losses", "max_attempts")
    job |= dict.fromkeys((*numbers, "time_limit", "memory_limit_bytes"), 1)
    return job | {
        "cancel_requested": False,
        "spec": {},
        "warnings": [],
        "created_at": utc_now(),
        "updated_at": utc_now(),
    }


def _insert(connection: sa.Connection, table: sa.Table, row: dict[str, Any]) -> None:
    """A row of the columns that there were then."""
    columns = (sa.column(name, table.c[name].type) for name in row)
    connection.execute(sa.insert(sa.table(table.name, *columns)), row)


def _empty(connection: sa.Connection) -> None:
    """The server's database is that of other tests too: begin without tables."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
