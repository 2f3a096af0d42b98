"""Cosmic rays, detection and PSF stage by stage beside other packages on the same simulated image.

``python -m benchmarks.peers.stages --size 2048 --fwhm 4.5``. Needs, as far as they are installed: the packages
astroscrappy, sep and piff, and the programs ``source-extractor`` and ``psfex``; what is missing is left out.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from scipy.spatial import cKDTree

from benchmarks.accuracy import copied
from benchmarks.front_half import Truth, scene_config
from benchmarks.peers import classic
from benchmarks.peers.judge import psf_figures
from benchmarks.peers.programs import Clock, missing, run
from benchmarks.peers.report import table
from service.calibration import background, cosmic_rays, detection
from service.calibration.calibrate_image import CalibrateImage
from service.calibration.config import CalibrateImageConfig
from service.calibration.psf import gaussian
from service.calibration.result import CalibrationResult
from service.exposure.background import BackgroundList
from service.exposure.exposure import Exposure
from service.simulation import Simulation, simulate

Row = dict[str, float]
Table = dict[str, Row]


def optional(name: str) -> Any:
    """A package, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"{name} is not installed: left out")
        return None


def flattened(simulation: Simulation) -> Exposure:
    """The exposure with a true-size Gaussian PSF and our first background subtracted, what all programs are given."""
    config = CalibrateImageConfig()
    exposure = copied(simulation.exposures[0])
    width = simulation.config.fwhm
    gaussian.install_simple_psf(exposure, config.install_simple_psf.model_copy(update={"fwhm": width}))
    background.subtract_background(exposure, BackgroundList(), config.psf_subtract_background)
    return exposure


def compare_cosmic_rays(simulation: Simulation) -> Table:
    """Found pixels of true tracks, and false pixels: those further than a pixel from any track."""
    exposure = flattened(simulation)
    image = exposure.masked_image
    rays = simulation.cosmic_rays[0]
    free = ~image.is_set(["SAT", "BAD"])
    strong = (rays > 10 * np.sqrt(image.variance)) & (rays > 150) & free
    near = binary_dilation(rays > 0, np.ones((3, 3)))

    def judged(found: NDArray[np.bool_], seconds: float) -> Row:
        return {
            "strong pixels found (%)": 100 * float(found[strong].mean()),
            "charge found (%)": 100 * float(rays[found & free].sum() / rays[free].sum()),
            "false pixels": float((found & ~near & free).sum()),
            "CPU s": seconds,
        }

    columns: Table = {}
    ours = copied(exposure)
    ours.psf = exposure.psf
    cosmic_rays.repair(copied(ours), CalibrateImageConfig().psf_repair, keep_cosmic_rays=True)  # compiles
    with Clock() as clock:
        cosmic_rays.repair(ours, CalibrateImageConfig().psf_repair, keep_cosmic_rays=True)
    columns["visitcal"] = judged(ours.masked_image.is_set(["CR"]), clock.seconds)
    if (astroscrappy := optional("astroscrappy")) is not None:
        config = simulation.config
        options = {"gain": 1.0, "readnoise": config.read_noise, "satlevel": config.full_well, "sigclip": 4.5}
        raw = simulation.exposures[0].masked_image.image  # with its sky, as the program wants it
        for name, extra in {
            "astroscrappy": {},
            "astroscrappy + PSF": {
                "fsmode": "convolve",
                "psffwhm": config.fwhm,
                "psfsize": 2 * round(1.5 * config.fwhm) + 1,
            },
        }.items():
            with Clock() as clock:
                found, _ = astroscrappy.detect_cosmics(raw, inmask=~free, **options, **extra)
            columns[name] = judged(found, clock.seconds)
    return columns


