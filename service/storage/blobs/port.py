"""What a blob store does, wherever the bytes lie."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from service.storage.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

    from service.storage.blobs.partial import PartialFiles
    from service.storage.blobs.writer import BlobWriter
    from service.storage.records import BlobRef

__all__ = ["BlobInfo", "BlobReader", "BlobStore", "checked_digest", "is_digest"]

_HEX = frozenset("0123456789abcdef")


def is_digest(name: str) -> bool:
    """Whether a name is 64 hex digits: nothing else ever reaches a file system or a bucket."""
    return len(name) == 64 and set(name) <= _HEX


def checked_digest(sha256: str) -> str:
    """The digest itself.

    Raises
    ------
    NotFoundError
        It is none, so that nothing has this name.
    """
    if not is_digest(sha256):
        raise NotFoundError("blob", sha256)
    return sha256


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A stored file: SHA-256 (hex), size in bytes, and when it was stored, or stored again (UTC)."""

    sha256: str
    size: int
    modified: datetime


class BlobReader(AbstractContextManager["BlobReader"], Protocol):
    """A stored file, open for reading in parts."""

    @property
    def size(self) -> int:
        """Bytes of the whole file."""

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from ``start`` to before ``stop``, in pieces of a size that suits memory."""

    def close(self) -> None:
        """Let it go; it may be closed more than once."""


class BlobStore(Protocol):
    """Files by content.

    Every method may raise `service.storage.errors.StorageUnavailableError` where the store does not answer, and those
    that name a file `service.storage.errors.NotFoundError` where there is no such file.
    """

    @property
    def partial(self) -> PartialFiles:
        """Files that come in parts."""

    def writer(self, *, max_bytes: int | None = None) -> BlobWriter:
        """A file to write into, which is nowhere to be seen before its `commit`; use as a context manager."""

    def put_stream(
        self, chunks: Iterable[bytes], *, max_bytes: int | None = None, expected_sha256: str | None = None
    ) -> BlobRef:
        """Store a stream of bytes; nothing is stored where a limit is passed or the digest is another."""

    def put_file(self, path: Path, *, link: bool = False, sha256: str | None = None) -> BlobRef:
        """Store a file, which stays where it is.

        ``link``: it will not change any more, and its bytes may be shared; ``sha256``: its digest, where that is known.
        """

    def local_copy(self, sha256: str) -> AbstractContextManager[Path]:
        """The file under a path of this machine, which holds within the context."""

    def fetch(self, sha256: str, directory: Path) -> Path:
        """The file under a path of this machine, which holds as long as the directory and the stored file both do."""

    def open(self, sha256: str) -> BlobReader:
        """A stored file, to be read in parts."""

    def read(self, sha256: str) -> bytes:
        """All bytes of a stored file."""

    def size(self, sha256: str) -> int:
        """Bytes of a stored file."""

    def exists(self, sha256: str) -> bool:
        """Whether a file is stored."""

    def list(self, prefix: str = "", *, older_than: datetime | None = None) -> Iterator[BlobInfo]:
        """Stored files whose digest begins so, and that were last stored before a moment; in no certain order.

        A file that is stored again counts as young from then on.
        """

    def delete(self, sha256: str, *, older_than: datetime | None = None) -> bool:
        """Remove a file; False where there is none, or where it was stored (again) since that moment.

        A sweep passes the moment that it passed to `list`: what has been uploaded meanwhile stays.
        """

    def free_bytes(self) -> int:
        """Room left on the disk where incoming files are written."""

    def download_url(self, sha256: str, *, filename: str, media_type: str) -> str | None:
        """Short-lived address at which a client gets the file from the store itself; None where it cannot."""

    def check(self) -> None:
        """Make sure that the store answers."""

    def __hash__(self) -> int:
        """By identity; a protocol has to say so."""
