"""References have everything there is, with the values that a job gets."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from making.reference import DOCS
from pydantic_core import to_jsonable_python

from api.problem_types import PROBLEM_TYPES
from service.calibration.errors import algorithm_errors
from service.calibration.presets import resolve_config
from service.exposure.star_schema import psf_star_schema, star_schema
from service.exposure.summary import summary_fields


def rows(page: str) -> list[dict[str, str]]:
    """Rows of all tables of a page, by the heads of their columns; what is code is bare."""
    found: list[dict[str, str]] = []
    head: list[str] | None = None
    for line in (DOCS / "reference" / page).read_text().splitlines():
        if not line.startswith("| "):
            head = None
        elif head is None:
            head = _cells(line)
        elif not line.startswith("| ---"):
            found.append(dict(zip(head, _cells(line), strict=True)))
    return found


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def names(page: str, head: str) -> list[str]:
    return [row[head].strip("`") for row in rows(page) if head in row]


def leaves(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    found = {}
    for name, value in values.items():
        inner = leaves(value, f"{path}{name}.") if isinstance(value, dict) and value else {f"{path}{name}": value}
        found.update(inner)
    return found


@pytest.mark.parametrize("preset", ["parity", "drp"])
def test_what_a_preset_changes_is_told(preset: str) -> None:
    """By the names of the fields; compared with the resolved configurations, not with what the page was made of."""
    default = leaves(to_jsonable_python(resolve_config()))
    other = leaves(to_jsonable_python(resolve_config(preset)))
    changed = {path.rpartition(".")[2] for path in other if other[path] != default.get(path)}
    told = {row["field"] for row in rows("configuration.md") if f"{preset}: " in row.get("other presets", "")}
    assert told == {f"`{name}`" for name in changed}


def test_every_option_has_its_default() -> None:
    defaults: dict[str, list[str]] = {}
    for row in rows("configuration.md"):
        if "field" in row:
            defaults.setdefault(row["field"].strip("`"), []).append(row.get("default", ""))
    for path, value in leaves(to_jsonable_python(resolve_config())).items():
        name = path.rpartition(".")[2]
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if name in defaults and shown:  # keys of tables by band are no options
            assert any(f"`{shown}`" in default for default in defaults[name]), path
    assert {"threshold_value", "max_offset_pix", "fill", "neighbor_threshold"} <= defaults.keys()


def test_everything_declared_is_listed() -> None:
    assert names("statistics.md", "statistic") == [one.name for one in summary_fields()]
    assert names("columns.md", "column") == [*star_schema().names, *psf_star_schema().names]
    assert {*PROBLEM_TYPES, *(error.code for error in algorithm_errors())} <= set(names("errors.md", "code"))


def test_errors_have_the_numbers_that_they_carry() -> None:
    """As the tests of failures see them (`tests/api/test_calibrations.py`)."""
    rows_of = {row["code"]: row for row in rows("errors.md") if "numbers" in row}
    assert rows_of["`astrometry.bad_fit`"]["numbers"] == "`nMatches`, `distMean`, `distMedian`, `maxMeanDist`"
    assert rows_of["`stars.no_psf_star_match`"]["numbers"] == "`n_psf_stars`, `n_stars`"


def test_short_names_and_units() -> None:
    stars = {row["column"]: row for row in reversed(rows("columns.md")) if "column" in row}  # which come first
    assert stars["`coord_ra`"] | {"meaning": ""} == {
        "column": "`coord_ra`",
        "short name": "`ra` [deg]",
        "type": "float64",
        "unit": "`rad`",
        "UCD": "`pos.eq.ra;meta.main`",
        "meaning": "",
    }
    assert stars["`base_PsfFlux_mag`"]["short name"] == "`psfMag`"
