"""Which references are used, and which of their fluxes stands for a band of the exposure.

Method: Rubin ReferenceSourceSelector and LoadReferenceObjects.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from service.calibration.errors import ReferenceBandError
from service.calibration.input_errors import MissingProperMotionError
from service.exposure.photo_calib import nanojansky_to_abmag

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.selectors import LoadReferenceObjectsConfig, ReferenceSelectorConfig
    from service.exposure.masked_image import MaskedImage
    from service.exposure.reference import ReferenceCatalog

__all__ = ["limit_references", "ranking_band", "reference_band", "require_proper_motion", "select_references"]

_MAG_PER_RATIO = 2.5 / np.log(10.0)


def reference_band(references: ReferenceCatalog, band: str | None, config: LoadReferenceObjectsConfig) -> str:
    """Reference passband of a band of the exposure.

    The first that exists of ``any_filter_maps_to_this``, the entry of ``filter_map``, and the band itself.

    Parameters
    ----------
    references : ReferenceCatalog
        Loaded references.
    band : str or None
        Band of the exposure.
    config : LoadReferenceObjectsConfig
        Mapping.

    Raises
    ------
    ReferenceBandError
        None of them is in the catalogue.
    """
    mapped = config.filter_map.get(band) if band is not None else None
    for candidate in (config.any_filter_maps_to_this, mapped, band):
        if candidate is not None and f"{candidate}_flux" in references.table:
            return candidate
    raise ReferenceBandError(
        "The reference catalogue has no flux for the band of the exposure; map it with filter_map",
        catalog=references.name,
        bands=", ".join(references.bands),
        band=band or "unknown",
    )


def ranking_band(references: ReferenceCatalog, band: str | None, config: LoadReferenceObjectsConfig) -> str:
    """Passband by which references are ranked; where none stands for the exposure's, the first of them will do.

    Raises
    ------
    ReferenceBandError
        The catalogue has no passband at all.
    """
    try:
        return reference_band(references, band, config)
    except ReferenceBandError:
        if not references.bands:
            raise
        return references.bands[0]


def require_proper_motion(references: ReferenceCatalog, config: LoadReferenceObjectsConfig) -> None:
    """Refuse references that could not be moved to the epoch of the exposure, where the configuration says so.

    Raises
    ------
    MissingProperMotionError
        ``require_proper_motion`` is set and the catalogue has no epochs or no proper motions.
    """
    if config.require_proper_motion and not references.has_proper_motion:
        raise MissingProperMotionError(
            f"'{references.name}' has no epochs and proper motions, which require_proper_motion asks for",
            catalog=references.name,
        )


def limit_references(references: ReferenceCatalog, band: str, config: LoadReferenceObjectsConfig) -> ReferenceCatalog:
    """Leave out what is brighter than ``min_ref_mag``, then all but the brightest ``max_ref_objects``.

    The number counts for the whole region, not for each shard, so that it does not depend on the partitions.

    Parameters
    ----------
    references : ReferenceCatalog
        Loaded references.
    band : str
        Reference passband that has been chosen for the exposure.
    config : LoadReferenceObjectsConfig
        Limits.

    Returns
    -------
    ReferenceCatalog
        In the order given; the same object where nothing is left out.
    """
    magnitude = nanojansky_to_abmag(references.table[f"{band}_flux"])
    keep = np.ones(len(references), dtype=bool)
    if config.min_ref_mag is not None:
        keep &= ~(magnitude < config.min_ref_mag)
    if config.max_ref_objects is not None and np.count_nonzero(keep) > config.max_ref_objects:
        candidates = np.flatnonzero(keep)
        ranked = candidates[np.argsort(magnitude[candidates], kind="stable")]  # NaN comes last
        keep[ranked[config.max_ref_objects :]] = False
    return references if keep.all() else replace(references, table=references.table.select(keep))


def select_references(
    references: ReferenceCatalog,
    band: str,
    config: ReferenceSelectorConfig,
    *,
    masked_image: MaskedImage | None = None,
    pixels: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> NDArray[np.bool_]:
    """Which references pass every cut that is set; limits are exclusive and NaN fails them.

    Parameters
    ----------
    references : ReferenceCatalog
        Loaded references.
    band : str
        Reference passband of magnitude, error and signal-to-noise cuts.
    config : ReferenceSelectorConfig
        Cuts.
    masked_image : MaskedImage, optional
        Mask of ``do_cull_from_masked_region``, which is passed over without it.
    pixels : tuple of ndarray of float64, shape (n,), optional
        Positions (x, y) of the references, parent frame, for the same cut.

    Returns
    -------
    ndarray of bool, shape (n,)

    Raises
    ------
    KeyError
        A column that a cut needs does not exist.
    """
    table = references.table
    selected = np.ones(len(table), dtype=bool)
    if config.require_finite_ra_dec:
        selected &= np.isfinite(table["coord_ra"]) & np.isfinite(table["coord_dec"])
    magnitude = nanojansky_to_abmag(table[f"{band}_flux"])
    if config.mag_min is not None:
        selected &= magnitude > config.mag_min
    if config.mag_max is not None:
        selected &= magnitude < config.mag_max
    if config.signal_to_noise_min is not None or config.mag_err_max is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            noise = table[f"{band}_fluxErr"] / table[f"{band}_flux"]
        if config.signal_to_noise_min is not None:
            selected &= noise * config.signal_to_noise_min < 1.0
        if config.mag_err_max is not None:
            selected &= _MAG_PER_RATIO * noise < config.mag_err_max
    for flag in config.good_flags:
        selected &= table[flag]
    for flag in config.bad_flags:
        selected &= ~table[flag]
    if config.resolved_max is not None:
        selected &= table["resolved"] < config.resolved_max
    selected &= _within_colors(references, config)
    if config.do_cull_from_masked_region and masked_image is not None and pixels is not None:
        selected &= ~_masked(masked_image, pixels, config.cull_mask_planes)
    return selected


def _within_colors(references: ReferenceCatalog, config: ReferenceSelectorConfig) -> NDArray[np.bool_]:
    table = references.table
    selected = np.ones(len(table), dtype=bool)
    for limit in config.color_limits:
        color = nanojansky_to_abmag(table[f"{limit.primary}_flux"]) - nanojansky_to_abmag(
            table[f"{limit.secondary}_flux"]
        )
        selected &= np.isfinite(color)
        if limit.minimum is not None:
            selected &= color > limit.minimum
        if limit.maximum is not None:
            selected &= color < limit.maximum
    return selected


def _masked(
    masked_image: MaskedImage, pixels: tuple[NDArray[np.float64], NDArray[np.float64]], planes: tuple[str, ...]
) -> NDArray[np.bool_]:
    """Whether the pixel of a position, or the nearest one of the image, has any of the planes; False for NaN."""
    height, width = masked_image.shape
    finite = np.isfinite(pixels[0]) & np.isfinite(pixels[1])
    # clipped, then truncated: as upstream does it
    column = np.clip(np.where(finite, pixels[0] - masked_image.x0, 0.0), 0, width - 1).astype(np.int64)
    row = np.clip(np.where(finite, pixels[1] - masked_image.y0, 0.0), 0, height - 1).astype(np.int64)
    bits = np.int32(masked_image.planes.bitmask(planes))
    return np.asarray(((masked_image.mask[row, column] & bits) != 0) & finite)
