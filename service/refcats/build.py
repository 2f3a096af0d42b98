"""Turning a table of stars into a stored catalogue, in bounded memory.

The table is read in chunks. Each chunk is converted, sorted along the sky index and put aside as an Arrow file; then
the partitions are cut so that none holds too many stars, and each is merged from its slices of the mapped files.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from service.exposure.sky_region import INDEX_COLUMN, INDEX_ORDER, healpix_index
from service.refcats.columns import band_names, plan_columns
from service.refcats.coverage import cells
from service.refcats.errors import RefcatError
from service.refcats.sources import open_table
from service.refcats.store import (
    Partition,
    RefcatInfo,
    catalog_dir,
    describe,
    locked,
    partition_path,
    publish,
    sweep,
    write_description,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from service.refcats.columns import ColumnPlan, Table
    from service.refcats.sources import TableSource

__all__ = ["ingest"]

#: A partition above this many rows is split into four, down to the finest order.
ROWS_PER_PARTITION = 250_000
#: Rows a Parquet row group holds: the grain of a region query.
ROWS_PER_GROUP = 16_384
#: More rows than any catalogue has that one would load: a small file of repeated values may claim any number.
MAX_ROWS = 3_000_000_000
_FINEST_ORDER = 10


@dataclass(slots=True)
class _Runs:
    """Sorted chunks put aside on disk."""

    directory: Path
    columns: list[str] = field(default_factory=list)
    indices: list[NDArray[np.int64]] = field(default_factory=list)
    tables: list[pa.Table] = field(default_factory=list)

    def add(self, table: Table) -> None:
        import pyarrow as pa

        index = healpix_index(table["ra"], table["dec"])
        order = np.lexsort((table["id"], index))
        arrays = {INDEX_COLUMN: index[order]} | {name: values[order] for name, values in table.items()}
        path = self.directory / f"run{len(self.tables)}.arrow"
        batch = pa.table(arrays)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_table(batch)
        mapped = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        self.tables.append(mapped)
        self.indices.append(mapped.column(INDEX_COLUMN).to_numpy())

    def cut(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """Rows with an index in [start, stop), ascending by index and id."""
        pieces = []
        for table, index in zip(self.tables, self.indices, strict=True):
            first, last = np.searchsorted(index, [start, stop])
            if last > first:
                pieces.append(table.slice(first, last - first))
        columns = {
            name: np.concatenate([piece.column(name).to_numpy() for piece in pieces])
            for name in self.tables[0].column_names
        }
        if len(pieces) > 1:
            order = np.lexsort((columns["id"], columns[INDEX_COLUMN]))
            columns = {name: values[order] for name, values in columns.items()}
        return columns

    def count(self, start: int, stop: int) -> int:
        return sum(int(np.diff(np.searchsorted(index, [start, stop]))[0]) for index in self.indices)


@dataclass(slots=True)
class _Digest:
    """Digest of all rows in the order of the sky, whatever the partitioning."""

    parts: dict[str, Any] = field(default_factory=dict)

    def update(self, columns: Mapping[str, NDArray[Any]]) -> None:
        for name, values in columns.items():
            self.parts.setdefault(name, hashlib.sha256()).update(np.ascontiguousarray(values).data)

    def hexdigest(self) -> str:
        total = hashlib.sha256()
        for name in sorted(self.parts):
            total.update(name.encode() + b"\0" + self.parts[name].digest())
        return total.hexdigest()


def ingest(
    source: Path,
    *,
    name: str,
    store_dir: Path,
    file_format: str | None = None,
    columns: Mapping[str, str] | None = None,
    epoch: float | None = None,
    magnitude_offsets: Mapping[str, float] | None = None,
    order: int | None = None,
    progress: Callable[[float, str], None] | None = None,
    is_known: Callable[[], bool] | None = None,
    record: Callable[[RefcatInfo], None] | None = None,
) -> RefcatInfo:
    """Store a reference catalogue.

    Nothing of it can be seen under its name before all of it is on disk. Where a record elsewhere decides which
    catalogues exist, ``is_known`` and ``record`` keep the two in step: they are called under the lock of the store, so
    that an ingest or removal that dies in between leaves no more than files of a name that is free.

    Parameters
    ----------
    source : Path
        Table with ``ra``, ``dec`` (deg) and, per band, ``<band>_mag`` (AB) or ``<band>_flux`` (nJy).
    name : str
        Name to store it under. Immutable: the same content again changes nothing, other content is refused.
    store_dir : Path
        Directory of all catalogues.
    file_format : str, optional
        One of `FILE_FORMATS`; found from the content by default.
    columns : mapping of str to str, optional
        Our column name to the file's.
    epoch : float, optional
        Julian year of the positions, where the table does not say.
    magnitude_offsets : mapping of str to float, optional
        Per band, AB minus the given magnitudes.
    order : int, optional
        HEALPix order of all partitions; by default as fine as the density asks for.
    progress : callable, optional
        Called with a fraction and a phrase.
    is_known : callable, optional
        Whether the name is on record. Files of a name that is not are what an interruption left, and are replaced. By
        default the files decide.
    record : callable, optional
        Puts the catalogue on record.

    Returns
    -------
    RefcatInfo

    Raises
    ------
    RefcatError
        The table cannot be used, or the name belongs to another content (``refcat.exists``).
    """
    directory = catalog_dir(store_dir, name)
    tell = progress or (lambda _fraction, _phrase: None)
    table = open_table(source, file_format)
    epoch = epoch if epoch is not None else table.epoch
    plan = plan_columns(table.units, mapping=columns, epoch=epoch, magnitude_offsets=magnitude_offsets)
    store_dir.mkdir(parents=True, exist_ok=True)
    sweep(store_dir)
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=store_dir, ignore_cleanup_errors=True) as scratch:
        runs = _put_aside(table, plan, Path(scratch), tell)
        staged = Path(scratch) / "catalog"
        info = _write_partitions(runs, staged, name, order, plan.names, tell)
        info = _finish(info, staged, columns or {}, magnitude_offsets or {})
        with locked(store_dir):
            info = _settled(info, staged, directory, scratch=Path(scratch), known=is_known is None or is_known())
            if record is not None:
                record(info)
        return info


def _put_aside(table: TableSource, plan: ColumnPlan, scratch: Path, tell: Callable[[float, str], None]) -> _Runs:
    runs = _Runs(scratch)
    n_read = 0
    for chunk in table.chunks(plan.wanted):
        n = len(next(iter(chunk.values())))
        ours = plan.apply(chunk, n_read)
        n_read += n
        if n_read > MAX_ROWS:
            raise RefcatError("refcat.too_large", f"the table has more than {MAX_ROWS} rows", max_rows=MAX_ROWS)
        if len(ours["ra"]):
            runs.add(ours)
        tell(0.5 * n_read / max(table.n_rows or n_read, 1), f"read {n_read} rows")
    if not runs.tables and n_read:  # a table without rows is an answer: there are no references
        raise RefcatError("refcat.empty", "the table has no row with a position", n_rows=n_read)
    return runs


def _partition(runs: _Runs, order: int | None) -> list[Partition]:
    """Pixels that hold stars, in the order of the sky index."""
    done: list[Partition] = []
    if not runs.tables:
        return done
    shift = 0 if order is None else order
    fine = _FINEST_ORDER if order is None else order
    occupied = np.unique(np.concatenate([np.unique(i >> 2 * (INDEX_ORDER - shift)) for i in runs.indices]))
    queue = [(shift, int(pixel)) for pixel in occupied[::-1]]
    while queue:
        level, pixel = queue.pop()
        candidate = Partition(level, pixel, 0)
        n_rows = runs.count(*candidate.index_range)
        if n_rows > ROWS_PER_PARTITION and level < fine:
            queue += [(level + 1, 4 * pixel + child) for child in (3, 2, 1, 0)]
        elif n_rows:
            done.append(Partition(level, pixel, n_rows))
    return done


def _write_partitions(
    runs: _Runs,
    staged: Path,
    name: str,
    order: int | None,
    names: Sequence[str],
    tell: Callable[[float, str], None],
) -> RefcatInfo:
    import pyarrow as pa
    import pyarrow.parquet as pq

    partitions = _partition(runs, order)
    digest = _Digest()
    epochs: list[float] = []
    size = 0
    for number, partition in enumerate(partitions):
        columns = runs.cut(*partition.index_range)
        names = list(columns)
        digest.update(columns)
        if "epoch" in columns and np.any(np.isfinite(columns["epoch"])):
            epochs += [float(np.nanmin(columns["epoch"])), float(np.nanmax(columns["epoch"]))]
        path = partition_path(staged, partition)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path, row_group_size=ROWS_PER_GROUP, compression="zstd")
        size += path.stat().st_size
        tell(0.5 + 0.5 * (number + 1) / len(partitions), f"wrote {number + 1} of {len(partitions)} partitions")
    return RefcatInfo(
        name=name,
        sha256=digest.hexdigest(),
        n_rows=sum(partition.n_rows for partition in partitions),
        bands=band_names(names),
        columns=tuple(names),
        has_proper_motion={"pmra", "pmdec"} <= set(names),
        epoch_min=min(epochs, default=None),
        epoch_max=max(epochs, default=None),
        partitions=tuple(partitions),
        size_bytes=size,
        source={},
        coverage=tuple(cells(runs.indices)),
    )


def _finish(
    info: RefcatInfo, staged: Path, columns: Mapping[str, str], magnitude_offsets: Mapping[str, float]
) -> RefcatInfo:
    staged.mkdir(exist_ok=True)
    info = replace(info, source={"columns": dict(columns), "magnitude_offsets": dict(magnitude_offsets)})
    write_description(staged, info)
    return info


def _settled(info: RefcatInfo, staged: Path, directory: Path, *, scratch: Path, known: bool) -> RefcatInfo:
    """The catalogue that now has the name: the finished one, or an equal one that was there."""
    if directory.is_dir() and not known:
        directory.rename(scratch / "left over")  # goes with the scratch directory
    if not directory.is_dir():
        publish(staged, directory)
        return info
    existing = describe(directory.parent, info.name)
    if existing.sha256 != info.sha256:
        raise RefcatError(
            "refcat.exists",
            f"reference catalogue '{info.name}' exists with other content; catalogues do not change: choose a new name",
            name=info.name,
            sha256=existing.sha256,
        )
    return existing
