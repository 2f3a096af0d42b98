"""Five small exposures that between them take every road through a calibration, and all that comes out of one."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from service.calibration.calibrate_image import CalibrateImage, References
from service.calibration.presets import resolve_config
from service.calibration.result import CalibrationResult
from service.refcats import load_table
from service.simulation import Simulation, SimulationConfig, simulate

Values = dict[str, np.ndarray]

CATALOGS = "psf_stars", "stars", "astrometry_matches", "photometry_matches"
BLOCK = 32


@dataclass(frozen=True)
class Case:
    """An exposure and how it is calibrated."""

    scene: SimulationConfig
    preset: str = "generic"
    overrides: dict[str, Any] = field(default_factory=dict)


CASES = {
    "typical": Case(SimulationConfig(size=640, seed=11, n_stars=420, n_galaxies=120, mag_faint=25.0)),
    "crowded": Case(SimulationConfig(size=512, seed=12, n_stars=1500, n_galaxies=60, mag_faint=25.0)),
    "sharp": Case(SimulationConfig(size=512, seed=13, n_stars=300, n_galaxies=80, fwhm=2.5)),
    "halo": Case(
        SimulationConfig(size=768, seed=14, n_stars=500, n_galaxies=150, fwhm=6.0, halo_star_mag=12.0), "parity"
    ),
    "snaps": Case(
        SimulationConfig(size=512, seed=15, n_stars=300, n_galaxies=90, n_snaps=2),
        overrides={"do_adaptive_threshold_detection": True},
    ),
}


def references(simulation: Simulation) -> References:
    """The simulated references, for both fits."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "references.parquet"
        pq.write_table(pa.table(simulation.references), path)
        loader = load_table(path)
    return References(loader, loader)


def calibrate(case: Case) -> CalibrationResult:
    """The calibration of one case."""
    simulation = simulate(case.scene)
    calibration = CalibrateImage(resolve_config(case.preset, case.overrides))
    result = calibration.run(simulation.exposures, references(simulation))
    assert result.failure is None
    return result


def values(result: CalibrationResult) -> Values:
    """Every column, statistic and number of a result, and its pixels in part, by name."""
    found: Values = {}
    for name in CATALOGS:
        catalog = getattr(result, name)
        found |= {f"{name}.{column}": np.asarray(data) for column, data in catalog.columns.items()}
    for name in result.summary.__slots__:
        found[f"summary.{name}"] = np.asarray(getattr(result.summary, name))
    found |= {f"metadata.{name}": np.asarray(number) for name, number in result.metadata.items()}
    return found | _pixels(result)


def _pixels(result: CalibrationResult) -> Values:
    masked = result.exposure.masked_image
    rows, columns = (side // BLOCK for side in masked.image.shape)
    blocks = masked.image[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    found = {
        "pixels.image": blocks.mean(axis=(1, 3), dtype=np.float64),
        "pixels.variance": masked.variance[::16, ::16].copy(),
        "pixels.background": result.background.image()[::16, ::16].copy(),
    }
    for plane, bit in masked.planes.items():
        found[f"mask.{plane}"] = np.count_nonzero(masked.mask & np.int32(1 << bit))
    return {name: np.asarray(value) for name, value in found.items()}
