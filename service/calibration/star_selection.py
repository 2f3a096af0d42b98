"""Which sources become stars, and the flags that tell parents, children and the rest apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.star_selection import StarSelectionConfig
    from service.exposure.catalog import SourceCatalog

__all__ = ["downsampled_rows", "select_stars", "set_primary_flags"]


def set_primary_flags(catalog: SourceCatalog) -> None:
    """Fill the four ``detect_*`` flags from ``parent``, ``deblend_nChild`` and ``sky_source``."""
    is_child = catalog["parent"] != 0
    has_children = catalog["deblend_nChild"] != 0
    catalog["detect_fromBlend"] = is_child
    catalog["detect_isIsolated"] = ~is_child & ~has_children
    catalog["detect_isDeblendedSource"] = ~has_children
    catalog["detect_isPrimary"] = ~catalog["sky_source"] & ~has_children


def select_stars(catalog: SourceCatalog, config: StarSelectionConfig) -> NDArray[np.bool_]:
    """Rows that pass the cuts, and all sky sources.

    Parameters
    ----------
    catalog : SourceCatalog
        Measured sources with aperture corrections and extendedness.
    config : StarSelectionConfig
        The cuts.

    Returns
    -------
    ndarray of bool, shape (n,)

    Notes
    -----
    Method: Rubin ScienceSourceSelector as CalibrateImage sets it up.
    """
    selected = np.ones(len(catalog), bool)
    for name in config.bad_flags:
        selected &= ~catalog[name]
    if config.do_unresolved:
        selected &= catalog[config.unresolved_name] < config.unresolved_max
    if config.do_signal_to_noise:
        with np.errstate(divide="ignore", invalid="ignore"):
            signal_to_noise = catalog[config.flux_field] / catalog[config.flux_field + "Err"]
        selected &= signal_to_noise > config.signal_to_noise_min
        if config.signal_to_noise_max is not None:
            selected &= signal_to_noise < config.signal_to_noise_max
    if config.require_primary:
        selected &= catalog["detect_isPrimary"]
    return np.asarray(selected | catalog["sky_source"])


def downsampled_rows(catalog: SourceCatalog, n_wanted: int, seed: int) -> NDArray[np.int64]:
    """Rows of a random ``n_wanted`` detections and of all sky sources, in their order.

    Parameters
    ----------
    catalog : SourceCatalog
        Sources before deblending.
    n_wanted : int
        Detections to keep; all where there are not more.
    seed : int
        Exposure id; its lower 32 bits are used.

    Returns
    -------
    ndarray of int64
        Ascending row indices.

    Notes
    -----
    Method: Rubin CalibrateImage: NumPy's legacy generator, so that the choice is upstream's.
    """
    detections = np.flatnonzero(~catalog["sky_source"])
    if len(detections) > n_wanted:
        # the legacy generator: the choice has to be upstream's
        generator = np.random.RandomState(seed & 0xFFFFFFFF)
        detections = generator.choice(detections, n_wanted, replace=False)
    rows: NDArray[np.int64] = np.sort(np.concatenate([detections, np.flatnonzero(catalog["sky_source"])]))
    return rows
