"""Judge the calibration by simulated truth: ``python benchmarks/accuracy.py --seeds 1 2 3 4 5 --size 2048``.

For each seed: PSF radius at nine positions, astrometric residuals of bright stars, zero point, cosmic rays found and
star cores hit, and the identity image + background = calibration x input.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.spatial import cKDTree

from service.calibration.calibrate_image import CalibrateImage, References
from service.calibration.config import CalibrateImageConfig
from service.calibration.presets import resolve_config
from service.calibration.result import CalibrationResult
from service.exposure.exposure import Exposure
from service.exposure.psf.moments import adaptive_moments
from service.refcats import load_table
from service.simulation import Simulation, SimulationConfig, simulate


def loader_of(simulation: Simulation) -> Any:
    """References of a simulation as a loader."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "references.parquet"
        pq.write_table(pa.table(simulation.references), path)
        return load_table(path)


def copied(exposure: Exposure) -> Exposure:
    """An exposure with pixels of its own, for a calibration that works in place."""
    values = {name: getattr(exposure, name) for name in exposure.__slots__}
    return Exposure(**values | {"masked_image": exposure.masked_image.copy(), "metadata": {}})


def calibrate(simulation: Simulation, config: CalibrateImageConfig | None = None) -> CalibrationResult:
    """Calibrate the simulated exposures; the simulation stays as it is."""
    loader = loader_of(simulation)
    return CalibrateImage(config).run([copied(e) for e in simulation.exposures], References(loader, loader))


def judge(simulation: Simulation, result: CalibrationResult) -> dict[str, float]:
    """Figures of one calibration against truth."""
    config, truth = simulation.config, simulation.sources
    exposure, stars = result.exposure, result.stars
    assert exposure.psf is not None
    assert exposure.wcs is not None
    assert stars is not None
    assert result.applied_photo_calib is not None
    x, y = (value.ravel() for value in np.meshgrid(*[np.array([0.1, 0.5, 0.9]) * config.size] * 2))
    stamps = np.stack([simulation.psf.stamp(np.rint(a), np.rint(b), 20)[0] for a, b in zip(x, y, strict=True)])
    ours, true = (
        exposure.psf.shapes(x, y),
        adaptive_moments((stamps / stamps.sum(axis=(1, 2), keepdims=True)).astype(np.float32)),
    )
    radius = [(s[:, 0] * s[:, 1] - s[:, 2] ** 2) ** 0.25 for s in (ours, true)]
    figures = {"psf_radius_worst_percent": float(np.max(np.abs(radius[0] / radius[1] - 1)) * 100)}

    snr = np.divide(stars["slot_PsfFlux_instFlux"], stars["slot_PsfFlux_instFluxErr"])
    bright = (snr > 50) & stars["detect_isPrimary"] & ~stars["slot_Centroid_flag"]
    position = np.stack([stars["slot_Centroid_x"], stars["slot_Centroid_y"]], axis=1)[bright]
    true_stars = np.flatnonzero(truth.is_star)
    distance, index = cKDTree(np.stack([truth.x, truth.y], axis=1)[true_stars]).query(position)
    near = distance < 1.0
    row = true_stars[index[near]]
    ra, dec = np.degrees(stars["coord_ra"][bright][near]), np.degrees(stars["coord_dec"][bright][near])
    dra = (ra - truth.ra[row]) * np.cos(np.radians(dec)) * 3.6e6
    ddec = (dec - truth.dec[row]) * 3.6e6
    figures |= {
        "stars_snr50": float(near.sum()),
        "astrometry_mean_ra_mas": float(dra.mean()),
        "astrometry_mean_dec_mas": float(ddec.mean()),
        "astrometry_rms_ra_mas": float(dra.std()),
        "astrometry_rms_dec_mas": float(ddec.std()),
    }
    figures["zero_point_mmag"] = 1000 * (result.applied_photo_calib.zero_point - simulation.aperture_zero_point())
    mag = stars["base_PsfFlux_mag"][bright][near] - truth.mags[config.band][row]
    figures["psf_mag_median_mmag"] = 1000 * float(np.median(mag))
    figures["psf_mag_scatter_mmag"] = 1000 * float(1.4826 * np.median(np.abs(mag - np.median(mag))))

    rays = np.sum(simulation.cosmic_rays, axis=0)
    image = exposure.masked_image
    free = ~image.is_set(["SAT", "BAD"])
    noise = np.sqrt(sum(e.masked_image.variance for e in simulation.exposures))
    strong = (rays > 10 * noise) & (rays > 150) & free
    found = image.is_set(["CR"])
    figures["cr_found_percent"] = 100 * float((found & strong).sum() / max(strong.sum(), 1))
    flux = simulation.flux[true_stars]
    cores = (flux > 50 * np.sqrt(4 * np.pi * (config.fwhm / 2.355) ** 2 * config.sky)) & _inside(
        truth, true_stars, config
    )
    cx, cy = np.rint(truth.x[true_stars][cores]).astype(int), np.rint(truth.y[true_stars][cores]).astype(int)
    clean = (rays[cy, cx] == 0) & free[cy, cx]
    figures["star_cores_hit_percent"] = 100 * float(found[cy, cx][clean].mean())

    k = result.applied_photo_calib.mean
    raw = np.sum([e.masked_image.image for e in simulation.exposures], axis=0)
    untouched = ~found & np.isfinite(image.image)
    restored = (image.image + result.background.image()) / k
    figures["identity_worst_counts"] = float(
        np.max(np.abs(restored - raw)[untouched] / np.maximum(1, np.abs(raw[untouched]) / 1e4))
    )
    return figures


def _inside(truth: Any, rows: Any, config: SimulationConfig) -> Any:
    x, y = truth.x[rows], truth.y[rows]
    return (x > 30) & (x < config.size - 31) & (y > 30) & (y < config.size - 31)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103, 104, 105])
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--fwhm", type=float, default=4.5)
    parser.add_argument("--preset", default="generic")
    options = parser.parse_args()
    area = (options.size / 1024) ** 2
    table = []
    for seed in options.seeds:
        config = SimulationConfig(
            size=options.size, seed=seed, n_stars=int(500 * area), n_galaxies=int(150 * area), fwhm=options.fwhm
        )
        simulation = simulate(config)
        result = calibrate(simulation, resolve_config(options.preset))
        if result.failure is not None:
            print(f"seed {seed}: {result.failure}")
            continue
        table.append(judge(simulation, result))
    for name in table[0]:
        print(f"{name:<28}" + "".join(f"{figures[name]:>12.4f}" for figures in table))


if __name__ == "__main__":
    main()
