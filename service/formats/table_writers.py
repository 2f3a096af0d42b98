"""One writer for each format of tables: rows pass through, and no more of them than a batch are in memory."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from service.exposure.catalog import Column

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pyarrow as pa
    from numpy.typing import NDArray

    from service.formats.rows import WrittenTable

__all__ = ["TABLE_METADATA", "WRITERS"]

#: Where our own reader finds what it wants to know of a Parquet file.
TABLE_METADATA = "visitcal"
_FITS_TYPES = {"f8": "D", "f4": "E", "i8": "K", "i4": "J", "?": "L"}
#: Units as the VO and FITS standards write them.
_STANDARD_UNITS = {
    "mag(AB)": "mag",
    "ct2": "ct**2",
    "pix2": "pix**2",
    "rad2": "rad**2",
    "deg-2": "deg**-2",
    "1/pix": "pix**-1",
}
_BASE64_BYTES = 3 << 18  # a multiple of three, so that pieces can stand one behind the other


def _standard_unit(column: Column) -> str:
    return _STANDARD_UNITS.get(column.unit, column.unit)


# -- Arrow and what it writes


def _arrow_schema(table: WrittenTable) -> pa.Schema:
    import pyarrow as pa

    types = {"f8": pa.float64(), "f4": pa.float32(), "i8": pa.int64(), "i4": pa.int32(), "?": pa.bool_()}
    fields = []
    for written in table.columns:
        column = written.column
        about = {"unit": column.unit, "description": column.doc, "ucd": written.ucd, **written.about}
        kept = {key: value for key, value in about.items() if value}
        fields.append(pa.field(column.name, types.get(column.dtype, pa.string()), metadata=kept))
    named = {key: value for key, value in table.metadata.items() if key.isascii()}
    return pa.schema(fields, metadata=named | {TABLE_METADATA: json.dumps(table.kept)})


def _record_batches(table: WrittenTable, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    for batch in table.batches():
        arrays = [pa.array(values, type=field.type) for values, field in zip(batch, schema, strict=True)]
        yield pa.record_batch(arrays, schema=schema)


def _write_parquet(table: WrittenTable, stream: BinaryIO) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _arrow_schema(table)
    # Measured numbers hardly repeat: a dictionary of them takes half of the time, and makes the file larger.
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    with pq.ParquetWriter(stream, schema, compression="snappy", use_dictionary=texts or False) as writer:
        for batch in _record_batches(table, schema):
            writer.write_batch(batch)


def _write_arrow(table: WrittenTable, stream: BinaryIO) -> None:
    import pyarrow as pa

    schema = _arrow_schema(table)
    with pa.ipc.new_stream(stream, schema) as writer:
        for batch in _record_batches(table, schema):
            writer.write_batch(batch)


def _write_csv(table: WrittenTable, stream: BinaryIO) -> None:
    """Header and rows; what was not measured is empty."""
    import pyarrow as pa
    from pyarrow import csv

    schema = _arrow_schema(table)
    with csv.CSVWriter(stream, schema) as writer:
        for batch in _record_batches(table, schema):
            nulled = [
                pa.array(array.to_numpy(zero_copy_only=False), from_pandas=True, type=array.type)
                if pa.types.is_floating(array.type)
                else array
                for array in batch.columns
            ]
            writer.write_batch(pa.record_batch(nulled, schema=schema))


def _write_ecsv(table: WrittenTable, stream: BinaryIO) -> None:
    """Astropy's header, rows by Arrow."""
    import pyarrow as pa
    from pyarrow import compute, csv

    head = io.StringIO()
    empty = _empty_table(table)
    empty.meta.update(table.metadata)
    empty.write(head, format="ascii.ecsv")
    stream.write(head.getvalue().encode())
    schema = _arrow_schema(table)
    texts = pa.schema(
        [(field.name, pa.string() if pa.types.is_boolean(field.type) else field.type) for field in schema]
    )
    options = csv.WriteOptions(include_header=False, delimiter=" ")
    with csv.CSVWriter(stream, texts, write_options=options) as writer:
        for batch in _record_batches(table, schema):
            written = [
                compute.if_else(array, "True", "False") if pa.types.is_boolean(array.type) else array
                for array in batch.columns
            ]
            writer.write_batch(pa.record_batch(written, schema=texts))


# -- FITS


def _write_fits(table: WrittenTable, stream: BinaryIO) -> None:
    from astropy.io import fits

    from service.formats.cards import make_header
    from service.formats.fits_stream import FitsStream

    widths = table.text_widths()
    columns = []
    cards: dict[str, Any] = {}
    for number, written in enumerate(table.columns, 1):
        column = written.column
        kind = f"{widths[column.name]}A" if column.dtype == "U" else _FITS_TYPES[column.dtype]
        unit = _standard_unit(column).replace("**", "") or None
        columns.append(fits.Column(name=column.name, format=kind, unit=unit))
        cards |= {f"TCOMM{number}": column.doc or None, f"TUCD{number}": written.ucd or None}
    header = make_header(cards)
    header.extend(make_header(table.metadata), unique=False)
    writer = FitsStream(stream)
    writer.primary({})
    writer.table_rows("CATALOG", columns, dict(header), table.n_rows, _fits_rows(table, widths))


