"""Cuts on measured sources that astrometry, photometry and the statistics share.

Method: Rubin ScienceSourceSelector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.selectors import SourceSelectorConfig
    from service.exposure.catalog import SourceCatalog

__all__ = ["select_sources"]


def select_sources(catalog: SourceCatalog, config: SourceSelectorConfig) -> NDArray[np.bool_]:
    """Which sources pass every cut that is set.

    A failure flag of the flux is no cut of its own; NaN fails every limit.

    Parameters
    ----------
    catalog : SourceCatalog
        Measured sources.
    config : SourceSelectorConfig
        Cuts.

    Returns
    -------
    ndarray of bool, shape (n,)

    Raises
    ------
    KeyError
        A column that a cut needs does not exist (a bad flag that does not exist passes).
    """
    selected = np.ones(len(catalog), dtype=bool)
    for flag in config.good_flags:
        selected &= catalog[flag]
    for flag in config.bad_flags:
        if flag in catalog:
            selected &= ~catalog[flag]
    if config.signal_to_noise_min is not None or config.signal_to_noise_max is not None:
        flux, error = catalog[config.flux_field], catalog[f"{config.flux_field}Err"]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = flux / error
        selected &= _within(ratio, config.signal_to_noise_min, config.signal_to_noise_max)
    if config.centroid_error_max is not None:
        for axis in "xy":
            error = catalog[f"slot_Centroid_{axis}Err"]
            selected &= np.isfinite(error) & (error < config.centroid_error_max)
    if config.require_isolated:
        selected &= (catalog["parent"] == 0) & (catalog["deblend_nChild"] == 0)
    if config.require_primary:
        selected &= catalog["detect_isPrimary"]
    if config.require_finite_ra_dec:
        selected &= np.isfinite(catalog["coord_ra"]) & np.isfinite(catalog["coord_dec"])
    if config.unresolved_max is not None:
        selected &= catalog["base_ClassificationSizeExtendedness_value"] < config.unresolved_max
    return selected


def _within(values: NDArray[np.float64], low: float | None, high: float | None) -> NDArray[np.bool_]:
    """Strictly between limits that may be absent; NaN is not."""
    inside = ~np.isnan(values)
    if low is not None:
        inside &= values > low
    if high is not None:
        inside &= values < high
    return inside
