"""Nearest-neighbour match of stars to references on the sky.

Method: Rubin DirectMatchTask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import KDTree

from service.calibration.astrometry.coordinates import separation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.exposure.catalog import SourceCatalog

__all__ = ["enclosing_circle", "match_nearest"]


def _unit_vectors(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def enclosing_circle(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> tuple[float, float, float]:
    """Circle about the mean direction that holds all positions, rad; those that are not finite are left out.

    Returns
    -------
    ra, dec, radius : float
        rad; NaN without a finite position.
    """
    finite = np.isfinite(ra) & np.isfinite(dec)
    if not finite.any():
        return np.nan, np.nan, np.nan
    x, y, z = _unit_vectors(ra[finite], dec[finite]).mean(axis=0)
    center = np.mod(np.arctan2(y, x), 2 * np.pi), np.arctan2(z, np.hypot(x, y))
    radius = separation(ra[finite], dec[finite], *np.array(center)).max()
    return float(center[0]), float(center[1]), float(radius)


def match_nearest(
    references: SourceCatalog,
    reference_rows: NDArray[np.int64],
    stars: SourceCatalog,
    star_rows: NDArray[np.int64],
    radius: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each reference the closest star, if it is closer than ``radius``; one star may serve several references.

    A parent and a child of a blend can have the same position; the child is taken.

    Parameters
    ----------
    references, stars : SourceCatalog
        With ``coord_ra`` and ``coord_dec``, rad; rows without finite coordinates never match.
    reference_rows, star_rows : ndarray of int64
        Rows that take part.
    radius : float
        Largest separation, exclusive, rad.

    Returns
    -------
    pairs : ndarray of int64, shape (m, 2)
        Rows of references and stars, in the order of the references.
    distance : ndarray of float64, shape (m,)
        Separations, rad.
    """
    reference_rows = reference_rows[_finite(references, reference_rows)]
    star_rows = _one_of_each_position(stars, star_rows[_finite(stars, star_rows)])
    if not (reference_rows.size and star_rows.size):
        return np.zeros((0, 2), np.int64), np.zeros(0)
    ra, dec = references["coord_ra"][reference_rows], references["coord_dec"][reference_rows]
    star_ra, star_dec = stars["coord_ra"][star_rows], stars["coord_dec"][star_rows]
    nearest = np.asarray(KDTree(_unit_vectors(star_ra, star_dec)).query(_unit_vectors(ra, dec))[1])
    distance = separation(ra, dec, star_ra[nearest], star_dec[nearest])
    close = distance < radius
    pairs = np.column_stack([reference_rows[close], star_rows[nearest[close]]])
    return pairs, distance[close]


def _finite(table: SourceCatalog, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(table["coord_ra"][rows]) & np.isfinite(table["coord_dec"][rows]))


def _one_of_each_position(stars: SourceCatalog, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows without twins: of those with equal coordinates the first that has no children."""
    if "deblend_nChild" in stars:
        rows = rows[np.argsort(stars["deblend_nChild"][rows] != 0, kind="stable")]
    position = np.column_stack([stars["coord_ra"][rows], stars["coord_dec"][rows]])
    return rows[np.unique(position, axis=0, return_index=True)[1]]
