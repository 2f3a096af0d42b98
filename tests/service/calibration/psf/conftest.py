"""The inputs of the PSF stage as Rubin's own code had them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from service.exposure.catalog import SourceCatalog
from service.exposure.exposure import Exposure
from service.exposure.footprint import FootprintSet
from service.exposure.mask import MaskPlanes
from service.exposure.masked_image import MaskedImage
from service.exposure.star_schema import psf_star_schema

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass
class PsfPass:
    """One PSF measurement of the reference run: its inputs, and what it made of them."""

    exposure: Exposure
    catalog: SourceCatalog
    stage: Callable[[str], Any]
    options: Callable[[str], dict[str, Any]]

    def rows(self, ids: NDArray[np.int64]) -> NDArray[np.intp]:
        """Catalogue rows of some ids."""
        return np.searchsorted(self.catalog["id"], ids)


def _one(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    assert len(found) == 1, f"{pattern}: {found}"
    return found[0]


def _model(path: Path) -> NDArray[np.float64]:
    twice = np.load(path)["model_d2_milli"]
    return np.cumsum(np.cumsum(twice, axis=1, dtype=np.int64), axis=1) * 1e-3


def _footprints(detection: Any, n: int) -> FootprintSet:
    spans, peaks = detection["positive_spans"], detection["positive_peaks"]

    def offsets(owner: NDArray[np.int32]) -> NDArray[np.int64]:
        return np.searchsorted(owner, np.arange(n + 1)).astype(np.int64)

    return FootprintSet.build(spans[:, 1:], offsets(spans[:, 0]), peaks[:, 1:], peak_offsets=offsets(peaks[:, 0]))


def _catalog(path: Path, footprints: FootprintSet) -> SourceCatalog:
    table = pq.read_table(path)
    schema = psf_star_schema()
    catalog = SourceCatalog.allocate(schema, table.num_rows, footprints)
    for name in schema.names:
        catalog[name] = table.column(name).to_numpy()
    return catalog


@pytest.fixture(scope="session")
def psf_pass(parity_dir: Path) -> Callable[[str, str, int], PsfPass]:
    """Inputs and outputs of PSF measurement ``k`` (from 1) of an exposure and variant."""

    @cache
    def load(name: str, variant: str, k: int) -> PsfPass:
        stages = parity_dir / name / variant / "stages"
        with fits.open(parity_dir / name / "exposure.fits") as hdus:
            image, mask, variance = (hdus[i].data for i in (1, 2, 3))
            planes = MaskPlanes({key[3:]: value for key, value in hdus[2].header.items() if key.startswith("MP_")})
        models = [_one(stages, "001_background_*_1.npz")]
        if variant == "rubin_classic":
            models += [_one(stages, f"*_background_psf-background_{i + 1}.npz") for i in range(k)]
        image = (image - sum(_model(path) for path in models)).astype(np.float32)
        kind, last = ("psf", k) if variant == "rubin_classic" else ("psf_adaptive", 2)
        detection = np.load(_one(stages, f"*_detection_{kind}_{last}.npz"))
        catalog_path = _one(stages, f"*_psf_source_measurement_{k}.parquet")
        footprints = _footprints(detection, len(detection["source_ids"]))
        exposure = Exposure(MaskedImage(image, mask.astype(np.int32), variance, planes))
        exposure.masked_image.clear_planes(["DETECTED"])
        footprints.paint(exposure.masked_image.mask, planes.bitmask(["DETECTED"]))
        return PsfPass(
            exposure,
            _catalog(catalog_path, footprints),
            lambda stage: np.load(_one(stages, f"*_{stage}_{k}.npz")),
            lambda stage: json.loads(_one(stages, f"*_{stage}_{k}.json").read_text()),
        )

    return load
