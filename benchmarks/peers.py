"""Cosmic rays, detection and PSF beside other programs on the same simulated image.

``python benchmarks/peers.py --size 2048 --fwhm 4.5``. Needs, as far as they are installed: the packages astroscrappy,
sep and piff, and the programs ``source-extractor`` and ``psfex``; what is missing is left out.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import copied
from astropy.io import fits
from front_half import STAMP_HALF, Truth, scene_config
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from scipy.spatial import cKDTree

from service.calibration import background, cosmic_rays, detection
from service.calibration.calibrate_image import CalibrateImage
from service.calibration.config import CalibrateImageConfig
from service.calibration.psf import gaussian
from service.calibration.result import CalibrationResult
from service.exposure.background import BackgroundList
from service.exposure.exposure import Exposure
from service.exposure.psf.moments import adaptive_moments
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


class Clock:
    """CPU seconds of a block, of child processes too."""

    def __enter__(self) -> Clock:
        self._start = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = self._now() - self._start

    @staticmethod
    def _now() -> float:
        times = os.times()
        return float(times.user + times.system + times.children_user + times.children_system)


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

    table: Table = {}
    ours = copied(exposure)
    ours.psf = exposure.psf
    cosmic_rays.repair(copied(ours), CalibrateImageConfig().psf_repair, keep_cosmic_rays=True)  # compiles
    with Clock() as clock:
        cosmic_rays.repair(ours, CalibrateImageConfig().psf_repair, keep_cosmic_rays=True)
    table["visitcal"] = judged(ours.masked_image.is_set(["CR"]), clock.seconds)
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
            table[name] = judged(found, clock.seconds)
    return table


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

    table: Table = {}
    faint = {"include_threshold_multiplier": 1.0, "re_estimate_background": False}
    config = CalibrateImageConfig().star_detection.model_copy(update=faint)
    ours = copied(exposure)
    ours.psf = exposure.psf
    detection.detect_sources(copied(ours), config)  # compiles
    with Clock() as clock:
        found = detection.detect_sources(ours, config)
    table["visitcal"] = judged(*found.footprints.peaks.T.astype(float), clock.seconds)
    if (sep := optional("sep")) is not None:
        half = int(3 * simulation.config.fwhm / 2.3548) + 1
        grid = np.arange(-half, half + 1) ** 2
        kernel = np.exp(-(grid + grid[:, None]) / (2 * (simulation.config.fwhm / 2.3548) ** 2))
        noise = np.sqrt(image.variance)
        smoothed = float(np.sqrt(truth.sky_variance * (kernel**2).sum()) / kernel.sum())
        for name, thresh, options in (
            ("sep 5 sigma, matched", 5.0, {"err": noise, "filter_type": "matched", "minarea": 1, "clean": False}),
            ("sep 5 smoothed sigma", 5.0 * smoothed, {"filter_type": "conv", "minarea": 1, "clean": False}),
            ("sep 1.5 sigma, usual", 1.5, {"err": noise, "filter_type": "conv"}),
        ):
            with Clock() as clock:
                objects = sep.extract(image.image, thresh, filter_kernel=kernel, **options)
            table[name] = judged(objects["x"], objects["y"], clock.seconds)
    return table


def compare_psf(simulation: Simulation) -> Table:
    """PSF models against the true PSF at 25 positions; the programs fit the stars that ours used."""
    result = CalibrateImage().run([copied(e) for e in simulation.exposures])
    exposure, stars = result.exposure, result.psf_stars
    assert exposure.psf is not None
    assert stars is not None
    used = stars["calib_psf_used"]
    x, y = stars["slot_Centroid_x"][used], stars["slot_Centroid_y"][used]
    positions = np.array([0.08, 0.3, 0.5, 0.7, 0.92]) * simulation.config.size
    at = [value.ravel() for value in np.meshgrid(positions, positions)]
    true = [simulation.psf.stamp(np.rint(a), np.rint(b), STAMP_HALF)[0] for a, b in zip(*at, strict=True)]

    def judged(stamps: NDArray[Any]) -> Row:
        half = stamps.shape[1] // 2
        cut = slice(STAMP_HALF - half, STAMP_HALF + half + 1)
        truth = np.stack(true)[:, cut, cut]
        truth, model = (s / s.sum(axis=(1, 2), keepdims=True) for s in (truth, np.asarray(stamps, np.float64)))
        (txx, tyy, txy), (mxx, myy, mxy) = (adaptive_moments(s.astype(np.float32)).T for s in (truth, model))
        size = (mxx + myy) / (txx + tyy) - 1
        shape = np.hypot(
            (mxx - myy) / (mxx + myy) - (txx - tyy) / (txx + tyy), 2 * (mxy / (mxx + myy) - txy / (txx + tyy))
        )
        residual = np.abs(model - truth).sum(axis=(1, 2))
        return {
            "stars": float(used.sum()),
            "|dT|/T median (%)": 100 * float(np.median(np.abs(size))),
            "|dT|/T worst (%)": 100 * float(np.max(np.abs(size))),
            "|de| median": float(np.median(shape)),
            "|de| worst": float(np.max(shape)),
            "sum |residual| median (%)": 100 * float(np.median(residual)),
        }

    table = {"visitcal": judged(exposure.psf.kernel_images(*(np.rint(a) for a in at)))}
    flat = _counts(exposure, result)
    if shutil.which("psfex") and shutil.which("source-extractor"):
        table["PSFEx"] = judged(_psfex(flat, exposure, x, y, at))
    else:
        print("psfex or source-extractor is not installed: left out")
    if (piff := optional("piff")) is not None:
        table["Piff"] = judged(_piff(piff, flat, exposure, x, y, at))
    return table


def _counts(exposure: Exposure, result: CalibrationResult) -> NDArray[np.float32]:
    unit = result.applied_photo_calib.mean if result.applied_photo_calib else 1.0
    return np.asarray(exposure.masked_image.image / np.float32(unit))


def _psfex(
    image: NDArray[np.float32], exposure: Exposure, x: NDArray[Any], y: NDArray[Any], at: list[NDArray[Any]]
) -> NDArray[np.float64]:
    """PSFEx of the same stars: SExtractor cuts the stamps, the catalogue is reduced to those stars."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        planes = exposure.masked_image
        fits.writeto(folder / "image.fits", image)
        weight = np.where(planes.is_set(["BAD", "SAT", "CR"]), 0, 1 / planes.variance).astype(np.float32)
        fits.writeto(folder / "weight.fits", weight)
        columns = "VIGNET(41,41) X_IMAGE Y_IMAGE FLUX_RADIUS SNR_WIN FLUX_APER(1) FLUXERR_APER(1) ELONGATION FLAGS"
        (folder / "param").write_text("\n".join(columns.split()))
        (folder / "filter").write_text("CONV NORM\n# 3x3\n1 2 1\n2 4 2\n1 2 1\n")
        options = {
            "CATALOG_TYPE": "FITS_LDAC", "CATALOG_NAME": "stars.cat", "PARAMETERS_NAME": "param",
            "FILTER_NAME": "filter", "DETECT_THRESH": 5, "BACK_TYPE": "MANUAL", "BACK_VALUE": 0,
            "WEIGHT_TYPE": "MAP_WEIGHT", "WEIGHT_IMAGE": "weight.fits", "PHOT_APERTURES": 24, "GAIN": 1,
        }  # fmt: skip
        _run("source-extractor", "image.fits", folder, options)
        with fits.open(folder / "stars.cat") as catalog:
            rows = catalog["LDAC_OBJECTS"].data
            near, _ = cKDTree(np.stack([x, y], axis=1)).query(np.stack([rows["X_IMAGE"], rows["Y_IMAGE"]], axis=1) - 1)
            catalog["LDAC_OBJECTS"].data = rows[near < 1.5]
            catalog.writeto(folder / "used.cat")
        options = {
            "PSF_SIZE": "83,83", "PSF_SAMPLING": 0.5, "PSFVAR_DEGREES": 2, "SAMPLE_AUTOSELECT": "N", "SAMPLE_MINSN": 1,
            "SAMPLE_MAXELLIP": 1, "SAMPLE_FWHMRANGE": "0.5,30", "SAMPLE_VARIABILITY": 5, "CHECKPLOT_TYPE": "NONE",
            "CHECKIMAGE_TYPE": "NONE", "WRITE_XML": "N",
        }  # fmt: skip
        _run("psfex", "used.cat", folder, options)
        with fits.open(folder / "used.psf") as model:
            header, grid = model[1].header, np.asarray(model[1].data["PSF_MASK"][0], np.float64)
    u = (np.rint(at[0]) + 1 - header["POLZERO1"]) / header["POLSCAL1"]
    v = (np.rint(at[1]) + 1 - header["POLZERO2"]) / header["POLSCAL2"]
    terms = np.stack([u**i * v**j for j in range(3) for i in range(3 - j)], axis=1)
    step = header["PSF_SAMP"]
    assert step == 0.5
    return np.tensordot(terms, grid, 1)[:, 1::2, 1::2]


