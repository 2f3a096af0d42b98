"""base_CompensatedTophatFlux: an aperture less its own annulus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.calibration.kernels.fluxes import measure_tophat_fluxes
from service.calibration.measurement.columns import tophat_column

if TYPE_CHECKING:
    from service.calibration.config.measurement import CompensatedTophatFluxConfig
    from service.calibration.measurement.context import MeasurementContext

__all__ = ["measure_compensated_tophat_flux"]


def measure_compensated_tophat_flux(context: MeasurementContext, config: CompensatedTophatFluxConfig) -> None:
    """Fill flux and error in counts, and the mask bits around, for every aperture that the catalogue has columns for.

    Method: Rubin CompensatedTophatFlux.
    """
    image = context.masked_image
    centers = context.centers()
    for radius in config.apertures:
        name = tophat_column(radius)
        if not context.has(f"{name}_instFlux"):
            continue
        values = np.full((len(centers), 2), np.nan)
        mask_bits = np.zeros(len(centers), np.int32)
        bounds = np.zeros(len(centers), bool)
        measure_tophat_fluxes(
            context.plane,
            image.mask,
            image.variance,
            context.order,
            centers - context.origin,
            float(radius),
            config.inner_scale,
            config.outer_scale,
            values,
            mask_bits,
            bounds,
        )
        context.set_value(f"{name}_instFlux", values[:, 0])
        context.set_value(f"{name}_instFluxErr", values[:, 1])
        context.set_value(f"{name}_mask_bits", mask_bits)
        context.set_flag(f"{name}_flag", ~np.isfinite(values).all(axis=1))
        context.set_flag(f"{name}_flag_bounds", bounds)
