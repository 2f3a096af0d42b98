"""The classic chain: SExtractor cuts stamps, PSFEx models the PSF, SExtractor fits it to all sources, SCAMP solves.

The choices that hold for every exposure stand with their reasons in ``config``; those of a pass are here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from galsim import PositionD
from galsim.des import DES_PSFEx
from scipy.spatial import cKDTree

from benchmarks.peers.measured import Array, Measured
from benchmarks.peers.programs import CONFIG, run
from service.simulation import Simulation
from service.simulation.config import SimulationConfig

FWHM_PER_SIGMA = 2.3548
REFERENCES = "references.cat"
STAMP_SNR = 20.0  # of the pixels of stars that a PSF is fitted to: PSFEx is left to choose among those above
PSF_SAMPLING = 1 / 4.5  # of a FWHM: left to itself PSFEx takes about 1/4, and is off by a per cent in size
SOURCE_SNR = 5.0  # where the footprints of visitcal end; it keeps those with a pixel at twice as much
ZERO_POINT_SNR = 50.0  # of stars that the zero point is taken from: with fainter ones it was off by 3 to 5 mmag


def smoothing(fwhm: float) -> Array:
    """The Gaussian as wide as the stars, of unit sum, cut off at four sigma."""
    sigma = fwhm / FWHM_PER_SIGMA
    half = int(np.ceil(4 * sigma))
    squared = np.arange(-half, half + 1) ** 2
    kernel = np.exp(-(squared + squared[:, None]) / (2 * sigma**2))
    return np.asarray(kernel / kernel.sum())


def threshold(fwhm: float, snr: float) -> float:
    """DETECT_THRESH at which a pixel of the smoothed image has a signal-to-noise ratio.

    SExtractor thresholds the smoothed image in units of the noise of the image that is not smoothed.
    """
    return snr * float(np.sqrt((smoothing(fwhm) ** 2).sum()))


def least_area(fwhm: float) -> int:
    """DETECT_MINAREA: pixels of a smoothed star above half of its peak.

    SExtractor has one threshold, visitcal two: it keeps the footprints above one that reach twice as much somewhere.
    This many pixels has a star in its footprint whose peak is just that, so both find the same faint stars.
    """
    return round(np.pi / 4 * 2 * fwhm**2)


def write_inputs(simulation: Simulation, folder: Path) -> None:
    """Image with the header's WCS, weights, smoothing and references."""
    exposure = simulation.exposures[0]
    assert exposure.wcs is not None
    planes = exposure.masked_image
    weight = np.where(planes.is_set(["BAD", "SAT"]), 0, 1 / (simulation.sky + simulation.config.read_noise**2))
    wcs = exposure.wcs.fits_approximation(exposure.bbox)[0]
    write_image(folder, planes.image, weight, simulation.config, wcs)
    write_references(simulation, folder / REFERENCES)


def write_image(
    folder: Path, image: Array, weight: Array, config: SimulationConfig, wcs: Mapping[str, Any] | None = None
) -> None:
    """What SExtractor works on: image, weights, smoothing."""
    cards = {"EXPTIME": config.exposure_time, "FILTER": config.band, "GAIN": 1.0, "SATURATE": 0.99 * config.full_well}
    fits.writeto(folder / "image.fits", image, fits.Header({**(wcs or {}), **cards}))
    fits.writeto(folder / "weight.fits", weight.astype(np.float32))
    rows = [" ".join(f"{value:.7f}" for value in row) for row in smoothing(config.fwhm)]
    (folder / "matched.conv").write_text("\n".join(["CONV NORM", f"# Gaussian, FWHM {config.fwhm:g} px", *rows, ""]))


def write_references(simulation: Simulation, path: Path) -> None:
    """The reference table as LDAC, positions brought to the epoch of the exposure as visitcal does itself."""
    table, config = simulation.references, simulation.config
    epoch = 2000.0 + (config.mjd - 51544.5) / 365.25
    years = epoch - table["epoch"]
    degree = 1 / 3.6e6  # in a mas
    values = {
        "X_WORLD": table["ra"] + years * table["pmra"] * degree / np.cos(np.radians(table["dec"])),
        "Y_WORLD": table["dec"] + years * table["pmdec"] * degree,
        "ERRA_WORLD": table["ra_err"] * degree,
        "ERRB_WORLD": table["dec_err"] * degree,
        "ERRTHETA_WORLD": np.zeros(len(years)),
        "MAG": table[f"{config.band}_mag"],
        "MAGERR": table[f"{config.band}_magerr"],
        "OBSDATE": np.full(len(years), epoch),
    }
    units = {"MAG": "mag", "MAGERR": "mag", "OBSDATE": "yr"}
    columns = [fits.Column(name, "D", units.get(name, "deg"), array=array) for name, array in values.items()]
    text = fits.Header({"SIMPLE": True, "BITPIX": 8, "NAXIS": 0}).tostring()
    image_header = fits.Column("Field Header Card", f"{len(text)}A", array=np.array([text]))
    tables = {"LDAC_IMHEAD": [image_header], "LDAC_OBJECTS": columns}
    hdus = [fits.BinTableHDU.from_columns(columns, name=name) for name, columns in tables.items()]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path, overwrite=True)


