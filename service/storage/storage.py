"""All that the service keeps, behind one object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.storage.blobs import BlobStore, open_blobs
from service.storage.database import Database
from service.storage.errors import StorageUnavailableError
from service.storage.migration import current_revision, head_revision
from service.storage.repositories.batches import BatchRepository
from service.storage.repositories.blob_references import BlobReferences
from service.storage.repositories.catalogs import CatalogRepository
from service.storage.repositories.costs import CostRepository
from service.storage.repositories.event_feed import EventFeed
from service.storage.repositories.exposures import ExposureRepository
from service.storage.repositories.idempotency import IdempotencyRepository
from service.storage.repositories.job_changes import JobChanges
from service.storage.repositories.jobs import JobRepository
from service.storage.repositories.nights import NightRepository
from service.storage.repositories.operations import OperationsRepository
from service.storage.repositories.refcats import RefcatRepository
from service.storage.repositories.retention import RetentionRepository
from service.storage.repositories.stars import StarRepository
from service.storage.repositories.summaries import SummaryRepository
from service.storage.repositories.tokens import TokenRepository
from service.storage.repositories.turns import TurnRepository
from service.storage.repositories.uploads import UploadRepository
from service.storage.repositories.usage import UsageRepository
from service.storage.repositories.webhooks import WebhookRepository

if TYPE_CHECKING:
    from service.settings import Settings

__all__ = ["Storage"]


class Storage:
    """The database, the blobs and the repositories over them.

    Parameters
    ----------
    settings : Settings
        Where they are. The tables must exist: see `service.storage.migration.migrate`.
    patience : float
        How long a writer waits for others where the database is a file [s].
    """

    def __init__(self, settings: Settings, patience: float = 30.0) -> None:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        self.database = Database(settings.jobs_url, patience)
        self.blobs: BlobStore = open_blobs(settings)
        self.blob_references = BlobReferences(self.database, self.blobs)
        self.exposures = ExposureRepository(self.database, self.blob_references)
        self.refcats = RefcatRepository(self.database)
        self.jobs = JobRepository(self.database)
        self.job_changes = JobChanges(self.database)
        self.event_feed = EventFeed(self.database)
        self.catalogs = CatalogRepository(self.database, self.blobs)
        self.stars = StarRepository(self.database)
        self.summaries = SummaryRepository(self.database)
        self.nights = NightRepository(self.database)
        self.batches = BatchRepository(self.database)
        self.retention = RetentionRepository(self.database)
        self.idempotency = IdempotencyRepository(self.database)
        self.tokens = TokenRepository(self.database)
        self.turns = TurnRepository(self.database)
        self.uploads = UploadRepository(self.database)
        self.usage = UsageRepository(self.database)
        self.costs = CostRepository(self.database)
        self.webhooks = WebhookRepository(self.database)
        self.operations = OperationsRepository(self.database)

    def check(self) -> None:
        """Make sure that the database answers and has the tables of this code.

        Raises
        ------
        StorageUnavailableError
            It does not.
        """
        current, head = current_revision(self.database), head_revision()
        if current != head:
            raise StorageUnavailableError(f"the database is at revision {current}, this code needs {head}")

    def close(self) -> None:
        """Close all connections."""
        self.database.close()
