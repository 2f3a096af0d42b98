"""Compare the calibration with the outputs of Rubin's own task on the same exposures, quantity by quantity.

Run ``python benchmarks/parity_report.py FOLDER [NAME ...]``, FOLDER being the one that holds the exposures with their
``rubin_classic`` and ``rubin_adaptive`` outputs. Prints, for each exposure, what agreement is wanted and what is
reached.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from astropy.io import fits
from scipy.spatial import cKDTree

from service.calibration.calibrate_image import CalibrateImage, References
from service.calibration.presets import resolve_config
from service.calibration.result import CalibrationResult
from service.exposure.exposure import Amplifier, Detector, Exposure
from service.exposure.geometry import Box
from service.formats import read_exposure
from service.refcats import load_table

MMAG = 1000 * 2.5 / np.log(10)
FLUXES = (
    "base_PsfFlux",
    "base_CircularApertureFlux_12_0",
    "base_GaussianFlux",
    "base_CompensatedTophatFlux_12",
)
# set by a random stream, or of accidental meaning
NOT_COMPARED = {"zenithDistance", "effTimeZeroPointScale"}


@dataclass(frozen=True)
class Row:
    """One quantity: what is wanted and what is reached."""

    quantity: str
    wanted: str
    reached: str
    ok: bool


def calibrate(folder: Path, variant: str = "classic", preset: str = "parity") -> CalibrationResult:
    """Our calibration of one folder's exposure."""
    files = sorted(folder.glob("snap?.fits")) or [folder / "exposure.fits"]
    exposures = [read_exposure(path).exposure for path in files]
    for exposure in exposures:
        exposure.detector = _with_amplifiers(exposure)
    loader = load_table(folder / "refcat.fits")
    overrides = {"do_adaptive_threshold_detection": variant == "adaptive"}
    return CalibrateImage(resolve_config(preset, overrides)).run(exposures, References(loader, loader))


