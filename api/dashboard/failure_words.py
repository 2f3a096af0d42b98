"""What each failure of a job means to a person: in plain words, with its picture and the limit that broke."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LIMITS", "NUMBERS", "Bound", "Reason", "reason_of"]


@dataclass(frozen=True, slots=True)
class Reason:
    """A failure in plain words.

    Parameters
    ----------
    title : str
        What failed, as a heading.
    means : str
        What that says of the exposure, and what is usually behind it.
    picture : str
        Kind of picture that shows it, of `api.dashboard.failure_pictures.PICTURES`; empty where none does.
    """

    title: str
    means: str
    picture: str = ""


_REASONS: Mapping[str, Reason] = {
    "calibration.failed": Reason("The calibration failed", "The numbers below decided it."),
    "background.too_many_masked_pixels": Reason(
        "The sky could not be fitted: every pixel is masked",
        "A mask plane of the input covers all of the image, or the image has no valid pixel.",
        "mask",
    ),
    "background.no_scatter": Reason(
        "This is no picture of the sky: its pixels are constant",
        "A frame of zeros, a saturated one or a test pattern looks like this.",
        "image",
    ),
    "repair.too_many_cosmic_rays": Reason(
        "Too many pixels look like cosmic rays",
        "Stars that are sharper than the PSF assumed at first are taken for cosmic rays; or there really are many.",
        "cosmic_rays",
    ),
    "detection.no_psf_width": Reason(
        "Nothing could be detected without a width of the PSF",
        "The PSF that came with the exposure is broken.",
        "image",
    ),
    "psf.no_stars_for_shapelets": Reason(
        "Too few stars to judge the image quality",
        "The exposure shows hardly any bright star: clouds, a closed shutter, a wrong filter, or a very small field.",
        "detected",
    ),
    "psf.no_sources": Reason(
        "Nothing was detected",
        "No source stands above the detection threshold: clouds, a closed shutter, or far too short an exposure.",
        "image",
    ),
    "psf.no_good_sources": Reason(
        "No detected source can be a PSF star",
        "All are flagged, too faint, or of a width outside the limits: look whether the image is in focus.",
        "psf_stars",
    ),
    "psf.no_candidates": Reason(
        "No star is far enough from the border",
        "The few stars there are lie too near the rim for a stamp.",
        "psf_stars",
    ),
    "psf.no_good_candidates": Reason(
        "No candidate star could be used for the PSF",
        "Their centroids or fluxes are flagged, or their stamps have masked pixels.",
        "psf_stars",
    ),
    "psf.too_few_good_stars": Reason(
        "Too few stars for a PSF that varies over the image",
        "A constant PSF may still do, at some cost in accuracy away from the stars.",
        "psf_stars",
    ),
    "psf.piff_too_few_good_stars": Reason(
        "Too few stars for Piff's PSF", "Its spatial polynomial has more terms than there are stars.", "psf_stars"
    ),
    "psf.nonfinite_shape": Reason(
        "The fitted PSF has no size",
        "The stars that made it are hardly stars: trails, artefacts, or noise.",
        "psf_stars",
    ),
    "psf.all_centroids_flagged": Reason(
        "No position could be measured with the fitted PSF",
        "The PSF probably has a hole or a slope: the telescope is out of focus, or no star is among its stars.",
        "psf_stars",
    ),
    "aperture_correction.no_normalization": Reason(
        "No star to tie the fluxes together",
        "No PSF star has a good aperture flux: neighbours, masked pixels or the border disturb all of them.",
        "psf_stars",
    ),
    "aperture_correction.too_few_stars": Reason(
        "Too few bright stars for the aperture correction",
        "Clouds or a short exposure leave too few stars above the limit of signal to noise.",
        "psf_stars",
    ),
    "astrometry.no_good_sources": Reason(
        "No source is good enough for the astrometry",
        "Those that were found are faint, blended or flagged.",
        "psf_stars",
    ),
    "astrometry.matcher_failure": Reason(
        "The stars could not be matched with the references",
        "The pointing may be far off, the catalogue may not reach the field, or there are too few stars.",
        "references",
    ),
    "astrometry.fit_failure": Reason(
        "No smooth map joins the image to the sky",
        "The matched pairs contradict each other: most of them are probably false.",
        "references",
    ),
    "astrometry.bad_fit": Reason(
        "Stars and references lie too far apart after the fit",
        "The match is probably false, or the camera distorts more than the fit can follow.",
        "references",
    ),
    "astrometry.no_references": Reason(
        "The catalogue has no star in this field",
        "Another field, or a pointing that is far off.",
        "references",
    ),
    "references.unreachable": Reason(
        "The reference catalogue could not be asked",
        "Its host does not answer. That says nothing about the exposure: all up to there was computed and kept.",
    ),
    "references.unusable": Reason(
        "The reference catalogue answers with something else than was declared",
        "That says nothing about the exposure. The operator has to look at the declaration of the catalogue.",
    ),
    "references.no_band": Reason(
        "The reference catalogue has no magnitudes in this band", "Another of its bands can stand for it."
    ),
    "references.none_in_field": Reason(
        "The catalogue has no star in this field",
        "Another field, or a pointing that is far off.",
        "references",
    ),
    "references.no_proper_motion": Reason(
        "The reference catalogue has no proper motions", "The configuration asks for them."
    ),
    "photometry.no_color_term": Reason(
        "There is no colour term for this filter", "The configuration asks for colour terms, and has none that fits."
    ),
    "stars.no_psf_star_match": Reason(
        "None of the PSF stars is among the stars",
        "Both lists are of the same image: something is very wrong with the second detection.",
        "sources",
    ),
    "photometry.matcher_failure": Reason(
        "No star could be matched with a photometric reference",
        "The catalogue may lack this band here, or the positions may be off by more than the match radius.",
        "references",
    ),
    "photometry.no_references": Reason(
        "The photometric catalogue has no star in this field", "It does not reach here.", "references"
    ),
    "photometry.no_zero_point": Reason(
        "The matched stars do not agree on a zero point",
        "Their magnitudes differ from those of the references without a pattern: the match may be false.",
        "references",
    ),
    "job.time_limit": Reason(
        "The run was stopped: it took too long", "A very crowded field takes long; so does a machine that is busy."
    ),
    "job.memory_limit": Reason(
        "The run was stopped: it needed too much memory", "A very large or crowded image; the operator sets the limit."
    ),
    "job.process_died": Reason(
        "The process of the run died, at every attempt", "That is no fault of the exposure; the log may say more."
    ),
    "job.disk_full": Reason("The disk was full", "Nothing is wrong with the exposure. Try again when there is room."),
    "input.missing": Reason("A file of the run is gone", "It was removed before the run could read it."),
    "service.fault": Reason(
        "The service met an error that it does not know",
        "That is a fault of the service and not of the exposure. The log has the place; please report it.",
    ),
    "snap_combine.mismatch": Reason("The two snaps do not belong together", "They differ in size or unit.", "headers"),
    "calibration.bad_data_id": Reason(
        "The visit or detector number is too large", "Ids of sources are made of them.", "headers"
    ),
    "calibration.missing_package": Reason(
        "A package is not installed that the configuration asks for", "The operator can install it."
    ),
    "illumination.invalid_input": Reason(
        "The illumination correction does not fit the exposure", "It was made for another camera, or is no such thing."
    ),
}

#: What holds for all codes of a family that are not above.
_FAMILIES: Mapping[str, Reason] = {
    "format": Reason("The file cannot be read as an exposure", "What was read of its headers is below.", "headers"),
    "exposure": Reason("The file cannot be read as an exposure", "What was read of its headers is below.", "headers"),
    "refcat": Reason("The reference catalogue cannot be used", "That says nothing about the exposure."),
    "job": Reason("The run was ended", "That says nothing about the exposure."),
    "psf": Reason("The PSF could not be made", "The numbers below decided it.", "psf_stars"),
    "astrometry": Reason("The astrometry failed", "The numbers below decided it.", "references"),
    "photometry": Reason("The photometry failed", "The numbers below decided it.", "references"),
    "background": Reason("The sky could not be fitted", "The numbers below decided it.", "mask"),
}


def reason_of(code: str) -> Reason:
    """The reason of a code, that of its family, or the one for everything."""
    return _REASONS.get(code) or _FAMILIES.get(code.partition(".")[0]) or _REASONS["calibration.failed"]


#: Numbers of errors in words, with their unit.
NUMBERS: Mapping[str, tuple[str, str]] = {
    "pixels": ("pixels of the image", ""),
    "masked": ("of them masked", ""),
    "cells": ("cells of the background", ""),
    "cells_with_pixels": ("of them with usable pixels", ""),
    "maxCosmicRays": ("pixels of cosmic rays allowed", ""),
    "sigma": ("width (standard deviation)", ""),
    "n_sources": ("sources that could be used", ""),
    "n_required": ("sources needed", ""),
    "n_input_sources": ("sources that were detected", ""),
    "num_candidates": ("candidate stars", ""),
    "num_available_stars": ("candidate stars", ""),
    "num_good_stars": ("of them usable", ""),
    "poly_ndim_initial": ("variables of the spatial model wanted", ""),
    "poly_ndim_final": ("variables that the stars allow", ""),
    "minimum_dof": ("stars needed", ""),
    "poly_ndim": ("order of the spatial model", ""),
    "psf_size": ("size of the fitted PSF", "px"),
    "psf_shape_ixx": ("second moment xx of the PSF", "px²"),
    "psf_shape_iyy": ("second moment yy of the PSF", "px²"),
    "psf_shape_ixy": ("second moment xy of the PSF", "px²"),
    "shapelets_iq_score": ("image quality score", ""),
    "n_stars": ("stars", ""),
    "n_psf_stars": ("PSF stars", ""),
    "n_initial_sources": ("stars that made the PSF", ""),
    "n_calib_flux_flag": ("of them with a flagged aperture flux", ""),
    "n_ref_flux_flag": ("of them with a flagged tophat flux", ""),
    "name": ("flux that was to be corrected", ""),
    "nSources": ("stars that were there", ""),
    "nReferences": ("references in the field", ""),
    "ndof": ("degrees of freedom left for the fit", ""),
    "iteration": ("round of clipping", ""),
    "lenSourceSelectionCat": ("sources that pass the selection", ""),
    "n": ("stars or references to make a pattern of", ""),
    "numPointsForShape": ("points of a pattern", ""),
    "iterations": ("rounds of matching", ""),
    "nMatches": ("matched pairs", ""),
    "nTerms": ("terms of the fit", ""),
    "scatter": ("scatter of the fit", "″"),
    "maxScatter": ("scatter allowed", "″"),
    "distMean": ("mean distance of star and reference", "″"),
    "distMedian": ("median distance of star and reference", "″"),
    "maxMeanDist": ("mean distance allowed", "″"),
    "scaleChange": ("change of scale by the match", ""),
    "shear": ("shear by the match", ""),
    "expectedPairs": ("pairs that chance would give", ""),
    "logChance": ("log₁₀ of the chance that the match is one", ""),
    "wideTriangles": ("wide search: triangles tried", ""),
    "wideVotes": ("wide search: votes for the best place", ""),
    "wideVerified": ("wide search: places verified", ""),
    "wideBestPairs": ("wide search: pairs at the best place", ""),
    "wideExpectedPairs": ("wide search: pairs that chance would give", ""),
    "wideLogChance": ("wide search: log₁₀ of the chance", ""),
    "catalog": ("reference catalogue", ""),
    "bands": ("bands that it has", ""),
    "band": ("band of the exposure", ""),
    "filter": ("filter of the exposure", ""),
    "n_fitting": ("entries of the library that fit", ""),
    "reason": ("reason", ""),
    "retry_after": ("its host asks to wait", "s"),
    "goodSrc": ("stars that could be matched", ""),
    "goodRef": ("references with a magnitude in this band", ""),
    "nPairs": ("pairs with two magnitudes", ""),
    "center": ("centre of the differences", "mag"),
    "time_limit_s": ("time allowed", "s"),
    "memory_limit_bytes": ("memory allowed", "bytes"),
    "needed_bytes": ("bytes to write", "bytes"),
    "free_bytes": ("bytes free", "bytes"),
}


@dataclass(frozen=True, slots=True)
class Bound:
    """The limit that a number broke.

    Parameters
    ----------
    relation : str
        ``at least``, ``more than`` or ``at most``.
    number : str
        Other number of the error that is the limit; empty where `value` or a setting is.
    setting : str
        Path of the setting that says the limit, or changes it.
    value : float, optional
        The limit itself, where nobody can choose it.
    """

    relation: str
    number: str = ""
    setting: str = ""
    value: float | None = None


#: By code and number. Where a number and a setting are named the number is the limit, and the setting chooses it.
LIMITS: Mapping[tuple[str, str], Bound] = {
    ("background.too_many_masked_pixels", "masked"): Bound("less than", "pixels"),
    ("psf.no_stars_for_shapelets", "n_sources"): Bound(
        "at least", "n_required", "compute_shapelet_decomposition.min_n_stars"
    ),
    ("psf.no_sources", "n_input_sources"): Bound("at least", value=1),
    ("psf.no_candidates", "num_candidates"): Bound("at least", value=1),
    ("psf.too_few_good_stars", "poly_ndim_final"): Bound("at least", "poly_ndim_initial"),
    ("psf.piff_too_few_good_stars", "num_good_stars"): Bound("at least", "minimum_dof"),
    ("aperture_correction.too_few_stars", "ndof"): Bound(
        "at least", setting="measure_aperture_correction.min_degrees_of_freedom"
    ),
    ("astrometry.no_good_sources", "lenSourceSelectionCat"): Bound("at least", value=1),
    ("astrometry.matcher_failure", "n"): Bound(
        "more than", "numPointsForShape", "astrometry.matcher.num_points_for_shape"
    ),
    ("astrometry.fit_failure", "scatter"): Bound("at most", "maxScatter", "astrometry.wcs_fitter.max_scatter_arcsec"),
    ("astrometry.fit_failure", "nMatches"): Bound("at least", "nTerms", "astrometry.wcs_fitter.order"),
    ("astrometry.bad_fit", "distMean"): Bound("at most", "maxMeanDist", "astrometry.max_mean_distance_arcsec"),
    ("photometry.matcher_failure", "goodSrc"): Bound("at least", value=1),
    ("photometry.matcher_failure", "goodRef"): Bound("at least", value=1),
    ("photometry.no_references", "goodRef"): Bound("at least", value=1),
    ("photometry.no_zero_point", "nPairs"): Bound("at least", value=1),
    ("job.disk_full", "free_bytes"): Bound("at least", "needed_bytes"),
}
