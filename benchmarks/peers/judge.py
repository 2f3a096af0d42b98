"""What is true of a simulated exposure, and how far a program's catalogue and models are from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from benchmarks.front_half import STAMP_HALF, Truth
from benchmarks.peers.limits import Limits, point_source_limits
from benchmarks.peers.measured import Array, Measured
from service.exposure.psf.moments import adaptive_moments
from service.simulation import Simulation

SNR_BINS = ((5, 7), (7, 10), (10, 15), (15, 30), (30, 100), (100, 300), (300, np.inf))
FAINTEST = 2.0  # S/N of true sources that a detection can be of
BRIGHT = 50.0  # S/N of stars whose positions on the sky and magnitudes are judged
GRID = (0.08, 0.3, 0.5, 0.7, 0.92)  # of the detector, where models are compared


@dataclass(frozen=True, slots=True)
class Known:
    """Truth of a scene.

    Parameters
    ----------
    scene : Truth
        Sources, and which of them nothing disturbs.
    limits : Limits
        Cramer-Rao bounds, as if every source were a star.
    snr : ndarray
        True flux over its bound.
    clean : ndarray of bool
        Stars that are touched by no defect, cosmic ray, saturation or edge, and have around them neither a fiftieth of
        their light nor as much as the bound of their flux.
    """

    scene: Truth
    limits: Limits
    snr: Array
    clean: Array


def truth(simulation: Simulation) -> Known:
    """What is true of a scene, with the bounds from its own PSF and the sky at each source."""
    scene, config = Truth(simulation), simulation.config
    x, y = scene.xy.T
    column, row = (np.clip(np.rint(value), 0, config.size - 1).astype(int) for value in (x, y))
    variance = simulation.sky[row, column] + config.read_noise**2
    limits = point_source_limits(simulation.psf, x, y, simulation.flux, variance)
    undisturbed = scene.isolated & (scene.neighbours < limits.flux)
    return Known(scene, limits, simulation.flux / limits.flux, scene.is_star & scene.usable & undisturbed)


def judge(known: Known, measured: Measured) -> dict[str, float]:
    """All figures of one program."""
    found = _matched(known, measured)
    return {
        **_completeness(known, found),
        **_spurious(known, measured, found),
        **_centroids(known, measured, found),
        **_fluxes(known, measured, found),
        **_sky(known, measured, found),
        "zero point error (mmag)": 1000 * (measured.zero_point - known.scene.simulation.aperture_zero_point()),
        "stars that the PSF was fitted to": float(measured.n_psf_stars),
        **psf_figures(known.scene.simulation, measured.psf_stamps),
    }


def width(values: Array) -> float:
    """Standard deviation by the median of absolute deviations."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values)))) if values.size else np.nan


def _matched(known: Known, measured: Measured) -> Array:
    """For each true source the detection that is nearest to it and whose nearest source it is; -1 without."""
    real = np.flatnonzero(known.snr > FAINTEST)
    position = np.stack([measured.x, measured.y], axis=1)
    radius = max(2.0, 0.5 * known.scene.config.fwhm)
    distance, nearest = cKDTree(position).query(known.scene.xy[real])
    _, back = cKDTree(known.scene.xy[real]).query(position)
    mutual = (distance < radius) & (back[nearest] == np.arange(len(real)))
    found = np.full(len(known.snr), -1)
    found[real[mutual]] = nearest[mutual]
    return found


def _named(low: float, high: float) -> str:
    return f"S/N {low:g}-{high:g}" if np.isfinite(high) else f"S/N > {low:g}"


def _bins(known: Known, least: float) -> dict[str, Array]:
    bins = {_named(*edges): edges for edges in SNR_BINS if edges[0] >= least}
    return {name: known.clean & (known.snr > low) & (known.snr <= high) for name, (low, high) in bins.items()}


def _completeness(known: Known, found: Array) -> dict[str, float]:
    figures = {f"complete, {name} (%)": 100 * _mean(found[rows] >= 0) for name, rows in _bins(known, 5).items()}
    everything = known.scene.is_star & known.scene.usable & (known.snr > 20)
    return figures | {"complete, S/N > 20, blends too (%)": 100 * _mean(found[everything] >= 0)}


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else np.nan


def _spurious(known: Known, measured: Measured, found: Array) -> dict[str, float]:
    """Detections that are of no source, by what is there instead."""
    config, simulation = known.scene.config, known.scene.simulation
    extra = np.ones(len(measured.x), bool)
    extra[found[found >= 0]] = False
    position = np.stack([measured.x, measured.y], axis=1)[extra]
    planes = simulation.exposures[0].masked_image
    figures = {}
    near = {
        "detections of cosmic rays": (simulation.cosmic_rays[0] > 0, config.fwhm),
        "detections at saturated and bad pixels": (planes.is_set(["SAT", "BAD"]), config.fwhm),
    }
    for name, (pixels, reach) in near.items():
        tree = cKDTree(np.argwhere(pixels)[:, ::-1])
        there = tree.query(position, distance_upper_bound=reach)[0] <= reach
        figures[name] = float(there.sum())
        position = position[~there]
    bright = known.scene.xy[known.snr > 20]
    parts = cKDTree(bright).query(position)[0] < 4 * config.fwhm
    return figures | {
        "detections again, within 4 FWHM of S/N > 20": float(parts.sum()),
        "detections of nothing": float((~parts).sum()),
        "detections": float(len(measured.x)),
    }


