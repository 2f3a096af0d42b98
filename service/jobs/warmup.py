"""Compile or load every kernel before the first job needs it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from service.calibration.calibrate_image import CalibrateImage, References
from service.refcats import load_table
from service.simulation import SimulationConfig, simulate

__all__ = ["warm_up"]


def warm_up() -> None:
    """Calibrate a small simulated exposure, so that each kernel is compiled, or read from its cache.

    Raises
    ------
    RuntimeError
        The calibration did not get through all stages.
    """
    simulation = simulate(SimulationConfig(size=512, seed=1, n_stars=160, n_galaxies=30, mag_faint=23.0, n_snaps=2))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "references.parquet"
        pq.write_table(pa.table(simulation.references), path)
        loader = load_table(path)
    result = CalibrateImage().run(simulation.exposures, References(loader, loader))
    if result.failure is not None:
        raise RuntimeError(f"the warm-up exposure failed: {result.failure}")
