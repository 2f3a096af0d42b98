"""Match lists as flat tables: the reference's columns, the source's columns and the distance.

Method: Rubin's denormalised match catalogues.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from service.calibration.astrometry.coordinates import separation
from service.exposure.catalog import Column, Schema, SourceCatalog

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

    from service.exposure.geometry import Box
    from service.exposure.wcs import Wcs

__all__ = ["box_metadata", "circle_metadata", "join_matches"]

_BOX_PADDING = 100  # px between the loaded box and the boxes that the metadata name
_CORNERS = ("LOWER_LEFT", "LOWER_RIGHT", "UPPER_RIGHT", "UPPER_LEFT")


def join_matches(
    references: SourceCatalog,
    sources: SourceCatalog,
    pairs: NDArray[np.int64],
    distance: NDArray[np.float64],
    *,
    reference_aliases: Mapping[str, str] | None = None,
    leave_out: Collection[str] = (),
    metadata: Mapping[str, Any] | None = None,
) -> SourceCatalog:
    """Table of matched rows.

    Parameters
    ----------
    references, sources : SourceCatalog
        Tables that were matched.
    pairs : ndarray of int64, shape (m, 2)
        Rows of references and sources.
    distance : ndarray of float64, shape (m,)
        Separations, rad.
    reference_aliases : mapping of str to str, optional
        Further aliases of the reference columns, without prefix.
    leave_out : collection of str, optional
        Reference columns that are not copied.
    metadata : mapping, optional
        Table-level values.

    Returns
    -------
    SourceCatalog
        Columns ``ref_*``, ``src_*`` and ``distance`` (rad), one row a pair, without footprints.
    """
    columns: list[Column] = []
    values: dict[str, NDArray[Any]] = {}
    for prefix, table, rows in (("ref_", references, pairs[:, 0]), ("src_", sources, pairs[:, 1])):
        for column in table.schema:
            if prefix == "ref_" and column.name in leave_out:
                continue
            columns.append(replace(column, name=prefix + column.name))
            values[prefix + column.name] = table.columns[column.name][rows]
    columns.append(Column("distance", "f8", "rad", "separation of source and reference"))
    values["distance"] = np.array(distance, dtype=np.float64)
    aliases = {f"ref_{alias}": f"ref_{name}" for alias, name in (reference_aliases or {}).items()}
    aliases |= {f"src_{alias}": f"src_{name}" for alias, name in sources.schema.aliases.items()}
    return SourceCatalog(Schema(columns, aliases), values, metadata=dict(metadata or {}))


def circle_metadata(ra: float, dec: float, radius: float, band: str | None, mjd: float) -> dict[str, Any]:
    """What describes a circle of loaded references.

    Parameters
    ----------
    ra, dec, radius : float
        Circle, deg.
    band : str or None
        Band of the exposure.
    mjd : float
        Mid-exposure, MJD TAI; NaN leaves ``JEPOCH`` undefined.
    """
    epoch = 2000.0 + (mjd - 51544.5) / 365.25 if np.isfinite(mjd) else None
    circle = {"RA": float(ra), "DEC": float(dec), "RADIUS": float(radius)}
    return {**circle, "SMATCHV": 2, "FILTER": band or "", "TIMESYS": "TAI", "JEPOCH": epoch}


def box_metadata(bbox: Box, wcs: Wcs, margin: int, band: str | None, mjd: float) -> dict[str, Any]:
    """What describes a loaded pixel box: the circle around it, and the corners of two boxes 100 px inside and outside.

    Corners carry the names of what they are in pixel space; upstream's labels are permuted.

    Parameters
    ----------
    bbox : Box
        Of the exposure.
    wcs : Wcs
        With which references were loaded.
    margin : int
        Pixels by which the box was grown.
    band, mjd
        As for `circle_metadata`.
    """
    loaded = bbox.grown(margin)
    ra, dec = (float(value) for value in wcs.pixel_to_sky(*bbox.center))
    corner_ra, corner_dec = wcs.pixel_to_sky(*loaded.corners)
    rad = np.radians
    radius = np.degrees(separation(rad(corner_ra), rad(corner_dec), rad(ra), rad(dec)).max())
    metadata = circle_metadata(ra, dec, radius, band, mjd)
    for name, box in (("INNER", loaded.grown(-_BOX_PADDING)), ("OUTER", loaded.grown(_BOX_PADDING))):
        for corner, x, y in zip(_CORNERS, *box.corners, strict=True):
            corner_ra, corner_dec = wcs.pixel_to_sky(x, y)
            metadata |= {f"{name}_{corner}_RA": float(corner_ra), f"{name}_{corner}_DEC": float(corner_dec)}
    return metadata