def _centroids(known: Known, measured: Measured, found: Array) -> dict[str, float]:
    figures = {}
    for name, rows in _bins(known, 10).items():
        rows = np.flatnonzero(rows & (found >= 0) & measured.centroid_good[found])
        off = np.stack([measured.x, measured.y])[:, found[rows]] - known.scene.xy[rows].T
        figures[f"centroid scatter / bound, {name}"] = width(off / np.stack([known.limits.x, known.limits.y])[:, rows])
    return figures


def _fluxes(known: Known, measured: Measured, found: Array) -> dict[str, float]:
    simulation = known.scene.simulation
    true = simulation.sources.mags[simulation.config.band]
    figures = {}
    for name, rows in _bins(known, 10).items():
        rows = np.flatnonzero(rows & (found >= 0) & np.isfinite(measured.mag[found]))
        ratio = 10 ** (-0.4 * (measured.mag[found[rows]] - true[rows]))
        figures[f"flux scatter / bound, {name}"] = width((ratio - 1) * known.snr[rows])
    rows = np.flatnonzero(known.clean & (known.snr > BRIGHT) & (found >= 0) & np.isfinite(measured.mag[found]))
    off = measured.mag[found[rows]] - true[rows]
    return figures | {
        f"magnitude bias, S/N > {BRIGHT:g} (mmag)": 1000 * float(np.median(off)),
        f"magnitude scatter, S/N > {BRIGHT:g} (mmag)": 1000 * width(off),
    }


def _sky(known: Known, measured: Measured, found: Array) -> dict[str, float]:
    """Positions of stars on the sky, and the WCS alone at the true pixels of a grid."""
    simulation, sources = known.scene.simulation, known.scene.simulation.sources
    rows = np.flatnonzero(known.clean & (known.snr > BRIGHT) & (found >= 0) & measured.centroid_good[found])
    sky = measured.pixel_to_sky(measured.x[found[rows]], measured.y[found[rows]])
    off = _mas(sky, (sources.ra[rows], sources.dec[rows]))
    return {
        f"sky position bias, S/N > {BRIGHT:g} (mas)": float(np.hypot(*np.median(off, axis=1))),
        f"sky position rms per axis, S/N > {BRIGHT:g} (mas)": width(off - np.median(off, axis=1)[:, None]),
        "WCS at a grid, rms per axis (mas)": wcs_error(simulation, measured.pixel_to_sky),
    }


def wcs_error(simulation: Simulation, pixel_to_sky: Callable[[Array, Array], tuple[Array, Array]]) -> float:
    """Of a WCS alone, at 25 pixels: rms per axis, mas."""
    x, y = _grid(simulation.config.size)
    off = _mas(pixel_to_sky(x, y), simulation.wcs.pixel_to_sky(x, y))
    return float(np.sqrt(np.mean(off**2)))


def _mas(sky: tuple[Array, Array], true: tuple[Array, Array]) -> Array:
    return 3.6e6 * np.stack([(sky[0] - true[0]) * np.cos(np.radians(true[1])), sky[1] - true[1]])


def _grid(size: int) -> tuple[Array, Array]:
    x, y = np.meshgrid(*[np.rint(np.array(GRID) * size)] * 2)
    return x.ravel(), y.ravel()


def psf_figures(simulation: Simulation, stamps: Callable[[Array, Array], Array]) -> dict[str, float]:
    """Models of the PSF against the true one at 25 pixels."""
    at = _grid(simulation.config.size)
    model = np.asarray(stamps(*at), np.float64)
    half = min(model.shape[1] // 2, STAMP_HALF)
    true = np.stack([simulation.psf.stamp(x, y, half)[0] for x, y in zip(*at, strict=True)])
    cut = slice(model.shape[1] // 2 - half, model.shape[1] // 2 + half + 1)
    true, model = (s / s.sum(axis=(1, 2), keepdims=True) for s in (true, model[:, cut, cut]))
    (txx, tyy, txy), (mxx, myy, mxy) = (adaptive_moments(s.astype(np.float32)).T for s in (true, model))
    size = np.abs((mxx + myy) / (txx + tyy) - 1)
    shape = np.hypot((mxx - myy) / (mxx + myy) - (txx - tyy) / (txx + tyy), 2 * (mxy / (mxx + myy) - txy / (txx + tyy)))
    residual = np.abs(model - true).sum(axis=(1, 2))
    return {
        "PSF size |dT|/T, median (%)": 100 * float(np.median(size)),
        "PSF size |dT|/T, worst (%)": 100 * float(np.max(size)),
        "PSF |de|, median": float(np.median(shape)),
        "PSF |de|, worst": float(np.max(shape)),
        "PSF sum |residual|, median (%)": 100 * float(np.median(residual)),
    }
