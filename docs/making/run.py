"""One simulated exposure, calibrated, with what its stages left of the pixels: what figures are drawn of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from service.calibration.calibrate_image import CalibrateImage, References
from service.calibration.presets import resolve_config
from service.calibration.result import CalibrationResult
from service.exposure.catalog import SourceCatalog
from service.exposure.wcs import Wcs
from service.refcats import load_table
from service.simulation import Simulation, SimulationConfig, simulate

__all__ = ["Pixels", "Run", "calibrated"]

SCENE = SimulationConfig(size=1024, seed=5, n_stars=1100, n_galaxies=250, mag_bright=14.5, sky_gradient=0.12)


@dataclass(frozen=True)
class Pixels:
    """Image and mask as a stage left them."""

    image: NDArray[np.float32]
    mask: NDArray[np.int32]


@dataclass
class Run:
    """A calibration that was watched.

    Parameters
    ----------
    simulation : Simulation
        What is true.
    first_wcs : Wcs
        As the header had it.
    pixels : dict of str to Pixels
        By the stage that has just ended; ``raw`` is the input.
    result : CalibrationResult
        In counts.
    """

    simulation: Simulation
    first_wcs: Wcs
    pixels: dict[str, Pixels]
    result: CalibrationResult

    @property
    def psf_stars(self) -> SourceCatalog:
        """The catalogue of the PSF stage."""
        assert self.result.psf_stars is not None
        return self.result.psf_stars

    @property
    def stars(self) -> SourceCatalog:
        """The star catalogue."""
        assert self.result.stars is not None
        return self.result.stars

    def plane(self, stage: str, names: Iterable[str]) -> NDArray[np.bool_]:
        """Pixels of some mask planes after a stage."""
        planes = self.result.exposure.masked_image.planes
        return np.asarray(self.pixels[stage].mask & planes.bitmask(names), bool)


def calibrated() -> Run:
    """Simulate and calibrate the exposure of the figures."""
    simulation = simulate(SCENE)
    [exposure] = simulation.exposures
    assert exposure.wcs is not None
    first_wcs, pixels = exposure.wcs, {}

    def look(stage: str, fraction: float, numbers: dict[str, Any]) -> None:
        """A stage is told of twice, as it begins and as it ends: the end counts."""
        plane = exposure.masked_image
        pixels[stage] = Pixels(plane.image.copy(), plane.mask.copy())

    look("raw", 0.0, {})
    with TemporaryDirectory() as directory:
        path = Path(directory) / "references.parquet"
        pq.write_table(pa.table(simulation.references), path)
        references = load_table(path)
        task = CalibrateImage(resolve_config(overrides={"do_calibrate_pixels": False}))
        result = task.run([exposure], References(references, references), look)
    if result.failure is not None:
        raise RuntimeError(f"the exposure of the figures cannot be calibrated: {result.failure}")
    return Run(simulation, first_wcs, pixels, result)
