"""Catalogue rows: typed SQL tables for the two star catalogues, Parquet files for the rest."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa

from service.exposure.sky_region import INDEX_COLUMN, catalog_index
from service.storage.copy_rows import copy_rows
from service.storage.records import CatalogColumn, CatalogPage, JobRecord, ProductRecord
from service.storage.repositories.base import Repository
from service.storage.tables import CATALOG_TABLES, products

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy.typing import NDArray

    from service.exposure.catalog import Schema
    from service.storage.blobs import BlobStore
    from service.storage.database import Database, Transaction

__all__ = ["CatalogRepository"]

_ROWS_PER_STATEMENT = 2000
#: Number of the last row of a page; more digits than a table has rows would be no number of SQL's.
CURSOR = re.compile(r"[0-9]{1,12}")


class CatalogRepository(Repository):
    """Rows of catalogues by job.

    Parameters
    ----------
    database : Database
        Where the typed tables are.
    blobs : BlobStore
        Where the Parquet files are.
    """

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        super().__init__(database)
        self._blobs = blobs

    def has_table(self, product: str) -> bool:
        """Whether the rows of a product are kept in SQL."""
        return product in CATALOG_TABLES

    def insert(self, transaction: Transaction, job: JobRecord, product: str, path: Path) -> int:
        """Insert the rows of a Parquet file into the table of its product.

        Parameters
        ----------
        transaction : Transaction
            The publishing one.
        job : JobRecord
            Whose rows these are.
        product : str
            Product id with a table in `CATALOG_TABLES`.
        path : Path
            The file; columns that it lacks stay NULL, columns that the table lacks stay in the file alone.

        Returns
        -------
        int
            Rows inserted.
        """
        table, schema = CATALOG_TABLES[product]
        import pyarrow.parquet as pq  # 30 MB that an idle API does not need

        file = pq.ParquetFile(path)
        present = set(file.schema_arrow.names)
        names = [column.name for column in schema if column.name in present]
        dtypes = {"job_pk": "i8", "row_index": "i4", **{name: schema[name].dtype for name in names}}
        batches = _batches(file, names, job.pk)
        if INDEX_COLUMN in table.c:
            dtypes |= {"owner": f"S{len(job.owner.encode())}", INDEX_COLUMN: "i8"}
            batches = (batch | _place(batch, job.owner) for batch in batches)
        if transaction.connection.dialect.name == "postgresql":
            return copy_rows(transaction, table, dtypes, batches)
        return _insert_rows(transaction.connection, table, list(dtypes), batches)

    def columns(self, job: JobRecord, product: str) -> tuple[CatalogColumn, ...] | None:
        """Columns of a catalogue of a job; None where the job has no such catalogue."""
        record = self._product(job, product)
        if record is None:
            return None
        if product in CATALOG_TABLES:
            return tuple(CatalogColumn(c.name, c.dtype, c.unit, c.doc) for c in CATALOG_TABLES[product][1])
        with self._blobs.local_copy(record.sha256) as path:
            return tuple(_column(field) for field in _true_fields(_read_schema(path)))

    def page(
        self,
        job: JobRecord,
        product: str,
        *,
        columns: Sequence[str] | None = None,
        after: str | None = None,
        limit: int = 1000,
    ) -> CatalogPage | None:
        """Some rows of a catalogue.

        Parameters
        ----------
        job : JobRecord
            Whose catalogue.
        product : str
            Product id.
        columns : sequence of str, optional
            Columns wanted, also by alias (``slot_PsfFlux_instFlux``); all by default.
        after : str, optional
            Cursor of the page before.
        limit : int
            Rows of a page.

        Returns
        -------
        CatalogPage or None
            None where the job has no such catalogue.

        Raises
        ------
        KeyError
            A column that does not exist.
        ValueError
            A cursor that is none.
        """
        record = self._product(job, product)
        if record is None:
            return None
        start = 0 if after is None else _row_after(after)
        total = record.rows or 0
        if product in CATALOG_TABLES:
            described, rows = self._sql_rows(job, product, columns, start, limit)
        else:
            with self._blobs.local_copy(record.sha256) as path:
                described, rows = _file_rows(path, columns, start, limit)
        last = start + len(rows) - 1
        return CatalogPage(described, rows, total, str(last) if last + 1 < total and rows else None)

    def _sql_rows(
        self, job: JobRecord, product: str, names: Sequence[str] | None, start: int, limit: int
    ) -> tuple[tuple[CatalogColumn, ...], list[tuple[Any, ...]]]:
        table, schema = CATALOG_TABLES[product]
        described = _described(schema, schema.names if names is None else names)
        chosen = [table.c[schema.resolve(column.name)].label(f"c{i}") for i, column in enumerate(described)]
        query = (
            sa.select(*chosen)
            .where(table.c.job_pk == job.pk, table.c.row_index >= start)
            .order_by(table.c.row_index)
            .limit(limit)
        )
        with self._database.read() as transaction:
            return described, [tuple(row) for row in transaction.connection.execute(query)]

    def _product(self, job: JobRecord, product: str) -> ProductRecord | None:
        columns = [column for column in products.c if column.name != "job_pk"]
        query = sa.select(*columns).where(
            products.c.job_pk == job.pk, products.c.product == product, products.c.format == "parquet"
        )
        with self._database.read() as transaction:
            row = transaction.connection.execute(query).mappings().one_or_none()
        return None if row is None else ProductRecord(**row)


def _batches(file: pq.ParquetFile, names: Sequence[str], job_pk: int) -> Iterator[dict[str, NDArray[Any]]]:
    """The rows of a file as they go into its table, some at a time."""
    total = 0
    for batch in file.iter_batches(batch_size=_ROWS_PER_STATEMENT, columns=list(names)):
        index = np.arange(total, total + batch.num_rows, dtype=np.int64)
        total += batch.num_rows
        columns = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in names}
        yield {"job_pk": np.full(batch.num_rows, job_pk, np.int64), "row_index": index, **columns}


def _place(batch: Mapping[str, NDArray[Any]], owner: str) -> dict[str, NDArray[Any]]:
    """Whose stars these are and where on the sky; what is no star of its own has no place there."""
    nowhere = np.full(len(batch["job_pk"]), np.nan)
    index = catalog_index(batch.get("coord_ra", nowhere), batch.get("coord_dec", nowhere))
    if "detect_isPrimary" in batch:
        index = np.ma.masked_where(~batch["detect_isPrimary"].astype(bool), index)
    return {"owner": np.full(len(index), owner.encode()), INDEX_COLUMN: index}


def _insert_rows(
    connection: sa.Connection, table: sa.Table, names: Sequence[str], batches: Iterable[dict[str, NDArray[Any]]]
) -> int:
    # Rows go to the driver as plain tuples: building a dictionary a row costs more than the insert.
    quote = connection.dialect.identifier_preparer.quote
    columns = ", ".join(quote(name) for name in names)
    marks = ", ".join(["?"] * len(names))
    statement = f"INSERT INTO {quote(table.name)} ({columns}) VALUES ({marks})"  # noqa: S608 - names of our own tables
    total = 0
    for batch in batches:
        rows = list(zip(*(_sqlite_values(values) for values in batch.values()), strict=True))
        connection.exec_driver_sql(statement, rows)
        total += len(rows)
    return total


def _sqlite_values(values: NDArray[Any]) -> list[Any]:
    """Values that the driver binds as they are.

    For a bool or None it looks for an adapter first, which takes longer than all the rest. SQLite makes a NaN NULL.
    """
    if values.dtype.kind == "b":
        return list(values.view(np.uint8).tolist())
    return _python_values(values, np.isinf(values) if values.dtype.kind == "f" else None)


def _python_values(values: NDArray[Any], missing: NDArray[np.bool_] | None = None) -> list[Any]:
    """Values of a column, with None where they are missing: by default numbers that are not finite."""
    if values.dtype.kind == "S":
        return [value.decode() for value in values.tolist()]
    if values.dtype.kind != "f":
        return list(values.tolist())
    if missing is None:
        missing = ~np.isfinite(values)
    if not missing.any():
        return list(values.tolist())
    objects = values.astype(object)
    objects[missing] = None
    return list(objects)


def _described(schema: Schema, names: Sequence[str]) -> tuple[CatalogColumn, ...]:
    columns = []
    for name in names:
        column = schema[schema.resolve(name)]
        columns.append(CatalogColumn(name, column.dtype, column.unit, column.doc))
    return tuple(columns)


def _row_after(cursor: str) -> int:
    if not CURSOR.fullmatch(cursor):
        raise ValueError(f"not a cursor: {cursor}")
    return int(cursor) + 1


def _read_schema(path: Path) -> pa.Schema:
    import pyarrow.parquet as pq

    return pq.read_schema(path)


def _true_fields(schema: pa.Schema) -> list[pa.Field]:
    """Columns without those that repeat another under the name of a slot."""
    return [field for field in schema if b"alias_of" not in (field.metadata or {})]


def _column(field: pa.Field) -> CatalogColumn:
    notes = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    kind = np.dtype(field.type.to_pandas_dtype())
    dtype = {"b": "?", "O": "U"}.get(kind.kind, kind.str[1:])
    return CatalogColumn(field.name, dtype, notes.get("unit", ""), notes.get("description", ""))


def _file_rows(
    path: Path, names: Sequence[str] | None, start: int, limit: int
) -> tuple[tuple[CatalogColumn, ...], list[tuple[Any, ...]]]:
    import pyarrow.parquet as pq

    schema = _read_schema(path)
    wanted = [field.name for field in _true_fields(schema)] if names is None else list(names)
    for name in wanted:
        if name not in schema.names:
            raise KeyError(name)
    table = pq.read_table(path, columns=wanted).slice(start, limit).combine_chunks()
    columns = [_python_values(table.column(name).to_numpy()) for name in wanted]
    rows = list(zip(*columns, strict=True))
    return tuple(_column(schema.field(name)) for name in wanted), rows
