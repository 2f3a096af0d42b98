"""Blobs in a directory tree."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from service.storage.blobs.partial import PartialFiles
from service.storage.blobs.port import BlobInfo, checked_digest, is_digest
from service.storage.blobs.reader import FileReader
from service.storage.blobs.writer import BlobWriter, put_stream, synced_reference
from service.storage.errors import NotFoundError, StorageUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from service.storage.records import BlobRef

__all__ = ["LocalBlobStore"]


class LocalBlobStore:
    """Blobs in a directory tree of a local or shared file system.

    Parameters
    ----------
    root : Path
        Directory of the store; made where it does not exist.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._incoming = self.root / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        self.partial = PartialFiles(self.root / "partial", self)

    def writer(self, *, max_bytes: int | None = None) -> BlobWriter:
        """A file to write into; use as a context manager."""
        return BlobWriter(self, max_bytes)

    def put_stream(
        self, chunks: Iterable[bytes], *, max_bytes: int | None = None, expected_sha256: str | None = None
    ) -> BlobRef:
        """Store a stream of bytes.

        Raises
        ------
        TooLargeError, DigestMismatchError
            Nothing is stored then.
        """
        return put_stream(self, chunks, max_bytes=max_bytes, expected_sha256=expected_sha256)

    def put_file(self, path: Path, *, link: bool = False, sha256: str | None = None) -> BlobRef:
        """Store a file.

        Parameters
        ----------
        path : Path
            The file, which stays where it is.
        link : bool
            The file is complete and will not be changed again: where the file system allows, share its bytes instead of
            copying them.
        sha256 : str, optional
            Digest of the file, hex, of one who is trusted to know: it is not made again.

        Raises
        ------
        OSError
            It cannot be read, or the disk is full.
        """
        temporary = self.temporary_path()
        try:
            if link and path.stat().st_dev == self._incoming.stat().st_dev:
                os.link(path, temporary)
            else:
                shutil.copyfile(path, temporary)
            reference = synced_reference(temporary, sha256)
            self.adopt(temporary, reference.sha256)
        finally:
            temporary.unlink(missing_ok=True)
        return reference

    def path(self, sha256: str) -> Path:
        """Path of a stored file.

        Raises
        ------
        NotFoundError
            No such file.
        """
        path = self._name(sha256)
        if not path.is_file():
            raise NotFoundError("blob", sha256)
        return path

    @contextmanager
    def local_copy(self, sha256: str) -> Iterator[Path]:
        """The stored file itself."""
        yield self.path(sha256)

    def fetch(self, sha256: str, directory: Path) -> Path:
        """The stored file itself."""
        return self.path(sha256)

    def open(self, sha256: str) -> FileReader:
        """A stored file, open for reading."""
        return FileReader(self.path(sha256).open("rb"))

    def read(self, sha256: str) -> bytes:
        """All bytes of a stored file."""
        return self.path(sha256).read_bytes()

    def size(self, sha256: str) -> int:
        """Bytes of a stored file."""
        return self.path(sha256).stat().st_size

    def exists(self, sha256: str) -> bool:
        """Whether a file is stored."""
        return is_digest(sha256) and self._name(sha256).is_file()

    def list(self, prefix: str = "", *, older_than: datetime | None = None) -> Iterator[BlobInfo]:
        """Stored files; see `service.storage.blobs.port.BlobStore.list`."""
        if not is_digest(prefix.ljust(64, "0")):
            return
        pattern = prefix[:4].ljust(4, "?")
        for directory in self.root.glob(f"{pattern[:2]}/{pattern[2:]}"):
            for path in directory.glob(f"{prefix}*"):
                with suppress(FileNotFoundError):  # removed by another process meanwhile
                    found = _info(path)
                    if is_digest(path.name) and (older_than is None or found.modified < older_than):
                        yield found

    def delete(self, sha256: str, *, older_than: datetime | None = None) -> bool:
        """Remove a file; see `service.storage.blobs.port.BlobStore.delete`."""
        path = self._name(sha256)
        with self._lock(fcntl.LOCK_EX), suppress(FileNotFoundError):
            if older_than is None or _info(path).modified < older_than:
                path.unlink()
                return True
        return False

    def free_bytes(self) -> int:
        """Room left on the file system of the store."""
        return shutil.disk_usage(self.root).free

    def download_url(self, sha256: str, *, filename: str, media_type: str) -> None:
        """None: a directory serves nobody."""

    def check(self) -> None:
        """Make sure that unfinished files can be made.

        Raises
        ------
        StorageUnavailableError
            They cannot.
        """
        try:
            self.writer().discard()
        except OSError as error:
            raise StorageUnavailableError(f"the blob store cannot be written to: {error}") from error

    def temporary_path(self) -> Path:
        """A new name in the directory of unfinished files."""
        return self._incoming / f"{os.getpid()}-{os.urandom(8).hex()}"

    def adopt(self, path: Path, sha256: str) -> None:
        """Rename a finished, synced file of this file system to its content's name."""
        target = self._name(sha256)
        with self._lock(fcntl.LOCK_SH):  # a sweep must not find it old, and then remove it young
            if target.exists():
                os.utime(target)
                path.unlink()
                return
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
            os.utime(target)  # a linked file is as old as its writing
        _sync_directory(target.parent)

    def _name(self, sha256: str) -> Path:
        checked_digest(sha256)
        return self.root / sha256[:2] / sha256[2:4] / sha256

    @contextmanager
    def _lock(self, kind: int) -> Iterator[None]:
        descriptor = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, kind)
            yield
        finally:
            os.close(descriptor)


def _info(path: Path) -> BlobInfo:
    found = path.stat()
    return BlobInfo(path.name, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


def _sync_directory(directory: Path) -> None:
    # The rename is durable only when the directory is.
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
