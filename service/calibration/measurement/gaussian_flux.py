"""base_GaussianFlux: flux weighted by a Gaussian of the source's own shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.measurement.context import MeasurementContext

__all__ = ["write_gaussian_fluxes"]

_NAME = "base_GaussianFlux"


def write_gaussian_fluxes(context: MeasurementContext, values: NDArray[np.float64]) -> None:
    """Fill flux and error in counts, given with shape (n, 2).

    The failure flag tells whether this flux could be measured and is not inherited from centroid or shape (their flags
    are reached by the aliases ``_flag_badCentroid`` and ``_flag_badShape``).

    Method: Rubin GaussianFlux.
    """
    failed = ~np.asarray(np.isfinite(values).all(axis=1))
    context.set_value(f"{_NAME}_instFlux", values[:, 0])
    context.set_value(f"{_NAME}_instFluxErr", values[:, 1])
    context.catalog[f"{_NAME}_flag"] = failed  # success clears even an earlier pass's flag
