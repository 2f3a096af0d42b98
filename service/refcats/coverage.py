"""Where on the sky a reference catalogue has stars, as far as its tiles tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import hpgeom

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["covers"]


def covers(partitions: Iterable[Mapping[str, Any]], ra: float, dec: float) -> bool:
    """Whether one of the tiles with stars holds a position.

    Parameters
    ----------
    partitions : iterable of mapping
        ``order`` and ``pixel`` (HEALPix, nested) of each tile that is not empty, as the ingest noted them.
    ra, dec : float
        Position in degrees, ICRS.
    """
    pixels: dict[int, int] = {}
    for tile in partitions:
        order = int(tile["order"])
        if order not in pixels:
            pixels[order] = int(hpgeom.angle_to_pixel(1 << order, ra, dec))
        if pixels[order] == tile["pixel"]:
            return True
    return False
