"""Fetches the files that owners have named. Any number of fetchers may run, on any number of hosts."""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from typing import TYPE_CHECKING

from service import formats
from service.jobs.disk import SPARE_BYTES
from service.jobs.errors import UnreadableExposureError
from service.jobs.leased_work import LeasedWork
from service.jobs.limits import Quotas
from service.jobs.registration import register_exposures
from service.jobs.source_bucket import fetch_object
from service.jobs.source_request import FetchLimits, fetch_url
from service.jobs.sources import SourceError, bucket_object, is_bucket
from service.jobs.web_target import WebPolicy
from service.storage.errors import DigestMismatchError, StorageUnavailableError, TooLargeError
from service.storage.records import Scope

if TYPE_CHECKING:
    from service.settings import Settings
    from service.storage import Storage
    from service.storage.blobs import BlobWriter
    from service.storage.repositories.uploads import UploadRecord

__all__ = ["SourceFetcher"]

logger = logging.getLogger(__name__)

_SNIFF_BYTES = 2880
_BEAT_SECONDS = 2.0
_LONGEST_LOOK_UP = 60.0
_STORE_SECONDS = 900.0  # to look at a whole file, and to send it to a bucket
_PAUSE_FACTOR = 3.0
_NO_ROOM = "The disk of the service has no room."


class _GivenUp(Exception):
    """Nobody wants it any more, or another fetcher has it."""


class _Stopped(Exception):
    """The process is to end."""


class SourceFetcher(LeasedWork):
    """Threads that take files which are due, fetch them and make them exposures.

    Parameters
    ----------
    storage : Storage
        Has the list, and takes the files.
    settings : Settings
        Number of threads, limits, what is allowed.
    """

    def __init__(self, storage: Storage, settings: Settings) -> None:
        super().__init__("sources", threads=settings.source_threads, poll=settings.source_poll, patience=_BEAT_SECONDS)
        self._storage = storage
        self._settings = settings
        self._policy = WebPolicy.of_sources(settings)
        self._limits = FetchLimits(
            silence=settings.source_silence,
            deadline=settings.source_deadline,
            min_rate=settings.min_upload_rate,
            redirects=settings.source_redirects,
        )
        self._lease = settings.source_silence + _LONGEST_LOOK_UP
        self._host = socket.gethostname()
        self._held: dict[str, UploadRecord] = {}

    def stop(self) -> None:
        """End; what is being fetched is given back, also by threads that wait for a host."""
        super().stop()
        for upload_id in list(self._held):
            try:
                self._give_back(upload_id)
            except StorageUnavailableError as error:
                logger.warning("fetch %s is left to the end of its lease: %s", upload_id, error)

    def step(self) -> bool:
        """Fetch the file that is longest due; whether there was one."""
        upload = self._storage.uploads.take(self._lease, host=self._host, per_owner=self._settings.source_per_owner)
        if upload is None:
            return False
        self._held[upload.id] = upload
        try:
            self._fetch(upload)
        except _GivenUp:
            logger.info("fetch %s was given up", upload.id)
        except _Stopped:
            self._give_back(upload.id)
        except SourceError as error:
            self._settle(upload, error)
        except StorageUnavailableError:
            raise  # nothing can be noted: it is taken again when the lease is over
        except Exception:
            logger.exception("fetch %s", upload.id)
            self._settle(upload, SourceError("source.failed", "The service met an error that it does not know."))
        finally:
            self._held.pop(upload.id, None)
        return True

    def _give_back(self, upload_id: str) -> None:
        """Once: the thread that stops and `stop` itself may both want to, and then it may be another's already."""
        upload = self._held.pop(upload_id, None)
        if upload is not None:
            self._storage.uploads.give_back(upload)

    def _fetch(self, upload: UploadRecord) -> None:
        if upload.attempts > self._settings.source_attempts:
            raise SourceError("source.interrupted", "The process that fetched it died at every attempt.")
        assert upload.source is not None  # noqa: S101 - only those are taken
        with self._storage.blobs.writer(max_bytes=self._settings.max_upload_bytes) as writer:
            sink = _Sink(self._storage, self._settings, upload, writer, self._lease, self._stopping)
            try:
                if is_bucket(upload.source):
                    fetch_object(bucket_object(self._settings, upload.owner, upload.source), sink, self._limits)
                else:
                    fetch_url(upload.source, sink, self._policy, self._limits)
                sink.finish()
                self._register(upload, writer)
            except TooLargeError as error:
                raise SourceError("upload.too_large", f"More than {error.limit} bytes came.") from error
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise SourceError("storage.full", _NO_ROOM, passes=True) from error

    def _register(self, upload: UploadRecord, writer: BlobWriter) -> None:
        try:
            [(exposure, _)] = register_exposures(
                self._storage, self._settings, Scope(upload.owner), [(writer, upload.filename)], upload.sha256
            )
        except DigestMismatchError as error:
            raise SourceError("upload.digest_mismatch", f"The bytes have SHA-256 {error.actual}.") from error
        except UnreadableExposureError as error:
            raise SourceError("exposure.unreadable", str(error)) from error
        except StorageUnavailableError as error:
            raise SourceError(
                "storage.unavailable", "The store of the service does not answer.", passes=True
            ) from error
        self._storage.uploads.complete(upload, exposure.id, writer.size, life=self._life)
        logger.info("fetch %s: exposure %s, %d bytes", upload.id, exposure.id, writer.size)

    @property
    def _life(self) -> float:
        return self._settings.upload_hours * 3600.0

    def _settle(self, upload: UploadRecord, error: SourceError) -> None:
        """Try again later what may pass, end the rest."""
        fault = {"code": error.code, "message": str(error)}
        logger.warning("fetch %s, attempt %d: %s", upload.id, upload.attempts, error.code)
        if error.passes and upload.attempts < self._settings.source_attempts:
            pause = self._settings.source_pause * _PAUSE_FACTOR ** (upload.attempts - 1)
            self._storage.uploads.postpone(upload, fault, pause)
        else:
            self._storage.uploads.fail(upload, fault, life=self._life)


