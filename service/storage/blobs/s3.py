"""Blobs in a bucket of S3, or of a store that speaks its protocol.

An object is whole or not there: S3 shows a multipart upload only when it is complete. What comes in is written once to
local disk, because its name is the digest of all of it, and the bytes stay there as the local copy.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from service.storage.blobs.copies import LocalCopies
from service.storage.blobs.partial import PartialFiles
from service.storage.blobs.port import BlobInfo, checked_digest, is_digest
from service.storage.blobs.presign import Credentials, presigned_get
from service.storage.blobs.writer import BlobWriter, put_stream, synced_reference
from service.storage.errors import DamagedBlobError, NotFoundError, StorageUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from types import TracebackType

    from obstore.store import S3Config

    from service.storage.records import BlobRef

__all__ = ["S3BlobStore", "S3Options", "connected", "streamed"]

_MIB = 1 << 20
_PART_BYTES = 5 * _MIB  # the least that S3 takes; 10,000 parts of these are 52 GB
_PARTS_AT_ONCE = 2  # parts in memory
_PIECE_BYTES = 1 << 18
_YOUNG = timedelta(hours=1)
_TRIES = 3


@dataclass(frozen=True, slots=True)
class S3Options:
    """How a bucket is reached.

    Parameters
    ----------
    bucket, prefix : str
        Where the objects are; the prefix has no slash at its ends and may be empty.
    endpoint : str or None
        URL of the service; None for AWS.
    region : str
        Region that requests are signed for.
    credentials : Credentials or None
        None leaves it to the AWS environment: variables, web identity, container or instance role.
    path_style : bool
        Whether the bucket is in the path, not in the host name.
    timeout : float
        Longest silence of the store [s].
    presign_seconds : int
        Life of a download address; 0 gives none.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str = "us-east-1"
    credentials: Credentials | None = None
    path_style: bool = True
    timeout: float = 30.0
    presign_seconds: int = 0


