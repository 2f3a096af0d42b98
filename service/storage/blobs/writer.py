"""A blob on its way in: written once to local disk, hashed as it is written, and named at the end."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, BinaryIO, Protocol

from service.storage.errors import DigestMismatchError, TooLargeError
from service.storage.records import BlobRef

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType

__all__ = ["BlobHome", "BlobWriter", "put_stream", "synced_reference"]

_HEAD_BYTES = 1 << 16


class BlobHome(Protocol):
    """The store as a writer sees it."""

    def temporary_path(self) -> Path:
        """A new name for an unfinished file."""

    def adopt(self, path: Path, sha256: str) -> None:
        """Take over a finished, synced file; it is stored when this returns."""


class BlobWriter:
    """One file on its way in; leaves nothing behind unless it is committed.

    Parameters
    ----------
    home : BlobHome
        Where the file goes.
    max_bytes : int or None
        Largest accepted size.
    """

    def __init__(self, home: BlobHome, max_bytes: int | None) -> None:
        self._home = home
        self._max_bytes = max_bytes
        self._digest = hashlib.sha256()
        self._head = bytearray()
        self._path = home.temporary_path()
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

    def check_digest(self, expected_sha256: str | None) -> None:
        """Compare what was written with what was announced.

        Raises
        ------
        DigestMismatchError
            The bytes are not those announced.
        """
        actual = self._digest.hexdigest()
        if expected_sha256 is not None and expected_sha256.lower() != actual:
            raise DigestMismatchError(expected_sha256, actual)

    def commit(self, expected_sha256: str | None = None) -> BlobRef:
        """Give the file its name; it is stored when this returns.

        Raises
        ------
        DigestMismatchError
            The bytes are not those announced.
        StorageUnavailableError
            The store does not answer.
        """
        if self._file is None:
            raise ValueError("the writer is closed")
        self.check_digest(expected_sha256)
        actual = self._digest.hexdigest()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        self._home.adopt(self._path, actual)
        return BlobRef(actual, self.size)

    def discard(self) -> None:
        """Drop the file if it was not committed, also where the commit failed."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._path.unlink(missing_ok=True)


def put_stream(
    home: BlobHome, chunks: Iterable[bytes], *, max_bytes: int | None, expected_sha256: str | None
) -> BlobRef:
    """Write a stream and commit it; see `service.storage.blobs.port.BlobStore.put_stream`."""
    with BlobWriter(home, max_bytes) as writer:
        for chunk in chunks:
            writer.write(chunk)
        return writer.commit(expected_sha256)


def synced_reference(path: Path, sha256: str | None = None) -> BlobRef:
    """Digest and size of a file, which is on disk when this returns; it is read where the digest is not known."""
    with path.open("rb") as file:
        known = sha256 or hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
        return BlobRef(known, os.fstat(file.fileno()).st_size)
