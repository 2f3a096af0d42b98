"""Files in and out: one adapter per family of exposures, writers for every product."""

from __future__ import annotations

from service.formats.container import sniff_is_fits
from service.formats.errors import FormatError
from service.formats.headers import ReadLimits
from service.formats.metadata import METADATA_KEYS, MetadataKey
from service.formats.reader import Inspection, ReadResult, inspect, read_exposure

__all__ = [
    "METADATA_KEYS",
    "FormatError",
    "Inspection",
    "MetadataKey",
    "ReadLimits",
    "ReadResult",
    "inspect",
    "read_exposure",
    "sniff_is_fits",
]
