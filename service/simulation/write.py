"""Write a simulation to files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits

from service.formats import write_exposure

if TYPE_CHECKING:
    from pathlib import Path

    from service.simulation.simulate import Simulation

__all__ = ["write_simulation"]


def write_simulation(simulation: Simulation, directory: Path) -> dict[str, Path]:
    """Write exposures, references and truth.

    Parameters
    ----------
    simulation : Simulation
        What to write.
    directory : Path
        Made where it does not exist.

    Returns
    -------
    dict of str to Path
        ``exposure`` (or ``snap0``, ``snap1``): LSST-style FITS; ``references``: Parquet; ``truth``: Parquet of the
        sources; ``truth_cosmic_rays``: compressed FITS of the electrons of cosmic rays; ``config``: JSON.
    """
    directory.mkdir(parents=True, exist_ok=True)
    files: dict[str, Path] = {}
    single = len(simulation.exposures) == 1
    for i, exposure in enumerate(simulation.exposures):
        name = "exposure" if single else f"snap{i}"
        files[name] = directory / f"{name}.fits"
        write_exposure(files[name], exposure)
    files["references"] = directory / "references.parquet"
    pq.write_table(pa.table(simulation.references), files["references"])
    sources = simulation.sources
    truth = {
        name: getattr(sources, name) for name in ("x", "y", "ra", "dec", "is_star", "half_light", "pm_ra", "pm_dec")
    }
    truth |= {f"{band}_mag": mag for band, mag in sources.mags.items()} | {"flux": simulation.flux}
    files["truth"] = directory / "truth.parquet"
    pq.write_table(pa.table(truth), files["truth"])
    files["truth_cosmic_rays"] = directory / "truth_cosmic_rays.fits"
    planes = [np.rint(ray).astype(np.int32) for ray in simulation.cosmic_rays]
    hdus = [fits.CompImageHDU(plane, compression_type="GZIP_1", name=f"SNAP{i}") for i, plane in enumerate(planes)]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(files["truth_cosmic_rays"], overwrite=True)
    files["config"] = directory / "simulation.json"
    true_values = {"aperture_zero_point": simulation.aperture_zero_point(), "wcs": simulation.wcs.state()}
    document = {"config": simulation.config.model_dump(), "truth": true_values}
    files["config"].write_text(json.dumps(document, indent=2))
    return files
