"""The measurements at the centroid that see the source's pixels, made together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.calibration.kernels.adaptive_moments import MAX_MOMENT
from service.calibration.kernels.fluxes import GAUSSIAN_SIGMAS, MAX_GAUSSIAN_HALF_SIZE, PsfStamps
from service.calibration.kernels.sources import measure_sources
from service.calibration.measurement.aperture_flux import allocate_apertures, write_apertures
from service.calibration.measurement.compensated_tophat import allocate_tophats, write_tophats
from service.calibration.measurement.gaussian_flux import write_gaussian_fluxes
from service.calibration.measurement.moments import allocate_source_moments, write_source_moments
from service.calibration.measurement.psf_flux import allocate_psf_fluxes, write_psf_fluxes
from service.calibration.measurement.walk import walk

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.measurement import MeasurementConfig
    from service.calibration.kernels.fluxes import ApertureFluxes, TophatFluxes
    from service.calibration.kernels.noise_replacement import NoiseReplacedPlane
    from service.calibration.measurement.context import MeasurementContext

__all__ = ["measure_at_centroids"]


def measure_at_centroids(context: MeasurementContext, config: MeasurementConfig) -> None:
    """Fill the columns of source moments, aperture, top-hat, Gaussian and PSF fluxes.

    A Gaussian flux takes the shape that the source's row ends up with.
    """
    image = context.masked_image
    centers = context.centers()
    moments = allocate_source_moments(context, config.moments)
    apertures = allocate_apertures(context, config.circular_aperture)
    tophats = allocate_tophats(context, config.compensated_tophat)
    shapes, gaussians = _earlier_shapes(context), np.full((len(centers), 2), np.nan)
    psf_fluxes = allocate_psf_fluxes(context, config.psf_flux)
    positions, real = context.psf_positions(centers)

    def measure(plane: NoiseReplacedPlane, rows: NDArray[np.int64]) -> None:
        stamps, x0, y0 = context.psf.images(positions[rows, 0], positions[rows, 1])
        measure_sources(
            plane,
            image.variance,
            image.mask,
            rows,
            PsfStamps(stamps, x0 - np.int32(image.x0), y0 - np.int32(image.y0)),
            centers - context.origin,
            moments,
            apertures,
            tophats,
            shapes,
            gaussians,
            psf_fluxes,
        )

    walk(context, centers - context.origin, _reach(context, apertures, tophats), measure)
    write_source_moments(context, moments, config.moments)
    write_apertures(context, apertures)
    write_tophats(context, tophats)
    write_gaussian_fluxes(context, gaussians)
    write_psf_fluxes(context, psf_fluxes, real)


def _earlier_shapes(context: MeasurementContext) -> NDArray[np.float64]:
    """xx, yy, xy that stay where there are no new ones."""
    if not context.keep_stale:
        return np.full((len(context.catalog), 3), np.nan)
    return np.column_stack([context.catalog[f"slot_Shape_{axes}"] for axes in ("xx", "yy", "xy")])


def _reach(context: MeasurementContext, apertures: ApertureFluxes, tophats: TophatFluxes) -> float:
    """Rows above and below a centre that a measurement which does not end with the footprint may look at."""
    # shapes that stay from elsewhere may be larger than moments that were measured
    gaussian = MAX_GAUSSIAN_HALF_SIZE if context.keep_stale else GAUSSIAN_SIGMAS * float(np.sqrt(MAX_MOMENT))
    circles = [*apertures.radii.tolist(), *(tophats.radii * max(tophats.inner_scale, tophats.outer_scale)).tolist()]
    return float(max(gaussian, *circles, context.psf.height / 2.0)) + 2.0
