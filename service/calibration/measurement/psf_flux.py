"""base_PsfFlux: amplitude of the PSF at the centroid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.calibration.kernels.fluxes import measure_psf_fluxes

if TYPE_CHECKING:
    from service.calibration.config.measurement import PsfFluxConfig
    from service.calibration.measurement.context import MeasurementContext

__all__ = ["measure_psf_flux"]

_NAME = "base_PsfFlux"


def measure_psf_flux(context: MeasurementContext, config: PsfFluxConfig) -> None:
    """Fill flux and error in counts, effective area in px, chi2 and number of pixels.

    All pixels have the same weight, so that bright and faint stars share one effective profile.

    Method: Rubin PsfFlux.
    """
    image = context.masked_image
    positions, real = context.psf_positions(context.centers())
    n = len(positions)
    values = np.full((n, 4), np.nan)
    pixels = np.zeros(n, np.int32)
    truncated = np.zeros(n, bool)
    for rows in context.chunks():
        stamps, x0, y0 = context.psf.images(positions[rows, 0], positions[rows, 1])
        measure_psf_fluxes(
            context.plane,
            image.variance,
            image.mask,
            image.planes.bitmask(config.bad_mask_planes),
            rows,
            stamps,
            x0 - np.int32(image.x0),
            y0 - np.int32(image.y0),
            values,
            pixels,
            truncated,
        )
    values[~real], pixels[~real] = np.nan, 0
    failed = truncated | ~np.isfinite(values[:, :2]).all(axis=1)
    for k, column in enumerate(("instFlux", "instFluxErr", "area", "chi2")):
        context.set_value(f"{_NAME}_{column}", values[:, k])
    context.set_value(f"{_NAME}_npixels", pixels)
    context.set_flag(f"{_NAME}_flag", failed | context.catalog["slot_Centroid_flag"])
    context.set_flag(f"{_NAME}_flag_edge", truncated)
    context.set_flag(f"{_NAME}_flag_noGoodPixels", pixels == 0)
