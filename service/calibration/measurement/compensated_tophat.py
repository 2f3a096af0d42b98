"""base_CompensatedTophatFlux: an aperture less its own annulus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.calibration.kernels.fluxes import TophatFluxes
from service.calibration.measurement.columns import tophat_column

if TYPE_CHECKING:
    from service.calibration.config.measurement import CompensatedTophatFluxConfig
    from service.calibration.measurement.context import MeasurementContext

__all__ = ["allocate_tophats", "write_tophats"]


def allocate_tophats(context: MeasurementContext, config: CompensatedTophatFluxConfig) -> TophatFluxes:
    """Room for the fluxes in every aperture that the catalogue has columns for.

    Method: Rubin CompensatedTophatFlux.
    """
    radii = [radius for radius in config.apertures if context.has(f"{tophat_column(radius)}_instFlux")]
    size = len(context.catalog), len(radii)
    return TophatFluxes(
        radii=np.array(radii, dtype=np.float64),
        inner_scale=config.inner_scale,
        outer_scale=config.outer_scale,
        values=np.full((*size, 2), np.nan),
        mask_bits=np.zeros(size, np.int32),
        bounds=np.zeros(size, bool),
    )


def write_tophats(context: MeasurementContext, tophats: TophatFluxes) -> None:
    """Fill flux and error in counts, and the mask bits around, for every aperture."""
    for k, radius in enumerate(tophats.radii.tolist()):
        name = tophat_column(int(radius))
        context.set_value(f"{name}_instFlux", tophats.values[:, k, 0])
        context.set_value(f"{name}_instFluxErr", tophats.values[:, k, 1])
        context.set_value(f"{name}_mask_bits", tophats.mask_bits[:, k])
        context.set_flag(f"{name}_flag", ~np.asarray(np.isfinite(tophats.values[:, k]).all(axis=1)))
        context.set_flag(f"{name}_flag_bounds", tophats.bounds[:, k])
