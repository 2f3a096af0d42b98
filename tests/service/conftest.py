"""Catalogues and numbers of the recorded upstream runs, in our own tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from service.exposure.catalog import Schema, SourceCatalog
from service.exposure.exposure import Exposure, FilterLabel
from service.exposure.masked_image import MaskedImage
from service.exposure.reference import ReferenceCatalog, reference_schema
from service.exposure.wcs import Wcs

#: Fields and variants with recorded stages.
STAGED_RUNS = [
    ("typical1k", "rubin_classic"),
    ("crowded1k", "rubin_classic"),
    ("sharp1k", "rubin_classic"),
    ("undersampled1k", "rubin_classic"),
    ("typical1k", "rubin_adaptive"),
]


class UpstreamRun:
    """Outputs and recorded stages of one run of upstream's task."""

    def __init__(self, field: Path, variant: str) -> None:
        self.field, self.folder = field, field / variant
        if not self.folder.is_dir():
            pytest.skip(f"no run {variant} of {field.name}")

    def json(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / name).read_text())

    def stage(self, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and options of the only stage with this name."""
        (path,) = (self.folder / "stages").glob(f"[0-9][0-9][0-9]_{name}.npz")
        with np.load(path) as data:
            return {key: data[key] for key in data}, json.loads(path.with_suffix(".json").read_text())

    def table(self, name: str) -> dict[str, np.ndarray]:
        table = pq.read_table(self.folder / name)
        return {column: table[column].to_numpy() for column in table.column_names}

    def catalog(self, name: str, schema: Schema, *, without: tuple[str, ...] = ()) -> SourceCatalog:
        """Our catalogue with upstream's values, except in columns that start with one of ``without``."""
        values = self.table(name)
        catalog = SourceCatalog.allocate(schema, len(values["id"]))
        for column in schema.names:
            if not column.startswith(without):
                catalog[column] = values[column]
        return catalog

    def empty_exposure(self, wcs: Wcs | None) -> Exposure:
        """An exposure of the run's size and band without signal."""
        planes = [np.zeros((1024, 1024), dtype) for dtype in ("f4", "i4", "f4")]
        return Exposure(MaskedImage(*planes), wcs=wcs, filter=FilterLabel("r"))

    def astrometry_inputs(self, k: int = 1) -> tuple[Wcs, ReferenceCatalog]:
        """WCS and references that went into round ``k`` of the fit."""
        arrays, options = self.stage(f"astrometry_{k}")
        references = make_references(arrays["reference_radec_deg"], {"phot_g_mean": arrays["reference_flux_njy"]})
        references.table["id"] = arrays["reference_id"]
        return recorded_wcs(options["wcs_in"]), references

    def refcat(self) -> ReferenceCatalog:
        """The whole simulated reference catalogue with its band r."""
        data = fits.getdata(self.field / "refcat.fits")
        flux = 10 ** (0.4 * (31.4 - data["r_mag"].astype(float)))
        references = make_references(np.column_stack([data["ra"], data["dec"]]), {"r": flux})
        references.table["r_fluxErr"] = flux * data["r_magerr"] * np.log(10) / 2.5
        references.table["id"] = data["id"]
        return references


def recorded_wcs(state: dict[str, Any]) -> Wcs:
    return Wcs.tan(tuple(state["crpix0"]), tuple(state["crval_deg"]), state["cd_deg_per_px"])


def make_references(positions: np.ndarray, fluxes: dict[str, np.ndarray]) -> ReferenceCatalog:
    """References at positions (deg, shape (n, 2)) with fluxes (nJy) by band; ids from 1."""
    table = SourceCatalog.allocate(reference_schema(list(fluxes)), len(positions))
    table["id"] = np.arange(1, len(positions) + 1)
    table["coord_ra"], table["coord_dec"] = np.radians(positions).T
    for band, flux in fluxes.items():
        table[f"{band}_flux"] = flux
    return ReferenceCatalog(table, tuple(fluxes), "test")


@pytest.fixture(scope="session")
def upstream(parity_dir: Path):
    """Opens a run: ``upstream(field, variant)``."""

    def opened(field: str, variant: str = "rubin_classic") -> UpstreamRun:
        return UpstreamRun(parity_dir / field, variant)

    return opened


@pytest.fixture(params=STAGED_RUNS, ids=["-".join(run) for run in STAGED_RUNS], scope="session")
def staged_run(request: pytest.FixtureRequest, upstream) -> UpstreamRun:
    """Each run with recorded stages."""
    return upstream(*request.param)


@pytest.fixture(scope="session")
def references_of():
    """Makes a reference catalogue: ``references_of(positions_deg, {band: flux_njy})``."""
    return make_references
