"""Which rows and columns of a catalogue: the query parameters, read once for SQL and files alike."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from api.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from service.exposure.catalog import Schema, SourceCatalog

__all__ = ["Condition", "RowQuery", "column_names", "parse_row_query", "select_rows", "unknown_column"]

MAX_COLUMNS = 500
MAX_CONDITIONS = 20
CONDITION = re.compile(r"\s*([A-Za-z_]\w*)\s*(>=|<=|!=|=|<|>)\s*(.*?)\s*")
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
    """Which rows, and what of them.

    Parameters
    ----------
    columns : tuple of str or None
        Under the names asked for, which may be slots; None for all.
    where : tuple of Condition
        Conditions that all must hold.
    order : str or None
        A column, ``-`` in front for falling.
    """

    columns: tuple[str, ...] | None
    where: tuple[Condition, ...]
    order: str | None

    @property
    def is_everything(self) -> bool:
        """Whether the query is the whole catalogue as it stands."""
        return self.columns is None and not self.where and self.order is None


def parse_row_query(columns: str | None, where: str | None, order: str | None, schema: Schema) -> RowQuery:
    """Read the query parameters.

    Parameters
    ----------
    columns : str or None
        Names joined by commas, slots allowed.
    where : str or None
        Conditions joined by commas: ``base_PsfFlux_flag=false,coord_ra>1.2``.
    order : str or None
        A column, with a leading ``-`` for falling order.
    schema : Schema
        Columns of the catalogue.

    Raises
    ------
    Problem
        ``catalog.unknown_column`` or ``catalog.invalid_query``.
    """

    def known(name: str, parameter: str) -> str:
        try:
            return schema.resolve(name)
        except KeyError:
            raise unknown_column(name, parameter) from None

    chosen = None
    if columns is not None:
        chosen = tuple(column_names(columns))
        for name in chosen:
            known(name, "columns")
    conditions = []
    for text in where.split(",") if where else []:
        match = CONDITION.fullmatch(text)
        if match is None:
            raise _invalid("where", f"{text!r} is not a column, one of = != < <= > >=, and a value")
        name = known(match[1], "where")
        conditions.append((name, match[2], _value(match[3], schema[name].dtype, name)))
    if len(conditions) > MAX_CONDITIONS:
        raise _invalid("where", f"has more than {MAX_CONDITIONS} conditions")
    if order is not None:
        sign = "-" if order.startswith("-") else ""
        order = sign + known(order.removeprefix("-"), "order")
    return RowQuery(chosen, tuple(conditions), order)


def column_names(text: str) -> list[str]:
    """Names in a list joined by commas.

    Raises
    ------
    Problem
        ``catalog.invalid_query``: none, or too many.
    """
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not 0 < len(names) <= MAX_COLUMNS:
        raise _invalid("columns", f"must name 1 to {MAX_COLUMNS} columns")
    return names


def unknown_column(name: str, parameter: str) -> Problem:
    """The answer to a column that is not there."""
    return Problem(
        "catalog.unknown_column",
        f"The catalogue has no column {name}.",
        errors=[{"parameter": parameter, "detail": f"unknown column {name}", "code": "unknown_column"}],
    )


def _invalid(parameter: str, detail: str) -> Problem:
    errors = [{"parameter": parameter, "detail": detail, "code": "invalid"}]
    return Problem("catalog.invalid_query", f"{parameter} {detail}.", errors=errors)


def _value(text: str, dtype: str, column: str) -> bool | int | float | str:
    """A condition's value in the column's own type."""
    text = text.strip("'\"")
    if dtype == "U":
        return text
    if dtype == "?":
        if text.lower() not in ("true", "false", "1", "0"):
            raise _invalid("where", f"{column} is true or false, not {text!r}")
        return text.lower() in ("true", "1")
    try:
        value = int(text) if re.fullmatch(r"[+-]?\d{1,19}", text) else float(text)
    except ValueError:
        raise _invalid("where", f"{column} is a number, not {text!r}") from None
    if not np.isfinite(value):
        raise _invalid("where", f"{text} cannot be compared with")
    return value


def select_rows(catalog: SourceCatalog, query: RowQuery) -> SourceCatalog:
    """Rows of a catalogue in memory that a query means; NaN meets no condition and sorts last."""
    keep = np.ones(len(catalog), bool)
    for name, operator, value in query.where:
        values = catalog[name]
        keep &= _COMPARE[operator](values, value)
        if values.dtype.kind == "f":
            keep &= np.isfinite(values)
    rows = np.flatnonzero(keep)
    if query.order is not None:
        rows = rows[_sorted(catalog[query.order.removeprefix("-")][rows], falling=query.order.startswith("-"))]
    return catalog.select(rows)


def _sorted(values: NDArray[Any], *, falling: bool) -> NDArray[np.intp]:
    """Stable order; equal values keep their row order either way."""
    if values.dtype == object:
        values = values.astype(str)
    if not falling:
        return np.argsort(values, kind="stable")
    _, ranks = np.unique(values, return_inverse=True)
    if values.dtype.kind == "f":
        ranks = np.where(np.isnan(values), -1, ranks)
    return np.argsort(-ranks, kind="stable")
