"""Layout of stored catalogues: HEALPix-partitioned Parquet as HATS lays it out, one directory a catalogue."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from service.exposure.sky_region import INDEX_COLUMN, INDEX_ORDER
from service.refcats.errors import RefcatError, RefcatNotFoundError, RefcatUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = [
    "Partition",
    "RefcatInfo",
    "catalog_dir",
    "describe",
    "list_catalogs",
    "locked",
    "partition_path",
    "publish",
    "remove",
    "sweep",
]

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")
_INFO_FILE = "refcat.json"
_SCRATCH = re.compile(r"^\.[A-Za-z0-9][A-Za-z0-9_.-]*\.[a-z0-9_]{8}$")
#: Scratch directories older than this belong to nobody alive, s.
_ABANDONED = 86_400.0


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One HEALPix pixel (nested) with its own file.

    Parameters
    ----------
    order, pixel : int
        HEALPix order and nested pixel number.
    n_rows : int
        Rows in the file.
    """

    order: int
    pixel: int
    n_rows: int

    @property
    def index_range(self) -> tuple[int, int]:
        """First and one past the last value of the spatial index inside the pixel."""
        shift = 2 * (INDEX_ORDER - self.order)
        return self.pixel << shift, (self.pixel + 1) << shift


@dataclass(frozen=True, slots=True)
class RefcatInfo:
    """A stored catalogue.

    Parameters
    ----------
    name : str
        Its name.
    sha256 : str
        Digest of its rows, the same for every partitioning.
    n_rows : int
        Number of stars.
    bands : tuple of str
        Passbands.
    columns : tuple of str
        Stored columns.
    has_proper_motion : bool
        Whether positions can be moved to another epoch.
    epoch_min, epoch_max : float or None
        Range of the catalogue epochs, Julian year.
    partitions : tuple of Partition
        In the order of the sky index.
    size_bytes : int
        On disk.
    source : dict
        How it was made: file format, column mapping, offsets.
    coverage : tuple of (int, int)
        HEALPix cells (order, nested number) with stars, see `service.refcats.coverage.cells`; empty for a catalogue
        of a version that did not note them.
    """

    name: str
    sha256: str
    n_rows: int
    bands: tuple[str, ...]
    columns: tuple[str, ...]
    has_proper_motion: bool
    epoch_min: float | None
    epoch_max: float | None
    partitions: tuple[Partition, ...]
    size_bytes: int
    source: dict[str, Any]
    coverage: tuple[tuple[int, int], ...] = ()

    @property
    def order(self) -> int:
        """Highest partition order."""
        return max((partition.order for partition in self.partitions), default=0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self)
        return values | {"bands": list(self.bands), "columns": list(self.columns), "order": self.order}


def catalog_dir(store_dir: Path, name: str) -> Path:
    """Directory of a catalogue.

    Raises
    ------
    RefcatError
        ``refcat.bad_name``: the name is not made of letters, digits, dots, dashes and underscores.
    """
    if not _NAME.match(name):
        raise RefcatError(
            "refcat.bad_name", f"'{name}' is no catalogue name: letters, digits, '.', '-' and '_' only", name=name
        )
    return store_dir / name


def partition_path(directory: Path, partition: Partition) -> Path:
    """File of one partition, as HATS names it."""
    folder = partition.pixel // 10_000 * 10_000
    return directory / "dataset" / f"Norder={partition.order}" / f"Dir={folder}" / f"Npix={partition.pixel}.parquet"


