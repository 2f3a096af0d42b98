"""Reading an exposure: choose the adapter, gather what is known, assemble the parts."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from service.exposure.exposure import Detector, Exposure, FilterLabel, VisitInfo
from service.exposure.geometry import Box
from service.formats.adapter import exposure_metadata
from service.formats.amateur import AmateurAdapter
from service.formats.banzai import BanzaiAdapter
from service.formats.ccddata import CcdDataAdapter
from service.formats.container import FitsSource, file_headers, open_bytes, open_fits, plane_shape
from service.formats.decam import DecamAdapter
from service.formats.errors import FormatError
from service.formats.headers import ReadLimits
from service.formats.initial_wcs import initial_wcs
from service.formats.keywords import RULES, lookup
from service.formats.keywords import number as keyword_number
from service.formats.lsst_images import LsstImagesAdapter
from service.formats.lsst_masked_image import LsstMaskedImageAdapter
from service.formats.metadata import Metadata, checked_overrides
from service.formats.noise import gain_from_variance
from service.formats.plain import PlainAdapter
from service.formats.sdss import SdssAdapter
from service.formats.visitcal_exposure import VisitcalAdapter
from service.formats.ztf import ZtfAdapter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from service.exposure.background import BackgroundList
    from service.exposure.masked_image import MaskedImage
    from service.exposure.summary import ExposureSummaryStats
    from service.exposure.wcs import Wcs
    from service.formats.adapter import Adapter, Layout
    from service.formats.headers import HduHeader
    from service.formats.metadata import Instrument

    ChooseInstrument = Callable[[Metadata], Instrument]

__all__ = ["Inspection", "ReadResult", "inspect", "read_exposure"]

#: In the order of preference at equal scores.
ADAPTERS: tuple[Adapter, ...] = (
    VisitcalAdapter(),
    LsstImagesAdapter(),
    LsstMaskedImageAdapter(),
    BanzaiAdapter(),
    DecamAdapter(),
    ZtfAdapter(),
    SdssAdapter(),
    CcdDataAdapter(),
    AmateurAdapter(),
    PlainAdapter(),
)

#: What a colour mosaic is called, which no adapter reads.
BAYER = "bayer"

_FITS = b"SIMPLE  ="
_USEFUL = ("gain", "read_noise", "exposure_time", "band", "mjd")


@dataclass(slots=True)
class ReadResult:
    """An exposure as read.

    Parameters
    ----------
    exposure : Exposure
        Ready for calibration.
    format : str
        Name of the adapter.
    values : dict
        Every metadata value in use.
    origins : dict of str to str
        Where each of them comes from.
    warnings : list of str
        What a person should know.
    backgrounds : BackgroundList or None
        Of a calibrated exposure of ours.
    summary : ExposureSummaryStats or None
        Of a calibrated exposure of ours.
    """

    exposure: Exposure
    format: str
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    backgrounds: BackgroundList | None = None
    summary: ExposureSummaryStats | None = None


@dataclass(slots=True)
class Inspection:
    """What would be read from a file.

    Parameters
    ----------
    format : str
        Name of the adapter, empty where none fits; `BAYER` where the pixels lie behind a colour filter array.
    shape : tuple of int or None
        (height, width) of the image.
    hdus : list of dict
        Extensions found so far.
    values, origins : dict
        As of `ReadResult`.
    missing : list of str
        What is not known and would make results poorer.
    warnings : list of str
        What a person should know.
    problem : FormatError or None
        Why the file cannot be calibrated.
    """

    format: str = ""
    shape: tuple[int, int] | None = None
    hdus: list[dict[str, Any]] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problem: FormatError | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        problem = self.problem and {"code": self.problem.code, "message": self.problem.message}
        return {
            "format": self.format,
            "shape": None if self.shape is None else list(self.shape),
            "hdus": self.hdus,
            "values": self.values,
            "origins": self.origins,
            "missing": self.missing,
            "warnings": self.warnings,
            "problem": problem,
        }


def choose_adapter(hdus: Sequence[HduHeader]) -> Adapter:
    """The adapter with the highest score.

    Raises
    ------
    FormatError
        ``format.no_image``: none fits.
    """
    best = max(ADAPTERS, key=lambda adapter: adapter.sniff(hdus))
    if best.sniff(hdus) <= 0:
        raise FormatError("format.no_image", "the file has no image with pixels")
    return best


def inspect(
    source: Path | bytes | Sequence[HduHeader],
    *,
    metadata: Mapping[str, Any] | None = None,
    limits: ReadLimits | None = None,
    instrument: ChooseInstrument | None = None,
) -> Inspection:
    """Say what would be read, from headers only.

    Parameters
    ----------
    source : Path, bytes or sequence of HduHeader
        A file, the beginning of one, or its headers.
    metadata : mapping, optional
        What the job would say.
    limits : ReadLimits, optional
        What a file may ask for.
    instrument : callable, optional
        What is known of the camera whose headers these are.

    Raises
    ------
    FormatError
        ``format.not_fits``; every other refusal is in ``problem``.
    """
    limits = limits or ReadLimits()
    result = Inspection()
    try:
        hdus = _headers_of(source, limits)
        result.hdus = [hdu.describe() for hdu in hdus]
        adapter = choose_adapter(hdus)
        result.format = adapter.name
        with _with_tables(source, hdus, limits) as opened:
            collected, layout = _collect(adapter, hdus, opened, checked_overrides(metadata), instrument)
        result.shape = plane_shape(layout.image)
        _inspect_rest(result, collected, layout)
    except FormatError as error:
        if error.code == "format.not_fits":
            raise
        if error.code == "format.bayer":
            result.format = BAYER  # whatever family it has been taken for
        result.problem = error
    return result


def _headers_of(source: Path | bytes | Sequence[HduHeader], limits: ReadLimits) -> Sequence[HduHeader]:
    if isinstance(source, bytes):
        return open_bytes(source, limits)
    return file_headers(source, limits) if isinstance(source, Path) else source


@contextmanager
def _with_tables(
    source: Path | bytes | Sequence[HduHeader], hdus: Sequence[HduHeader], limits: ReadLimits
) -> Iterator[FitsSource | None]:
    """The file for a look beyond its headers; None where it is not here, or would have to be inflated for that."""
    if not isinstance(source, Path):
        yield None
        return
    with source.open("rb") as stream:
        yield FitsSource(stream, list(hdus), limits) if stream.read(len(_FITS)) == _FITS else None


def _inspect_rest(result: Inspection, metadata: Metadata, layout: Layout) -> None:
    height, width = plane_shape(layout.image)
    wcs = _first_wcs(layout, Box(layout.x0, layout.y0, width, height), metadata)
    result.values, result.origins, result.warnings = metadata.values, metadata.origins, metadata.warnings
    result.missing = [key for key in _USEFUL if metadata.get(key) is None]
    if wcs is None:
        result.missing.append("wcs")
    if layout.noise is None:
        result.missing.append("variance")


def _collect(
    adapter: Adapter,
    hdus: Sequence[HduHeader],
    source: FitsSource | None,
    overrides: dict[str, Any],
    instrument: ChooseInstrument | None,
) -> tuple[Metadata, Layout]:
    layout = adapter.layout(hdus, overrides)
    metadata = Metadata(overrides, layout.headers)
    if source is not None:
        adapter.read_tables(source, layout, metadata)
    elif adapter.table_note:
        metadata.warn(adapter.table_note)
    metadata.instrument = None if instrument is None else instrument(metadata)
    metadata.resolve({**RULES, **adapter.rules})
    for warning in layout.warnings:
        metadata.warn(warning)
    return metadata, layout


def read_exposure(
    path: Path,
    *,
    metadata: Mapping[str, Any] | None = None,
    companions: Mapping[str, Path] | None = None,
    limits: ReadLimits | None = None,
    instrument: ChooseInstrument | None = None,
) -> ReadResult:
    """Read an exposure.

    Parameters
    ----------
    path : Path
        FITS file, also in gzip, bzip2 or tile-compressed.
    metadata : mapping, optional
        Values of `METADATA_KEYS` that override what the file says.
    companions : mapping of str to Path, optional
        Files with the ``mask`` and one of ``variance``, ``ivar``, ``weight``, ``sigma``.
    limits : ReadLimits, optional
        What a file may ask for.
    instrument : callable, optional
        What is known of the camera whose headers these are.

    Returns
    -------
    ReadResult

    Raises
    ------
    FormatError
        The file cannot be read as an exposure.
    """
    overrides = checked_overrides(metadata)
    with open_fits(Path(path), limits or ReadLimits()) as source:
        adapter = choose_adapter(source.hdus)
        collected, layout = _collect(adapter, source.hdus, source, overrides, instrument)
        masked_image = adapter.planes(source, layout, collected, companions or {})
        if collected.get("unit") is None:
            collected.set("unit", "adu", "adapter default")
        _settle_gain(masked_image, collected)
        exposure = _assemble(adapter, masked_image, layout, collected)
        result = ReadResult(exposure, adapter.name, collected.values, collected.origins, collected.warnings)
        adapter.complete(source, result, overrides)
    return result


def _settle_gain(masked_image: MaskedImage, metadata: Metadata) -> None:
    """A gain where none is stated: 1 for electrons, else the slope of the variance plane that came with the image."""
    if metadata.get("gain") is not None:
        return
    if metadata.get("unit") == "electron":
        metadata.set("gain", 1.0, "the unit is electron")
    elif metadata.get("variance") == "plane":
        gain = gain_from_variance(masked_image.image, masked_image.variance, masked_image.mask == 0)
        if gain is not None:
            metadata.set("gain", gain, "estimated from the slope of variance against signal")


def _first_wcs(layout: Layout, bbox: Box, metadata: Metadata) -> Wcs | None:
    wcs = initial_wcs(layout.headers, bbox, metadata)
    if wcs is not None and layout.wcs_note:
        metadata.set("wcs", metadata.get("wcs"), f"{metadata.origins['wcs']}, {layout.wcs_note}")
        metadata.warn(f"the WCS is only a guess: {layout.wcs_note}")
    return wcs


def _assemble(adapter: Adapter, masked_image: MaskedImage, layout: Layout, metadata: Metadata) -> Exposure:
    get, number, bbox = metadata.get, metadata.number, masked_image.bbox
    wcs = _first_wcs(layout, bbox, metadata)
    ra, dec = number("ra"), number("dec")
    if wcs is not None and not (np.isfinite(ra) and np.isfinite(dec)):
        ra, dec = (float(value) for value in wcs.pixel_to_sky(*bbox.center))
    visit_info = VisitInfo(
        visit=get("visit") or 0,
        mjd_mid_tai=number("mjd"),
        exposure_time=number("exposure_time"),
        dark_time=_card(metadata, "DARKTIME"),
        boresight_ra=ra,
        boresight_dec=dec,
        boresight_rotation=_card(metadata, "BORE-ROTANG"),
        altitude=_card(metadata, "BORE-ALT", "ALTITUDE", "OBJCTALT", "ALT"),
        azimuth=_card(metadata, "BORE-AZ", "OBJCTAZ"),
        airmass=number("airmass"),
        longitude=number("longitude"),
        latitude=number("latitude"),
        elevation=number("elevation"),
        instrument=get("instrument"),
    )
    detector = get("detector")
    return Exposure(
        masked_image,
        wcs=wcs,
        filter=FilterLabel(get("band"), get("physical_filter") or get("band")),
        visit_info=visit_info,
        detector=Detector(detector or 0, _detector_name(metadata), adapter.amplifiers(bbox, layout, metadata)),
        exposure_id=get("exposure_id") or get("visit") or 0,
        unit=get("unit"),
        metadata=exposure_metadata(layout.headers),
    )


def _card(metadata: Metadata, *keys: str) -> float:
    found = keyword_number(*keys)(metadata)
    return float(found[0]) if found else math.nan


def _detector_name(metadata: Metadata) -> str:
    found = lookup(metadata, ("DETNAME", "DETPOS", "CCDNAME"))
    raft_and_slot = [lookup(metadata, (key,)) for key in ("RAFTBAY", "CCDSLOT")]  # where Rubin has its names
    return str(found[0]) if found else "_".join(str(part[0]) for part in raft_and_slot if part)
