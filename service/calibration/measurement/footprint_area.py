"""base_FootprintArea: pixels in the footprint."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.exposure.catalog import SourceCatalog

__all__ = ["measure_footprint_area"]


def measure_footprint_area(catalog: SourceCatalog) -> None:
    """Fill ``base_FootprintArea_value`` (px), a catalogue-level plugin.

    Raises
    ------
    ValueError
        The catalogue has no footprints.
    """
    if catalog.footprints is None:
        raise ValueError("footprint areas need footprints")
    catalog["base_FootprintArea_value"] = catalog.footprints.areas