def compare_detection(simulation: Simulation) -> Table:
    """Stars found by signal-to-noise ratio, and detections of nothing, at five sigma of the smoothed image."""
    exposure = flattened(simulation)
    truth = Truth(simulation)
    image = exposure.masked_image
    clean = truth.isolated & truth.usable

    def judged(x: NDArray[np.float64], y: NDArray[np.float64], seconds: float) -> Row:
        tree = cKDTree(np.stack([x, y], axis=1))
        row = {}
        for low, high in ((5, 7), (7, 10), (10, 20), (20, 1e9)):
            rows = np.flatnonzero(clean & truth.is_star & (truth.snr > low) & (truth.snr <= high))
            near = tree.query(truth.xy[rows])[0] < max(2.0, 0.5 * simulation.config.fwhm)
            name = f"S/N {low}-{high} found (%)" if high < 1e9 else f"S/N > {low} found (%)"
            row[name] = 100 * float(near.mean()) if rows.size else np.nan
        rays = np.argwhere(simulation.cosmic_rays[0] > 0)[:, ::-1]
        real = cKDTree(truth.xy).query(np.stack([x, y], axis=1))[0] < 2 * simulation.config.fwhm
        if len(rays):
            real |= cKDTree(rays).query(np.stack([x, y], axis=1))[0] < simulation.config.fwhm
        bad = np.argwhere(image.is_set(["SAT", "BAD"]))[:, ::-1]
        real |= cKDTree(bad).query(np.stack([x, y], axis=1))[0] < simulation.config.fwhm
        return row | {"detections": float(len(x)), "of nothing": float((~real).sum()), "CPU s": seconds}

    columns: Table = {}
    faint = {"include_threshold_multiplier": 1.0, "re_estimate_background": False}
    config = CalibrateImageConfig().star_detection.model_copy(update=faint)
    ours = copied(exposure)
    ours.psf = exposure.psf
    detection.detect_sources(copied(ours), config)  # compiles
    with Clock() as clock:
        found = detection.detect_sources(ours, config)
    columns["visitcal"] = judged(*found.footprints.peaks.T.astype(float), clock.seconds)
    if (sep := optional("sep")) is not None:
        kernel = classic.smoothing(simulation.config.fwhm)
        noise = np.sqrt(image.variance)
        smoothed = float(np.sqrt(truth.sky_variance)) * classic.threshold(simulation.config.fwhm, 1.0)
        for name, thresh, options in (
            ("sep 5 sigma, matched", 5.0, {"err": noise, "filter_type": "matched", "minarea": 1, "clean": False}),
            ("sep 5 smoothed sigma", 5.0 * smoothed, {"filter_type": "conv", "minarea": 1, "clean": False}),
            ("sep 1.5 sigma, usual", 1.5, {"err": noise, "filter_type": "conv"}),
        ):
            with Clock() as clock:
                objects = sep.extract(image.image, thresh, filter_kernel=kernel, **options)
            columns[name] = judged(objects["x"], objects["y"], clock.seconds)
    return columns


def compare_psf(simulation: Simulation) -> Table:
    """PSF models against the true PSF at 25 positions; the programs fit the stars that ours used."""
    result = CalibrateImage().run([copied(e) for e in simulation.exposures])
    exposure, stars = result.exposure, result.psf_stars
    assert exposure.psf is not None
    assert stars is not None
    used = stars["calib_psf_used"]
    x, y = stars["slot_Centroid_x"][used], stars["slot_Centroid_y"][used]
    columns = {"visitcal": psf_figures(simulation, exposure.psf.kernel_images)}
    flat = _counts(exposure, result)
    if absent := missing(("source-extractor", "psfex")):
        print(f"{', '.join(absent)}: not installed: left out")
    else:
        columns["PSFEx"] = _psfex(flat, exposure, simulation, x, y)
    if (piff := optional("piff")) is not None:
        columns["Piff"] = psf_figures(simulation, _piff(piff, flat, exposure, x, y))
    for column in columns.values():
        column["stars"] = float(used.sum())
    return columns


def _counts(exposure: Exposure, result: CalibrationResult) -> NDArray[np.float32]:
    unit = result.applied_photo_calib.mean if result.applied_photo_calib else 1.0
    return np.asarray(exposure.masked_image.image / np.float32(unit))