class S3BlobStore:
    """Blobs in a bucket, with a directory for what comes in and for local copies.

    Parameters
    ----------
    options : S3Options
        The bucket.
    incoming : Path
        Directory of unfinished files and of names of copies in use.
    copies : LocalCopies
        Local copies, on the same file system.
    """

    def __init__(self, options: S3Options, incoming: Path, copies: LocalCopies) -> None:
        self._options = options
        self._store = connected(options)
        self._copies = copies
        self._incoming = incoming.absolute()
        self._incoming.mkdir(parents=True, exist_ok=True)
        self.partial = PartialFiles(self._incoming.parent / "partial", self)

    def writer(self, *, max_bytes: int | None = None) -> BlobWriter:
        """A file to write into; use as a context manager."""
        return BlobWriter(self, max_bytes)

    def put_stream(
        self, chunks: Iterable[bytes], *, max_bytes: int | None = None, expected_sha256: str | None = None
    ) -> BlobRef:
        """Store a stream of bytes; see `service.storage.blobs.port.BlobStore.put_stream`."""
        return put_stream(self, chunks, max_bytes=max_bytes, expected_sha256=expected_sha256)

    def put_file(self, path: Path, *, link: bool = False, sha256: str | None = None) -> BlobRef:
        """Store a file; where it will not change, it may become the local copy as well."""
        reference = synced_reference(path, sha256)
        self._upload(path, reference.sha256)
        if link:
            self._copies.add(path, reference.sha256)
        return reference

    @contextmanager
    def local_copy(self, sha256: str) -> Iterator[Path]:
        """The file under a name of its own, which ends with the context."""
        path = self.temporary_path()
        try:
            self._place(checked_digest(sha256), path)
            yield path
        finally:
            path.unlink(missing_ok=True)

    def fetch(self, sha256: str, directory: Path) -> Path:
        """The file under a name in the directory."""
        path = directory / checked_digest(sha256)
        if not path.exists():
            self._place(sha256, path)
        return path

    def open(self, sha256: str) -> S3Reader:
        """A stored file, to be read in parts."""
        return S3Reader(self, sha256, self.size(sha256))

    def read(self, sha256: str) -> bytes:
        """All bytes of a stored file."""
        return b"".join(self._whole(checked_digest(sha256)))

    def size(self, sha256: str) -> int:
        """Bytes of a stored file."""
        return self._head(sha256).size

    def exists(self, sha256: str) -> bool:
        """Whether a file is stored."""
        return self._found(sha256) is not None

    def list(self, prefix: str = "", *, older_than: datetime | None = None) -> Iterator[BlobInfo]:
        """Stored files; see `service.storage.blobs.port.BlobStore.list`."""
        if not is_digest(prefix.ljust(64, "0")):
            return
        folder = self._folder(prefix[:2]) if len(prefix) > 1 else self._options.prefix
        with _failures("list"):
            for chunk in obstore.list(self._store, folder or None, chunk_size=1000):
                for meta in chunk:
                    found = BlobInfo(meta["path"].rpartition("/")[2], meta["size"], meta["last_modified"])
                    if not (found.sha256.startswith(prefix) and is_digest(found.sha256)):
                        continue
                    if older_than is None or found.modified < older_than:
                        yield found

    def delete(self, sha256: str, *, older_than: datetime | None = None) -> bool:
        """Remove a file; see `service.storage.blobs.port.BlobStore.delete`.

        S3 cannot be asked to remove what has not been written since: an upload within the milliseconds between the look
        and the removal would be lost. References in the database are what protects blobs.
        """
        found = self._found(sha256)
        if found is None or (older_than is not None and found.modified >= older_than):
            return False
        with _failures(f"delete {sha256}"):
            obstore.delete(self._store, self._key(sha256))
        return True

    def free_bytes(self) -> int:
        """Room left on the disk of unfinished files."""
        return shutil.disk_usage(self._incoming).free

    def download_url(self, sha256: str, *, filename: str, media_type: str) -> str | None:
        """Address of the object with a name and a type for this download."""
        options = self._options
        if not options.presign_seconds or options.credentials is None:
            return None
        return presigned_get(
            f"{self._base_url()}/{quote(self._key(checked_digest(sha256)))}",
            options.credentials,
            region=options.region,
            at=datetime.now(UTC),
            seconds=options.presign_seconds,
            parameters={
                "response-content-disposition": f'attachment; filename="{filename}"',
                "response-content-type": media_type,
            },
        )

    def check(self) -> None:
        """Make sure that the bucket answers."""
        with _failures("check"):
            next(iter(obstore.list(self._store, self._options.prefix or None, chunk_size=1)), None)

    def pieces(self, sha256: str, start: int, stop: int) -> Iterator[bytes]:
        """Some bytes of an object, by one request."""
        if start >= stop:
            return
        with _failures(f"get {sha256}", sha256):
            answer = obstore.get(self._store, self._key(sha256), options={"range": (start, stop)})
            yield from streamed(answer)

    def temporary_path(self) -> Path:
        """A new name in the directory of unfinished files."""
        return self._incoming / f"{os.getpid()}-{os.urandom(8).hex()}"

    def adopt(self, path: Path, sha256: str) -> None:
        """Send a finished file to the bucket; the file becomes the local copy."""
        self._upload(path, sha256)
        self._copies.add(path, sha256)
        path.unlink()

    def _upload(self, path: Path, sha256: str) -> None:
        there = self._found(sha256)
        # Sent again where it is not young, so that no sweep takes it for an old one.
        if there is not None and there.size == path.stat().st_size and datetime.now(UTC) - there.modified < _YOUNG:
            return
        with _failures(f"put {sha256}"):
            obstore.put(self._store, self._key(sha256), path, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE)

    def _place(self, sha256: str, path: Path) -> None:
        """Put a file under a name, from the local copy or from the bucket, and look whether it is the right one."""
        if self._copies.link_to(sha256, path):
            return
        for _ in range(_TRIES):
            digest = hashlib.sha256()
            try:
                with path.open("wb") as file:
                    for piece in self._whole(sha256):
                        file.write(piece)
                        digest.update(piece)
                    file.flush()
                    os.fsync(file.fileno())
            except BaseException:
                path.unlink(missing_ok=True)
                raise
            if digest.hexdigest() == sha256:
                self._copies.add(path, sha256)
                return
        path.unlink()
        raise DamagedBlobError(sha256)

    def _whole(self, sha256: str) -> Iterator[bytes]:
        # No look at the size before: the refusal of a GET tells a bucket that is gone from an object that is.
        with _failures(f"get {sha256}", sha256):
            yield from streamed(obstore.get(self._store, self._key(sha256)))

    def _head(self, sha256: str) -> BlobInfo:
        with _failures(f"head {sha256}", sha256):
            meta = obstore.head(self._store, self._key(checked_digest(sha256)))
            return BlobInfo(sha256, meta["size"], meta["last_modified"])

    def _found(self, sha256: str) -> BlobInfo | None:
        try:
            return self._head(sha256)
        except NotFoundError:
            return None

    def _folder(self, begin: str) -> str:
        return f"{self._options.prefix}/{begin}" if self._options.prefix else begin

    def _key(self, sha256: str) -> str:
        return f"{self._folder(sha256[:2])}/{sha256}"

    def _base_url(self) -> str:
        options = self._options
        if options.endpoint is None:
            host = f"s3.{options.region}.amazonaws.com"
            return f"https://{host}/{options.bucket}" if options.path_style else f"https://{options.bucket}.{host}"
        scheme, _, host = options.endpoint.rstrip("/").partition("://")
        return f"{scheme}://{host}/{options.bucket}" if options.path_style else f"{scheme}://{options.bucket}.{host}"


