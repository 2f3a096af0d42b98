"""base_CircularApertureFlux: counts of whole pixels in circles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.calibration.kernels.fluxes import measure_aperture_fluxes

if TYPE_CHECKING:
    from service.calibration.config.measurement import CircularApertureFluxConfig
    from service.calibration.measurement.context import MeasurementContext

__all__ = ["aperture_column", "measure_circular_aperture_flux"]


def aperture_column(radius: float) -> str:
    """Column prefix of a radius in px: ``base_CircularApertureFlux_12_0``."""
    return "base_CircularApertureFlux_" + f"{radius:.1f}".replace(".", "_")


def measure_circular_aperture_flux(context: MeasurementContext, config: CircularApertureFluxConfig) -> None:
    """Fill flux and error in counts for every radius that the catalogue has columns for.

    Method: Rubin CircularApertureFlux, naive sums; no fractional pixels, and no value where the circle is cut by the
    image border.
    """
    radii = [radius for radius in config.radii if context.has(f"{aperture_column(radius)}_instFlux")]
    centers = context.centers()
    values = np.full((len(centers), len(radii), 2), np.nan)
    measure_aperture_fluxes(
        context.plane,
        context.masked_image.variance,
        context.order,
        centers - context.origin,
        np.array(radii, dtype=np.float64),
        values,
    )
    for k, radius in enumerate(radii):
        name = aperture_column(radius)
        truncated = np.isnan(values[:, k, 1])
        failed = truncated | ~np.isfinite(values[:, k, 0])
        context.set_value(f"{name}_instFlux", values[:, k, 0])
        context.set_value(f"{name}_instFluxErr", values[:, k, 1])
        context.set_flag(f"{name}_flag", failed | context.catalog["slot_Centroid_flag"])
        context.set_flag(f"{name}_flag_apertureTruncated", truncated)
