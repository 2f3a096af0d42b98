"""Summary statistics against the recorded outputs of Rubin's task."""

from __future__ import annotations

import numpy as np
from astropy.io import fits

from service.calibration.astrometry.source_selector import select_sources
from service.calibration.config.summary_stats import SummaryStatsConfig
from service.calibration.summary_stats import compute_summary_stats
from service.exposure.ap_corr import ApCorrMap, ChebyshevField
from service.exposure.background import BackgroundList, BackgroundModel
from service.exposure.exposure import Amplifier, Detector, FilterLabel, VisitInfo
from service.exposure.mask import MaskPlanes
from service.exposure.photo_calib import PhotoCalib
from service.exposure.star_schema import star_schema
from service.exposure.wcs import Wcs

#: How close each statistic comes, relative; upstream has single precision inside the PSF moments.
_TOLERANCE = {
    "psfSigma": 3e-7,
    "psfArea": 1e-6,
    "psfIxx": 1e-6,
    "psfIyy": 1e-6,
    "psfIxy": 1e-5,
    "psfTraceRadiusDelta": 1e-5,
    "psfApFluxDelta": 1e-4,
    "psfApCorrSigmaScaledDelta": 1e-6,
    "pixelScale": 1e-8,
    "skyNoise": 1e-6,
    "effTimePsfSigmaScale": 1e-6,
    "magLim": 1e-7,
    "effTime": 2e-6,
    "skyBg": 1e-7,
    "effTimeSkyBgScale": 1e-7,
}


def _final_inputs(parity_run, run):
    """Exposure, stars and backgrounds as the summary found them."""
    adaptive = run.folder.name == "rubin_adaptive"
    recorded = parity_run(run.field.name, run.folder.name)
    before = "select_compute_summary_stats-starSelector_1"
    first = 40 if adaptive else 0
    psf = "psf_determiner_1" if adaptive else "psf_determiner_2"
    exposure = recorded.exposure(before, psf=psf, first_background=first)
    with fits.open(run.folder / "mask.fits") as hdus:
        hdu = next(h for h in hdus if h.data is not None)
        exposure.masked_image.mask[:] = hdu.data
        exposure.masked_image.planes = MaskPlanes({k[3:]: int(v) for k, v in hdu.header.items() if k.startswith("MP_")})
    _, last = run.stage("astrometry_3")
    wcs = last["wcs_out"]
    exposure.wcs = Wcs.tan(tuple(wcs["crpix0"]), tuple(wcs["crval_deg"]), wcs["cd_deg_per_px"])
    _, photometry = run.stage("photometry_1")
    exposure.photo_calib = PhotoCalib(photometry["calibration_mean_njy"], photometry["calibration_err"])
    corrections, _ = run.stage("apcorr_main_1")
    field = ChebyshevField(exposure.bbox, corrections["base_PsfFlux__final_coefficients"])
    exposure.ap_corr_map = ApCorrMap({"base_PsfFlux_instFlux": field})
    exposure.filter = FilterLabel("r", "r")
    exposure.visit_info = VisitInfo(exposure_time=30.0)
    exposure.detector = Detector(0, "0", (Amplifier("A", exposure.bbox, 1.0, 9.0),))
    metadata = run.json("task_metadata.json")
    exposure.metadata |= {f"SFM_ASTROM_OFFSET_{n}": metadata[f"astrom_offset_{n.lower()}"] for n in ("MEAN", "STD")}
    backgrounds = BackgroundList()
    for path in sorted(recorded.stages.glob("*_background_*.npz")):
        if int(path.name[:3]) >= first:
            with np.load(path) as data:
                value = data["stats_value"] if "stats_value" in data else np.full((1, 1), data["model_constant"])
                value = value.astype(np.float32)
                backgrounds.append(
                    BackgroundModel(value, np.ones_like(value), np.zeros(value.shape, np.int32), exposure.bbox)
                )
    return exposure, run.catalog("stars.parquet", star_schema()), backgrounds


def test_statistics_are_upstreams(parity_run, staged_run):
    exposure, stars, backgrounds = _final_inputs(parity_run, staged_run)
    config = SummaryStatsConfig(use_parent_coordinates=False)
    summary = compute_summary_stats(exposure, stars, backgrounds, config)
    recorded = staged_run.json("summary_stats.json")
    compared, wrong = 0, {}
    for name, expected in recorded.items():
        if name in ("version", "zenithDistance"):  # the recorded runs had no place on Earth
            continue
        value = getattr(summary, name)
        if not np.all(np.isclose(value, expected, rtol=_TOLERANCE.get(name, 1e-9), atol=1e-9, equal_nan=True)):
            wrong[name] = (value, expected)
        compared += not np.any(np.isnan(expected))
    assert wrong == {}
    assert compared == 36


def test_stars_of_the_statistics_are_upstreams(staged_run):
    recorded, _ = staged_run.stage("select_compute_summary_stats-starSelector_1")
    stars = staged_run.catalog("stars.parquet", star_schema())
    assert np.array_equal(stars["id"], recorded["id"])
    assert np.array_equal(select_sources(stars, SummaryStatsConfig().star_selector), recorded["selected"])