def _psfex(
    image: NDArray[np.float32], exposure: Exposure, simulation: Simulation, x: NDArray[Any], y: NDArray[Any]
) -> Row:
    """PSFEx of the same stars, sampled as ours: SExtractor cuts the stamps, the catalogue is reduced to those stars."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        planes = exposure.masked_image
        weight = np.where(planes.is_set(["BAD", "SAT", "CR"]), 0, 1 / planes.variance)
        classic.write_image(folder, image, weight, simulation.config)
        classic.cut_stamps(folder, simulation.config, BACK_TYPE="MANUAL", BACK_VALUE=0)
        with fits.open(folder / "stamps.cat") as catalog:
            rows = catalog["LDAC_OBJECTS"].data
            near, _ = cKDTree(np.stack([x, y], axis=1)).query(np.stack([rows["X_IMAGE"], rows["Y_IMAGE"]], axis=1) - 1)
            catalog["LDAC_OBJECTS"].data = rows[near < 1.5]
            catalog.writeto(folder / "used.cat")
        options = {
            "PSF_SIZE": "83,83", "PSF_SAMPLING": 0.5, "SAMPLE_AUTOSELECT": "N", "SAMPLE_MINSN": 1,
            "SAMPLE_MAXELLIP": 1, "SAMPLE_FWHMRANGE": "0.5,30", "SAMPLE_VARIABILITY": 5,
        }  # fmt: skip
        run("psfex", "used.cat", folder, options)
        return psf_figures(simulation, lambda x, y: classic.psf_stamps(folder / "used.psf", x, y))


def _piff(
    piff: Any, image: NDArray[np.float32], exposure: Exposure, x: NDArray[Any], y: NDArray[Any]
) -> Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]:
    """Piff's pixel grid with a polynomial of order 2, as Rubin configures it; what draws it."""
    galsim = importlib.import_module("galsim")
    planes = exposure.masked_image
    weight = np.where(planes.is_set(["BAD", "SAT", "CR", "INTRP"]), 0, 1 / np.median(planes.variance))
    wcs = galsim.PixelScale(1.0)
    pixels = galsim.Image(image.astype(np.float64), xmin=0, ymin=0, wcs=wcs)
    weights = galsim.Image(weight.astype(np.float64), xmin=0, ymin=0, wcs=wcs)
    stars = []
    for a, b in zip(x, y, strict=True):
        center = galsim.PositionD(a, b)
        box = galsim.BoundsI(*(round(c) + d for c in (a, b) for d in (-12, 12)))
        data = piff.StarData(pixels[box], center, weight=weights[box])
        stars.append(piff.Star(data, None))
    model = {"type": "PixelGrid", "scale": 1.0, "size": 25, "interp": "Lanczos(11)"}
    psf = piff.PSF.process(
        {
            "type": "Simple",
            "model": model,
            "interp": {"type": "BasisPolynomial", "order": 2},
            "outliers": {"type": "Chisq", "nsigma": 4.0, "max_remove": 0.05},
            "max_iter": 15,
        }
    )
    psf.fit(stars, {0: wcs}, None)

    def stamps(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        drawn = [psf.draw(x=a, y=b, stamp_size=25, center=True) for a, b in zip(x, y, strict=True)]
        return np.stack([stamp.array for stamp in drawn])

    return stamps


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.stages", description=__doc__)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--fwhm", type=float, nargs="+", default=[3.0, 4.5])
    parser.add_argument("--kind", default="typical")
    parser.add_argument("--seed", type=int, default=3404)
    options = parser.parse_args()
    for fwhm in options.fwhm:
        simulation = simulate(scene_config(options.kind, options.size, fwhm, options.seed))
        name = f"{options.kind}, {options.size} px, FWHM {fwhm:g} px"
        print(table(f"Cosmic rays: {name}", compare_cosmic_rays(simulation)))
        print(table(f"Detection: {name}", compare_detection(simulation)))
        print(table(f"PSF: {name}", compare_psf(simulation)))


if __name__ == "__main__":
    main()
