"""The front half of the calibration beside simulated truth, with the figures wanted; no references are used.

``python benchmarks/front_half.py --size 2048 --kinds sparse typical crowded --fwhm 2.2 3 4.5 7``; add
``--no-cosmic-rays``, ``--gradient 0.2`` or ``--halo-mag 11`` for other conditions. Each column of the table is a scene;
an asterisk marks a figure that misses what is wanted.

The PSF model is compared with a star as drawn at the star's position between the pixels, both measured alike. The
catalogue's moments of the centred model differ from those of undersampled stars by their offset alone: at a FWHM of
2.2 px by 1.0 to 1.5 per cent in size and 0.005 to 0.009 in ellipticity, where the true PSF drawn at the stars agrees
with them to 0.2 per cent. These differences are printed, but no goal is set for them.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import galsim
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from benchmarks.accuracy import copied
from service.calibration.calibrate_image import CalibrateImage
from service.calibration.config.star_selection import StarSelectionConfig
from service.calibration.presets import resolve_config
from service.calibration.result import CalibrationResult
from service.calibration.star_selection import select_stars
from service.exposure.catalog import SourceCatalog
from service.exposure.psf import Psf
from service.exposure.psf.moments import adaptive_moments
from service.simulation import Simulation, SimulationConfig, simulate
from service.simulation.simulate import halo_position

FWHM_PER_SIGMA = 2.3548
STAMP_HALF = 20  # of the true PSF where its moments are measured, px
#: Stars (galaxies) of a 4096 x 4096 exposure; the sparse kind has as many at any size.
KINDS: dict[str, dict[str, Any]] = {
    "sparse": {"n_stars": 300, "n_galaxies": 150, "mag_bright": 15.5, "mag_faint": 23.5},
    "typical": {"n_stars": 5000, "n_galaxies": 1500, "mag_bright": 14.5, "mag_faint": 24.3},
    "crowded": {"n_stars": 50000, "n_galaxies": 0, "mag_bright": 15.0, "mag_faint": 24.3},
}
#: What is wanted: name, limit on the absolute value, or a range.
WANTED: dict[str, tuple[float, float]] = {
    "background residual, median (sky sigma)": (-0.02, 0.02),
    "background model, worst p-p in 128-px cell": (0, 0.1),
    "centroid bias x at S/N 100 (px)": (-0.01, 0.01),
    "centroid bias y at S/N 100 (px)": (-0.01, 0.01),
    "centroid scatter / expected": (0, 1.2),
    "centroid pull width": (0.85, 1.15),
    "PSF |dT|/T of stars, median (%)": (0, 1.0),
    "PSF |de| of stars, median": (0, 0.005),
    "PSF |dT|/T of truth, median (%)": (0, 1.0),
    "PSF |de| of truth, median": (0, 0.005),
    "PSF flux in 12 px, median (%)": (0, 0.5),
    "PSF - calibration flux, median (mmag)": (-2, 2),
    "PSF - calibration flux, scatter (mmag)": (0, 10),
    "CR found (%)": (95, 100),
    "star cores hit (%)": (0, 0.1),
    "PSF stars that are stars (%)": (97, 100),
    "S/N > 50 selected that are stars (%)": (97, 100),
    "isolated S/N > 20 in the catalogue (%)": (90, 100),
    "isolated calibration S/N > 20 selected (%)": (90, 100),
}


def scene_config(kind: str, size: int, fwhm: float, seed: int, **options: Any) -> SimulationConfig:
    """Configuration of one kind of exposure."""
    values = dict(KINDS[kind])
    if kind != "sparse":
        share = (size / 4096) ** 2
        values |= {name: round(values[name] * share) for name in ("n_stars", "n_galaxies")}
    return SimulationConfig(size=size, seed=seed, fwhm=fwhm, **values, **options)


class Truth:
    """What is true of a simulated scene, and which of its stars a figure may use."""

    def __init__(self, simulation: Simulation) -> None:
        config, sources = simulation.config, simulation.sources
        self.simulation, self.config = simulation, config
        self.xy = np.stack([sources.x, sources.y], axis=1)
        self.sky_variance = config.sky + config.read_noise**2
        stamp, _, _ = simulation.psf.stamp(config.size / 2, config.size / 2, STAMP_HALF)
        self.area = 1.0 / float((stamp**2).sum())
        self.snr = simulation.flux / np.sqrt(self.area * self.sky_variance + simulation.flux)
        self.is_star = sources.is_star
        inner = (self.xy > 40).all(axis=1) & (self.xy < config.size - 41).all(axis=1)
        peak = simulation.flux * stamp.max() + config.sky
        self.usable = inner & (peak < 0.9 * config.full_well) & self.away_from_halo(self.xy) & ~self._touched()
        #: Counts of others within the reach of a source's PSF; isolated are those to which they add a fiftieth at most.
        self.neighbours = self._light_within(max(3 * config.fwhm, 8.0))
        self.isolated = self.neighbours < 0.02 * simulation.flux
        self.lonely = self._light_within(20.0) < 0.02 * simulation.flux  # also in the aperture of 12 px and its ring

    def away_from_halo(self, xy: NDArray[np.float64]) -> NDArray[np.bool_]:
        if self.config.halo_star_mag is None:
            return np.ones(len(xy), bool)
        return np.hypot(*(xy - halo_position(self.config)).T) > 5 * self.config.halo_radius

    def _touched(self) -> NDArray[np.bool_]:
        """Stars with a cosmic ray, defect or saturated pixel within a FWHM and a half."""
        image = self.simulation.exposures[0].masked_image
        hurt = image.is_set(["SAT", "BAD"]) | (np.sum(self.simulation.cosmic_rays, axis=0) > 0)
        y, x = np.nonzero(hurt)
        if not y.size:
            return np.zeros(len(self.xy), bool)
        distance, _ = cKDTree(np.stack([x, y], axis=1)).query(self.xy, distance_upper_bound=1.5 * self.config.fwhm)
        return np.isfinite(distance)

    def _light_within(self, radius: float) -> NDArray[np.float64]:
        """Light of the other sources around each."""
        flux = self.simulation.flux
        pairs = cKDTree(self.xy).query_pairs(radius, output_type="ndarray")
        other = np.zeros(len(flux))
        np.add.at(other, pairs[:, 0], flux[pairs[:, 1]])
        np.add.at(other, pairs[:, 1], flux[pairs[:, 0]])
        return other

    def match(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """True source at each position: the brightest within 1.5 px (or 0.4 FWHM); and whether there is one."""
        radius = max(1.5, 0.4 * self.config.fwhm)
        known = np.isfinite(x) & np.isfinite(y)
        near = cKDTree(self.xy).query_ball_point(np.stack([x[known], y[known]], axis=1), radius)
        index = np.full(len(x), -1, np.intp)
        flux = self.simulation.flux
        index[known] = [max(rows, key=flux.__getitem__) if rows else -1 for rows in near]
        return index, index >= 0


def judge(simulation: Simulation, result: CalibrationResult) -> dict[str, float]:
    """All figures of one calibration."""
    truth = Truth(simulation)
    assert result.stars is not None
    assert result.psf_stars is not None
    return {
        **_background(truth, result),
        **_centroids(truth, result.stars),
        **_psf(truth, result),
        **_fluxes(truth, result.stars),
        **_cosmic_rays(truth, result),
        **_selection(truth, result),
    }


def _counts_per_unit(result: CalibrationResult) -> float:
    return result.applied_photo_calib.mean if result.applied_photo_calib else 1.0


def _background(truth: Truth, result: CalibrationResult) -> dict[str, float]:
    sigma = np.sqrt(truth.sky_variance)
    unit = _counts_per_unit(result)
    image = result.exposure.masked_image
    away = ~image.is_set(["DETECTED", "DETECTED_NEGATIVE", "CR", "SAT", "BAD", "EDGE"])
    residual = np.asarray(result.background.image()) / unit - truth.simulation.sky
    n = truth.config.size // 128
    cells = residual[: 128 * n, : 128 * n].reshape(n, 128, n, 128)
    spread = np.ptp(cells, axis=(1, 3))
    middle = 128 * np.arange(n) + 64.0
    far = truth.away_from_halo(np.stack([g.ravel() for g in np.meshgrid(middle, middle)], axis=1)).reshape(n, n)
    return {
        "background residual, median (sky sigma)": float(np.median(image.image[away])) / unit / sigma,
        "background model - true sky, median (sigma)": float(np.median(residual[away])) / sigma,
        "background model, worst p-p in 128-px cell": float(spread[far].max()) / sigma,
    }


def _snr(stars: SourceCatalog) -> NDArray[np.float64]:
    return np.asarray(stars["base_PsfFlux_instFlux"] / stars["base_PsfFlux_instFluxErr"])


def _centroids(truth: Truth, stars: SourceCatalog) -> dict[str, float]:
    index, found = truth.match(stars["slot_Centroid_x"], stars["slot_Centroid_y"])
    use = found & ~stars["slot_Centroid_flag"]
    use[use] &= (truth.is_star & truth.usable & truth.isolated)[index[use]]
    snr = truth.snr[index]
    use &= (snr > 70) & (snr < 140)
    delta = np.stack([stars["slot_Centroid_x"], stars["slot_Centroid_y"]], axis=1)[use] - truth.xy[index[use]]
    error = np.stack([stars["slot_Centroid_xErr"], stars["slot_Centroid_yErr"]], axis=1)[use]
    expected = truth.config.fwhm / FWHM_PER_SIGMA / snr[use] * np.sqrt(2)

    def width(values: NDArray[np.float64]) -> float:
        return float(1.4826 * np.median(np.abs(values - np.median(values)))) if values.size else np.nan

    return {
        "stars at S/N 100": float(use.sum()),
        "centroid bias x at S/N 100 (px)": float(np.median(delta[:, 0])) if use.any() else np.nan,
        "centroid bias y at S/N 100 (px)": float(np.median(delta[:, 1])) if use.any() else np.nan,
        "centroid scatter / expected": width((delta / expected[:, None]).ravel()),
        "centroid pull width": width((delta / error).ravel()),
    }


def _ellipticity(m: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.stack([m[:, 0] - m[:, 1], 2 * m[:, 2]], axis=1) / (m[:, 0] + m[:, 1])[:, None])


def _psf(truth: Truth, result: CalibrationResult) -> dict[str, float]:
    stars, exposure = result.stars, result.exposure
    assert stars is not None
    assert exposure.psf is not None
    index, found = truth.match(stars["slot_Centroid_x"], stars["slot_Centroid_y"])
    use = found & ~stars["slot_Shape_flag"] & ~stars["ext_shapeHSM_HsmPsfMoments_flag"]
    use[use] &= (truth.is_star & truth.usable & truth.isolated & (truth.snr > 400))[index[use]]
    star, model = (
        np.stack([stars[f"ext_shapeHSM_Hsm{kind}Moments_{m}"] for m in ("xx", "yy", "xy")], axis=1)[use]
        for kind in ("Source", "Psf")
    )
    drawn = _hsm_moments(exposure.psf, *(stars[f"slot_Centroid_{axis}"][use] for axis in "xy"))
    positions = np.array([0.08, 0.3, 0.5, 0.7, 0.92]) * truth.config.size
    x, y = (value.ravel() for value in np.meshgrid(positions, positions))
    field = truth.simulation.psf
    stamps = np.stack([field.stamp(np.rint(a), np.rint(b), STAMP_HALF)[0] for a, b in zip(x, y, strict=True)])
    ours, true = exposure.psf.shapes(x, y), adaptive_moments(stamps.astype(np.float32))
    fraction = _inside(np.asarray(exposure.psf.kernel_images(x, y))) / _inside(stamps)
    to_stars = [(m[:, 0] + m[:, 1]) / (star[:, 0] + star[:, 1]) - 1 for m in (drawn, model)]
    size_ratio = (ours[:, 0] + ours[:, 1]) / (true[:, 0] + true[:, 1])
    difference = [np.hypot(*(_ellipticity(m) - _ellipticity(star)).T) for m in (drawn, model)]
    off_truth = np.hypot(*(_ellipticity(ours) - _ellipticity(true)).T)
    return {
        "isolated stars at S/N > 400": float(use.sum()),
        "PSF |dT|/T of stars, median (%)": 100 * float(np.median(np.abs(to_stars[0]))),
        "PSF |de| of stars, median": float(np.median(difference[0])),
        "  the same of the centred model (%)": 100 * float(np.median(np.abs(to_stars[1]))),
        "  |de| of the centred model": float(np.median(difference[1])),
        "PSF |dT|/T of truth, median (%)": 100 * float(np.median(np.abs(size_ratio - 1))),
        "PSF dT/T of truth, lowest (%)": 100 * float(np.min(size_ratio - 1)),
        "PSF dT/T of truth, highest (%)": 100 * float(np.max(size_ratio - 1)),
        "PSF |de| of truth, median": float(np.median(off_truth)),
        "PSF |de| of truth, worst": float(np.max(off_truth)),
        "PSF flux in 12 px, median (%)": 100 * float(np.median(np.abs(fraction - 1))),
        "PSF flux in 12 px, worst (%)": 100 * float(np.max(np.abs(fraction - 1))),
    }


def _hsm_moments(psf: Psf, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adaptive moments xx, yy, xy of the model drawn at positions, as galsim measures them, px squared."""
    result = np.full((len(x), 3), np.nan)
    for row, stamp in zip(result, psf.images(x, y)[0], strict=True):
        found = galsim.hsm.FindAdaptiveMom(galsim.Image(stamp.astype(np.float64)), strict=False)
        if not found.error_message:
            e1, e2 = found.observed_shape.e1, found.observed_shape.e2
            half = found.moments_sigma**2 / np.sqrt(1 - e1**2 - e2**2)
            row[:] = half * (1 + e1), half * (1 - e1), half * e2
    return result