def _run(program: str, argument: str, folder: Path, options: dict[str, Any]) -> None:
    (folder / f"{program}.conf").write_text("".join(f"{key} {value}\n" for key, value in options.items()))
    command = [str(shutil.which(program)), argument, "-c", f"{program}.conf"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def _piff(
    piff: Any, image: NDArray[np.float32], exposure: Exposure, x: NDArray[Any], y: NDArray[Any], at: list[NDArray[Any]]
) -> NDArray[np.float64]:
    """Piff's pixel grid with a polynomial of order 2, as Rubin configures it."""
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
    drawn = [
        psf.draw(x=float(np.rint(a)), y=float(np.rint(b)), stamp_size=25, center=True) for a, b in zip(*at, strict=True)
    ]
    return np.stack([stamp.array for stamp in drawn])


def print_table(title: str, table: Table) -> None:
    print(f"\n{title}")
    print(f"{'':<28}" + "".join(f"{name:>24}" for name in table))
    for name in table["visitcal"]:
        print(f"{name:<28}" + "".join(f"{row[name]:>24.4g}" for row in table.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--fwhm", type=float, nargs="+", default=[3.0, 4.5])
    parser.add_argument("--kind", default="typical")
    parser.add_argument("--seed", type=int, default=3404)
    options = parser.parse_args()
    for fwhm in options.fwhm:
        simulation = simulate(scene_config(options.kind, options.size, fwhm, options.seed))
        name = f"{options.kind}, {options.size} px, FWHM {fwhm:g} px"
        print_table(f"Cosmic rays: {name}", compare_cosmic_rays(simulation))
        print_table(f"Detection: {name}", compare_detection(simulation))
        print_table(f"PSF: {name}", compare_psf(simulation))


if __name__ == "__main__":
    main()
