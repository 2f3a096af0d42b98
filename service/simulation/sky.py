"""What is on the sky: stars with colours and proper motions, galaxies, and the reference catalogue made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from service.exposure.wcs import LinearMap, SipMap, Wcs

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from service.simulation.config import SimulationConfig

__all__ = ["Sources", "draw_sources", "reference_table", "true_and_header_wcs"]

_BANDS = ("g", "r", "i")
_MAS = 1.0 / 3.6e6


@dataclass(frozen=True, slots=True)
class Sources:
    """True sources.

    Parameters
    ----------
    x, y : ndarray of float64
        Position, pixels.
    ra, dec : ndarray of float64
        ICRS at the epoch of the exposure, deg.
    mags : dict of str to ndarray
        AB magnitude in each band.
    is_star : ndarray of bool
        Star or galaxy.
    half_light, axis_ratio, angle : ndarray of float64
        Galaxy shape: pixels, -, rad.
    pm_ra, pm_dec : ndarray of float64
        mas/yr.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    mags: dict[str, NDArray[np.float64]]
    is_star: NDArray[np.bool_]
    half_light: NDArray[np.float64]
    axis_ratio: NDArray[np.float64]
    angle: NDArray[np.float64]
    pm_ra: NDArray[np.float64]
    pm_dec: NDArray[np.float64]


def _cd(scale_arcsec: float, rotation: float) -> NDArray[np.float64]:
    scale, angle = scale_arcsec / 3600.0, np.radians(rotation)
    return scale * np.array([[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def true_and_header_wcs(config: SimulationConfig, rng: Generator) -> tuple[Wcs, Wcs]:
    """The true WCS, with a small radial distortion, and the header's, which is off and has none."""
    center = (config.size - 1) / 2.0
    linear = LinearMap((center, center), _cd(config.pixel_scale, config.rotation))
    corner = np.sqrt(2.0) * config.size / 2.0
    cubic = config.distortion * 1e-3 / config.pixel_scale / corner**3  # pixels per pixel^3
    a = np.zeros((4, 4))
    a[3, 0] = a[1, 2] = cubic
    true = Wcs(SipMap(linear, a, a.T.copy()), (config.ra, config.dec))
    direction = rng.uniform(0, 2 * np.pi)
    offset = config.pointing_error / 3600.0
    ra = config.ra + offset * np.cos(direction) / np.cos(np.radians(config.dec))
    cd = _cd(config.pixel_scale * (1 + config.scale_error), config.rotation + config.rotation_error)
    return true, Wcs.tan((center, center), (ra % 360.0, config.dec + offset * np.sin(direction)), cd)


def draw_sources(config: SimulationConfig, wcs: Wcs, rng: Generator) -> Sources:
    """Draw stars (exponential counts) and galaxies, uniformly over the detector and a rim around it."""
    rim = 40.0
    n = config.n_stars + config.n_galaxies
    is_star = np.arange(n) < config.n_stars
    x, y = rng.uniform(-rim, config.size - 1 + rim, (2, n))
    ra, dec = wcs.pixel_to_sky(x, y)
    slope = config.count_slope * np.log(10.0)
    span = np.exp(slope * (config.mag_faint - config.mag_bright)) - 1.0
    mag = config.mag_bright + np.log1p(rng.random(n) * span) / slope
    mag = np.where(is_star, mag, np.maximum(mag, config.mag_bright + 3.0))
    color = np.clip(rng.normal(0.7, 0.35, n), -0.2, 1.8)
    mags = {"g": mag + color, "r": mag, "i": mag - 0.4 * color}
    shift = mag - mags[config.band]
    half_light = np.clip(rng.lognormal(np.log(2.5), 0.4, n), 1.0, 12.0)
    motion = rng.normal(0.0, 6.0, (2, n))
    return Sources(
        x=x,
        y=y,
        ra=ra,
        dec=dec,
        mags={band: values + shift for band, values in mags.items()},
        is_star=is_star,
        half_light=np.where(is_star, 0.0, half_light),
        axis_ratio=rng.uniform(0.3, 1.0, n),
        angle=rng.uniform(0, np.pi, n),
        pm_ra=motion[0],
        pm_dec=motion[1],
    )


def reference_table(sources: Sources, config: SimulationConfig, rng: Generator) -> dict[str, NDArray[np.generic]]:
    """Gaia-like references of the stars: at their own epoch, with errors, gaps and spurious entries.

    Returns
    -------
    dict of str to ndarray
        ``id``, ``ra``, ``dec`` (deg), ``ra_err``, ``dec_err`` (mas), ``pmra``, ``pmdec``, ``pmra_err``, ``pmdec_err``
        (mas/yr), ``parallax`` (mas), ``epoch`` (Julian year), ``<band>_mag``, ``<band>_magerr``.
    """
    bright = sources.is_star & (sources.mags[config.band] < config.reference_mag_limit)
    rows = np.flatnonzero(bright & (rng.random(bright.size) >= config.reference_missing))
    n_spurious = round(config.reference_spurious * rows.size)
    n = rows.size + n_spurious
    exposure_epoch = 2000.0 + (config.mjd - 51544.5) / 365.25
    elapsed = config.reference_epoch - exposure_epoch

    def column(values: NDArray[np.float64], spurious: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([values[rows], spurious])

    half = 0.5 * config.size * config.pixel_scale / 3600.0
    cos_dec = np.cos(np.radians(config.dec))
    ra = column(sources.ra, config.ra + rng.uniform(-half, half, n_spurious) / cos_dec)
    dec = column(sources.dec, config.dec + rng.uniform(-half, half, n_spurious))
    pm_ra, pm_dec = column(sources.pm_ra, np.zeros(n_spurious)), column(sources.pm_dec, np.zeros(n_spurious))
    error = config.reference_error
    ra = ra + (pm_ra * elapsed + rng.normal(0, error, n)) * _MAS / np.cos(np.radians(dec))
    dec = dec + (pm_dec * elapsed + rng.normal(0, error, n)) * _MAS
    table: dict[str, NDArray[np.generic]] = {
        "id": np.arange(1, n + 1, dtype=np.int64),
        "ra": np.mod(ra, 360.0),
        "dec": dec,
        "ra_err": np.full(n, error),
        "dec_err": np.full(n, error),
        "pmra": pm_ra,
        "pmdec": pm_dec,
        "pmra_err": np.full(n, 0.05),
        "pmdec_err": np.full(n, 0.05),
        "parallax": np.zeros(n),
        "epoch": np.full(n, config.reference_epoch),
    }
    for band in _BANDS:
        spurious = rng.uniform(config.mag_bright, config.reference_mag_limit, n_spurious)
        magnitude = column(sources.mags[band], spurious)
        magnitude_error = np.hypot(0.004, 0.01 * 10.0 ** (0.4 * (magnitude - 20.5)))
        table[f"{band}_mag"] = magnitude + rng.normal(0.0, 1.0, n) * magnitude_error
        table[f"{band}_magerr"] = magnitude_error
    order = rng.permutation(n)
    return {name: values[order] for name, values in table.items()}
