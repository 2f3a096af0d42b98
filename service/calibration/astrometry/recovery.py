"""Doubt about a match, and the recovery of a pointing that is far off: the wide search in terms of WCS and box."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import KDTree

from service.calibration.astrometry.pessimistic_b import unit_vectors
from service.calibration.astrometry.wide_search import chance_of_pairs, wide_search
from service.calibration.errors import MatcherFailure
from service.exposure.wcs import gnomonic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.astrometry.wide_search import WideReport
    from service.calibration.config.astrometry import MatchPessimisticBConfig, WideSearchConfig
    from service.exposure.geometry import Box
    from service.exposure.wcs import Wcs

__all__ = ["NearestMatcher", "chance_of_match", "deformation", "find_pointing", "wide_margin"]

_CLOSEST_RADIUS = 1.0  # pixels
_NEAREST_RADIUS = 3.0  # pixels; the search has verified its field with it
_CLIP = 4.0  # of the median distance


class NearestMatcher:
    """Mutual nearest neighbours, for a WCS that the wide search has verified.

    Parameters
    ----------
    ra, dec : ndarray of float64, shape (n,)
        References, deg.
    """

    def __init__(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> None:
        self._vectors = unit_vectors(ra, dec)
        self.tolerance: float | None = None

    def match(
        self, ra: NDArray[np.float64], dec: NDArray[np.float64], flux: NDArray[np.float64], pixel_scale: float
    ) -> NDArray[np.int64]:
        """Rows of sources and references, shape (m, 2); positions in deg, ``flux`` is not used, the scale in arcsec.

        Raises
        ------
        MatcherFailure
            There are no neighbours.
        """
        self.tolerance = _NEAREST_RADIUS * pixel_scale
        if not len(self._vectors) or not len(flux):
            raise MatcherFailure("No matches found", nSources=len(flux), nReferences=len(self._vectors))
        sources = unit_vectors(ra, dec)
        distances, nearest = (np.asarray(values) for values in KDTree(self._vectors).query(sources))
        mutual = np.asarray(KDTree(sources).query(self._vectors[nearest])[1]) == np.arange(len(sources))
        close = mutual & (distances < np.radians(self.tolerance / 3600.0))
        if not close.any():
            raise MatcherFailure("No matches found", nSources=len(flux), nReferences=len(self._vectors))
        limit = max(_CLIP * float(np.median(distances[close])), 1e-12)
        rows = np.flatnonzero(close & (distances <= limit))
        return np.column_stack([rows, nearest[rows]])


def wide_margin(bbox: Box, config: WideSearchConfig) -> int:
    """Pixels by which a box has to be grown to hold every reference that the search may need."""
    rim = 0.5 * float(np.hypot(bbox.width, bbox.height)) * (1 + config.max_scale_change)
    shift = config.max_shift_field * max(bbox.width, bbox.height)
    return int(np.ceil(rim + shift - 0.5 * min(bbox.width, bbox.height)))


def find_pointing(
    wcs: Wcs,
    bbox: Box,
    sources: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    references: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    config: WideSearchConfig,
) -> tuple[Wcs | None, WideReport]:
    """Turn, shift, scale or mirror a WCS so that sources fall on references.

    Parameters
    ----------
    wcs : Wcs
        Of the exposure as it came.
    bbox : Box
        Of the exposure.
    sources : tuple of ndarray of float64, shape (n,)
        x, y (parent pixels) and flux.
    references : tuple of ndarray of float64, shape (m,)
        Right ascension, declination (deg) and flux.
    config : WideSearchConfig
        Limits.

    Returns
    -------
    wcs : Wcs or None
        Same pixel map and tangent point, other affine part; None where nothing stands out from chance.
    report : WideReport
        What was seen.
    """
    x, y, flux = sources
    ra, dec, reference_flux = references
    center = np.array([float(value) for value in wcs.pixel_to_iwc(*bbox.center)])
    pixel = wcs.pixel_scale(*bbox.center) / 3600.0
    plane = (np.stack(wcs.pixel_to_iwc(x, y), axis=1) - center) / pixel
    target = (np.stack(gnomonic(ra, dec, *wcs.crval), axis=1) - center) / pixel
    known = np.isfinite(target).all(axis=1)
    found, report = wide_search(
        plane[_brightest_first(flux)],
        target[known][_brightest_first(reference_flux[known])],
        (float(bbox.width), float(bbox.height)),
        config,
    )
    if found is None:
        return None, report
    offset = center - found.matrix @ center + pixel * found.offset
    return wcs.with_affine(found.matrix @ wcs.matrix, found.matrix @ wcs.offset + offset), report


def deformation(before: Wcs, after: Wcs, bbox: Box) -> tuple[float, float]:
    """How far a fit has scaled and sheared the sky at the centre of a box.

    Returns
    -------
    scale, shear : float
        Relative change of the pixel scale, and of the ratio of two perpendicular lengths; a mirror image is not told.
    """
    old, new = (wcs.jacobian(*bbox.center)[0] for wcs in (before, after))
    longest, shortest = (float(value) for value in np.linalg.svd(new @ np.linalg.inv(old), compute_uv=False))
    shortest = max(shortest, 1e-9)
    return abs(float(np.sqrt(longest * shortest)) - 1.0), longest / shortest - 1.0


def chance_of_match(
    distances: NDArray[np.float64], n_sources: int, n_references: int, bbox: Box, limits: MatchPessimisticBConfig
) -> tuple[float, float, float]:
    """How likely a match within the limits of the matcher is to be made of chance neighbours.

    Parameters
    ----------
    distances : ndarray of float64, shape (n,)
        Of the pairs, pixels.
    n_sources, n_references : int
        In the box.
    bbox : Box
        Of the exposure.
    limits : MatchPessimisticBConfig
        How far the matcher looked.

    Returns
    -------
    chance : float
        Decimal logarithm of the probability that chance gives as many pairs anywhere within the limits.
    expected : float
        Pairs that chance gives at one place.
    best : float
        The chance if every star had its pair: where even that is large, so few stars cannot tell.
    """
    if not len(distances):
        return 0.0, 0.0, 0.0
    radius = max(2.0 * float(np.median(distances)), _CLOSEST_RADIUS)
    share = min(np.pi * radius**2 * n_references / (bbox.width * bbox.height), 1.0)
    places = max(np.pi * (limits.max_offset_pix / radius) ** 2, 1.0)
    rim = 0.5 * float(np.hypot(bbox.width, bbox.height))
    angles = max(2 * np.radians(limits.max_rotation_deg) * rim / radius, 1.0)
    n_pairs = int(np.count_nonzero(distances < radius))
    expected, log_trials = n_sources * share, float(np.log10(places * angles))
    best = chance_of_pairs(min(n_sources, n_references), expected, log_trials)
    return chance_of_pairs(n_pairs, expected, log_trials), expected, best


def _brightest_first(flux: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.argsort(-np.where(np.isnan(flux), -np.inf, flux), kind="stable")
