"""visitcal on an exposure in a file, to its catalogue in a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.peers.measured import Measured
from benchmarks.peers.programs import Clock
from service.calibration.calibrate_image import CalibrateImage, References
from service.calibration.config import CalibrateImageConfig
from service.calibration.presets import resolve_config
from service.calibration.result import CalibrationResult
from service.exposure.exposure import Exposure
from service.formats import read_exposure, write_catalog
from service.refcats import load_table

EXPOSURE, REFERENCES = "exposure.fits", "references.parquet"


def everything_detected() -> CalibrateImageConfig:
    """The defaults, but for the selection of stars: as other programs do, the catalogue holds every detection."""
    config = resolve_config("generic")
    kept = {"bad_flags": (), "do_unresolved": False, "do_signal_to_noise": False}
    return config.model_copy(update={"star_selector": config.star_selector.model_copy(update=kept)})


def calibrated(folder: Path) -> tuple[CalibrationResult, dict[str, float]]:
    """Calibrate with the defaults, from the file of an exposure to that of a catalogue; CPU seconds by step.

    Who wants it warm, calls it twice.
    """
    with Clock() as reading:
        exposure, references = _read(folder)
    with Clock() as calibration:
        result = CalibrateImage(resolve_config("generic")).run([exposure], references)
    if result.failure is not None:
        raise SystemExit(f"the calibration failed: {result.failure}")
    assert result.stars is not None
    with Clock() as writing:
        write_catalog(result.stars, folder / "stars.fits", "fits")
    return result, {"read": reading.seconds, "calibrate": calibration.seconds, "write": writing.seconds}


def _read(folder: Path) -> tuple[Exposure, References]:
    loader = load_table(folder / REFERENCES)
    return read_exposure(folder / EXPOSURE).exposure, References(loader, loader)


def measured(folder: Path) -> Measured:
    """What is judged: models and zero point with the defaults, and every detection with that zero point."""
    result, cpu = calibrated(folder)
    exposure, references = _read(folder)
    everything = CalibrateImage(everything_detected()).run([exposure], references)
    psf, wcs, stars = result.exposure.psf, result.exposure.wcs, everything.stars
    assert psf is not None
    assert wcs is not None
    assert stars is not None
    assert result.psf_stars is not None
    assert result.applied_photo_calib is not None
    assert everything.applied_photo_calib is not None
    zero_point = result.applied_photo_calib.zero_point
    moved = zero_point - everything.applied_photo_calib.zero_point  # the selection is of stars for the zero point too
    rows = stars["detect_isPrimary"] & ~stars["sky_source"]
    mag = np.where(stars["base_PsfFlux_flag"], np.nan, stars["base_PsfFlux_mag"] + moved)
    return Measured(
        x=stars["slot_Centroid_x"][rows],
        y=stars["slot_Centroid_y"][rows],
        mag=mag[rows],
        centroid_good=~stars["slot_Centroid_flag"][rows],
        pixel_to_sky=wcs.pixel_to_sky,
        psf_stamps=psf.kernel_images,
        zero_point=zero_point,
        n_psf_stars=int(result.psf_stars["calib_psf_used"].sum()),
        cpu=cpu,
    )


def command_seconds(folder: Path) -> float:
    """CPU seconds of the command line on the same files: start, imports, every product."""
    command = [sys.executable, "-m", "visitcal.cli", "calibrate", EXPOSURE, "--refcat", REFERENCES, "--out", "products"]
    with Clock() as clock:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr.strip()}")
    return clock.seconds