def _fits_rows(table: WrittenTable, widths: Mapping[str, int]) -> Iterator[NDArray[Any]]:
    layout = []
    for written in table.columns:
        name, dtype = written.name, written.column.dtype
        kind = f"S{widths[name]}" if dtype == "U" else "u1" if dtype == "?" else f">{dtype}"
        layout.append((name, kind))
    for batch in table.batches():
        rows = np.empty(len(batch[0]), np.dtype(layout))
        for written, values in zip(table.columns, batch, strict=True):
            if written.column.dtype == "?":
                rows[written.name] = np.where(values, ord("T"), ord("F"))
            elif written.column.dtype == "U":
                rows[written.name] = [str(value).encode("ascii", "replace") for value in values]
            else:
                rows[written.name] = values
        yield rows


# -- VOTable


def _empty_table(table: WrittenTable) -> Any:
    """Astropy's table of the columns, without rows."""
    from astropy.table import Table

    empty = Table()
    for written in table.columns:
        column = written.column
        empty[column.name] = np.zeros(0, "U1" if column.dtype == "U" else column.dtype)
        empty[column.name].description = column.doc or None
        empty[column.name].unit = _standard_unit(column) or None
        if written.ucd:
            empty[column.name].meta = {"ucd": written.ucd}
    return empty


def _write_votable(table: WrittenTable, stream: BinaryIO) -> None:
    """Astropy's head and foot; between them the rows as BINARY2."""
    from astropy.io.votable import from_table
    from astropy.io.votable.tree import Info

    widths = table.text_widths()
    document = from_table(_empty_table(table))
    resource = document.resources[0]
    resource.infos.extend(Info(name=key, value=value) for key, value in table.metadata.items())
    for field, written in zip(resource.tables[0].fields, table.columns, strict=True):
        field.ucd = written.ucd or None
        if written.column.dtype == "?":
            field.datatype, field.arraysize = "boolean", None
        if written.column.dtype == "U":
            field.datatype, field.arraysize = "unicodeChar", str(widths[written.name])
    text = io.BytesIO()
    document.to_xml(text)
    head, mark, foot = text.getvalue().rpartition(b"</TABLE>")
    stream.write(head + b'<DATA><BINARY2><STREAM encoding="base64">\n')
    _write_base64(_binary2_rows(table, widths), stream)
    stream.write(b"</STREAM></BINARY2></DATA>\n" + mark + foot)


def _binary2_rows(table: WrittenTable, widths: Mapping[str, int]) -> Iterator[NDArray[Any]]:
    layout: list[tuple[Any, ...]] = [("_flags_of_missing_values", "u1", ((len(table.columns) + 7) // 8,))]
    for written in table.columns:
        name, dtype = written.name, written.column.dtype
        if dtype == "U":
            layout.append((name, ">u2", (widths[name],)))
        else:
            layout.append((name, "u1" if dtype == "?" else f">{dtype}"))
    for batch in table.batches():
        rows = np.zeros(len(batch[0]), np.dtype(layout))
        for written, values in zip(table.columns, batch, strict=True):
            if written.column.dtype == "?":
                rows[written.name] = np.where(values, ord("T"), ord("F"))
            elif written.column.dtype == "U":
                rows[written.name] = _utf16(values, widths[written.name])
            else:
                rows[written.name] = values
        _flag_missing(rows["_flags_of_missing_values"], batch)
        yield rows


def _flag_missing(flags: NDArray[np.uint8], batch: list[NDArray[Any]]) -> None:
    """Set the bit of each masked value: the first column has the highest bit of the first byte."""
    for number, values in enumerate(batch):
        if np.ma.isMA(values):
            flags[:, number // 8] |= np.ma.getmaskarray(values).astype(np.uint8) << np.uint8(7 - number % 8)


def _utf16(values: NDArray[Any], width: int) -> NDArray[np.uint16]:
    """Texts as arrays of UCS-2 characters, shape (n, width); those beyond become a question mark."""
    codes = np.asarray(values, f"U{width}").view(np.uint32).reshape(-1, width)
    return np.where(codes > 0xFFFF, ord("?"), codes).astype(np.uint16)


def _write_base64(batches: Iterator[NDArray[Any]], stream: BinaryIO) -> None:
    left = b""
    for rows in batches:
        content = left + rows.tobytes()
        whole = len(content) - len(content) % 3
        for start in range(0, whole, _BASE64_BYTES):
            stream.write(base64.b64encode(content[start : min(start + _BASE64_BYTES, whole)]) + b"\n")
        left = content[whole:]
    stream.write(base64.b64encode(left) + b"\n")


#: The writer of each format.
WRITERS: dict[str, Callable[[WrittenTable, BinaryIO], None]] = {
    "parquet": _write_parquet,
    "arrow": _write_arrow,
    "csv": _write_csv,
    "fits": _write_fits,
    "votable": _write_votable,
    "ecsv": _write_ecsv,
}
