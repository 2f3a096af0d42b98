"""Judge our default mode and Rubin's own outputs by the same simulated truth, side by side.

Run ``python benchmarks/truth_report.py FOLDER [NAME ...]``, FOLDER as for ``parity_report.py``. A figure is marked
where ours is worse by more than its own noise.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import parity_report
import pyarrow.parquet as pq
from astropy.io import fits
from scipy.spatial import cKDTree

from service.exposure.wcs import Wcs

MMAG = 1000.0


@dataclass(frozen=True)
class Outputs:
    """What either code made of one exposure."""

    stars: Any
    zero_point: float
    psf_radius: Any
    wcs_radec: Any
    cosmic_rays: Any


def ours(folder: Path, preset: str, variant: str) -> Outputs:
    """Our outputs."""
    result = parity_report.calibrate(folder, variant, preset)
    if result.failure is not None:
        raise SystemExit(f"{folder.name}: {result.failure}")
    assert result.stars is not None
    assert result.exposure.psf is not None
    assert result.exposure.wcs is not None
    x, y = _grid(folder, variant).T
    shape = result.exposure.psf.shapes(x, y)
    radec = np.stack(result.exposure.wcs.pixel_to_sky(x, y), axis=1)
    radius = (shape[:, 0] * shape[:, 1] - shape[:, 2] ** 2) ** 0.25
    found = result.exposure.masked_image.is_set(["CR"])
    return Outputs(result.stars, result.summary.zeroPoint, radius, radec, found)


def theirs(folder: Path, variant: str) -> Outputs:
    """Upstream's outputs."""
    outputs = folder / f"rubin_{variant}"
    fields = np.load(outputs / "fields.npz")
    table = {name: np.array(values) for name, values in pq.read_table(outputs / "stars.parquet").to_pydict().items()}
    shape = fields["psf_shape_xx_yy_xy"]
    with fits.open(outputs / "mask.fits") as hdus:
        hdu = next(h for h in hdus if h.data is not None)
        found = (hdu.data >> hdu.header["MP_CR"]) & 1 == 1
    summary = json.loads((outputs / "summary_stats.json").read_text())
    radius = (shape[:, 0] * shape[:, 1] - shape[:, 2] ** 2) ** 0.25
    return Outputs(table, summary["zeroPoint"], radius, fields["wcs_radec_deg"], found)


def _grid(folder: Path, variant: str) -> Any:
    return np.load(folder / f"rubin_{variant}" / "fields.npz")["grid_xy"]


def judge(folder: Path, outputs: Outputs, variant: str) -> dict[str, float]:
    """Figures of one set of outputs; smaller is better, but for those named complete, pure and found."""
    with fits.open(folder / "truth.fits") as hdus:
        truth = {name: np.array(hdus["TRUTH"].data[name]) for name in hdus["TRUTH"].columns.names}
        zero_point = float(hdus[0].header["ZP"])
        header = hdus["TRUEWCS"].header
        sky_sigma = float(np.sqrt(hdus[0].header["BKGVAR"]))
    figures = _catalog(outputs.stars, truth, zero_point)
    aperture = zero_point + 2.5 * np.log10(np.median(truth["apfrac12"][truth["is_star"]]))
    figures["zero point error, mmag"] = abs(outputs.zero_point - aperture) * MMAG
    figures |= _psf_and_wcs(folder, outputs, truth, header, variant)
    planes = []
    for path in sorted(folder.glob("truecr*.fits")):
        with fits.open(path) as hdus:
            planes += [np.array(h.data, dtype=float) for h in hdus if h.data is not None]
    if planes:
        rays = np.sum(planes, axis=0)
        strong = rays > np.maximum(10 * sky_sigma, 150)
        found = outputs.cosmic_rays
        figures["cosmic-ray pixels found, %"] = 100 * float((found & strong).sum() / max(strong.sum(), 1))
        figures["false cosmic-ray pixels"] = float((found & (rays == 0)).sum())
    return figures


