"""Footprints of a catalogue as Parquet: one row a source, lists of spans, peaks and pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from service.exposure.footprint import FootprintSet
from service.formats.errors import FormatError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from service.exposure.catalog import SourceCatalog

__all__ = ["read_footprints", "write_footprints"]

_SPANS = ("span_y", "span_x0", "span_x1")
_PEAKS = ("peak_x", "peak_y", "peak_value", "peak_significance")


def write_footprints(destination: Path | BinaryIO, catalog: SourceCatalog) -> None:
    """Write the footprints of a catalogue; a path is overwritten.

    Columns: ``id``; ``span_y``, ``span_x0``, ``span_x1`` (inclusive, parent frame); ``peak_x``, ``peak_y``,
    ``peak_value`` (counts), ``peak_significance``; ``pixels`` (counts in span order, empty unless deblended).

    Raises
    ------
    ValueError
        The catalogue has no footprints.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    sets = catalog.footprints
    if sets is None:
        raise ValueError("the catalogue has no footprints")

    def lists(offsets: NDArray[np.int64], values: NDArray[Any]) -> Any:
        return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.ascontiguousarray(values)))

    columns = {"id": pa.array(catalog["id"])}
    columns |= {name: lists(sets.span_offsets, sets.spans[:, i]) for i, name in enumerate(_SPANS)}
    peaks = (sets.peaks[:, 0], sets.peaks[:, 1], sets.peak_values, sets.peak_significance)
    columns |= {name: lists(sets.peak_offsets, values) for name, values in zip(_PEAKS, peaks, strict=True)}
    columns["pixels"] = lists(sets.pixel_offsets, sets.pixels)
    pq.write_table(pa.table(columns), destination, compression="snappy", use_dictionary=False)


def read_footprints(path: Path) -> tuple[NDArray[np.int64], FootprintSet]:
    """Source ids and footprints of `write_footprints`.

    Raises
    ------
    FormatError
        The file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read().combine_chunks()

        def lists(name: str) -> tuple[NDArray[np.int64], NDArray[Any]]:
            chunks = table.column(name).chunks
            if not chunks:
                return np.zeros(1, np.int64), np.zeros(0, np.int32)
            return np.asarray(chunks[0].offsets), np.asarray(chunks[0].values)

        spans = [lists(name) for name in _SPANS]
        peaks = [lists(name) for name in _PEAKS]
        pixel_offsets, pixels = lists("pixels")
        ids = np.asarray(table.column("id").to_numpy(), dtype=np.int64)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise FormatError("format.corrupt", f"the footprints cannot be read: {error}") from error
    return ids, FootprintSet.build(
        np.stack([values for _, values in spans], axis=1).astype(np.int32),
        spans[0][0],
        np.stack([values for _, values in peaks[:2]], axis=1).astype(np.int32),
        peaks[2][1],
        peaks[3][1],
        peaks[0][0],
        pixels,
        pixel_offsets,
    )
