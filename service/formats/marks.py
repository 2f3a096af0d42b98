"""Where the rows of a catalogue are, how large, and of which kind: what overlays and regions draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.exposure.catalog import SourceCatalog
    from service.exposure.wcs import Wcs

__all__ = ["KINDS", "MARK_COLUMNS", "MATCH_COLUMNS", "Marks", "match_marks", "source_marks"]

_CENTROID, _SHAPE = "base_SdssCentroid", "ext_shapeHSM_HsmSourceMoments"
#: Kinds of rows with their colours, the last that applies wins. DS9 has all of these names.
KINDS = {
    "star": "green",
    "flagged": "yellow",
    "photometry": "magenta",
    "astrometry": "blue",
    "psf": "red",
    "sky": "cyan",
    "reference": "orange",
}
_FLAGS = {
    "flagged": (f"{_CENTROID}_flag", "base_PsfFlux_flag"),
    "photometry": ("calib_photometry_used",),
    "astrometry": ("calib_astrometry_used",),
    "psf": ("calib_psf_used",),
    "sky": ("sky_source",),
}
#: Columns that `source_marks` looks at.
MARK_COLUMNS = (
    "id",
    "coord_ra",
    "coord_dec",
    "deblend_nChild",
    f"{_CENTROID}_x",
    f"{_CENTROID}_y",
    *(f"{_SHAPE}_{moment}" for moment in ("xx", "yy", "xy")),
    *(name for names in _FLAGS.values() for name in names),
)
#: Columns that `match_marks` looks at.
MATCH_COLUMNS = ("ref_id", "ref_coord_ra", "ref_coord_dec", *(f"src_{name}" for name in MARK_COLUMNS))
_SIGMAS = 2.5  # of the second moments, to the rim of a mark


@dataclass(frozen=True, slots=True)
class Marks:
    """Rows of a catalogue to draw.

    Parameters
    ----------
    ids : ndarray of int64, shape (n,)
        Of the rows.
    x, y : ndarray of float64, shape (n,)
        Parent pixels; NaN where unknown.
    ra, dec : ndarray of float64, shape (n,)
        ICRS, deg; NaN where unknown.
    axes : ndarray of float64, shape (n, 2)
        Half axes of an ellipse of 2.5 sigma, pixels; NaN where no shape was measured, and of sky sources.
    angle : ndarray of float64, shape (n,)
        From x towards y to the longer axis, rad.
    kind : ndarray of str, shape (n,)
        Of `KINDS`.
    """

    ids: NDArray[np.int64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    axes: NDArray[np.float64]
    angle: NDArray[np.float64]
    kind: NDArray[Any]

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, wanted: NDArray[np.bool_]) -> Marks:
        """Some of them."""
        return Marks(*(getattr(self, name)[wanted] for name in self.__slots__))


def source_marks(catalog: SourceCatalog) -> Marks:
    """Sources of a catalogue; blends that were taken apart are left out for their parts.

    Parameters
    ----------
    catalog : SourceCatalog
        With as many of `MARK_COLUMNS` as it has.
    """
    marks = _every_source(catalog, "")
    return marks.select(catalog["deblend_nChild"] == 0) if "deblend_nChild" in catalog else marks


def match_marks(catalog: SourceCatalog, wcs: Wcs | None) -> tuple[Marks, Marks]:
    """References and sources of a match list, row by row.

    Parameters
    ----------
    catalog : SourceCatalog
        With as many of `MATCH_COLUMNS` as it has.
    wcs : Wcs or None
        Gives the references their pixels.
    """
    sources = _every_source(catalog, "src_")
    n = len(catalog)
    unknown = np.full(n, np.nan)
    ra, dec = np.degrees(catalog["ref_coord_ra"]), np.degrees(catalog["ref_coord_dec"])
    x, y = (unknown, unknown) if wcs is None else wcs.sky_to_pixel(ra, dec)
    references = Marks(
        np.asarray(catalog["ref_id"]),
        x,
        y,
        ra,
        dec,
        np.full((n, 2), np.nan),
        unknown,
        np.full(n, "reference"),
    )
    return references, sources


def _every_source(catalog: SourceCatalog, prefix: str) -> Marks:
    n = len(catalog)

    def column(name: str, missing: Any) -> NDArray[Any]:
        return np.asarray(catalog[prefix + name]) if prefix + name in catalog else np.full(n, missing)

    axes, angle = _ellipses(*(column(f"{_SHAPE}_{moment}", np.nan) for moment in ("xx", "yy", "xy")))
    kind = np.full(n, "star", dtype="U10")
    for name, flags in _FLAGS.items():
        for flag in flags:
            kind[column(flag, missing=False).astype(bool)] = name
    axes[kind == "sky"] = np.nan  # the shape of noise
    return Marks(
        column("id", 0),
        column(f"{_CENTROID}_x", np.nan),
        column(f"{_CENTROID}_y", np.nan),
        np.degrees(column("coord_ra", np.nan)),
        np.degrees(column("coord_dec", np.nan)),
        axes,
        angle,
        kind,
    )


def _ellipses(xx: NDArray[Any], yy: NDArray[Any], xy: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Half axes and angle of second moments."""
    xx, yy, xy = (np.asarray(moment, dtype=np.float64) for moment in (xx, yy, xy))
    mean, difference = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    with np.errstate(invalid="ignore"):
        axes = _SIGMAS * np.sqrt(np.stack([mean + difference, mean - difference], axis=-1))
    return axes, 0.5 * np.arctan2(2 * xy, xx - yy)
