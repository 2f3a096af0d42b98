"""Content-addressed files: the name of a file is the SHA-256 of its bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from service.storage.errors import DigestMismatchError, NotFoundError, TooLargeError
from service.storage.records import BlobRef

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

__all__ = ["BlobWriter", "LocalBlobStore"]

_HEAD_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 20


class BlobWriter:
    """One file on its way in; leaves nothing behind unless it is committed.

    Parameters
    ----------
    store : LocalBlobStore
        Where the file goes.
    max_bytes : int or None
        Largest accepted size.
    """

    def __init__(self, store: LocalBlobStore, max_bytes: int | None) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._digest = hashlib.sha256()
        self._head = bytearray()
        self._path = store.temporary_path()
        self._file: BinaryIO | None = self._path.open("xb")
        self.size = 0

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.discard()

    @property
    def head(self) -> bytes:
        """The first bytes written so far (at most 64 KiB), to tell a format by."""
        return bytes(self._head)

    @property
    def path(self) -> Path:
        """The unfinished file; what was written is visible after `flush`."""
        return self._path

    def write(self, chunk: bytes) -> None:
        """Append bytes.

        Raises
        ------
        TooLargeError
            The limit is passed; nothing of this chunk was written.
        """
        if self._file is None:
            raise ValueError("the writer is closed")
        if self._max_bytes is not None and self.size + len(chunk) > self._max_bytes:
            raise TooLargeError(self._max_bytes)
        self._file.write(chunk)
        self._digest.update(chunk)
        self.size += len(chunk)
        if len(self._head) < _HEAD_BYTES:
            self._head += chunk[: _HEAD_BYTES - len(self._head)]

    def flush(self) -> None:
        """Make what was written readable under `path`."""
        if self._file is not None:
            self._file.flush()

    def commit(self, expected_sha256: str | None = None) -> BlobRef:
        """Give the file its name; it is on disk when this returns.

        Raises
        ------
        DigestMismatchError
            The bytes are not those announced.
        """
        if self._file is None:
            raise ValueError("the writer is closed")
        actual = self._digest.hexdigest()
        if expected_sha256 is not None and expected_sha256.lower() != actual:
            raise DigestMismatchError(expected_sha256, actual)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        self._store.adopt(self._path, actual)
        return BlobRef(actual, self.size)

    def discard(self) -> None:
        """Drop the file if it was not committed, also where the commit failed."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._path.unlink(missing_ok=True)


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
        with self.writer(max_bytes=max_bytes) as writer:
            for chunk in chunks:
                writer.write(chunk)
            return writer.commit(expected_sha256)

    def put_file(self, path: Path, *, link: bool = False) -> BlobRef:
        """Store a file.

        Parameters
        ----------
        path : Path
            The file, which stays where it is.
        link : bool
            The file is complete and will not be changed again: where the file system allows, share its bytes instead of
            copying them.

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
            reference = _synced_reference(temporary)
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

    def open(self, sha256: str) -> BinaryIO:
        """A stored file, open for reading."""
        return self.path(sha256).open("rb")

    def read(self, sha256: str) -> bytes:
        """All bytes of a stored file."""
        return self.path(sha256).read_bytes()

    def size(self, sha256: str) -> int:
        """Bytes of a stored file."""
        return self.path(sha256).stat().st_size

    def exists(self, sha256: str) -> bool:
        """Whether a file is stored."""
        return self._name(sha256).is_file()

    def delete(self, sha256: str) -> None:
        """Remove a file; nothing happens if it is not there."""
        self._name(sha256).unlink(missing_ok=True)

    def free_bytes(self) -> int:
        """Room left on the file system of the store."""
        return shutil.disk_usage(self.root).free

    def temporary_path(self) -> Path:
        """A new name in the directory of unfinished files."""
        return self._incoming / f"{os.getpid()}-{os.urandom(8).hex()}"

    def adopt(self, path: Path, sha256: str) -> None:
        """Rename a finished, synced file of this file system to its content's name."""
        target = self._name(sha256)
        if target.exists():  # the same bytes are there already; young again, so that no sweep takes them now
            os.utime(target)
            path.unlink()
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        _sync_directory(target.parent)

    def _name(self, sha256: str) -> Path:
        # Only ever 64 hex digits reach the file system.
        if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
            raise NotFoundError("blob", sha256)
        return self.root / sha256[:2] / sha256[2:4] / sha256


def _synced_reference(path: Path) -> BlobRef:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
        os.fsync(file.fileno())
        return BlobRef(digest.hexdigest(), file.tell())


def _sync_directory(directory: Path) -> None:
    # The rename is durable only when the directory is.
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
