"""Writing exposures, masks, images, backgrounds and calibrations."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from service.exposure.photo_calib import PhotoCalib
from service.formats.components import (
    exposure_state,
    read_backgrounds,
    write_backgrounds,
    write_json,
    write_state,
    write_summary,
)
from service.formats.container import open_fits
from service.formats.errors import FormatError
from service.formats.fits_stream import FitsStream
from service.formats.headers import ReadLimits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from service.exposure.background import BackgroundList
    from service.exposure.exposure import Exposure
    from service.exposure.geometry import Box
    from service.exposure.mask import MaskPlanes
    from service.exposure.masked_image import MaskedImage
    from service.exposure.summary import ExposureSummaryStats
    from service.exposure.wcs import Wcs

__all__ = [
    "FORMAT_KEYWORD",
    "read_background",
    "read_photo_calib",
    "write_background",
    "write_exposure",
    "write_image",
    "write_mask",
    "write_photo_calib",
]

#: Card of the primary header by which our own files are known; its value is the version.
FORMAT_KEYWORD = "VCALFMT"
_VERSION = 1
#: Cards of the input that FITS understands in the scale of TIMESYS.
_TIMES = {f"{kind}-{when}" for kind in ("DATE", "MJD") for when in ("OBS", "BEG", "AVG", "END")}


@contextmanager
def _stream(destination: Path | BinaryIO) -> Iterator[FitsStream]:
    if isinstance(destination, Path):
        with destination.open("wb") as file:
            yield FitsStream(file)
    else:
        yield FitsStream(destination)


def write_exposure(
    destination: Path | BinaryIO,
    exposure: Exposure,
    *,
    backgrounds: BackgroundList | None = None,
    summary: ExposureSummaryStats | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write an exposure with all its parts.

    The file has Rubin's layout: an empty primary with the metadata, then IMAGE, MASK (``MP_`` cards) and VARIANCE with
    ``LTV``, the "A" WCS and a TAN-SIP approximation; then tables of our own (PSF, AP_CORR_MAP, PHOTOCALIB, SUMMARY,
    VISITCAL) and the background components. `read_exposure` gives the same exposure back.

    Parameters
    ----------
    destination : Path or binary file
        Where to; a path is overwritten.
    exposure : Exposure
        What to write.
    backgrounds : BackgroundList, optional
        Subtracted from the image, in its units.
    summary : ExposureSummaryStats, optional
        Statistics.
    metadata : mapping, optional
        Further cards of the primary header.
    """
    masked_image = exposure.masked_image
    geometry = _geometry_cards(masked_image.bbox, exposure.wcs)
    unit = {"BUNIT": exposure.unit}
    with _stream(destination) as stream:
        stream.primary(_primary_cards(exposure) | dict(metadata or {}) | {FORMAT_KEYWORD: _VERSION})
        stream.image("IMAGE", masked_image.image, {"EXTTYPE": "IMAGE"} | geometry | unit)
        stream.image("MASK", masked_image.mask, {"EXTTYPE": "MASK"} | geometry | _plane_cards(masked_image.planes))
        stream.image(
            "VARIANCE", masked_image.variance, {"EXTTYPE": "VARIANCE"} | geometry | {"BUNIT": f"{exposure.unit}**2"}
        )
        write_json(stream, "VISITCAL", exposure_state(exposure))
        if exposure.psf is not None:
            write_state(stream, "PSF", *exposure.psf.state())
        if exposure.ap_corr_map is not None and len(exposure.ap_corr_map):
            write_state(stream, "AP_CORR_MAP", *exposure.ap_corr_map.state())
        if exposure.photo_calib is not None:
            mean, error = exposure.photo_calib.mean, exposure.photo_calib.error
            values = {"calibrationMean": mean, "calibrationErr": error}
            write_state(stream, "PHOTOCALIB", {}, {name: np.array([value]) for name, value in values.items()})
        if summary is not None:
            write_summary(stream, summary)
        if backgrounds is not None:
            write_backgrounds(stream, backgrounds, named=True)


def _primary_cards(exposure: Exposure) -> dict[str, Any]:
    info, detector = exposure.visit_info, exposure.detector
    cards: dict[str, Any] = dict(exposure.metadata)
    if str(cards.get("TIMESYS", "UTC")).upper() != "TAI":  # the file says TAI, and these would be read as such
        cards = {key: value for key, value in cards.items() if key not in _TIMES}
    cards |= {
        "EXPTIME": info.exposure_time,
        "DARKTIME": info.dark_time,
        "TIMESYS": "TAI",
        "DATE-AVG": _iso(info.mjd_mid_tai),
        "BORE-RA": info.boresight_ra,
        "BORE-DEC": info.boresight_dec,
        "BORE-AZ": info.azimuth,
        "BORE-ALT": info.altitude,
        "BORE-AIRMASS": info.airmass,
        "BORE-ROTANG": info.boresight_rotation,
        "OBS-LONG": info.longitude,
        "OBS-LAT": info.latitude,
        "OBS-ELEV": info.elevation,
        "INSTRUMENT": info.instrument,
        "IDNUM": info.visit or None,
        "EXPID": exposure.exposure_id or None,
        "FILTER": exposure.filter.physical,
        "FILTBAND": exposure.filter.band,
    }
    if detector is not None:
        cards |= {"DETNAME": detector.name or None, "DETSER": str(detector.id)}
        cards |= {"GAIN": detector.gain, "RDNOISE": detector.read_noise}
    return {key: value for key, value in cards.items() if value is not None}


