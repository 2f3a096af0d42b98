"""How well a zero point is known: scatter and colours of its stars, and its value without colour terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import median_abs_deviation

from service.calibration.photometry.color_terms import find_colorterm
from service.exposure.photo_calib import nanojansky_to_abmag

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.photometry import PhotometryConfig
    from service.exposure.exposure import FilterLabel
    from service.exposure.reference import ReferenceCatalog

__all__ = ["ZeroPointQuality", "color_bands", "zero_point_quality"]

_BANDS = ("u", "g", "r", "i", "z", "y")  # blue to red


@dataclass(frozen=True, slots=True)
class ZeroPointQuality:
    """What stands beside a zero point.

    Parameters
    ----------
    scatter : float
        Scatter of its stars about it (scaled median absolute deviation), mag; NaN for a single star.
    color : str or None
        Bands of the colour, as ``g-r``; None where the references have one band.
    color_min, color_max : float
        Range of that colour of the references behind the zero point, mag; NaN where none has a colour.
    uncolored : float
        The zero point of the same pairs without colour terms; NaN where none are applied, or it cannot be fitted.
    """

    scatter: float
    color: str | None
    color_min: float
    color_max: float
    uncolored: float


def color_bands(references: ReferenceCatalog, label: FilterLabel, config: PhotometryConfig) -> tuple[str, str] | None:
    """Reference bands of the colour that matters: of the colour term, of the colour limits, or of adjacent bands.

    Parameters
    ----------
    references : ReferenceCatalog
        With the fluxes.
    label : FilterLabel
        Filter of the exposure.
    config : PhotometryConfig
        Colour terms, colour limits and the map of bands.

    Returns
    -------
    tuple of str or None
        Bluer and redder band; the colour term's primary and secondary; None where there is no second band.
    """
    if config.apply_color_terms:
        term = find_colorterm(config.colorterms, references.name, label.physical)
        return term.primary, term.secondary
    if config.reference_selector.color_limits:
        limit = config.reference_selector.color_limits[0]
        return limit.primary, limit.secondary
    if label.band not in _BANDS:
        return None
    mapped = [config.ref_loader.filter_map.get(band, band) for band in _BANDS]
    there = [name if f"{name}_flux" in references.table else None for name in mapped]
    i = _BANDS.index(label.band)
    for blue, red in ((i - 1, i), (i, i + 1)):
        if blue >= 0 and red < len(there):
            first, second = there[blue], there[red]
            if first is not None and second is not None:
                return first, second
    return None


def zero_point_quality(
    references: ReferenceCatalog,
    rows: NDArray[np.int64],
    residual: NDArray[np.float64],
    bands: tuple[str, str] | None,
    uncolored: float,
) -> ZeroPointQuality:
    """Scatter and colour range of the stars in a zero point.

    Parameters
    ----------
    references : ReferenceCatalog
        With the fluxes of ``bands``.
    rows : ndarray of int64, shape (n,)
        References in the zero point.
    residual : ndarray of float64, shape (n,)
        Zero point of each less the common one, mag.
    bands : tuple of str or None
        Bands of the colour.
    uncolored : float
        The zero point without colour terms, mag.
    """
    scatter = float(median_abs_deviation(residual, scale="normal")) if len(residual) > 1 else np.nan
    if bands is None:
        return ZeroPointQuality(scatter, None, np.nan, np.nan, uncolored)
    first, second = (nanojansky_to_abmag(references.table[f"{band}_flux"][rows]) for band in bands)
    color = first - second
    color = color[np.isfinite(color)]
    low, high = (float(color.min()), float(color.max())) if color.size else (np.nan, np.nan)
    return ZeroPointQuality(scatter, "-".join(bands), low, high, uncolored)
