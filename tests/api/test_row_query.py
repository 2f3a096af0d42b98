"""Choosing rows and columns."""

from __future__ import annotations

import math
import operator
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.file_rows import file_page
from api.problems import Problem
from api.row_query import Choice, parse_row_query
from service import formats
from service.exposure.catalog import Column, Schema, SourceCatalog
from service.formats.catalog_file import CatalogFile
from service.formats.row_selection import RowQuery, select_rows

OPERATORS = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
SCHEMA = Schema(
    [
        Column("id", "i8"),
        Column("flux", "f8", "nJy", "a flux"),
        Column("bad", "?"),
        Column("name", "U"),
        Column("base_PsfFlux_instFlux", "f8"),
    ],
    {"slot_PsfFlux": "base_PsfFlux"},
)


def catalog(fluxes: list[float]) -> SourceCatalog:
    table = SourceCatalog.allocate(SCHEMA, len(fluxes))
    table["id"] = np.arange(len(fluxes))
    table["flux"] = np.array(fluxes)
    table["bad"] = np.arange(len(fluxes)) % 2 == 1
    table["name"] = np.array([f"n{i}" for i in range(len(fluxes))], object)
    table["base_PsfFlux_instFlux"] = np.array(fluxes)
    return table


@contextmanager
def stored(table: SourceCatalog) -> Iterator[CatalogFile]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "t.parquet"
        formats.write_catalog(table, path, "parquet")
        with CatalogFile(path) as file:
            yield file


def parsed(file: CatalogFile, columns: str | None, where: str | None, order: str | None) -> RowQuery:
    return parse_row_query(Choice(columns, where, order), file)


def ids(table: SourceCatalog, where: str | None = None, order: str | None = None) -> list[int]:
    with stored(table) as file:
        chosen = select_rows(file, parsed(file, None, where, order))
        selected: list[int] = file.read(["id"], chosen)["id"].tolist()
    return selected


def test_conditions_must_all_hold_and_nan_meets_none() -> None:
    table = catalog([1.0, np.nan, 3.0, 4.0, 5.0])
    assert ids(table, "flux>1") == [2, 3, 4]
    assert ids(table, "flux>=1, bad=false") == ids(table, "flux>=1, !bad") == [0, 2, 4]
    assert ids(table, "bad") == [1, 3]
    assert ids(table, "flux!=3") == [0, 3, 4]
    assert ids(table, "flux<4.5,flux>-1e3,bad=true") == [3]
    assert ids(table, "name=n2") == [2]
    assert ids(table, "slot_PsfFlux_instFlux<=3") == [0, 2]
    assert ids(table, "id=3") == [3]


def test_order_is_stable_and_nan_comes_last_both_ways() -> None:
    table = catalog([2.0, np.nan, 1.0, 2.0, 3.0])
    assert ids(table, order="flux") == [2, 0, 3, 4, 1]
    assert ids(table, order="-flux") == [4, 0, 3, 2, 1]
    assert ids(table, order="-name") == [4, 3, 2, 1, 0]
    assert ids(table, order="bad") == [0, 2, 4, 1, 3]


def test_texts_that_are_not_there_meet_no_condition_and_come_last() -> None:
    table = catalog([1.0] * 5)
    table["name"] = np.array(["b", None, "a", "None", "c"], object)
    assert ids(table, "name<c") == [0, 2, 3]
    assert ids(table, "name!=a") == [0, 3, 4]
    assert ids(table, "name=None") == [3]
    assert ids(table, order="name") == [3, 2, 0, 4, 1]
    assert ids(table, order="-name") == [4, 0, 2, 3, 1]
    table["name"] = np.full(5, None, object)
    assert ids(table, "name>=") == []
    assert ids(table, order="-name") == [0, 1, 2, 3, 4]


@given(
    st.lists(st.one_of(st.floats(allow_nan=True), st.just(0.0)), max_size=30),
    st.sampled_from(sorted(OPERATORS)),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_conditions_agree_with_python(fluxes: list[float], sign: str, bound: float) -> None:
    expected = [i for i, flux in enumerate(fluxes) if math.isfinite(flux) and OPERATORS[sign](flux, bound)]
    assert ids(catalog(fluxes), f"flux{sign}{bound!r}") == expected


@given(st.lists(st.floats(allow_nan=True, allow_infinity=False), max_size=40), st.integers(1, 7), st.booleans())
def test_pages_put_together_are_the_whole(fluxes: list[float], limit: int, falling: bool) -> None:
    with stored(catalog(fluxes)) as file:
        query = parsed(file, "flux,id", None, "-flux" if falling else "flux")
        whole = file_page(file, query, 1000, None)
        assert whole.next is None
        rows, after = [], None
        while True:
            page = file_page(file, query, limit, after)
            assert len(page.rows) <= limit
            assert page.total == len(fluxes)
            rows += page.rows
            after = page.next
            if after is None:
                break
    assert rows == whole.rows
    assert [column.name for column in whole.columns] == ["flux", "id"]
    assert sorted(row[1] for row in rows) == list(range(len(fluxes)))
    assert all(row[0] is None or isinstance(row[0], float) for row in rows)


@pytest.mark.parametrize(
    ("columns", "where", "order", "code"),
    [
        ("nope", None, None, "catalog.unknown_column"),
        (None, "nope>1", None, "catalog.unknown_column"),
        (None, None, "-nope", "catalog.unknown_column"),
        (",,", None, None, "catalog.invalid_query"),
        (None, None, "", "catalog.invalid_query"),
        (None, None, "-flux,id", "catalog.invalid_query"),
        (None, "flux", None, "catalog.invalid_query"),
        (None, "flux>>1", None, "catalog.invalid_query"),
        (None, "flux>abc", None, "catalog.invalid_query"),
        (None, "flux>nan", None, "catalog.invalid_query"),
        (None, "flux>1e999", None, "catalog.invalid_query"),
        (None, "bad=maybe", None, "catalog.invalid_query"),
        (None, "flux>1;drop table", None, "catalog.invalid_query"),
        (None, ",".join(["flux>1"] * 30), None, "catalog.invalid_query"),
    ],
)
def test_bad_queries_are_refused(columns: str | None, where: str | None, order: str | None, code: str) -> None:
    with stored(catalog([1.0])) as file, pytest.raises(Problem) as caught:
        parsed(file, columns, where, order)
    assert caught.value.kind.code == code
    assert caught.value.errors


@pytest.mark.parametrize("cursor", ["", "!!", "x", "LTE", "MTIzNDU2Nzg5MDEyMzQ1Njc4"])
def test_foreign_cursors_are_refused(cursor: str) -> None:
    with stored(catalog([1.0])) as file, pytest.raises(Problem) as caught:
        file_page(file, RowQuery(), 10, cursor)
    assert caught.value.kind.code == "page.invalid_cursor"
