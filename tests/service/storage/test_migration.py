from __future__ import annotations

import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from service.settings import Settings
from service.storage import Storage
from service.storage.errors import StorageUnavailableError
from service.storage.migration import current_revision, head_revision, migrate
from service.storage.tables import metadata


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
