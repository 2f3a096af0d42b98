"""An exposure: pixels and everything that is known about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from service.exposure.ap_corr import ApCorrMap
    from service.exposure.geometry import Box
    from service.exposure.masked_image import MaskedImage
    from service.exposure.photo_calib import PhotoCalib
    from service.exposure.psf import Psf
    from service.exposure.wcs import Wcs

__all__ = ["Amplifier", "Detector", "Exposure", "FilterLabel", "VisitInfo"]


@dataclass(frozen=True, slots=True)
class FilterLabel:
    """Filter names.

    Parameters
    ----------
    band : str or None
        Generic band, e.g. ``r``.
    physical : str or None
        The camera's own name of the filter.
    """

    band: str | None = None
    physical: str | None = None


@dataclass(frozen=True, slots=True)
class VisitInfo:
    """When, where and how the exposure was taken; NaN or None where unknown.

    Parameters
    ----------
    visit : int
        Visit number, 0 where unknown.
    mjd_mid_tai : float
        Mid-exposure, MJD TAI, day.
    exposure_time, dark_time : float
        Seconds.
    boresight_ra, boresight_dec, boresight_rotation : float
        ICRS and sky angle, deg.
    altitude, azimuth : float
        Of the boresight, deg.
    airmass : float
        Of the boresight.
    longitude, latitude, elevation : float
        Observatory, deg (east positive) and m.
    instrument : str or None
        Camera name.
    """

    visit: int = 0
    mjd_mid_tai: float = np.nan
    exposure_time: float = np.nan
    dark_time: float = np.nan
    boresight_ra: float = np.nan
    boresight_dec: float = np.nan
    boresight_rotation: float = np.nan
    altitude: float = np.nan
    azimuth: float = np.nan
    airmass: float = np.nan
    longitude: float = np.nan
    latitude: float = np.nan
    elevation: float = np.nan
    instrument: str | None = None


@dataclass(frozen=True, slots=True)
class Amplifier:
    """One read-out amplifier.

    Parameters
    ----------
    name : str
        Its name.
    bbox : Box
        Its part of the detector, parent pixels.
    gain : float
        Electrons per count.
    read_noise : float
        Electrons.
    """

    name: str
    bbox: Box
    gain: float
    read_noise: float


@dataclass(frozen=True, slots=True)
class Detector:
    """One detector.

    Parameters
    ----------
    id : int
        Number in the camera.
    name : str
        Its name.
    amplifiers : tuple of Amplifier
        At least one where gain and read noise are known.
    """

    id: int = 0
    name: str = ""
    amplifiers: tuple[Amplifier, ...] = ()

    @property
    def gain(self) -> float:
        """Mean gain of the amplifiers, electrons per count; NaN without amplifiers."""
        return float(np.mean([a.gain for a in self.amplifiers])) if self.amplifiers else np.nan

    @property
    def read_noise(self) -> float:
        """Mean read noise of the amplifiers, electrons; NaN without amplifiers."""
        return float(np.mean([a.read_noise for a in self.amplifiers])) if self.amplifiers else np.nan


@dataclass(slots=True)
class Exposure:
    """A single-detector exposure on its way through the calibration.

    Parameters
    ----------
    masked_image : MaskedImage
        Pixels in ``unit``.
    wcs, psf, photo_calib, ap_corr_map : optional
        What has been fitted; the WCS is rough on entry.
    filter : FilterLabel
        Band and physical filter.
    visit_info : VisitInfo
        Read-only here.
    detector : Detector or None
        Amplifiers with gain and read noise.
    exposure_id : int
        Number of the exposure, seeds random choices.
    unit : str
        ``"electron"`` or ``"adu"`` on entry, ``"nJy"`` once calibrated.
    metadata : dict
        FITS-like keys and values.
    """

    masked_image: MaskedImage
    wcs: Wcs | None = None
    psf: Psf | None = None
    photo_calib: PhotoCalib | None = None
    ap_corr_map: ApCorrMap | None = None
    filter: FilterLabel = field(default_factory=FilterLabel)
    visit_info: VisitInfo = field(default_factory=VisitInfo)
    detector: Detector | None = None
    exposure_id: int = 0
    unit: str = "adu"
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def bbox(self) -> Box:
        """Pixel box of the exposure, parent frame."""
        return self.masked_image.bbox