class _Sink:
    """Writes a file that is fetched, looks at its beginning and its size, and tells how far it is."""

    def __init__(
        self,
        storage: Storage,
        settings: Settings,
        upload: UploadRecord,
        writer: BlobWriter,
        lease: float,
        stopping: threading.Event,
    ) -> None:
        self._storage, self._settings = storage, settings
        self._upload, self._writer = upload, writer
        self._lease, self._stopping = lease, stopping
        self._room = self._find_room(upload.size or 0)  # what an attempt before has announced
        self._size = upload.size
        self._next_beat = 0.0
        self._looked_at = False

    def begin(self, length: int | None) -> None:
        """Refuse what there is no room for."""
        announced = length or 0
        self._size = length or self._size
        self._check(announced)
        if self._storage.blobs.free_bytes() < announced + SPARE_BYTES:
            raise SourceError("storage.full", _NO_ROOM, passes=True)
        self._beat(self._lease, size=length)
        self._check(announced)

    def write(self, data: bytes) -> None:
        """Take some bytes."""
        if self._stopping.is_set():
            raise _Stopped
        self._check(self._writer.size + len(data))
        self._writer.write(data)
        if not self._looked_at and self._writer.size >= _SNIFF_BYTES:
            self._look()
        if time.monotonic() >= self._next_beat:
            self._beat(self._lease)

    def finish(self) -> None:
        """All bytes are there."""
        if self._writer.size == 0:
            raise SourceError("upload.empty", "The file has no bytes.")
        if not self._looked_at:
            self._look()
        self._beat(_STORE_SECONDS)
        self._check(self._writer.size)

    def _find_room(self, own: int) -> int | None:
        """Bytes that the file may have; ``own`` of them are counted as its already."""
        return Quotas(self._storage, self._settings).room(self._upload.owner, own)

    def _check(self, size: int) -> None:
        if size > self._settings.max_upload_bytes:
            raise TooLargeError(self._settings.max_upload_bytes)
        if self._room is not None and size > self._room:
            raise SourceError("quota.exceeded", f"Exposures and products may take {self._room} bytes more.")

    def _look(self) -> None:
        self._looked_at = True
        if not formats.sniff_is_fits(self._writer.head[:_SNIFF_BYTES]):
            raise SourceError("upload.not_fits", "The file does not begin as a FITS file does, plain or compressed.")

    def _beat(self, lease: float, *, size: int | None = None) -> None:
        self._next_beat = time.monotonic() + _BEAT_SECONDS
        if not self._storage.uploads.beat(self._upload, self._writer.size, lease, size=size):
            raise _GivenUp
        # The room is shared with others that come now, as large as they turn out to be.
        self._room = self._find_room(self._size or self._writer.size)
