"""Uploads that may be interrupted: begun, continued where they stopped, and made exposures when they are whole.

The bytes lie on the disk of the host that began the upload, and their number there is the offset. Where hosts share the
data directory each of them can go on with it.
"""

from __future__ import annotations

import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from service.jobs.registration import label, register_exposures
from service.storage.errors import BlobLostError, NotFoundError
from service.storage.records import Scope

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from service.settings import Settings
    from service.storage import Storage
    from service.storage.blobs import PartialFile
    from service.storage.records import ExposureRecord
    from service.storage.repositories.uploads import UploadRecord

__all__ = ["UploadElsewhereError", "UploadEndedError", "Uploads", "clear_partial_files"]

_HOUR = 3600.0
_ORPHAN_SECONDS = 60.0
_ORPHANS_LOOKED_AT = 500


class UploadElsewhereError(Exception):
    """Another host has the bytes of this upload.

    Parameters
    ----------
    upload_id : str
        The upload.
    """

    def __init__(self, upload_id: str) -> None:
        super().__init__(f"the bytes of upload {upload_id} are on another host of this service")
        self.upload_id = upload_id


class UploadEndedError(Exception):
    """No more bytes are taken: it is an exposure, has failed, or is fetched by the service itself.

    Parameters
    ----------
    upload : UploadRecord
        As it is.
    """

    def __init__(self, upload: UploadRecord) -> None:
        super().__init__(f"upload {upload.id} is {upload.phase}")
        self.upload = upload


class Uploads:
    """The uploads that this process takes.

    Parameters
    ----------
    storage : Storage
        Rows and files.
    settings : Settings
        Limits.
    """

    def __init__(self, storage: Storage, settings: Settings) -> None:
        self._storage = storage
        self._settings = settings
        self._host = socket.gethostname()
        self._clear_at = 0.0

    @property
    def life(self) -> float:
        """Seconds for which an upload is kept after its last byte, and for which its end can be read."""
        return self._settings.upload_hours * _HOUR

    def to_come(self) -> int:
        """Bytes that were promised to this host and have not come yet."""
        return self._storage.uploads.to_come(self._host)

    def begin(
        self,
        owner: Scope,
        *,
        filename: str | None = None,
        sha256: str | None = None,
        size: int | None = None,
        source: str | None = None,
    ) -> UploadRecord:
        """Begin an upload; with a source, the service fetches it.

        Raises
        ------
        TooManyError
            The owner has too many that are not finished.
        """
        if time.monotonic() >= self._clear_at:
            self._clear_at = time.monotonic() + self._settings.sweep
            clear_partial_files(self._storage)
        return self._storage.uploads.add(
            owner,
            host=self._host,
            life=self.life,
            limit=self._settings.max_owner_uploads,
            filename=label(filename),
            sha256=sha256,
            size=size,
            source=source,
        )

    def find(self, owner: Scope, upload_id: str) -> UploadRecord:
        """An upload of the asker.

        Raises
        ------
        NotFoundError
            There is none, any more, or of theirs.
        """
        upload = self._storage.uploads.get(owner, upload_id)
        if upload is None:
            raise NotFoundError("upload", upload_id)
        return upload

    def offset(self, upload: UploadRecord) -> int:
        """How many of an upload's bytes are there.

        Raises
        ------
        UploadElsewhereError
            Only another host knows.
        """
        if not upload.is_open or upload.source is not None:
            return upload.received
        size = self._storage.blobs.partial.size(upload.id)
        if size is None and upload.host != self._host:
            raise UploadElsewhereError(upload.id)
        return size or 0

    @contextmanager
    def opened(self, upload: UploadRecord) -> Iterator[PartialFile]:
        """The file of an upload, for one writer alone; how far it got is noted at the end.

        Raises
        ------
        UploadEndedError, UploadElsewhereError
            It takes no bytes, or not here.
        BusyError
            Another request is sending.
        NotFoundError
            It was given up meanwhile.
        """
        if not upload.is_open or upload.source is not None:
            raise UploadEndedError(upload)
        self.offset(upload)
        with self._storage.blobs.partial.open(upload.id, create=True) as partial:
            before = partial.size
            try:
                yield partial
            finally:
                if partial.size != before:
                    self._note(upload, partial.size)  # not where it has ended, or was given up meanwhile

    def complete(self, upload: UploadRecord, partial: PartialFile) -> tuple[ExposureRecord, bool]:
        """Make a whole file an exposure; whether it is new.

        Raises
        ------
        UnreadableExposureError, DigestMismatchError
            It cannot be one; the upload is over.
        NotFoundError
            The upload was given up meanwhile.
        """
        # From here on no byte may be added, also after a crash: what is stored is this very file.
        if not self._note(upload, partial.size, size=partial.size):
            raise NotFoundError("upload", upload.id)
        try:
            [(exposure, created)] = self._register(upload, partial)
        except BlobLostError:  # a sweep took an older file of the same bytes just then: they are still here
            [(exposure, created)] = self._register(upload, partial)
        self._storage.uploads.complete(upload, exposure.id, partial.size, life=self.life)
        self._storage.blobs.partial.remove(upload.id)
        return exposure, created

    def _register(self, upload: UploadRecord, partial: PartialFile) -> list[tuple[ExposureRecord, bool]]:
        files = [(partial, upload.filename)]
        return register_exposures(self._storage, self._settings, Scope(upload.owner), files, upload.sha256)

    def fail(self, upload: UploadRecord, error: Mapping[str, Any]) -> None:
        """Note why there will be no exposure, and drop the bytes."""
        self._storage.uploads.fail(upload, error, life=self.life)
        self._storage.blobs.partial.remove(upload.id)

    def give_up(self, owner: Scope, upload_id: str) -> None:
        """Forget an upload at its owner's wish; what became of it stays.

        Raises
        ------
        NotFoundError
            There is none.
        """
        if not self._storage.uploads.delete(owner, upload_id):
            raise NotFoundError("upload", upload_id)
        self._storage.blobs.partial.remove(upload_id)

    def _note(self, upload: UploadRecord, count: int, *, size: int | None = None) -> bool:
        """Note how many bytes there are; False where no more are wanted."""
        wanted = self._storage.uploads.received(upload.id, count, life=self.life, size=size)
        if not wanted:
            self._storage.blobs.partial.remove(upload.id)
        return wanted


def clear_partial_files(storage: Storage) -> int:
    """Remove files of this host whose uploads are over; how many."""
    partial = storage.blobs.partial
    names = partial.names(time.time() - _ORPHAN_SECONDS)
    removed = 0
    for start in range(0, len(names), _ORPHANS_LOOKED_AT):
        some = names[start : start + _ORPHANS_LOOKED_AT]
        for name in set(some) - storage.uploads.known(some):
            partial.remove(name)
            removed += 1
    return removed
