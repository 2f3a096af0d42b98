"""Put a simulated exposure together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.signal import fftconvolve

from service.exposure.exposure import Amplifier, Detector, Exposure, FilterLabel, VisitInfo
from service.exposure.geometry import Box
from service.exposure.masked_image import MaskedImage
from service.simulation.detector import bleed, cosmic_ray_tracks, defects, fill_defects
from service.simulation.psf import MoffatField
from service.simulation.sky import Sources, draw_sources, reference_table, true_and_header_wcs

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from service.exposure.wcs import Wcs
    from service.simulation.config import SimulationConfig

__all__ = ["Simulation", "halo_position", "simulate"]


@dataclass(frozen=True, slots=True)
class Simulation:
    """A simulated visit and everything that is true of it.

    Parameters
    ----------
    config : SimulationConfig
        What was asked for.
    exposures : list of Exposure
        One, or two snaps; electrons, header WCS.
    sources : Sources
        True sources; ``flux`` gives their electrons.
    references : dict of str to ndarray
        Reference table.
    psf : MoffatField
        True PSF.
    wcs : Wcs
        True WCS.
    sky : ndarray of float32, shape (size, size)
        Sky electrons, all snaps together.
    cosmic_rays : list of ndarray of float32
        Electrons of cosmic rays in each snap.
    """

    config: SimulationConfig
    exposures: list[Exposure]
    sources: Sources
    references: dict[str, NDArray[np.generic]]
    psf: MoffatField
    wcs: Wcs
    sky: NDArray[np.float32]
    cosmic_rays: list[NDArray[np.float32]]

    @property
    def flux(self) -> NDArray[np.float64]:
        """Total electrons of each source."""
        mag = self.sources.mags[self.config.band]
        return np.asarray(10.0 ** (-0.4 * (mag - self.config.zero_point)))

    def aperture_zero_point(self, radius: float = 12.0) -> float:
        """Zero point tied to a circular aperture at the centre, mag: what the calibration aims at."""
        center = (self.config.size - 1) / 2.0
        return float(self.config.zero_point + 2.5 * np.log10(self.psf.enclosed(center, center, radius)))


def simulate(config: SimulationConfig) -> Simulation:
    """Simulate one visit.

    Parameters
    ----------
    config : SimulationConfig
        What to simulate; equal configurations give equal results.

    Returns
    -------
    Simulation
        Exposures, references and truth.
    """
    rng = np.random.default_rng([config.seed, 20260])
    true_wcs, header_wcs = true_and_header_wcs(config, rng)
    sources = draw_sources(config, true_wcs, rng)
    psf = MoffatField(
        config.size, config.fwhm, config.moffat_beta, config.fwhm_variation, config.ellipticity, rng.uniform(0, np.pi)
    )
    references = reference_table(sources, config, rng)
    sky = _sky(config)
    light = sky.copy()
    flux = 10.0 ** (-0.4 * (sources.mags[config.band] - config.zero_point))
    _draw(light, sources, flux, psf, noise=float(np.sqrt(config.sky + config.read_noise**2)))
    if config.halo_star_mag is not None:
        _draw_halo_star(light, config, psf)
    bad = defects(light.shape, config.n_bad_columns, config.n_hot_pixels, rng)
    exposures, rays = [], []
    for _ in range(config.n_snaps):
        exposure, ray = _expose(light / np.float32(config.n_snaps), bad, config, header_wcs, rng)
        exposures.append(exposure)
        rays.append(ray)
    return Simulation(config, exposures, sources, references, psf, true_wcs, sky, rays)


def _sky(config: SimulationConfig) -> NDArray[np.float32]:
    u = np.linspace(-0.5, 0.5, config.size, dtype=np.float32)
    shape = 1.0 + config.sky_gradient * (0.8 * u + 0.5 * u[:, None] - 0.4 * u * u[:, None])
    return np.asarray(config.sky * shape, dtype=np.float32)


def _draw(
    image: NDArray[np.float32], sources: Sources, flux: NDArray[np.float64], psf: MoffatField, noise: float
) -> None:
    limit = image.shape[0]
    for i in np.argsort(flux):
        # far enough out that a pixel's light is a fiftieth of the noise
        reach = psf.fwhm * (flux[i] / (0.02 * noise) / psf.fwhm**2) ** (0.5 / psf.beta)
        half = int(np.clip(reach, 20, limit)) + int(3 * sources.half_light[i])
        stamp, x0, y0 = psf.stamp(sources.x[i], sources.y[i], half)
        if not sources.is_star[i]:
            stamp = _galaxy(stamp, psf, sources, i)
        rows = slice(max(y0, 0), min(y0 + stamp.shape[0], image.shape[0]))
        columns = slice(max(x0, 0), min(x0 + stamp.shape[1], image.shape[1]))
        if rows.start < rows.stop and columns.start < columns.stop:
            part = stamp[rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0]
            image[rows, columns] += (flux[i] * part).astype(np.float32)


def halo_position(config: SimulationConfig) -> tuple[float, float]:
    """Where the star with a halo is, pixels (x, y)."""
    return 0.72 * config.size + 0.3, 0.66 * config.size - 0.2


def _draw_halo_star(image: NDArray[np.float32], config: SimulationConfig, psf: MoffatField) -> None:
    """Add a bright star whose halo falls exponentially, as of light scattered in the telescope."""
    assert config.halo_star_mag is not None  # noqa: S101 -- the caller asks
    flux = 10.0 ** (-0.4 * (config.halo_star_mag - config.zero_point))
    x, y = halo_position(config)
    dx, dy = np.arange(config.size) - x, np.arange(config.size) - y
    radius = np.hypot(dx, dy[:, None])
    halo = config.halo_fraction / (2 * np.pi * config.halo_radius**2) * np.exp(-radius / config.halo_radius)
    image += (flux * halo).astype(np.float32)
    stamp, x0, y0 = psf.stamp(x, y, config.size // 4)
    side = stamp.shape[0]
    image[y0 : y0 + side, x0 : x0 + side] += ((1 - config.halo_fraction) * flux * stamp).astype(np.float32)


def _galaxy(stamp: NDArray[np.float64], psf: MoffatField, sources: Sources, i: int) -> NDArray[np.float64]:
    """Exponential disc convolved with the PSF stamp."""
    half = stamp.shape[0] // 2
    scale = sources.half_light[i] / 1.678
    reach = min(half, int(8 * scale) + 2)
    grid = np.arange(-reach, reach + 1.0)
    cosine, sine, ratio = np.cos(sources.angle[i]), np.sin(sources.angle[i]), sources.axis_ratio[i]
    along = cosine * grid + sine * grid[:, None]
    across = (-sine * grid + cosine * grid[:, None]) / ratio
    disc = np.exp(-np.hypot(along, across) / scale)
    return np.asarray(fftconvolve(stamp, disc / disc.sum(), mode="same"))


def _expose(
    light: NDArray[np.float32], bad: NDArray[np.bool_], config: SimulationConfig, wcs: Wcs, rng: Generator
) -> tuple[Exposure, NDArray[np.float32]]:
    area = (config.size / 1024.0) ** 2
    n_rays = config.n_cosmic_rays if config.n_cosmic_rays is not None else round(60 * area)
    rays = cosmic_ray_tracks(light.shape, n_rays, rng)
    image = rng.poisson(light).astype(np.float32)
    image += rays
    saturated = bleed(image, config.full_well)
    image += rng.normal(0.0, config.read_noise, light.shape).astype(np.float32)
    fill_defects(image, bad)
    masked_image = MaskedImage(
        image, np.zeros(light.shape, np.int32), np.maximum(image, 1.0) + np.float32(config.read_noise**2)
    )
    planes = masked_image.planes
    masked_image.mask[saturated] |= np.int32(planes.bitmask(["SAT"]))
    masked_image.mask[bad] |= np.int32(planes.bitmask(["BAD", "INTRP"]))
    box = Box(0, 0, config.size, config.size)
    exposure = Exposure(
        masked_image,
        wcs=wcs,
        filter=FilterLabel(config.band, f"{config.band}_sim"),
        visit_info=VisitInfo(
            visit=config.visit,
            mjd_mid_tai=config.mjd,
            exposure_time=config.exposure_time / config.n_snaps,
            boresight_ra=config.ra,
            boresight_dec=config.dec,
            boresight_rotation=config.rotation,
            longitude=-70.7494,
            latitude=-30.2446,
            elevation=2663.0,
            instrument="visitcal-sim",
        ),
        detector=Detector(config.detector, "sim", (Amplifier("A", box, 1.0, config.read_noise),)),
        exposure_id=config.visit,
        unit="electron",
    )
    return exposure, rays
