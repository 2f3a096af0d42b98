"""base_GaussianFlux: flux weighted by a Gaussian of the source's shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.calibration.kernels.fluxes import measure_gaussian_fluxes

if TYPE_CHECKING:
    from service.calibration.measurement.context import MeasurementContext

__all__ = ["measure_gaussian_flux"]

_NAME = "base_GaussianFlux"


def measure_gaussian_flux(context: MeasurementContext) -> None:
    """Fill flux and error in counts.

    The failure flag tells whether this flux could be measured and is not inherited from centroid or shape (their flags
    are reached by the aliases ``_flag_badCentroid`` and ``_flag_badShape``).

    Method: Rubin GaussianFlux.
    """
    shapes = np.column_stack([context.catalog[f"slot_Shape_{axes}"] for axes in ("xx", "yy", "xy")])
    values = np.full((len(shapes), 2), np.nan)
    measure_gaussian_fluxes(
        context.plane,
        context.masked_image.variance,
        context.order,
        context.centers() - context.origin,
        shapes,
        values,
    )
    failed = ~np.isfinite(values).all(axis=1)
    context.set_value(f"{_NAME}_instFlux", values[:, 0])
    context.set_value(f"{_NAME}_instFluxErr", values[:, 1])
    context.catalog[f"{_NAME}_flag"] = failed  # success clears even an earlier pass's flag