def _inside(stamps: NDArray[np.floating]) -> NDArray[np.float64]:
    """Light within 12 px of the centre."""
    offset = np.arange(stamps.shape[1]) - stamps.shape[1] // 2
    return np.asarray(stamps[:, offset**2 + (offset**2)[:, None] <= 144].sum(axis=1), np.float64)


def _fluxes(truth: Truth, stars: SourceCatalog) -> dict[str, float]:
    index, found = truth.match(stars["slot_Centroid_x"], stars["slot_Centroid_y"])
    psf, calib = stars["base_PsfFlux_instFlux"], stars["slot_CalibFlux_instFlux"]
    use = found & ~stars["base_PsfFlux_flag"] & ~stars["slot_CalibFlux_flag"] & (psf > 0) & (calib > 0)
    use[use] &= (truth.is_star & truth.usable & truth.lonely & (truth.snr > 200))[index[use]]
    difference = -2500 * np.log10(psf[use] / calib[use])
    to_truth = -2500 * np.log10(psf[use] / truth.simulation.flux[index[use]])
    center = float(np.median(difference)) if use.any() else np.nan
    return {
        "lonely stars at S/N > 200": float(use.sum()),
        "PSF - calibration flux, median (mmag)": center,
        "PSF - calibration flux, scatter (mmag)": 1.4826 * float(np.median(np.abs(difference - center))),
        "  the same expected of sky noise (mmag)": 1086 * float(np.median(_aperture_noise(truth, index[use]))),
        "PSF flux - truth, scatter (mmag)": 1.4826 * float(np.median(np.abs(to_truth - np.median(to_truth)))),
    }