def _catalog(stars: Any, truth: dict[str, Any], zero_point: float) -> dict[str, float]:
    primary = np.asarray(stars["detect_isPrimary"])
    position = np.stack([stars["base_SdssCentroid_x"], stars["base_SdssCentroid_y"]], axis=1)
    rows = np.flatnonzero(primary & np.isfinite(position).all(axis=1))
    true = np.stack([truth["x"], truth["y"]], axis=1)
    distance, index = cKDTree(true).query(position[rows])
    snr = stars["base_PsfFlux_instFlux"][rows] / stars["base_PsfFlux_instFluxErr"][rows]
    bright = snr > 20
    near = distance < 1.0
    pure = (near & truth["is_star"][index])[bright].mean()
    inside = (true > 45).all(axis=1) & (true < true.max() - 60).all(axis=1)
    clean = truth["is_star"] & ~truth["saturated"] & ~truth["bad"] & ~truth["cr_hit"] & inside
    wanted = clean & (truth["snr_psf"] > 20) & (truth["iso_pix"] > 12)
    back = cKDTree(position[rows]).query(true[wanted])[0] < 1.0
    figures = {"complete at S/N > 20, isolated, %": 100 * float(back.mean()), "pure at S/N > 20, %": 100 * float(pure)}
    good = near & clean[index] & (truth["snr_psf"][index] > 20)
    s, t = rows[good], index[good]
    flux_limit = truth["fluxerr_psf_limit"][t] / truth["flux"][t]
    flux = stars["base_PsfFlux_flux"][s] / 10 ** (0.4 * (31.4 - zero_point)) / truth["flux"][t] - 1
    offset = np.stack([position[s, 0] - truth["x"][t], position[s, 1] - truth["y"][t]]) / truth["pos_err_limit"][t]
    ra, dec = np.degrees(stars["coord_ra"][s]), np.degrees(stars["coord_dec"][s])
    sky = np.stack([(ra - truth["ra"][t]) * np.cos(np.radians(dec)), dec - truth["dec"][t]]) * 3.6e6
    return figures | {
        "stars compared": float(len(s)),
        "PSF flux bias, mmag": abs(float(np.median(flux))) * 1086,
        "PSF flux scatter over its limit": _sigma(flux / flux_limit),
        "centroid scatter over its limit": _sigma(offset),
        "sky position offset, mas": float(np.hypot(*np.median(sky, axis=1))),
        "sky position scatter, mas": _sigma(sky),
    }


def _psf_and_wcs(folder: Path, outputs: Outputs, truth: dict[str, Any], header: Any, variant: str) -> dict[str, float]:
    grid = _grid(folder, variant)

    def terms(x: Any, y: Any) -> Any:
        u, v = x / grid.max(), y / grid.max()
        return np.stack([u**i * v**j for i in range(4) for j in range(4 - i)], axis=1)

    fit = np.linalg.lstsq(terms(truth["x"], truth["y"]), truth["psf_sigma"], rcond=None)[0]
    ratio = outputs.psf_radius / (terms(*grid.T) @ fit)
    ra, dec = Wcs.from_header(header).pixel_to_sky(*grid.T)
    dra = (outputs.wcs_radec[:, 0] - ra) * np.cos(np.radians(dec)) * 3.6e6
    ddec = (outputs.wcs_radec[:, 1] - dec) * 3.6e6
    return {
        "PSF radius, rms over the grid, %": 100 * float(np.std(ratio)),
        "WCS at the grid, mas rms": float(np.sqrt(np.mean(dra**2 + ddec**2))),
    }


def _sigma(values: Any) -> float:
    values = np.ravel(values)
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--variant", default="classic", choices=["classic", "adaptive"])
    parser.add_argument("--preset", default="generic")
    options = parser.parse_args()
    names = options.names or sorted(p.parent.name for p in options.folder.glob("*/refcat.fits"))
    for name in (n for n in names if not n.startswith("fail")):
        folder = options.folder / name
        mine = judge(folder, ours(folder, options.preset, options.variant), options.variant)
        rubin = judge(folder, theirs(folder, options.variant), options.variant)
        print(f"\n{name} ({options.variant}){'ours':>34}{'Rubin':>12}")
        for figure, value in mine.items():
            more_is_better = figure.endswith("%") and not figure.startswith("PSF")
            worse = (rubin[figure] - value) if more_is_better else (value - rubin[figure])
            mark = "x" if worse > 0.03 * abs(rubin[figure]) + 1e-9 and figure != "stars compared" else " "
            print(f" {mark} {figure:<38}{value:12.4f}{rubin[figure]:12.4f}")


if __name__ == "__main__":
    main()
