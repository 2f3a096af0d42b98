"""The stars of two runs against each other: which are in both, and by how much they differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import KDTree

from service.analysis.diagnostics.diagnostic import spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.exposure.catalog import SourceCatalog

__all__ = ["COMPARED_COLUMNS", "StarComparison", "compare_stars"]

_CENTROID, _FLUX = "base_SdssCentroid", "base_PsfFlux"
#: Columns that are looked at; all but the centroid may be missing.
COMPARED_COLUMNS = (
    f"{_CENTROID}_x",
    f"{_CENTROID}_y",
    f"{_CENTROID}_flag",
    "coord_ra",
    "coord_dec",
    f"{_FLUX}_instFlux",
    f"{_FLUX}_mag",
    f"{_FLUX}_flag",
    "detect_isPrimary",
    "sky_source",
)
_MAS = 3600e3  # per degree


@dataclass(frozen=True, slots=True)
class StarComparison:
    """What two catalogues of one exposure have in common; differences are those of b less those of a.

    Parameters
    ----------
    matched, only_a, only_b : int
        Stars in both, and in one alone.
    is_on_sky : bool
        Whether positions were compared on the sky (mas), or in pixels, where a run has no astrometry.
    is_calibrated : bool
        Whether magnitudes are AB, or those of counts.
    n_magnitudes : int
        Pairs with two magnitudes.
    magnitude, magnitude_scatter : float
        Median and MAD sigma of the differences of magnitudes; NaN without pairs.
    along_x, along_y : float
        Median differences of positions: of right ascension times cos(dec) and declination, or of x and y.
    position_scatter : float
        MAD sigma of both together, in the same unit.
    """

    matched: int
    only_a: int
    only_b: int
    is_on_sky: bool
    is_calibrated: bool
    n_magnitudes: int
    magnitude: float
    magnitude_scatter: float
    along_x: float
    along_y: float
    position_scatter: float


def compare_stars(
    a: SourceCatalog, b: SourceCatalog, *, radius_pix: float = 2.0, use_sky: bool = True
) -> StarComparison:
    """Match the stars of two runs of one exposure by position.

    Method: each is paired with its nearest of the other run, where that is so both ways and within the radius. Pixels
    are matched, which two runs share whatever their astrometry; differences of positions are taken on the sky.

    Parameters
    ----------
    a, b : SourceCatalog
        Catalogues with as many of `COMPARED_COLUMNS` as there are. Primary sources that are no sky sources count.
    radius_pix : float
        Largest distance of a pair, pixels.
    use_sky : bool
        False compares positions in pixels also where both are on the sky.
    """
    a, b = _stars(a), _stars(b)
    rows_a, rows_b = _pairs(_pixels(a), _pixels(b), radius_pix)
    is_on_sky = use_sky and _has(a, "coord_ra") and _has(b, "coord_ra")
    moved = _on_sky(a, b, rows_a, rows_b) if is_on_sky else (_pixels(b)[rows_b] - _pixels(a)[rows_a]).T
    is_calibrated = _has(a, f"{_FLUX}_mag") and _has(b, f"{_FLUX}_mag")
    difference = _magnitudes(b, is_calibrated)[rows_b] - _magnitudes(a, is_calibrated)[rows_a]
    magnitude, scatter = spread(difference)
    (along_x, scatter_x), (along_y, scatter_y) = spread(moved[0]), spread(moved[1])
    return StarComparison(
        matched=len(rows_a),
        only_a=len(a) - len(rows_a),
        only_b=len(b) - len(rows_b),
        is_on_sky=is_on_sky,
        is_calibrated=is_calibrated,
        n_magnitudes=int(np.isfinite(difference).sum()),
        magnitude=magnitude,
        magnitude_scatter=scatter,
        along_x=along_x,
        along_y=along_y,
        position_scatter=float(np.hypot(scatter_x, scatter_y) / np.sqrt(2.0)),
    )


def _stars(catalog: SourceCatalog) -> SourceCatalog:
    good = np.asarray(np.isfinite(_pixels(catalog)).all(axis=1))
    if "detect_isPrimary" in catalog:
        good &= catalog["detect_isPrimary"]
    for flag in ("sky_source", f"{_CENTROID}_flag"):
        if flag in catalog:
            good &= ~catalog[flag]
    return catalog.select(good)


def _pixels(catalog: SourceCatalog) -> NDArray[np.float64]:
    return np.stack([catalog[f"{_CENTROID}_x"], catalog[f"{_CENTROID}_y"]], axis=1).astype(np.float64)


def _has(catalog: SourceCatalog, column: str) -> bool:
    return column in catalog and bool(np.isfinite(catalog[column]).any())


def _pairs(a: NDArray[np.float64], b: NDArray[np.float64], radius: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of those that are each other's nearest."""
    if not len(a) or not len(b):
        return np.empty(0, np.intp), np.empty(0, np.intp)
    distance, nearest = KDTree(b).query(a)
    back = np.asarray(KDTree(a).query(b)[1])
    rows = np.flatnonzero((back[nearest] == np.arange(len(a))) & (distance <= radius))
    return rows, np.asarray(nearest, dtype=np.intp)[rows]


def _on_sky(
    a: SourceCatalog, b: SourceCatalog, rows_a: NDArray[np.intp], rows_b: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Differences along right ascension and declination, mas."""
    turn = b["coord_ra"][rows_b] - a["coord_ra"][rows_a]
    turn = (turn + np.pi) % (2 * np.pi) - np.pi
    east = np.degrees(turn) * np.cos(a["coord_dec"][rows_a]) * _MAS
    return east, np.degrees(b["coord_dec"][rows_b] - a["coord_dec"][rows_a]) * _MAS


def _magnitudes(catalog: SourceCatalog, is_calibrated: bool) -> NDArray[np.float64]:
    column = f"{_FLUX}_mag" if is_calibrated else f"{_FLUX}_instFlux"
    if column not in catalog:
        return np.full(len(catalog), np.nan)
    values = catalog[column].astype(np.float64)
    if not is_calibrated:
        with np.errstate(divide="ignore", invalid="ignore"):
            values = -2.5 * np.log10(values)
    good = np.isfinite(values)
    if f"{_FLUX}_flag" in catalog:
        good &= ~catalog[f"{_FLUX}_flag"]
    return np.where(good, values, np.nan)