def cut_stamps(folder: Path, config: SimulationConfig, **options: object) -> float:
    """First pass of SExtractor: stars for the PSF; CPU seconds."""
    return _extract(folder, config, "stamps", STAMP_SNR, **{"DETECT_MINAREA": 5} | options)


def _extract(folder: Path, config: SimulationConfig, name: str, snr: float, **options: object) -> float:
    chosen = {
        "PARAMETERS_NAME": CONFIG / f"{name}.param",
        "CATALOG_NAME": f"{name}.cat",
        "DETECT_THRESH": threshold(config.fwhm, snr),
        "ANALYSIS_THRESH": threshold(config.fwhm, snr),
        "SEEING_FWHM": config.fwhm * config.pixel_scale,
    }
    return run("source-extractor", "image.fits", folder, chosen | options)


def objects(path: Path) -> Any:
    """The rows of a catalogue in LDAC form."""
    with fits.open(path) as hdus:
        return np.array(hdus["LDAC_OBJECTS"].data)


def psf_stamps(path: Path, x: Array, y: Array, side: int = 41) -> Array:
    """Models of a file of PSFEx centred on pixels, interpolated as galsim does."""
    psf = DES_PSFEx(str(path))
    models = [psf.getPSF(PositionD(a + 1, b + 1)) for a, b in zip(x, y, strict=True)]
    return np.stack([model.drawImage(nx=side, ny=side, scale=1, method="no_pixel").array for model in models])


def zero_point(mag: Array, reference: Array, error: Array) -> float:
    """Weighted mean of reference less measured magnitudes, those further than three sigma dropped."""
    offset, keep = reference - mag, np.ones(len(mag), bool)
    for _ in range(10):
        mean = float(np.average(offset[keep], weights=error[keep] ** -2.0))
        scatter = 1.4826 * np.median(np.abs(offset - mean)[keep])
        keep = np.abs(offset - mean) < 3 * np.hypot(scatter, error)
    return mean


def calibrated(simulation: Simulation, folder: Path, **scamp: object) -> Measured:
    """Run the chain on the inputs in a folder, SCAMP with options over its configuration.

    SCAMP solves the astrometry but takes no zero point from references (MAGZEROP stays what it was): that is done here
    as one would do it by hand, and not counted.
    """
    config = simulation.config
    cpu = {"SExtractor for PSF": cut_stamps(folder, config)}
    cpu["PSFEx"] = run("psfex", "stamps.cat", folder, {"PSF_SAMPLING": config.fwhm * PSF_SAMPLING})
    second = {"DETECT_MINAREA": least_area(config.fwhm), "PSF_NAME": "stamps.psf"}
    cpu["SExtractor with PSF"] = _extract(folder, config, "sources", SOURCE_SNR, **second)
    cpu["SCAMP"] = solve(folder, **scamp)
    rows = objects(folder / "sources.cat")
    pixel_to_sky = solution(folder)
    x, y = rows["XWIN_IMAGE"] - 1, rows["YWIN_IMAGE"] - 1
    references = objects(folder / REFERENCES)
    scale = 3600 * np.array([np.cos(np.radians(config.dec)), 1])
    sky, reference_sky = (
        np.stack(pixel_to_sky(x, y), axis=1),
        np.stack([references["X_WORLD"], references["Y_WORLD"]], axis=1),
    )
    distance, nearest = cKDTree(reference_sky * scale).query(sky * scale)
    with np.errstate(divide="ignore", invalid="ignore"):
        aperture, psf = (-2.5 * np.log10(rows[name]) for name in ("FLUX_APER", "FLUX_PSF"))
        snr = rows["FLUX_APER"] / rows["FLUXERR_APER"]
    use = (distance < 1) & (snr > ZERO_POINT_SNR) & (rows["FLAGS"] == 0) & np.isfinite(psf)
    matched = references[nearest[use]]
    error = np.hypot(matched["MAGERR"], 1.0857 / snr[use])
    with fits.open(folder / "stamps.psf") as model:
        n_psf_stars = int(model[1].header["ACCEPTED"])
    return Measured(
        x=x,
        y=y,
        mag=psf + zero_point(psf[use], matched["MAG"], error),
        centroid_good=np.ones(len(x), bool),
        pixel_to_sky=pixel_to_sky,
        psf_stamps=lambda x, y: psf_stamps(folder / "stamps.psf", x, y),
        zero_point=zero_point(aperture[use], matched["MAG"], error),
        n_psf_stars=n_psf_stars,
        cpu=cpu,
    )


def solve(folder: Path, **options: object) -> float:
    """SCAMP, with options over its configuration; CPU seconds."""
    return run("scamp", "sources.cat", folder, options)


def solution(folder: Path) -> Callable[[Array, Array], tuple[Array, Array]]:
    """The WCS that SCAMP wrote, from pixels that begin with (0, 0)."""
    text = (folder / "solution.head").read_text(errors="replace")
    cards = [line for line in text.splitlines() if not line.startswith(("HISTORY", "COMMENT", "END"))]
    wcs = WCS(fits.Header.fromstring("\n".join(cards), sep="\n"))
    return lambda x, y: tuple(wcs.all_pix2world(x, y, 0))
