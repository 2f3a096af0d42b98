"""Columns of the two star catalogues, declared once: names, types and units as upstream exports them.

``psf_star_schema`` is ``single_visit_psf_star`` (99 columns), ``star_schema`` is ``single_visit_star_unstandardized``
(159 columns).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from service.exposure.catalog import Column, Schema

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CALIBRATED_FLUXES", "PIXEL_FLAG_PLANES", "psf_star_schema", "star_schema"]

#: Fluxes of the star catalogue that get calibrated ``_flux``, ``_mag`` and error columns.
CALIBRATED_FLUXES = (
    "base_CircularApertureFlux_12_0",
    "base_CompensatedTophatFlux_12",
    "base_GaussianFlux",
    "base_NormalizedCompensatedTophatFlux",
    "base_PsfFlux",
)

#: Suffix of the PixelFlags columns and the mask plane that each reads.
PIXEL_FLAG_PLANES = {
    "edge": "EDGE",
    "nodata": "NO_DATA",
    "interpolated": "INTRP",
    "saturated": "SAT",
    "cr": "CR",
    "bad": "BAD",
    "suspect": "SUSPECT",
}

_SLOTS = {
    "slot_ApFlux": "base_CircularApertureFlux_12_0",
    "slot_CalibFlux": "base_NormalizedCompensatedTophatFlux",
    "slot_Centroid": "base_SdssCentroid",
    "slot_GaussianFlux": "base_GaussianFlux",
    "slot_ModelFlux": "base_GaussianFlux",
    "slot_PsfFlux": "base_PsfFlux",
    "slot_Shape": "ext_shapeHSM_HsmSourceMoments",
}


def _flag(name: str, doc: str) -> Column:
    return Column(name, "?", "", doc)


def _coordinates() -> Iterator[Column]:
    yield Column("id", "i8", "", "source id, unique and ascending in its catalogue")
    yield Column("coord_ra", "f8", "rad", "ICRS right ascension from the fitted WCS")
    yield Column("coord_dec", "f8", "rad", "ICRS declination from the fitted WCS")
    yield Column("parent", "i8", "", "id of the blended parent, 0 for parents and isolated sources")


def _psf_max_value() -> Column:
    return Column("psf_max_value", "f4", "", "largest pixel of the PSF candidate stamp, counts; NaN if no candidate")


def _coordinate_errors() -> Iterator[Column]:
    yield Column("coord_raErr", "f4", "rad", "error of coord_ra times cos(dec), 1 sigma")
    yield Column("coord_decErr", "f4", "rad", "error of coord_dec, 1 sigma")
    yield Column("coord_ra_dec_Cov", "f4", "rad2", "covariance of right ascension (true angle) and declination")


def _shapelets() -> Iterator[Column]:
    base = "RoughPsfShapelets"
    yield Column(f"{base}_flux", "f8", "", "unweighted zeroth moment over the footprint, counts")
    yield Column(f"{base}_fluxErr", "f8", "", "its error, counts")
    for axis in "xy":
        yield Column(f"{base}_{axis}", "f8", "pix", f"unweighted centroid {axis}")
    for axes in ("xx", "yy", "xy"):
        yield Column(f"{base}_{axes}", "f8", "pix2", f"unweighted second moment {axes}")
    yield _flag(f"{base}_flag", "not measured")
    yield _flag(f"{base}_candidate", "passed the radius cut")
    yield _flag(f"{base}_used", "used in the shapelet fit")


def _centroid() -> Iterator[Column]:
    base = "base_SdssCentroid"
    for axis in "xy":
        yield Column(f"{base}_{axis}", "f8", "pix", f"centroid {axis}, parent frame")
    for axis in "xy":
        yield Column(f"{base}_{axis}Err", "f4", "pix", f"error of the centroid {axis}, 1 sigma")
    yield _flag(f"{base}_flag", "centroid failed or is not to be trusted")
    yield _flag(f"{base}_flag_edge", "too close to the image border")
    yield _flag(f"{base}_flag_noSecondDerivative", "vanishing second derivative")
    yield _flag(f"{base}_flag_almostNoSecondDerivative", "almost vanishing second derivative (never set)")
    yield _flag(f"{base}_flag_notAtMaximum", "not at a maximum")
    yield _flag(f"{base}_flag_near_edge", "near the border: measured with a small Gaussian")
    yield _flag(f"{base}_flag_resetToPeak", "too far from the peak or outside the footprint: reset to the peak")
    yield _flag(f"{base}_flag_badError", "error is not finite")


def _hsm(which: str, what: str) -> Iterator[Column]:
    base = f"ext_shapeHSM_Hsm{which}Moments"
    yield _flag(f"{base}_flag", f"{what}: failed")
    yield _flag(f"{base}_flag_no_pixels", f"{what}: no pixels to measure")
    yield _flag(f"{base}_flag_not_contained", f"{what}: centre not in the footprint's bounding box")
    yield _flag(f"{base}_flag_parent_source", f"{what}: parent source, ignored (never set)")
    yield _flag(f"{base}_flag_galsim", f"{what}: the moments did not converge")
    yield _flag(f"{base}_flag_invalid_param", f"{what}: ellipticity out of range")
    yield _flag(f"{base}_flag_edge", f"{what}: variance undefined outside the image (never set)")
    yield _flag(f"{base}_flag_no_psf", f"{what}: no PSF")
    for axis in "xy":
        yield Column(f"{base}_{axis}", "f8", "pix", f"{what}: centroid {axis}")
    for axes in ("xx", "yy", "xy"):
        yield Column(f"{base}_{axes}", "f8", "pix2", f"{what}: adaptive moment {axes}")


def _flux(base: str, what: str, unit: str = "ct") -> Iterator[Column]:
    yield Column(f"{base}_instFlux", "f8", unit, f"{what}, counts")
    yield Column(f"{base}_instFluxErr", "f8", unit, f"error of the {what}, counts")


def _aperture() -> Iterator[Column]:
    yield from _flux("base_CircularApertureFlux_12_0", "flux in a 12-pixel circular aperture")
    yield _flag("base_CircularApertureFlux_12_0_flag", "aperture flux failed")
    yield _flag("base_CircularApertureFlux_12_0_flag_apertureTruncated", "aperture not inside the image")


def _fluxes_and_flags() -> Iterator[Column]:
    base = "base_CompensatedTophatFlux_12"
    yield from _flux(base, "12-pixel top-hat flux less its 12 to 20.4-pixel annulus")
    yield Column(f"{base}_mask_bits", "i4", "", "OR of the mask over the 43x43 box around the centroid")
    yield _flag(f"{base}_flag", "compensated top-hat flux failed")
    yield _flag(f"{base}_flag_bounds", "box not inside the image")
    yield from _flux("base_GaussianFlux", "flux weighted by a Gaussian of the source's shape")
    yield _flag("base_GaussianFlux_flag", "Gaussian flux failed")
    yield _flag("base_PixelFlags_flag", "pixel flags failed: no finite centre")
    yield _flag("base_PixelFlags_flag_offimage", "centre outside the image")
    for suffix, what in (("", "a footprint pixel"), ("Center", "a pixel of the central 3x3"), ("CenterAll", "all 3x3")):
        for name, plane in PIXEL_FLAG_PLANES.items():
            yield _flag(f"base_PixelFlags_flag_{name}{suffix}", f"{what} with mask plane {plane}")
    yield from _flux("base_PsfFlux", "PSF flux")
    yield Column("base_PsfFlux_area", "f4", "pix", "effective area of the PSF")
    yield Column("base_PsfFlux_chi2", "f4", "", "chi2 of the PSF fit")
    yield Column("base_PsfFlux_npixels", "i4", "pix", "pixels in the PSF fit")
    yield _flag("base_PsfFlux_flag", "PSF flux failed")
    yield _flag("base_PsfFlux_flag_noGoodPixels", "no pixel to fit")
    yield _flag("base_PsfFlux_flag_edge", "PSF stamp does not fit into the image")
    yield _flag("base_InvalidPsf_flag", "no valid PSF at the position")


def _calib_psf() -> Iterator[Column]:
    yield _flag("calib_psf_candidate", "selected by the star selector")
    yield _flag("calib_psf_used", "used by the PSF determiner")
    yield _flag("calib_psf_reserved", "held back from the PSF fit")


def _apcorr_used() -> Iterator[Column]:
    for name in ("slot_CalibFlux", "base_GaussianFlux", "base_PsfFlux"):
        yield _flag(f"apcorr_{name}_used", f"used in the aperture correction of {name}")


def _normalized_flux() -> Iterator[Column]:
    base = "base_NormalizedCompensatedTophatFlux"
    yield from _flux(base, "compensated top-hat flux on the scale of the 12-pixel aperture", "")
    yield _flag(f"{base}_flag", "normalised flux failed")


def _astrometry_used() -> Column:
    return _flag("calib_astrometry_used", "in the final astrometric match list")


def _deblend() -> Iterator[Column]:
    yield Column("deblend_nChild", "i4", "", "number of children, 0 for isolated sources and children")
    yield _flag("deblend_deblendedAsPsf", "modelled as a point source")
    for axis in "xy":
        yield Column(f"deblend_psfCenter_{axis}", "f8", "pix", f"centroid {axis} if deblended as a point source")
    yield Column("deblend_psf_instFlux", "f8", "ct", "flux if deblended as a point source, counts")
    yield _flag("deblend_tooManyPeaks", "more peaks than the limit")
    yield _flag("deblend_parentTooBig", "footprint above the size limit")
    yield _flag("deblend_masked", "too large a part masked")
    yield _flag("deblend_failed", "deblending failed")
    yield _flag("deblend_skipped", "not deblended")
    yield _flag("deblend_rampedTemplate", "template ramped at an edge")
    yield _flag("deblend_patchedTemplate", "template patched at an edge (never set)")
    yield _flag("deblend_hasStrayFlux", "stray flux assigned")
    for axis in "xy":
        yield Column(f"deblend_peak_center_{axis}", "i4", "pix", f"peak pixel {axis}")
    yield Column("deblend_peakId", "i4", "", "id of the peak in the parent")
    yield Column("deblend_nPeaks", "i4", "", "number of peaks in the source's footprint")
    yield Column("deblend_parentNPeaks", "i4", "", "number of peaks in the parent's footprint")


def _aperture_corrected() -> Iterator[Column]:
    for base in ("base_GaussianFlux", "base_PsfFlux"):
        yield Column(f"{base}_apCorr", "f8", "", "aperture correction applied (factor)")
        yield Column(f"{base}_apCorrErr", "f8", "", "error of the aperture correction, not propagated")
        yield _flag(f"{base}_flag_apCorr", "aperture correction could not be applied")


def _catalog_plugins() -> Iterator[Column]:
    yield Column("base_ClassificationExtendedness_value", "f8", "", "0 star, 1 galaxy, by the ratio of fluxes")
    yield _flag("base_ClassificationExtendedness_flag", "flux ratio not available")
    yield Column("base_FootprintArea_value", "i4", "pix", "pixels in the footprint")
    yield _flag("detect_isPrimary", "no children and not a sky source")
    yield _flag("detect_isDeblendedSource", "no children")
    yield _flag("detect_fromBlend", "child of a blend")
    yield _flag("detect_isIsolated", "neither children nor parent")
    yield _flag("calib_photometry_used", "matched to a photometric reference")
    yield _flag("calib_photometry_reserved", "held back from the zero point")


def _calibrated() -> Iterator[Column]:
    for base in CALIBRATED_FLUXES:
        yield Column(f"{base}_flux", "f8", "nJy", f"calibrated flux of {base}")
        yield Column(f"{base}_mag", "f8", "mag(AB)", f"AB magnitude of {base}")
        yield Column(f"{base}_fluxErr", "f8", "nJy", "its error without the calibration's own")
        yield Column(f"{base}_magErr", "f8", "mag(AB)", "its error without the calibration's own")
    yield Column("deblend_psf_flux", "f8", "nJy", "calibrated flux if deblended as a point source")
    yield Column("deblend_psf_mag", "f8", "mag(AB)", "AB magnitude if deblended as a point source")


def _aliases(hsm: tuple[str, ...]) -> dict[str, str]:
    centred = ("base_CircularApertureFlux", "base_GaussianFlux", "base_PsfFlux", *hsm)
    aliases = {f"{plugin}_flag_badCentroid": "base_SdssCentroid_flag" for plugin in centred}
    aliases["base_GaussianFlux_flag_badShape"] = "ext_shapeHSM_HsmSourceMoments_flag"
    return aliases | _SLOTS


@cache
def psf_star_schema() -> Schema:
    """Schema of ``single_visit_psf_star``: all PSF-stage detections."""
    columns = [*_coordinates(), _psf_max_value(), *_coordinate_errors(), *_shapelets(), *_centroid()]
    columns += [*_hsm("Source", "source moments"), *_aperture(), *_fluxes_and_flags(), *_calib_psf()]
    columns += [
        _flag("apcorr_base_CircularApertureFlux_12_0_used", "used in the calibration-flux normalisation (reference)"),
        _flag("apcorr_base_CompensatedTophatFlux_12_used", "used in the calibration-flux normalisation"),
    ]
    columns += [*_normalized_flux(), *_apcorr_used(), _astrometry_used()]
    return Schema(columns, _aliases(("ext_shapeHSM_HsmSourceMoments",)))


@cache
def star_schema() -> Schema:
    """Schema of ``single_visit_star_unstandardized``: selected stars and sky sources."""
    columns = [*_coordinates(), *_calib_psf(), _astrometry_used(), *_apcorr_used()]
    columns += [Column("psf_id", "i8", "", "id of the PSF star, 0 if none"), _psf_max_value(), *_coordinate_errors()]
    columns += [_flag("sky_source", "placed on empty sky, not a detection"), *_deblend(), *_centroid()]
    columns += [*_hsm("Psf", "PSF moments"), *_hsm("Source", "source moments"), *_aperture()]
    columns += [
        Column("base_ClassificationSizeExtendedness_value", "f8", "", "1 - exp(-chi2/2) of the size; below 0.1 a star"),
        _flag("base_ClassificationSizeExtendedness_flag", "size not available"),
    ]
    columns += [*_fluxes_and_flags(), *_normalized_flux(), *_aperture_corrected(), *_catalog_plugins(), *_calibrated()]
    aliases = _aliases(("ext_shapeHSM_HsmPsfMoments", "ext_shapeHSM_HsmSourceMoments"))
    return Schema(columns, aliases | {"slot_PsfShape": "ext_shapeHSM_HsmPsfMoments"})
