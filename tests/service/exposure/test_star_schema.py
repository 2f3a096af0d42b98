"""The declared columns against upstream's list."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from service.exposure.catalog import SourceCatalog
from service.exposure.star_schema import psf_star_schema, star_schema

SCHEMAS = {"psf_stars": psf_star_schema, "stars": star_schema}


@pytest.mark.parametrize("catalog", SCHEMAS)
def test_columns_are_upstreams_in_order(parity_dir: Path, catalog: str) -> None:
    listed = json.loads((parity_dir / "columns.json").read_text())[catalog]
    schema = SCHEMAS[catalog]()
    expected = [(c["name"], np.dtype(c["dtype"]), c["unit"].replace("pixels", "pix")) for c in listed["columns"]]
    assert [(c.name, np.dtype(c.dtype), c.unit) for c in schema] == expected
    dangling = {alias: target for alias, target in listed["aliases"].items() if target == "base_SdssShape_psf"}
    assert schema.aliases == {k: v for k, v in listed["aliases"].items() if k not in dangling}


def test_initial_values_say_not_measured() -> None:
    catalog = SourceCatalog.allocate(star_schema(), 3)
    for column in catalog.schema:
        values = catalog[column.name]
        assert np.isnan(values).all() if values.dtype.kind == "f" else not values.any(), column.name


def test_slots_are_views_of_the_true_columns() -> None:
    catalog = SourceCatalog.allocate(star_schema(), 2)
    catalog["slot_PsfFlux_instFlux"] = np.array([1.0, 2.0])
    assert catalog["base_PsfFlux_instFlux"].tolist() == [1.0, 2.0]
    with pytest.raises(KeyError):
        catalog["slot_PsfFlux_nothing"]
