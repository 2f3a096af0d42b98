"""The measurements at the centroid that see the source's pixels, made together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.calibration.kernels.fluxes import PsfStamps
from service.calibration.kernels.sources import measure_sources
from service.calibration.measurement.aperture_flux import allocate_apertures, write_apertures
from service.calibration.measurement.compensated_tophat import allocate_tophats, write_tophats
from service.calibration.measurement.gaussian_flux import write_gaussian_fluxes
from service.calibration.measurement.moments import allocate_source_moments, write_source_moments
from service.calibration.measurement.psf_flux import allocate_psf_fluxes, write_psf_fluxes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.measurement import MeasurementConfig
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
    context.hide_all()
    for rows in context.chunks():
        stamps, x0, y0 = context.psf.images(positions[rows, 0], positions[rows, 1])
        measure_sources(
            context.plane,
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
