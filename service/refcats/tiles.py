"""Tiles of a remote catalogue kept on disk: one Parquet file a HEALPix pixel, never changed once there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from service.refcats.errors import RefcatUnavailableError

if TYPE_CHECKING:
    from service.refcats.columns import Table

__all__ = ["Tile", "TileCache"]


@dataclass(frozen=True, slots=True)
class Tile:
    """Rows of one pixel.

    Parameters
    ----------
    table : dict of str to ndarray
        Stored columns.
    sha256 : str
        Digest of the file.
    """

    table: Table
    sha256: str


@dataclass(frozen=True, slots=True)
class TileCache:
    """Files of one catalogue.

    Parameters
    ----------
    directory : Path
        Made when the first tile comes.
    """

    directory: Path

    def path(self, order: int, pixel: int) -> Path:
        """File of a nested HEALPix pixel."""
        return self.directory / f"Norder={order}" / f"Dir={pixel // 10_000 * 10_000}" / f"Npix={pixel}.parquet"

    def read(self, order: int, pixel: int) -> Tile | None:
        """A tile, None where it is not there.

        Raises
        ------
        RefcatUnavailableError
            It is there and damaged.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.path(order, pixel)
        try:
            content = path.read_bytes()
            rows = pq.ParquetFile(pa.BufferReader(content)).read()
        except FileNotFoundError:
            return None
        except (OSError, pa.ArrowException) as error:
            raise RefcatUnavailableError(f"tile {order}/{pixel} of the cache is damaged: {error}") from error
        table = {name: rows.column(name).to_numpy() for name in rows.column_names}
        return Tile(table, hashlib.sha256(content).hexdigest())

    def write(self, order: int, pixel: int, table: Table) -> Tile:
        """Keep a tile. Where another process was faster its tile stays, and is what comes back."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.path(order, pixel)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
        written = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                pq.write_table(pa.table(table), stream, compression="zstd")
                stream.flush()
                os.fsync(stream.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(written, path)  # unlike a rename it never replaces
        finally:
            written.unlink()
        tile = self.read(order, pixel)
        if tile is None:
            raise RefcatUnavailableError(f"tile {order}/{pixel} of the cache was removed as it was written")
        return tile
