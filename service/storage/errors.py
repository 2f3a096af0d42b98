"""What can go wrong when something is stored or looked up."""

from __future__ import annotations

__all__ = [
    "BlobLostError",
    "BusyError",
    "DamagedBlobError",
    "DigestMismatchError",
    "InUseError",
    "NotFoundError",
    "StorageError",
    "StorageUnavailableError",
    "TooLargeError",
    "TooManyError",
    "UnstorableTextError",
]


class StorageError(Exception):
    """Base of the errors of storage."""


class StorageUnavailableError(StorageError):
    """The database or the disk does not answer now; the same call may succeed later."""


class UnstorableTextError(StorageError):
    """A text has a NUL character, which no text of PostgreSQL has: it can be neither stored nor looked up."""


class NotFoundError(StorageError):
    """Nothing of that name exists, or not for the asker.

    Parameters
    ----------
    kind : str
        What was looked for.
    key : str
        Its name.
    """

    def __init__(self, kind: str, key: str) -> None:
        super().__init__(f"{kind} {key} does not exist")
        self.kind = kind
        self.key = key


class BlobLostError(StorageUnavailableError):
    """A blob was removed just before something wanted to refer to it; store it again.

    Parameters
    ----------
    sha256 : str
        Its name.
    """

    def __init__(self, sha256: str) -> None:
        super().__init__(f"blob {sha256} was removed meanwhile")
        self.sha256 = sha256


class DamagedBlobError(NotFoundError):
    """The stored bytes are not those that their name stands for: the file is as good as gone.

    Parameters
    ----------
    sha256 : str
        The name.
    """

    def __init__(self, sha256: str) -> None:
        super().__init__("blob", sha256)
        self.args = (f"the stored bytes of blob {sha256} are damaged",)


class BusyError(StorageError):
    """Somebody else is writing it at this moment.

    Parameters
    ----------
    kind, key : str
        What it is.
    """

    def __init__(self, kind: str, key: str) -> None:
        super().__init__(f"{kind} {key} is being written")
        self.kind = kind
        self.key = key


class InUseError(StorageError):
    """It cannot be removed while an active job needs it.

    Parameters
    ----------
    kind, key : str
        What was to be removed.
    job_ids : tuple of str
        Jobs of the asker that need it.
    count : int, optional
        Jobs that need it, also those of others.
    """

    def __init__(self, kind: str, key: str, job_ids: tuple[str, ...], *, count: int | None = None) -> None:
        self.count = len(job_ids) if count is None else count
        super().__init__(f"{kind} {key} is needed by {self.count} job(s)")
        self.kind = kind
        self.key = key
        self.job_ids = job_ids


class TooLargeError(StorageError):
    """More bytes than the limit.

    Parameters
    ----------
    limit : int
        Largest accepted size in bytes.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body is larger than {limit} bytes")
        self.limit = limit


class DigestMismatchError(StorageError):
    """The bytes that arrived are not those that were announced.

    Parameters
    ----------
    expected, actual : str
        SHA-256 in hex.
    """

    def __init__(self, expected: str, actual: str) -> None:
        super().__init__(f"the body has SHA-256 {actual}, not {expected}")
        self.expected = expected
        self.actual = actual


class TooManyError(StorageError):
    """The owner has as many of these as one may have.

    Parameters
    ----------
    kind : str
        What there are too many of.
    limit : int
        How many one may have.
    """

    def __init__(self, kind: str, limit: int) -> None:
        super().__init__(f"there are {limit} {kind}s, which is the limit")
        self.kind = kind
        self.limit = limit
