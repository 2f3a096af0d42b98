"""Exposure summary statistics: the fields, declared once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["ExposureSummaryStats", "SummaryField", "summary_fields"]

_NAN = math.nan


@dataclass(frozen=True, slots=True)
class SummaryField:
    """One statistic.

    Parameters
    ----------
    name : str
        Upstream name.
    dtype : str
        ``"f4"``, ``"f8"`` or ``"i4"``.
    length : int
        1 for a scalar, else the length of the list.
    unit : str
        As astropy writes it.
    doc : str
        Definition.
    """

    name: str
    dtype: str
    length: int
    unit: str
    doc: str


def _value(dtype: str, unit: str, doc: str) -> Any:
    default = 0 if dtype == "i4" else _NAN
    return field(default=default, metadata={"dtype": dtype, "unit": unit, "doc": doc, "length": 1})


def _list(length: int, unit: str, doc: str) -> Any:
    return field(
        default_factory=lambda: [_NAN] * length, metadata={"dtype": "f8", "unit": unit, "doc": doc, "length": length}
    )


@dataclass(slots=True)
class ExposureSummaryStats:
    """Statistics of one calibrated exposure, in instrumental units where counts are meant; NaN = not computed.

    The order of the fields is the order of the file format. Method: pipeline of Rubin's
    ``ComputeExposureSummaryStatsTask``.
    """

    psfSigma: float = _value("f4", "pix", "determinant radius of the PSF at the box centre")
    psfArea: float = _value("f4", "pix2", "effective area (sum K)^2 / sum K^2 of the PSF at the box centre")
    psfIxx: float = _value("f4", "pix2", "PSF moment xx at the box centre")
    psfIyy: float = _value("f4", "pix2", "PSF moment yy at the box centre")
    psfIxy: float = _value("f4", "pix2", "PSF moment xy at the box centre")
    ra: float = _value("f8", "deg", "ICRS right ascension of the box centre")
    dec: float = _value("f8", "deg", "ICRS declination of the box centre")
    pixelScale: float = _value("f4", "arcsec/pix", "pixel scale at the box centre")
    zenithDistance: float = _value("f4", "deg", "zenith distance of the box centre at mid-exposure")
    expTime: float = _value("f4", "s", "exposure time")
    zeroPoint: float = _value("f4", "mag", "AB magnitude of one count")
    skyBg: float = _value("f4", "ct", "sum over background components of the median of their binned values")
    skyNoise: float = _value("f4", "ct", "clipped standard deviation of the pixels")
    meanVar: float = _value("f4", "ct2", "clipped mean of the variance plane")
    raCorners: list[float] = _list(4, "deg", "corners: lower left, lower right, upper right, upper left")
    decCorners: list[float] = _list(4, "deg", "corners: lower left, lower right, upper right, upper left")
    astromOffsetMean: float = _value("f4", "arcsec", "clipped mean of the astrometric match distances")
    astromOffsetStd: float = _value("f4", "arcsec", "clipped standard deviation of the match distances")
    refCatSourceDensity: float = _value("f4", "deg-2", "references within half a diagonal of the centre")
    psfAdaptiveThresholdValue: float = _value("f4", "", "threshold found by the adaptive PSF detection")
    psfAdaptiveIncludeThresholdMultiplier: float = _value("f4", "", "its include-threshold multiplier")
    nPsfStar: int = _value("i4", "", "stars used in the PSF fit")
    psfStarDeltaE1Median: float = _value("f4", "", "median of e1(star) - e1(PSF)")
    psfStarDeltaE2Median: float = _value("f4", "", "median of e2(star) - e2(PSF)")
    psfStarDeltaE1Scatter: float = _value("f4", "", "MAD sigma of e1(star) - e1(PSF)")
    psfStarDeltaE2Scatter: float = _value("f4", "", "MAD sigma of e2(star) - e2(PSF)")
    psfStarDeltaSizeMedian: float = _value("f4", "pix", "median of trace radius of star less PSF")
    psfStarDeltaSizeScatter: float = _value("f4", "pix", "MAD sigma of trace radius of star less PSF")
    psfStarScaledDeltaSizeScatter: float = _value("f4", "", "size scatter over the median star size")
    psfTraceRadiusDelta: float = _value("f4", "pix", "range of the PSF trace radius over good grid nodes")
    psfApFluxDelta: float = _value("f4", "", "range of the PSF flux in an aperture over good grid nodes")
    psfApCorrSigmaScaledDelta: float = _value("f4", "1/pix", "range of the PSF aperture correction over psfSigma")
    maxDistToNearestPsf: float = _value("f4", "pix", "largest distance of a good pixel to a PSF star")
    starEMedian: float = _value("f4", "", "median ellipticity of the stars")
    starUnNormalizedEMedian: float = _value("f4", "pix2", "median unnormalised ellipticity of the stars")
    starComa1Median: float = _value("f4", "", "median of M30 + M12")
    starComa2Median: float = _value("f4", "", "median of M21 + M03")
    starTrefoil1Median: float = _value("f4", "", "median of M30 - 3 M12")
    starTrefoil2Median: float = _value("f4", "", "median of 3 M21 - M03")
    starKurtosisMedian: float = _value("f4", "", "median of M40 + 2 M22 + M04")
    starE41Median: float = _value("f4", "", "median of M40 - M04")
    starE42Median: float = _value("f4", "", "median of 2 (M31 + M13)")
    effTime: float = _value("f4", "s", "effective exposure time from magLim")
    effTimePsfSigmaScale: float = _value("f4", "", "scale of the effective time by psfSigma")
    effTimeSkyBgScale: float = _value("f4", "", "scale of the effective time by skyBg")
    effTimeZeroPointScale: float = _value("f4", "", "scale of the effective time by zeroPoint")
    magLim: float = _value("f4", "mag", "limiting AB magnitude at S/N 5 for a point source")
    nShapeletsStar: int = _value("i4", "", "stars in the shapelet fit")
    shapeletsOnlyIqScore: float = _value("f4", "", "power in non-atmospheric shapelet coefficients over total power")
    shapeletsIqScore: float = _value("f4", "", "the same with the centroid offset, 0 best, 1 worst")
    shapeletsCoeffs: list[float] = _list(28, "", "order-6 Gauss-Laguerre coefficients")
    centroidDiffShapeletsVsSlotMedian: float = _value("f4", "pix", "median distance of raw and slot centroids")
    shapeletsStarEMedian: float = _value("f4", "", "median ellipticity from raw moments of the shapelet stars")
    shapeletsStarUnNormalizedEMedian: float = _value("f4", "pix2", "median unnormalised ellipticity of those")

    def as_dict(self) -> dict[str, Any]:
        """Values by name, with None where nothing was computed."""
        return {f.name: _null(getattr(self, f.name)) for f in fields(self)}


def _null(value: Any) -> Any:
    if isinstance(value, list):
        return [_null(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def summary_fields() -> list[SummaryField]:
    """The declared statistics in order."""
    return [
        SummaryField(f.name, f.metadata["dtype"], f.metadata["length"], f.metadata["unit"], f.metadata["doc"])
        for f in fields(ExposureSummaryStats)
    ]
