"""What a client does, as values: the flows of the operations yield these, and a driver does them.

An operation is a generator that knows nothing of sockets, sleep or event loops: it yields a step, is given what came of
it, and returns its result. So each operation is written once, for `visitcal.Client` and `visitcal.AsyncClient`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from visitcal.errors import UploadInterruptedError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    import httpx

__all__ = [
    "CHUNK",
    "Close",
    "FileBody",
    "Flow",
    "Item",
    "Listing",
    "Open",
    "Opened",
    "Pause",
    "ProgressCallback",
    "Read",
    "Request",
    "Send",
    "Step",
    "Work",
]

T = TypeVar("T")

CHUNK = 1 << 20
ProgressCallback = Callable[[int, int], None]
"""Called with the bytes sent so far and the bytes in all."""


@dataclass(frozen=True)
class Request:
    """A request that is not sent yet.

    Parameters
    ----------
    method, path : str
        As in HTTP; the path stands under the service's address.
    params : mapping
        Query parameters; those that are None are left out.
    headers : mapping
        Beside those of every request.
    json : object
        Body as JSON; none where it is None.
    body : FileBody or bytes, optional
        Body of another kind.
    silence : float, optional
        Seconds without a byte after which the connection counts as dead; the client's own where it is None.
    """

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    body: FileBody | bytes | None = None
    silence: float | None = None


@dataclass(frozen=True)
class Opened:
    """An answer whose body is read while it comes."""

    response: httpx.Response
    pieces: Iterator[bytes] | AsyncIterator[bytes]


@dataclass(frozen=True)
class Send:
    """Send a request and read the whole answer: gives an `httpx.Response`, or raises `httpx.TransportError`."""

    request: Request


@dataclass(frozen=True)
class Open:
    """Send a request and read the head of the answer, of an error all of it: gives an `Opened`.

    Pieces have `chunk` bytes, or come as they arrive where it is None.
    """

    request: Request
    chunk: int | None = None


@dataclass(frozen=True)
class Read:
    """The next piece of an opened answer: bytes, none of them at its end."""

    opened: Opened


@dataclass(frozen=True)
class Close:
    """Let go of an opened answer."""

    opened: Opened


@dataclass(frozen=True)
class Pause:
    """Do nothing for some seconds."""

    seconds: float


@dataclass(frozen=True)
class Work:
    """Call a function that reads files or takes its time: gives what it returns."""

    function: Callable[[], Any]


@dataclass(frozen=True)
class Item(Generic[T]):
    """Give the caller a value of a listing."""

    value: T


Step: TypeAlias = Send | Open | Read | Close | Pause | Work
Flow: TypeAlias = Generator[Step, Any, T]
"""An operation with a result."""
Listing: TypeAlias = Generator[Step | Item[T], Any, None]
"""An operation that gives values one by one."""


class FileBody:
    """A file as a request body that can be sent again.

    Parameters
    ----------
    path : Path
        The file; it is read in pieces and never held whole.
    size : int
        Its length.
    on_progress : callable, optional
        Called after each piece.
    start : int
        First byte that is sent.
    """

    def __init__(self, path: Path, size: int, on_progress: ProgressCallback | None = None, *, start: int = 0) -> None:
        self.path = path
        self.size = size
        self.start = start
        self._on_progress = on_progress

    def pieces(self) -> Listing[bytes]:
        """What is sent.

        Raises
        ------
        UploadInterruptedError
            The file has another length by now.
        """
        sent = self.start
        stream: BinaryIO = yield Work(partial(self.path.open, "rb"))
        with stream:
            stream.seek(self.start)
            while piece := (yield Work(partial(stream.read, CHUNK))):
                sent += len(piece)
                yield Item(piece)
                if self._on_progress is not None:
                    self._on_progress(sent, self.size)
        if sent != self.size:
            raise UploadInterruptedError(f"{self.path} had {self.size} bytes and gave {sent}")
