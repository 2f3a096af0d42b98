"""Which rows of a stored catalogue a query means, worked out from the few columns that it names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from service.exposure.catalog import Schema
    from service.exposure.sky_region import Region
    from service.formats.catalog_file import CatalogFile

__all__ = ["Condition", "RowQuery", "has_positions", "position_columns", "select_rows"]

#: Column, comparison, value.
Condition = tuple[str, str, Any]

_COMPARE: dict[str, Callable[[NDArray[Any], Any], NDArray[np.bool_]]] = {
    "=": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


@dataclass(frozen=True, slots=True)
class RowQuery:
    """Which rows, and what of them; columns under any name that `CatalogFile` knows.

    Parameters
    ----------
    columns : tuple of str or None
        Under the names asked for; None for all.
    where : tuple of Condition
        Conditions that all must hold.
    order : str or None
        A column, ``-`` in front for falling.
    region : Region or None
        Where on the sky.
    """

    columns: tuple[str, ...] | None = None
    where: tuple[Condition, ...] = ()
    order: str | None = None
    region: Region | None = None

    @property
    def is_everything(self) -> bool:
        """Whether the query is the whole catalogue as it stands."""
        return self.columns is None and self.takes_all_rows

    @property
    def takes_all_rows(self) -> bool:
        """Whether all rows are meant, as they stand."""
        return not self.where and self.order is None and self.region is None


def position_columns(schema: Schema) -> tuple[str, str]:
    """Columns with right ascension and declination, in rad; of a match list those of the source.

    Raises
    ------
    KeyError
        The rows have no positions.
    """
    for prefix in ("", "src_"):
        names = f"{prefix}coord_ra", f"{prefix}coord_dec"
        if all(name in schema for name in names):
            return names
    raise KeyError("coord_ra")


def has_positions(file: CatalogFile) -> bool:
    """Whether any row is somewhere on the sky; a catalogue without rows lacks nothing.

    Raises
    ------
    KeyError
        The rows have no columns of positions.
    """
    places = file.batches(position_columns(file.schema))
    return not len(file) or any(np.isfinite(longitude).any() for longitude, _ in places)


def select_rows(file: CatalogFile, query: RowQuery) -> NDArray[np.int64] | None:
    """Numbers of the rows in the order of the answer; None for all as they stand.

    What is missing (NaN, null) meets no condition and sorts last; equal values keep the order of their rows.

    Parameters
    ----------
    file : CatalogFile
        The catalogue.
    query : RowQuery
        With columns that it has.
    """
    if query.takes_all_rows:
        return None
    rows = _kept(file, query)
    if query.order is None:
        return rows
    name = query.order.removeprefix("-")
    return rows[_sorted(file.read([name], rows)[name], falling=query.order.startswith("-"))]


def _kept(file: CatalogFile, query: RowQuery) -> NDArray[np.int64]:
    names = list(dict.fromkeys(name for name, _, _ in query.where))
    position = position_columns(file.schema) if query.region is not None else ()
    first, kept = 0, []
    if not names and not position:
        return np.arange(len(file), dtype=np.int64)
    for batch in file.batches([*names, *position]):
        values = dict(zip(names, batch, strict=False))
        keep = np.ones(len(batch[0]), bool)
        for name, operator, value in query.where:
            keep &= _met(values[name], operator, value)
        if query.region is not None:
            keep &= query.region.contains(*np.degrees(batch[-2:]))
        kept.append(first + np.flatnonzero(keep))
        first += len(keep)
    return np.concatenate(kept) if kept else np.zeros(0, np.int64)


def _met(values: NDArray[Any], operator: str, value: Any) -> NDArray[np.bool_]:
    """Where a condition holds."""
    met = np.isfinite(values) if values.dtype.kind == "f" else ~_missing(values)
    met[met] = _COMPARE[operator](values[met], value)
    return met


def _missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Numbers that were not measured, and texts that are not there."""
    if values.dtype.kind == "f":
        missing: NDArray[np.bool_] = np.isnan(values)
        return missing
    if values.dtype == object:
        return np.fromiter((value is None for value in values), bool, len(values))
    return np.zeros(len(values), bool)


def _sorted(values: NDArray[Any], *, falling: bool) -> NDArray[np.intp]:
    """Stable order; equal values keep their row order either way."""
    missing = _missing(values)
    known = values[~missing]
    _, order = np.unique(known.astype(str) if values.dtype == object else known, return_inverse=True)
    ranks = np.full(len(values), len(values), np.int64)
    ranks[~missing] = -order if falling else order
    return np.argsort(ranks, kind="stable")
