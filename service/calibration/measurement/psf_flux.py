"""base_PsfFlux: amplitude of the PSF at the centroid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.calibration.kernels.fluxes import PsfFluxes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.measurement import PsfFluxConfig
    from service.calibration.measurement.context import MeasurementContext

__all__ = ["allocate_psf_fluxes", "write_psf_fluxes"]

_NAME = "base_PsfFlux"


def allocate_psf_fluxes(context: MeasurementContext, config: PsfFluxConfig) -> PsfFluxes:
    """Room for the amplitudes.

    All pixels have the same weight, so that bright and faint stars share one effective profile.

    Method: Rubin PsfFlux.
    """
    n = len(context.catalog)
    return PsfFluxes(
        bad_bits=context.masked_image.planes.bitmask(config.bad_mask_planes),
        values=np.full((n, 4), np.nan),
        pixels=np.zeros(n, np.int32),
        truncated=np.zeros(n, bool),
    )


def write_psf_fluxes(context: MeasurementContext, fluxes: PsfFluxes, real: NDArray[np.bool_]) -> None:
    """Fill flux and error in counts, effective area in px, chi2 and number of pixels; none without a position."""
    values, pixels, truncated = fluxes.values, fluxes.pixels, fluxes.truncated
    values[~real], pixels[~real] = np.nan, 0
    failed = truncated | ~np.isfinite(values[:, :2]).all(axis=1)
    for k, column in enumerate(("instFlux", "instFluxErr", "area", "chi2")):
        context.set_value(f"{_NAME}_{column}", values[:, k])
    context.set_value(f"{_NAME}_npixels", pixels)
    context.set_flag(f"{_NAME}_flag", failed | context.catalog["slot_Centroid_flag"])
    context.set_flag(f"{_NAME}_flag_edge", truncated)
    context.set_flag(f"{_NAME}_flag_noGoodPixels", pixels == 0)