def _aperture_noise(truth: Truth, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Relative error that sky noise gives the tophat compensated by the ring of three times its area, about."""
    return np.asarray(np.sqrt(452 * (1 + 1 / 3) * truth.sky_variance) / truth.simulation.flux[rows])


def _cosmic_rays(truth: Truth, result: CalibrationResult) -> dict[str, float]:
    simulation, image = truth.simulation, result.exposure.masked_image
    rays = np.sum(simulation.cosmic_rays, axis=0)
    free = ~image.is_set(["SAT", "BAD"])
    noise = np.sqrt(simulation.exposures[0].masked_image.variance)
    strong = (rays > 10 * noise) & (rays > 150) & free
    found = image.is_set(["CR"])
    inside = (truth.xy > 5).all(axis=1) & (truth.xy < truth.config.size - 6).all(axis=1)
    cores = np.flatnonzero(truth.is_star & (truth.snr > 50) & inside)
    cx, cy = np.rint(truth.xy[cores]).astype(int).T
    clean = (rays[cy, cx] == 0) & free[cy, cx]
    return {
        "CR found (%)": 100 * float((found & strong).sum() / strong.sum()) if strong.any() else np.nan,
        "CR pixels where there is none": float((found & (rays == 0) & ~_near(rays > 0)).sum()),
        "star cores hit (%)": _percent(found[cy, cx][clean]),
    }


def _near(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    near = mask.copy()
    near[1:] |= mask[:-1]
    near[:-1] |= mask[1:]
    wide = near.copy()
    wide[:, 1:] |= near[:, :-1]
    wide[:, :-1] |= near[:, 1:]
    return wide


def _selection(truth: Truth, result: CalibrationResult) -> dict[str, float]:
    stars, psf_stars = result.stars, result.psf_stars
    assert stars is not None
    assert psf_stars is not None

    def purity(catalog: SourceCatalog, chosen: NDArray[np.bool_]) -> float:
        index, found = truth.match(catalog["slot_Centroid_x"][chosen], catalog["slot_Centroid_y"][chosen])
        return 100 * float((truth.is_star[index] & found).mean()) if chosen.any() else np.nan

    selected = select_stars(stars, StarSelectionConfig())
    with np.errstate(invalid="ignore"):
        bright = selected & (_snr(stars) > 50) & ~stars["sky_source"]
    good = truth.is_star & truth.usable & truth.isolated
    wanted = np.flatnonzero(good & (truth.snr > 20))
    tophat = np.flatnonzero(good & (_aperture_noise(truth, np.arange(len(good))) < 1 / 20))
    index, found = truth.match(stars["slot_Centroid_x"], stars["slot_Centroid_y"])
    found &= ~stars["sky_source"]
    return {
        "PSF stars used": float(psf_stars["calib_psf_used"].sum()),
        "PSF stars that are stars (%)": purity(psf_stars, psf_stars["calib_psf_used"]),
        "S/N > 50 selected that are stars (%)": purity(stars, bright),
        "isolated S/N > 20 stars": float(wanted.size),
        "isolated S/N > 20 in the catalogue (%)": _percent(np.isin(wanted, index[found])),
        "isolated calibration S/N > 20 selected (%)": _percent(np.isin(tophat, index[found & selected])),
        "sources": float(result.metadata["post_deblend_source_count"]),
    }


def _percent(values: NDArray[np.bool_]) -> float:
    return 100 * float(values.mean()) if values.size else np.nan


def missed(name: str, value: float) -> bool:
    """Whether a figure is outside what is wanted; one that could not be had is not."""
    low, high = WANTED.get(name, (-np.inf, np.inf))
    return bool(value < low or value > high)


def print_table(columns: dict[str, dict[str, float]]) -> None:
    names = list(next(iter(columns.values())))
    print(f"{'':<46}{'wanted':>16}" + "".join(f"{name:>16}" for name in columns))
    for name in names:
        low, high = WANTED.get(name, (np.nan, np.nan))
        wanted = "" if np.isnan(low) else f"{low:g} .. {high:g}"
        cells = "".join(f"{f[name]:>15.4g}{'*' if missed(name, f[name]) else ' '}" for f in columns.values())
        print(f"{name:<46}{wanted:>16}{cells}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--fwhm", type=float, nargs="+", default=[2.2, 3.0, 4.5, 7.0])
    parser.add_argument("--seed", type=int, default=3101)
    parser.add_argument("--no-cosmic-rays", action="store_true")
    parser.add_argument("--gradient", type=float, default=0.06)
    parser.add_argument("--halo-mag", type=float)
    parser.add_argument("--preset", default="generic")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    extra: dict[str, Any] = {"sky_gradient": options.gradient, "halo_star_mag": options.halo_mag}
    if options.no_cosmic_rays:
        extra["n_cosmic_rays"] = 0
    config = resolve_config(options.preset)
    everything = {"do_unresolved": False, "do_signal_to_noise": False}  # the selection is judged here
    config = config.model_copy(update={"star_selector": config.star_selector.model_copy(update=everything)})
    columns = {}
    for kind in options.kinds:
        for fwhm in options.fwhm:
            simulation = simulate(scene_config(kind, options.size, fwhm, options.seed, **extra))
            start = time.process_time()
            result = CalibrateImage(config).run([copied(e) for e in simulation.exposures])
            seconds = time.process_time() - start
            name = f"{kind} {fwhm:g}"
            if result.failure is not None:
                print(f"{name}: {type(result.failure).__name__}: {result.failure}")
                continue
            columns[name] = judge(simulation, result) | {
                "CPU s": seconds,
                "peak memory MB, scene included": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
            del simulation, result
    if columns:
        print_table(columns)
    if options.json:
        options.json.write_text(json.dumps(columns, indent=2))


if __name__ == "__main__":
    main()