def _with_amplifiers(exposure: Exposure) -> Detector:
    """The detector of the recorded runs: 8 x 2 amplifiers of gain 1, of which the files say nothing."""
    height, width = (size // n for size, n in zip(exposure.masked_image.shape, (2, 8), strict=True))
    boxes = [Box(column * width, row * height, width, height) for row in range(2) for column in range(8)]
    return Detector(amplifiers=tuple(Amplifier(f"C{i:02}", box, 1.0, 9.0) for i, box in enumerate(boxes)))


def compare(folder: Path, result: CalibrationResult, variant: str = "classic") -> list[Row]:
    """All quantities of the parity table for one exposure."""
    theirs = folder / f"rubin_{variant}"
    fields = np.load(theirs / "fields.npz")
    rows = _counts(result, json.loads((theirs / "task_metadata.json").read_text()))
    rows += _masks(result, theirs)
    rows += _psf_and_fields(result, fields, np.sqrt(result.summary.meanVar))
    rows += _catalogs(result, theirs)
    rows += _summary(result, json.loads((theirs / "summary_stats.json").read_text()))
    return rows


def _counts(result: CalibrationResult, theirs: dict[str, Any]) -> list[Row]:
    rows = []
    for name, value in theirs.items():
        if name.endswith("_count") and isinstance(value, int):
            ours = result.metadata.get(name)
            ok = ours is not None and abs(ours - value) <= max(3, 0.03 * value)
            rows.append(Row(name, f"{value} within 3 % or 3", f"{ours}", ok))
    return rows


def _masks(result: CalibrationResult, theirs: Path) -> list[Row]:
    rows = []
    image = result.exposure.masked_image
    with fits.open(theirs / "mask.fits") as hdus:
        hdu = next(h for h in hdus if h.data is not None)
        bits = {key[3:]: hdu.header[key] for key in hdu.header if key.startswith("MP_")}
        for name in ("DETECTED", "EDGE", "INTRP", "SAT", "BAD", "CR"):
            wanted = 0.9 if name == "CR" else 0.97  # grown cosmic rays depend on the random stream of the fill
            upstream, ours = (hdu.data >> bits[name]) & 1 == 1, image.is_set([name])
            union = np.count_nonzero(upstream | ours)
            overlap = np.count_nonzero(upstream & ours) / union if union else 1.0
            rows.append(Row(f"mask {name}", f"IoU > {wanted}", f"{overlap:.4f}", overlap > wanted))
    return rows


def _psf_and_fields(result: CalibrationResult, fields: Any, sky_sigma: float) -> list[Row]:
    exposure = result.exposure
    x, y = fields["grid_xy"].T
    assert exposure.psf is not None
    assert exposure.ap_corr_map is not None
    assert exposure.wcs is not None
    kernel, theirs = exposure.psf.kernel_images(x, y), fields["psf_kernel"]
    peak = theirs.max(axis=(1, 2))
    residual = np.max(np.sqrt(np.mean((kernel - theirs) ** 2, axis=(1, 2))) / peak)
    shape = exposure.psf.shapes(x, y)
    upstream = fields["psf_shape_xx_yy_xy"]
    ratio = (_radius(shape) / _radius(upstream) - 1) * 100
    rows = [
        Row("PSF radius, median", "0.3 %", f"{np.median(np.abs(ratio)):.5f} %", bool(np.median(np.abs(ratio)) < 0.3)),
        Row("PSF radius, worst", "1 %", f"{np.max(np.abs(ratio)):.5f} %", bool(np.max(np.abs(ratio)) < 1)),
        Row("PSF kernel residual rms / peak", "0.5 %", f"{residual * 100:.5f} %", bool(residual < 0.005)),
    ]
    for name in ("base_PsfFlux_instFlux", "base_GaussianFlux_instFlux", "base_CompensatedTophatFlux_12_instFlux"):
        key = f"apcorr_{name}"
        if key in fields:
            off = np.max(np.abs(exposure.ap_corr_map[name].evaluate(x, y) / fields[key] - 1)) * MMAG
            rows.append(Row(f"aperture correction {name}", "1 mmag", f"{off:.4f} mmag", bool(off < 1)))
    ra, dec = exposure.wcs.pixel_to_sky(x, y)
    dra = (ra - fields["wcs_radec_deg"][:, 0]) * np.cos(np.radians(dec)) * 3.6e6
    ddec = (dec - fields["wcs_radec_deg"][:, 1]) * 3.6e6
    rms = float(np.sqrt(np.mean(dra**2 + ddec**2)))
    rows.append(Row("WCS at the grid", "3 mas rms", f"{rms:.5f} mas", rms < 3))
    calib = result.applied_photo_calib
    assert calib is not None
    off = abs(2.5 * np.log10(calib.mean / fields["calibration_mean_err"][0])) * 1000
    rows.append(Row("zero point", "1 mmag", f"{off:.4f} mmag", bool(off < 1)))
    background = result.background.image()[8::16, 8::16] - fields["background_every_16px"]
    sigma = sky_sigma * calib.mean
    rms, worst = float(np.std(background) / sigma), float(np.max(np.abs(background)) / sigma)
    rows.append(Row("background rms / sky sigma", "2 %", f"{rms * 100:.4f} %", rms < 0.02))
    rows.append(Row("background max / sky sigma", "10 %", f"{worst * 100:.4f} %", worst < 0.1))
    return rows


def _radius(shape: Any) -> Any:
    return (shape[:, 0] * shape[:, 1] - shape[:, 2] ** 2) ** 0.25


def _catalogs(result: CalibrationResult, folder: Path) -> list[Row]:
    rows = []
    assert result.psf_stars is not None
    assert result.stars is not None
    psf_theirs = pq.read_table(folder / "psf_stars.parquet").to_pydict()
    psf_theirs = {name: np.array(values) for name, values in psf_theirs.items()}
    used_ours, used_theirs = result.psf_stars["calib_psf_used"], psf_theirs["calib_psf_used"]
    a, b = _matched(result.psf_stars, psf_theirs)
    same = np.count_nonzero(used_ours[a] & used_theirs[b]) / max(used_theirs.sum(), used_ours.sum())
    rows.append(Row("PSF stars used, the same", "> 90 %", f"{same * 100:.1f} % of {used_theirs.sum()}", same > 0.9))
    theirs = {name: np.array(v) for name, v in pq.read_table(folder / "stars.parquet").to_pydict().items()}
    for which, ours, upstream in (("psf_stars", result.psf_stars, psf_theirs), ("stars", result.stars, theirs)):
        rows += _catalog(which, ours, upstream)
    return rows


def _matched(ours: Any, theirs: dict[str, Any]) -> tuple[Any, Any]:
    """Row pairs within half a pixel; parents pair with parents, children with children, sky is left out."""

    def keys(table: Any) -> Any:
        x, y = table["base_SdssCentroid_x"], table["base_SdssCentroid_y"]
        blend = 1000.0 * np.asarray(table["deblend_nChild"] > 0, float) if "deblend_nChild" in table else 0.0 * x
        return np.stack([x, y, blend], axis=1)

    first, second = keys(ours), keys(theirs)
    real = [~np.asarray(t["sky_source"]) if "sky_source" in t else True for t in (ours, theirs)]
    a = np.flatnonzero(np.isfinite(first).all(axis=1) & real[0])
    b = np.flatnonzero(np.isfinite(second).all(axis=1) & real[1])
    distance, index = cKDTree(second[b]).query(first[a], distance_upper_bound=0.5)
    good = np.isfinite(distance)
    return a[good], b[index[good]]


def _catalog(which: str, ours: Any, theirs: dict[str, Any]) -> list[Row]:
    a, b = _matched(ours, theirs)
    n_ours = np.count_nonzero(~ours["sky_source"]) if "sky_source" in ours else len(ours)
    n_theirs = np.count_nonzero(~theirs["sky_source"]) if "sky_source" in theirs else len(theirs["id"])
    found = min(len(np.unique(a)) / n_ours, len(np.unique(b)) / n_theirs)
    rows = [Row(f"{which}: found both ways", "> 97 %", f"{found * 100:.2f} % of {n_theirs}", found > 0.97)]
    error = theirs["base_PsfFlux_instFluxErr"][b]
    snr = np.divide(theirs["base_PsfFlux_instFlux"][b], error, out=np.zeros_like(error), where=error > 0)
    clean = ~theirs["base_SdssCentroid_flag"][b] & ~ours["base_SdssCentroid_flag"][a]
    pick = clean & (snr > 20)
    offset = np.hypot(
        ours["base_SdssCentroid_x"][a] - theirs["base_SdssCentroid_x"][b],
        ours["base_SdssCentroid_y"][a] - theirs["base_SdssCentroid_y"][b],
    )[pick]
    rms = float(np.sqrt(np.mean(offset**2)))
    rows.append(Row(f"{which}: centroid, S/N > 20", "0.003 px rms", f"{rms:.6f} px", rms < 0.003))
    pick = clean & (snr > 50)
    shape = "ext_shapeHSM_HsmSourceMoments"
    trace = theirs[f"{shape}_xx"][b] + theirs[f"{shape}_yy"][b]
    moments = [np.abs(ours[f"{shape}_{k}"][a] - theirs[f"{shape}_{k}"][b]) / trace * 2 for k in ("xx", "yy", "xy")]
    spread = float(np.nanpercentile(np.max(moments, axis=0)[pick], 95)) * 100
    rows.append(Row(f"{which}: moments, S/N > 50 (95th percentile)", "0.2 %", f"{spread:.5f} %", spread < 0.2))
    for name in FLUXES:
        mine, other = ours[f"{name}_instFlux"][a][pick], theirs[f"{name}_instFlux"][b][pick]
        good = np.isfinite(mine) & np.isfinite(other) & (other > 0) & (mine > 0)
        ratio = np.log(mine[good] / other[good]) * MMAG
        median, rms = float(np.median(ratio)), float(np.std(ratio))
        text = f"{median:+.4f}, {rms:.4f} mmag"
        rows.append(Row(f"{which}: {name}", "0.5 median, 2 rms mmag", text, abs(median) < 0.5 and rms < 2))
    flags = [c.name for c in ours.schema if c.dtype == "?" and c.name in theirs]
    equal = {name: float(np.mean(ours[name][a] == theirs[name][b])) for name in flags}
    used = "calib_photometry_used"
    if used in equal:
        equal[used] = float(np.mean(_of_twins(ours, used)[a] == _of_twins(theirs, used)[b]))
    worst = min(equal, key=lambda name: equal[name])
    text = f"{equal[worst] * 100:.2f} % ({worst})"
    rows.append(Row(f"{which}: flags, worst of {len(flags)}", "> 98 % equal", text, equal[worst] > 0.98))
    return rows


def _of_twins(table: Any, flag: str) -> Any:
    """A flag of all rows at one place: which of a parent and the child it resembles is matched, rounding decides."""
    place = np.stack([table["base_SdssCentroid_x"], table["base_SdssCentroid_y"]], axis=1)
    _, group = np.unique(np.round(place, 3), axis=0, return_inverse=True)
    return np.bincount(group.ravel(), weights=table[flag])[group.ravel()] > 0


def _summary(result: CalibrationResult, theirs: dict[str, Any]) -> list[Row]:
    ours = result.summary.as_dict()
    rows = []
    for name, value in theirs.items():
        if name in NOT_COMPARED or name not in ours or isinstance(value, list) or not np.isfinite(value):
            continue
        mine = ours[name]
        scale = _noise(name, theirs)
        ok = mine is not None and abs(mine - value) <= max(0.01 * abs(value), scale)
        rows.append(Row(f"summary {name}", f"{value:.6g} within 1 % or {scale:.2g}", f"{mine}", ok))
    return rows


def _noise(name: str, theirs: dict[str, Any]) -> float:
    """Statistical noise of a statistic that is a difference."""
    n = max(theirs.get("nPsfStar", 1), 1)
    if name.endswith("Median") and name.startswith("psfStarDelta"):
        return float(1.25 * theirs[name.replace("Median", "Scatter")] / np.sqrt(n))
    if name.endswith("Scatter"):
        return float(abs(theirs[name]) * 1.2 / np.sqrt(n))
    if name.endswith("EMedian"):
        return float(0.5 * abs(theirs[name]) / np.sqrt(n))
    return 1.0 if name == "nPsfStar" else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--variant", default="classic", choices=["classic", "adaptive"])
    parser.add_argument("--preset", default="parity")
    parser.add_argument("--all", action="store_true", help="show the rows that agree, too")
    options = parser.parse_args()
    names = options.names or sorted(p.parent.name for p in options.folder.glob("*/refcat.fits"))
    missed = 0
    for name in names:
        folder = options.folder / name
        if name.startswith("fail"):
            continue
        result = calibrate(folder, options.variant, options.preset)
        if result.failure is not None:
            print(f"\n{name}: {result.failure}")
            missed += 1
            continue
        rows = compare(folder, result, options.variant)
        bad = [row for row in rows if not row.ok]
        missed += len(bad)
        print(f"\n{name} ({options.variant}): {len(rows) - len(bad)} of {len(rows)} reached")
        for row in rows if options.all else bad:
            print(f"  {'  ' if row.ok else 'x '}{row.quantity:<58} {row.wanted:<34} {row.reached}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
