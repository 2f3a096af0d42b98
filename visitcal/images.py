"""Images as astropy objects: apart, so that the client itself needs only httpx."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units
from astropy.io import fits
from astropy.nddata import CCDData, VarianceUncertainty
from astropy.wcs import WCS, FITSFixedWarning

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["PsfStamp", "ccd_image"]

#: Pixels of these planes hold no light that was measured there.
NOT_MEASURED = ("BAD", "SAT", "CR", "NO_DATA")


@dataclass(frozen=True)
class PsfStamp:
    """The PSF at a position.

    Parameters
    ----------
    image : ndarray
        Pixels [y, x], of unit sum as far as the stamp reaches.
    shape : dict
        ``ixx``, ``iyy``, ``ixy`` [px²], ``sigma`` [px], ``fwhm_arcsec``, ``e1``, ``e2``, ``area`` [px²],
        ``aperture_radius`` [px], ``aperture_flux``; None where it cannot be measured.
    x, y : float
        Position, parent pixels.
    ra, dec : float or None
        The same on the sky [deg].
    x0, y0 : int
        Parent pixel of ``image[0, 0]``.
    """

    image: NDArray[np.float64]
    shape: dict[str, float | None]
    x: float
    y: float
    ra: float | None
    dec: float | None
    x0: int
    y0: int

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> PsfStamp:
        """From the answer of the service."""
        places = {name: document[name] for name in ("x", "y", "ra", "dec", "x0", "y0")}
        return cls(np.array(document["image"], dtype=float), document["shape"], **places)


def ccd_image(path: Path) -> CCDData:
    """An image file of the service.

    Parameters
    ----------
    path : Path
        FITS: the first image, with the extensions MASK and VARIANCE where they are.

    Returns
    -------
    CCDData
        See `visitcal.Result.image`.
    """
    with fits.open(path, memmap=False) as hdus:
        main = next(hdu for hdu in hdus if hdu.data is not None and hdu.is_image)
        names = {hdu.name: hdu for hdu in hdus}
        header = main.header
        data = _native(main.data)
        flags = _native(names["MASK"].data) if "MASK" in names and main.name != "MASK" else None
        planes = _planes(names["MASK"].header) if "MASK" in names else {}
        variance = _native(names["VARIANCE"].data) if "VARIANCE" in names and main.name != "VARIANCE" else None
    mask = None
    if flags is not None:
        bits = sum(1 << planes[name] for name in NOT_MEASURED if name in planes)
        mask = (flags & bits) != 0
    image = CCDData(
        data,
        unit=_unit(header),
        mask=mask,
        flags=flags,
        uncertainty=None if variance is None else VarianceUncertainty(variance),
        wcs=_wcs(header),
        meta=dict(header),
    )
    image.meta["mask_planes"] = planes
    return image


def _native(data: NDArray[Any]) -> NDArray[Any]:
    return data.astype(data.dtype.newbyteorder("="), copy=False)


def _planes(header: fits.Header) -> dict[str, int]:
    return {card.removeprefix("MP_"): int(header[card]) for card in header if card.startswith("MP_")}


def _unit(header: fits.Header) -> units.UnitBase:
    text = str(header.get("BUNIT", "")).strip()
    return units.Unit(text) if text else units.dimensionless_unscaled


def _wcs(header: fits.Header) -> WCS | None:
    if "CTYPE1" not in header:  # no astrometry, and then only pixels of the parent as WCS "A"
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        return WCS(header)
