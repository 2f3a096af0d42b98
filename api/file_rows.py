"""JSON pages of catalogues whose rows are in a file only."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from api.problems import Problem
from api.row_query import select_rows
from service.storage.records import CatalogColumn, CatalogPage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from api.row_query import RowQuery
    from service.exposure.catalog import SourceCatalog

__all__ = ["file_page"]

CURSOR = re.compile(r"[0-9]{1,12}")


def file_page(catalog: SourceCatalog, query: RowQuery, limit: int, after: str | None) -> CatalogPage:
    """A page of the rows that a query means.

    Parameters
    ----------
    catalog : SourceCatalog
        All rows.
    query : RowQuery
        Which of them, with which columns, in which order.
    limit : int
        Rows of the page at most.
    after : str or None
        Cursor that the page before gave.

    Raises
    ------
    Problem
        ``page.invalid_cursor``.
    """
    start = 0 if after is None else _position(after)
    chosen = select_rows(catalog, query)
    names = query.columns if query.columns is not None else tuple(chosen.schema.names)
    stop = min(start + limit, len(chosen))
    lists = [_plain(chosen[name][start:stop]) for name in names]
    columns = []
    for name in names:
        column = chosen.schema[chosen.schema.resolve(name)]
        columns.append(CatalogColumn(name, column.dtype, column.unit, column.doc))
    cursor = str(stop - 1) if stop < len(chosen) else None
    return CatalogPage(tuple(columns), list(zip(*lists, strict=True)), len(chosen), cursor)


def _plain(values: NDArray[Any]) -> list[Any]:
    """Python values, None for NaN."""
    items: list[Any] = values.tolist()
    if values.dtype.kind == "f":
        return [item if math.isfinite(item) else None for item in items]
    return items


def _position(cursor: str) -> int:
    """First row of a page: cursors are those of the rows in SQL."""
    if not CURSOR.fullmatch(cursor):
        raise Problem("page.invalid_cursor", f"{cursor!r} is not a marker of this list.")
    return int(cursor) + 1