def write_description(directory: Path, info: RefcatInfo) -> None:
    """Write our description and those that HATS readers look for."""
    (directory / _INFO_FILE).write_text(json.dumps(info.to_dict(), indent=1))
    rows = [f"{partition.order},{partition.pixel}" for partition in sorted(info.partitions)]
    (directory / "partition_info.csv").write_text("\n".join(["Norder,Npix", *rows]) + "\n")
    properties = {
        "obs_collection": info.name,
        "dataproduct_type": "object",
        "hats_nrows": info.n_rows,
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        "hats_col_healpix": INDEX_COLUMN,
        "hats_col_healpix_order": INDEX_ORDER,
        "hats_order": info.order,
        "hats_npix_suffix": ".parquet",
        "hats_version": "v0.1",
        "hats_builder": "visitcal",
    }
    text = "\n".join(f"{key}={value}" for key, value in properties.items()) + "\n"
    for name in ("properties", "hats.properties"):
        (directory / name).write_text(text)


def describe(store_dir: Path, name: str) -> RefcatInfo:
    """What is known about a stored catalogue.

    Raises
    ------
    RefcatNotFoundError
        There is none of that name.
    RefcatUnavailableError
        Its description cannot be read.
    """
    directory = catalog_dir(store_dir, name)
    if not directory.is_dir():
        raise RefcatNotFoundError(name)
    try:
        values = json.loads((directory / _INFO_FILE).read_text())
        values.pop("order")
        partitions = tuple(Partition(**partition) for partition in values.pop("partitions"))
        bands, columns = tuple(values.pop("bands")), tuple(values.pop("columns"))
        coverage = tuple((order, pixel) for order, pixel in values.pop("coverage", ()))
        return RefcatInfo(partitions=partitions, bands=bands, columns=columns, coverage=coverage, **values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RefcatUnavailableError(f"reference catalogue '{name}' is damaged: {error}", name=name) from error


def list_catalogs(store_dir: Path) -> list[RefcatInfo]:
    """All stored catalogues by name; a damaged one is left out."""
    found = []
    for directory in sorted(store_dir.iterdir()) if store_dir.is_dir() else []:
        if _NAME.match(directory.name) and (directory / _INFO_FILE).is_file():
            try:
                found.append(describe(store_dir, directory.name))
            except RefcatUnavailableError:
                continue
    return found


@contextmanager
def locked(store_dir: Path) -> Iterator[None]:
    """Let one process at a time change which catalogues there are; readers need no lock."""
    handle = os.open(store_dir, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # ends with the process, however that ends
        yield
    finally:
        os.close(handle)


def publish(staged: Path, directory: Path) -> None:
    """Give a finished catalogue its name, all of it on disk before; call under `locked`."""
    for path in staged.rglob("*"):
        _to_disk(path)
    _to_disk(staged)
    staged.rename(directory)
    _to_disk(directory.parent)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(store_dir: Path) -> None:
    """Delete what interrupted ingests and removals have left."""
    for path in list(store_dir.iterdir()):
        if _SCRATCH.match(path.name) and path.is_dir() and time.time() - path.stat().st_mtime > _ABANDONED:
            shutil.rmtree(path, ignore_errors=True)


def remove(store_dir: Path, name: str, *, forget: Callable[[], bool] | None = None) -> None:
    """Delete a stored catalogue.

    Parameters
    ----------
    store_dir : Path
        Directory of all catalogues.
    name : str
        Its name.
    forget : callable, optional
        Strikes the catalogue off the record that decides which ones exist, before its files go, under the same lock
        as `service.refcats.build.ingest` takes; whether nobody else has it, so that they may go. Where it raises,
        nothing changes.

    Raises
    ------
    RefcatNotFoundError
        There is none of that name, and no record was struck off.
    """
    directory = catalog_dir(store_dir, name)
    if forget is None and not directory.is_dir():
        raise RefcatNotFoundError(name)
    store_dir.mkdir(parents=True, exist_ok=True)
    with locked(store_dir):
        if forget is not None and not forget():
            return
        hidden = tempfile.mkdtemp(prefix=f".{name}.", dir=store_dir)
        if directory.is_dir():
            directory.rename(store_dir / hidden / "removed")  # gone for readers at once; the files follow
    shutil.rmtree(hidden, ignore_errors=True)
