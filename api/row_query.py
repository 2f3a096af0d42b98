"""Which rows and columns of a catalogue: the query parameters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import numpy as np
from fastapi import Query

from api.problems import Problem
from service.exposure.sky_region import Circle, Polygon
from service.formats.row_selection import Condition, RowQuery, has_positions

if TYPE_CHECKING:
    from service.exposure.sky_region import Region
    from service.formats.catalog_file import CatalogFile

__all__ = ["Choice", "column_names", "numbers", "parse_row_query", "unknown_column"]

MAX_COLUMNS = 500
MAX_CONDITIONS = 20
MAX_CORNERS = 100
CONDITION = re.compile(r"\s*([A-Za-z_]\w*)\s*(>=|<=|!=|=|<|>)\s*(.*?)\s*")
FLAG = re.compile(r"\s*(!?)\s*([A-Za-z_]\w*)\s*")


class Choice:
    """The query parameters by which rows are chosen, as they came.

    Parameters are described at the address that takes them.
    """

    def __init__(
        self,
        columns: Annotated[
            str | None,
            Query(max_length=20_000, description="Column names joined by commas; slots, short names (`psfMag`) too."),
        ] = None,
        where: Annotated[
            str | None,
            Query(
                max_length=5000,
                description="Conditions that must all hold, joined by commas: `column=value`, and `!= < <= > >=`; "
                "`flag` and `!flag`.",
                examples=["!base_PsfFlux_flag,psfMag<18"],
            ),
        ] = None,
        order: Annotated[
            str | None, Query(max_length=200, description="A column to sort by; with `-` in front, falling.")
        ] = None,
        cone: Annotated[
            str | None,
            Query(max_length=200, description="Only inside a circle: `ra,dec,radius` [deg].", examples=["61,-38,0.1"]),
        ] = None,
        polygon: Annotated[
            str | None,
            Query(max_length=5000, description="Only inside a convex polygon: `ra,dec,ra,dec,...` [deg]."),
        ] = None,
    ) -> None:
        self.columns, self.where, self.order = columns, where, order
        self.cone, self.polygon = cone, polygon

    @property
    def is_everything(self) -> bool:
        """Whether nothing was chosen."""
        return self.columns is None and self.takes_all_rows

    @property
    def takes_all_rows(self) -> bool:
        """Whether all rows are meant, as they stand."""
        return all(given is None for given in (self.where, self.order, self.cone, self.polygon))


def parse_row_query(choice: Choice, file: CatalogFile) -> RowQuery:
    """Read the query parameters.

    Parameters
    ----------
    choice : Choice
        As they came.
    file : CatalogFile
        Knows the columns.

    Raises
    ------
    Problem
        ``catalog.unknown_column``, ``catalog.invalid_query`` or ``image.no_wcs``.
    """
    chosen = None
    if choice.columns is not None:
        chosen = tuple(column_names(choice.columns))
        for name in chosen:
            _dtype(file, name, "columns")
    conditions = tuple(_condition(text, file) for text in (choice.where.split(",") if choice.where else []))
    if len(conditions) > MAX_CONDITIONS:
        raise _invalid("where", f"has more than {MAX_CONDITIONS} conditions")
    if choice.order is not None:
        name = choice.order.removeprefix("-")
        if not name or "," in name:
            raise _invalid("order", "must be one column, with - in front for falling")
        _dtype(file, name, "order")
    return RowQuery(chosen, conditions, choice.order, _region(choice, file))


def _dtype(file: CatalogFile, name: str, parameter: str) -> str:
    try:
        return file.column(name).dtype
    except KeyError:
        raise unknown_column(name, parameter) from None


def _condition(text: str, file: CatalogFile) -> Condition:
    if (flag := FLAG.fullmatch(text)) is not None:
        if _dtype(file, flag[2], "where") != "?":
            raise _invalid("where", f"{flag[2]} is no flag; it needs a comparison")
        return flag[2], "=", not flag[1]
    match = CONDITION.fullmatch(text)
    if match is None:
        raise _invalid("where", f"{text!r} is not a column, one of = != < <= > >=, and a value")
    return match[1], match[2], _value(match[3], _dtype(file, match[1], "where"), match[1])


def _region(choice: Choice, file: CatalogFile) -> Region | None:
    given = [(name, text) for name, text in (("cone", choice.cone), ("polygon", choice.polygon)) if text is not None]
    if not given:
        return None
    if len(given) > 1:
        raise _invalid("polygon", "and cone cannot be asked for together")
    (parameter, text), *_ = given
    try:
        is_placed = has_positions(file)
    except KeyError:
        raise _invalid(parameter, "needs positions, which this catalogue does not have") from None
    if not is_placed:
        detail = "needs positions on the sky, and no row has one: the run made no astrometric solution"
        errors = [{"parameter": parameter, "detail": detail, "code": "no_wcs"}]
        raise Problem("image.no_wcs", f"{parameter} {detail}.", errors=errors)
    found = numbers(text, parameter)
    if parameter == "cone":
        if len(found) != 3 or not 0 < found[2] <= 180 or abs(found[1]) > 90:
            raise _invalid("cone", "must be ra, dec (-90 to 90) and radius (above 0, at most 180) in degrees")
        return Circle(*found)
    corners = np.array(found[: len(found) // 2 * 2]).reshape(-1, 2)
    if len(found) % 2 or not 3 <= len(corners) <= MAX_CORNERS or np.any(np.abs(corners[:, 1]) > 90):
        raise _invalid("polygon", f"must be 3 to {MAX_CORNERS} pairs of ra, dec (-90 to 90) in degrees")
    outline = Polygon(corners[:, 0], corners[:, 1])
    if not outline.is_convex:
        raise _invalid("polygon", "must be convex, smaller than a hemisphere, its corners in order")
    return outline


def numbers(text: str, parameter: str) -> list[float]:
    """Finite numbers joined by commas.

    Raises
    ------
    Problem
        ``catalog.invalid_query``.
    """
    try:
        found = [float(item) for item in text.split(",")]
    except ValueError:
        found = [np.nan]
    if not np.all(np.isfinite(found)):
        raise _invalid(parameter, "must be finite numbers joined by commas")
    return found


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