def _iso(mjd_tai: float) -> str | None:
    if not np.isfinite(mjd_tai):
        return None
    microseconds = round((mjd_tai - 40587.0) * 86400e6)
    return str(np.datetime64(microseconds, "us"))


def _geometry_cards(bbox: Box, wcs: Wcs | None) -> dict[str, Any]:
    """Origin of the box, and what FITS can say about the WCS in the pixels of the file."""
    cards: dict[str, Any] = {"LTV1": -bbox.x0, "LTV2": -bbox.y0}
    if wcs is not None:
        celestial, deviation = wcs.fits_approximation(bbox)
        celestial["CRPIX1"] -= bbox.x0
        celestial["CRPIX2"] -= bbox.y0
        cards |= celestial | {"WCSDEV": deviation}
    cards |= {"CRVAL1A": bbox.x0, "CRVAL2A": bbox.y0, "CRPIX1A": 1, "CRPIX2A": 1}
    return cards | {"CTYPE1A": "LINEAR", "CTYPE2A": "LINEAR", "CUNIT1A": "pixel", "CUNIT2A": "pixel"}


def _plane_cards(planes: MaskPlanes) -> dict[str, Any]:
    """Names of the mask bits as both generations of Rubin's readers look for them."""
    cards: dict[str, Any] = {f"MP_{name}": bit for name, bit in planes.items()}
    for number, (name, bit) in enumerate(planes.items()):
        cards |= {f"MSKN{number:04d}": name, f"MSKM{number:04d}": 1 << bit}
    return cards


def write_mask(destination: Path | BinaryIO, masked_image: MaskedImage, wcs: Wcs | None = None) -> None:
    """Write a mask plane with the names of its bits; a path is overwritten."""
    cards = {"EXTTYPE": "MASK"} | _geometry_cards(masked_image.bbox, wcs) | _plane_cards(masked_image.planes)
    with _stream(destination) as stream:
        stream.primary({})
        stream.image("MASK", masked_image.mask, cards)


def write_image(
    destination: Path | BinaryIO,
    image: NDArray[np.float32],
    *,
    wcs: Wcs | None = None,
    unit: str = "",
    x0: int = 0,
    y0: int = 0,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write one plane.

    Parameters
    ----------
    destination : Path or binary file
        Where to; a path is overwritten.
    image : ndarray of float32, shape (height, width)
        Pixels.
    wcs : Wcs, optional
        In the parent frame.
    unit : str
        Of the pixels.
    x0, y0 : int
        Parent coordinates of the first pixel.
    metadata : mapping, optional
        Cards of the primary header.
    """
    from service.exposure.geometry import Box

    geometry = _geometry_cards(Box(x0, y0, image.shape[1], image.shape[0]), wcs)
    cards = {"EXTTYPE": "IMAGE"} | geometry | ({"BUNIT": unit} if unit else {})
    with _stream(destination) as stream:
        stream.primary(metadata or {})
        stream.image("IMAGE", np.asarray(image, dtype=np.float32), cards)


def write_background(destination: Path | BinaryIO, backgrounds: BackgroundList) -> None:
    """Write background components as upstream does: three images each, no names; a path is overwritten."""
    with _stream(destination) as stream:
        if len(backgrounds) == 0:
            stream.primary({})
        write_backgrounds(stream, backgrounds, named=False)


def read_background(path: Path) -> BackgroundList:
    """Read a file of `write_background`.

    Raises
    ------
    FormatError
        The file does not hold background components.
    """
    with open_fits(Path(path), ReadLimits()) as source:
        images = [hdu for hdu in source.hdus if hdu.is_image]
        try:
            return read_backgrounds(source, images)
        except (KeyError, ValueError, TypeError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError("format.corrupt", f"the file does not hold background components: {error}") from error


def write_photo_calib(destination: Path | BinaryIO, photo_calib: PhotoCalib) -> None:
    """Write a calibration as JSON with the names of Rubin's fields; a path is overwritten."""
    values = {"calibrationMean": photo_calib.mean, "calibrationErr": photo_calib.error, "isConstant": True}
    document = values | {"zeroPoint": photo_calib.zero_point, "unit": "nJy/ct"}
    text = json.dumps(document, indent=1) + "\n"
    if isinstance(destination, Path):
        destination.write_text(text)
    else:
        destination.write(text.encode())


def read_photo_calib(path: Path) -> PhotoCalib:
    """Read a file of `write_photo_calib`.

    Raises
    ------
    FormatError
        It is none.
    """
    try:
        document = json.loads(Path(path).read_text())
        return PhotoCalib(float(document["calibrationMean"]), float(document["calibrationErr"]))
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError("format.corrupt", f"the file does not hold a calibration: {error}") from error
