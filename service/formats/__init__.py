"""Files in and out: one adapter per family of exposures, writers for every product."""

from __future__ import annotations

from service.formats.catalogs import CATALOG_FORMATS, read_catalog, write_catalog, write_table
from service.formats.companion import read_companion_image
from service.formats.container import sniff_is_fits
from service.formats.errors import FormatError
from service.formats.footprints import read_footprints, write_footprints
from service.formats.headers import ReadLimits
from service.formats.metadata import METADATA_KEYS, VALUE_UNITS, MetadataKey
from service.formats.preview import background_png, preview_png
from service.formats.reader import Inspection, ReadResult, inspect, read_exposure
from service.formats.write import (
    read_background,
    read_photo_calib,
    write_background,
    write_exposure,
    write_image,
    write_mask,
    write_photo_calib,
)

__all__ = [
    "CATALOG_FORMATS",
    "METADATA_KEYS",
    "VALUE_UNITS",
    "FormatError",
    "Inspection",
    "MetadataKey",
    "ReadLimits",
    "ReadResult",
    "background_png",
    "inspect",
    "preview_png",
    "read_background",
    "read_catalog",
    "read_companion_image",
    "read_exposure",
    "read_footprints",
    "read_photo_calib",
    "sniff_is_fits",
    "write_background",
    "write_catalog",
    "write_exposure",
    "write_footprints",
    "write_image",
    "write_mask",
    "write_photo_calib",
    "write_table",
]
