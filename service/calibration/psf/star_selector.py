"""Stars by their size: the narrowest cluster of widths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from service.calibration.errors import ObjectSizeNoGoodSourcesError, ObjectSizeNoSourcesError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.psf import ObjectSizeStarSelectorConfig
    from service.exposure.catalog import SourceCatalog

__all__ = ["cluster_widths", "select_stars", "usable_sources", "widths"]

_CLUSTERS = 4
_MIN_MEMBERS = 5
_CLIP_ROUNDS = 10
_IQR_TO_SIGMA = 0.741


def select_stars(catalog: SourceCatalog, config: ObjectSizeStarSelectorConfig) -> NDArray[np.bool_]:
    """Select stars in a measured catalogue.

    Method: Rubin ObjectSizeStarSelector. Magnitudes play no role: the sources that pass the cuts are split into four
    clusters of width, and of the cluster that starts narrowest the members within 2 sigma of its median are taken.

    Parameters
    ----------
    catalog : SourceCatalog
        With shapes, fluxes and flags.
    config : ObjectSizeStarSelectorConfig
        Limits.

    Returns
    -------
    ndarray of bool, shape (n,)
        The stars.

    Raises
    ------
    ObjectSizeNoSourcesError
        The catalogue is empty.
    ObjectSizeNoGoodSourcesError
        No source passes the cuts.
    """
    if len(catalog) == 0:
        raise ObjectSizeNoSourcesError("no source to select stars from", n_input_sources=0)
    good = usable_sources(catalog, config)
    if not good.any():
        raise ObjectSizeNoGoodSourcesError("no source passes the star selector's cuts", n_input_sources=len(catalog))
    members = cluster_widths(widths(catalog)[good], config.width_std_allowed)
    selected = np.zeros(len(catalog), np.bool_)
    selected[good] = _clipped(widths(catalog)[good], members == 0, config)
    return selected


def widths(catalog: SourceCatalog) -> NDArray[np.float64]:
    """Trace radii ``sqrt((Ixx + Iyy) / 2)`` of the source moments in px, NaN where not measured; shape (n,)."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sqrt(0.5 * (catalog["slot_Shape_xx"] + catalog["slot_Shape_yy"])))


def usable_sources(catalog: SourceCatalog, config: ObjectSizeStarSelectorConfig) -> NDArray[np.bool_]:
    """Sources with finite width and flux within the limits and none of the bad flags; shape (n,)."""
    flux: NDArray[Any] = catalog[config.source_flux_field]
    error: NDArray[Any] = catalog[config.source_flux_field + "Err"]
    width = widths(catalog)
    good: NDArray[np.bool_] = np.isfinite(width) & np.isfinite(flux)
    for name in config.bad_flags:
        good &= ~catalog[name]
    if config.do_flux_limit:
        good &= flux >= config.flux_min
        if config.flux_max > 0:
            good &= flux <= config.flux_max
    if config.do_signal_to_noise_limit:
        ratio = np.divide(flux, error, out=np.full(len(flux), np.nan), where=good & (error > 0))
        good &= ratio >= config.signal_to_noise_min
        if config.signal_to_noise_max > 0:
            good &= ratio <= config.signal_to_noise_max
    return np.asarray(good & (width >= config.width_min) & (width <= config.width_max))


def cluster_widths(width: NDArray[np.float64], spread: float) -> NDArray[np.intp]:
    """Four clusters by one-dimensional k-medians.

    Parameters
    ----------
    width : ndarray of float64, shape (n,)
        At least one, finite.
    spread : float
        Half the spacing of the initial centres, as a fraction of the first; that is the width at the tenth
        percentile.

    Returns
    -------
    ndarray of int, shape (n,)
        Cluster 0 to 3 of each width.
    """
    first = np.sort(width)[len(width) // 10]
    centers = first * (1.0 + 2.0 * spread * np.arange(_CLUSTERS))
    members = np.full(len(width), -1, np.intp)
    while True:
        distance = np.abs(width[:, None] - centers)
        distance[:, np.isnan(centers)] = np.inf  # an emptied cluster never comes back
        nearest = np.argmin(distance, axis=1)
        if np.array_equal(nearest, members):
            return members
        members = nearest
        for k in range(_CLUSTERS):
            own = width[members == k]
            centers[k] = np.median(own) if own.size else np.nan


def _clipped(
    width: NDArray[np.float64], inside: NDArray[np.bool_], config: ObjectSizeStarSelectorConfig
) -> NDArray[np.bool_]:
    """Members of a cluster within some standard deviations of its median; small clusters are left as they are."""
    if np.count_nonzero(inside) < _MIN_MEMBERS:
        return inside
    for _ in range(_CLIP_ROUNDS):
        own = np.sort(width[inside])
        n = len(own)
        if n == 0:
            break
        spread = _IQR_TO_SIGMA * (own[int(0.75 * n)] - own[int(0.25 * n)])
        sd = min(float(own.std()), float(spread))
        inside = inside & (np.abs(width - np.median(own)) < config.n_sigma_clip * sd)
        if np.count_nonzero(inside) == n or sd < config.width_std_allowed * own[n // 2]:
            break
    return inside
