"""Where on the sky a reference catalogue has stars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import hpgeom
import numpy as np

from service.exposure.sky_region import INDEX_ORDER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

__all__ = ["cells", "covered_cells", "covers", "is_far"]

#: Finest cells that are noted: 1.8 deg, a cell or so of the field of a camera; the whole sky has 12 288 of them.
_ORDER = 5


def cells(indices: Iterable[npt.NDArray[np.int64]]) -> list[tuple[int, int]]:
    """HEALPix cells that hold stars, four neighbours as their parent where all of them do.

    Parameters
    ----------
    indices : iterable of (N,) int64 arrays
        Nested pixel numbers at `service.exposure.sky_region.INDEX_ORDER`.

    Returns
    -------
    list of (int, int)
        Order and nested number.
    """
    parts = [np.unique(index >> 2 * (INDEX_ORDER - _ORDER)) for index in indices]
    pixels = np.unique(np.concatenate(parts)) if parts else np.zeros(0, np.int64)
    found: list[tuple[int, int]] = []
    for order in range(_ORDER, -1, -1):
        parents, counts = np.unique(pixels >> 2, return_counts=True)
        whole = parents[counts == 4] if order else parents[:0]
        found += [(order, int(pixel)) for pixel in pixels[~np.isin(pixels >> 2, whole)]]
        pixels = whole
    return found


def covered_cells(info: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Cells of a catalogue, from what its ingest noted; of older ones the files it is divided into, which are coarser.

    Parameters
    ----------
    info : mapping
        ``coverage``, or ``partitions`` with ``order`` and ``pixel`` each.
    """
    noted = info.get("coverage") or [(tile["order"], tile["pixel"]) for tile in info.get("partitions", ())]
    return [(int(order), int(pixel)) for order, pixel in noted]


def covers(info: Mapping[str, Any], ra: float, dec: float) -> bool:
    """Whether one of the cells with stars holds a position.

    Parameters
    ----------
    info : mapping
        As for `covered_cells`.
    ra, dec : float
        Position in degrees, ICRS.
    """
    pixels: dict[int, int] = {}
    for order, pixel in covered_cells(info):
        if order not in pixels:
            pixels[order] = int(hpgeom.angle_to_pixel(1 << order, ra, dec))
        if pixels[order] == pixel:
            return True
    return False


def is_far(info: Mapping[str, Any], ra: float, dec: float, radius: float = 2.0) -> bool:
    """Whether no cell with stars is within a distance: more than a pointing is off by, and than a camera sees.

    Parameters
    ----------
    info : mapping
        As for `covered_cells`.
    ra, dec : float
        Position in degrees, ICRS.
    radius : float
        Distance in degrees.
    """
    held = set(covered_cells(info))
    for order in {order for order, _ in held}:
        near = hpgeom.query_circle(1 << order, ra, dec, radius, inclusive=True)
        if any((order, int(pixel)) in held for pixel in near):
            return False
    return True
