"""A file whose digest is made as it is written: its bytes are hot then, and need not be read again."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from _typeshed import ReadableBuffer

__all__ = ["HashedFile"]


class HashedFile(io.BufferedIOBase):
    """A new file, written front to back.

    Parameters
    ----------
    path : Path
        Overwritten.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Digest of what was written so far, hex."""
        return self._digest.hexdigest()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Append bytes."""
        self._digest.update(data)
        return self._file.write(data)

    def tell(self) -> int:
        """Bytes written."""
        return self._file.tell()

    def flush(self) -> None:
        """Hand what was written to the system."""
        if not self.closed:
            self._file.flush()

    def close(self) -> None:
        """Write what is left; nothing where it is closed already."""
        if not self.closed:
            try:
                super().close()
            finally:
                self._file.close()
