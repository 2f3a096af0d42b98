"""What an exposure is judged by, in units in which exposures of different lengths and pixels compare."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["DEPTH_SECONDS", "QUANTITIES", "Quantity", "quality_figures"]

_FWHM_PER_SIGMA = math.sqrt(8.0 * math.log(2.0))
#: Depths are compared as those of exposures of so many seconds.
DEPTH_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Quantity:
    """A figure of quality.

    Parameters
    ----------
    name : str
        Key in documents.
    title : str
        For people.
    unit : str
        Of its values.
    digits : int
        Decimals that mean something.
    worse : {"high", "low", "both"}
        The side on which it tells of trouble.
    doc : str
        Definition.
    """

    name: str
    title: str
    unit: str
    digits: int
    worse: str
    doc: str


QUANTITIES: Mapping[str, Quantity] = {
    quantity.name: quantity
    for quantity in (
        Quantity(
            "seeing",
            "Seeing",
            "arcsec",
            2,
            "high",
            "full width at half maximum of a Gaussian as wide as the PSF at the centre: 2.3548 x psfSigma x pixelScale",
        ),
        Quantity(
            "zero_point",
            "Zero point",
            "mag",
            3,
            "both",
            "AB magnitude of a source that gives one count a second: zeroPoint - 2.5 log10(exposure time), or "
            "zeroPoint itself where pixels are counts per second. Below the expected: light is lost in air or optics",
        ),
        Quantity(
            "sky",
            "Sky",
            "mag/arcsec2",
            2,
            "low",
            "surface brightness of the sky in AB magnitudes: zeroPoint - 2.5 log10(skyBg / pixelScale^2); smaller is "
            "brighter",
        ),
        Quantity(
            "depth",
            "Depth",
            "mag",
            2,
            "low",
            f"AB magnitude of a point source with S/N 5 (magLim), of an exposure of {DEPTH_SECONDS:g} s: magLim - 1.25 "
            f"log10(exposure time / {DEPTH_SECONDS:g} s), as where the noise is that of the sky",
        ),
        Quantity(
            "astrometry",
            "Astrometry",
            "mas",
            1,
            "high",
            "clipped mean distance of the stars from their references on the sky (astromOffsetMean)",
        ),
    )
}


def quality_figures(
    columns: Mapping[str, NDArray[np.float64]], is_rate: NDArray[np.bool_]
) -> dict[str, NDArray[np.float64]]:
    """The figures of some exposures.

    Parameters
    ----------
    columns : mapping of str to ndarray of float64, shape (n,)
        Summary statistics ``psfSigma``, ``pixelScale``, ``zeroPoint``, ``skyBg``, ``magLim``, ``astromOffsetMean``, and
        ``exposure_time`` in seconds; NaN where there is none.
    is_rate : ndarray of bool, shape (n,)
        Pixels that do not grow with the exposure time.

    Returns
    -------
    dict of str to ndarray of float64, shape (n,)
        By name of `QUANTITIES`; NaN where something is missing.
    """
    scale, zero_point = columns["pixelScale"], columns["zeroPoint"]
    seconds = _logarithm(columns["exposure_time"])
    return {
        "seeing": _FWHM_PER_SIGMA * columns["psfSigma"] * scale,
        "zero_point": zero_point - np.where(is_rate, 0.0, 2.5 * seconds),
        "sky": zero_point - 2.5 * (_logarithm(columns["skyBg"]) - 2.0 * _logarithm(scale)),
        "depth": columns["magLim"] - 1.25 * (seconds - math.log10(DEPTH_SECONDS)),
        "astrometry": 1000.0 * columns["astromOffsetMean"],
    }


def _logarithm(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Decimal logarithm, NaN where there is none."""
    return np.log10(np.where(values > 0, values, np.nan))