class S3Reader:
    """An object, open for reading in parts.

    Parameters
    ----------
    store : S3BlobStore
        Has it.
    sha256 : str
        Its name.
    size : int
        Its bytes.
    """

    def __init__(self, store: S3BlobStore, sha256: str, size: int) -> None:
        self._store = store
        self._sha256 = sha256
        self.size = size

    def __enter__(self) -> S3Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from ``start`` to before ``stop``."""
        return self._store.pieces(self._sha256, start, stop)

    def close(self) -> None:
        """Nothing is held between two readings."""


def connected(options: S3Options) -> S3Store:
    """The library's store of a bucket."""
    # The store compares the digest of every request's bytes with this checksum before it keeps them.
    given: S3Config = {
        "region": options.region,
        "virtual_hosted_style_request": not options.path_style,
        "checksum_algorithm": "SHA256",
    }
    if options.endpoint is not None:
        # The second name is the stronger one: a variable of the environment must not beat the settings.
        given["endpoint"] = given["aws_endpoint_url_s3"] = _endpoint(options)
    if options.credentials is not None:
        given["access_key_id"] = options.credentials.access_key_id
        given["secret_access_key"] = options.credentials.secret_access_key
        if options.credentials.session_token is not None:
            given["session_token"] = options.credentials.session_token
    return S3Store(
        options.bucket,
        config=given,
        client_options={
            "allow_http": (options.endpoint or "").startswith("http://"),
            "connect_timeout": timedelta(seconds=min(options.timeout, 5.0)),
            "read_timeout": timedelta(seconds=options.timeout),
            "timeout": timedelta(hours=1),
        },
        # Short: who asks waits for longer than this by itself, where it can be stopped.
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=options.timeout)},
    )


def _endpoint(options: S3Options) -> str:
    # Where the bucket is in the host name, obstore takes the name with it as given.
    if options.endpoint is None or options.path_style:
        return options.endpoint or ""
    scheme, _, host = options.endpoint.rstrip("/").partition("://")
    return f"{scheme}://{options.bucket}.{host}"


def streamed(answer: obstore.GetResult) -> Iterator[bytes]:
    """The bytes of an answer as they come."""
    for piece in answer.stream(min_chunk_size=_PIECE_BYTES):
        yield bytes(piece)


@contextmanager
def _failures(what: str, sha256: str | None = None) -> Iterator[None]:
    """Failures of the store as errors of storage.

    Raises
    ------
    NotFoundError
        There is no such object.
    StorageUnavailableError
        Anything else, also a bucket that is not there or not ours: that is the operator's to mend, and no job's fault.
    """
    try:
        yield
    except FileNotFoundError as error:
        if sha256 is None or "NoSuchBucket" in str(error):
            raise StorageUnavailableError(f"the blob store failed to {what}: {error}") from error
        raise NotFoundError("blob", sha256) from error
    except BaseError as error:
        raise StorageUnavailableError(f"the blob store failed to {what}: {error}") from error
