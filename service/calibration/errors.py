"""Data-quality failures of the calibration, each with the numbers that decided it.

An `AlgorithmError` is a result: the run ends, everything computed so far is kept, and the error says which numbers
decided it, what may help and, where one is known, a configuration change to try.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "AlgorithmError",
    "AllCentroidsFlaggedError",
    "AstrometryError",
    "AstrometryFitFailure",
    "BadAstrometryFit",
    "ColortermNotFoundError",
    "ConstantBackgroundError",
    "MatcherFailure",
    "MeasureApCorrError",
    "NoAstrometricReferences",
    "NoPhotometricReferences",
    "NoPsfStarsToStarsMatchError",
    "NoStarsForShapeletsError",
    "NonfinitePsfShapeError",
    "NormalizedCalibrationFluxError",
    "ObjectSizeNoGoodSourcesError",
    "ObjectSizeNoSourcesError",
    "PhotometryMatchFailure",
    "PiffTooFewGoodStarsError",
    "PsfGenerationError",
    "PsfexNoGoodStarsError",
    "PsfexNoStarsError",
    "PsfexTooFewGoodStarsError",
    "ReferenceBandError",
    "ReferencesUnreachableError",
    "ReferencesUnusableError",
    "TooManyCosmicRays",
    "TooManyMaskedPixelsError",
    "ZeroPointError",
    "algorithm_errors",
]


class AlgorithmError(Exception):
    """A data-quality failure: repeatable, and with partial results.

    Parameters
    ----------
    message : str
        A sentence for a person.
    **numbers : int, float or str
        What decided the failure.

    Attributes
    ----------
    code : str
        Stable machine code, ``<stage>.<what>``.
    hint : str
        What could be tried.
    suggested_config : dict
        Configuration overrides that may help; empty where none is known.
    """

    code: ClassVar[str] = "calibration.failed"
    hint: ClassVar[str] = ""
    suggested_config: ClassVar[dict[str, Any]] = {}

    def __init__(self, message: str, **numbers: float | str) -> None:
        super().__init__(message)
        self.message = message
        self.numbers: dict[str, float | str] = numbers

    def __str__(self) -> str:
        return f"{self.message}: {self.numbers}" if self.numbers else self.message

    @property
    def type_name(self) -> str:
        """Upstream class name."""
        return type(self).__name__


class TooManyMaskedPixelsError(AlgorithmError):
    """Every pixel has a mask bit that the background ignores."""

    code = "background.too_many_masked_pixels"
    hint = "Check the mask planes of the input: nothing is left to fit a background to."


class ConstantBackgroundError(AlgorithmError):
    """No cell of the background has pixels that scatter, so that none can be weighted by its error."""

    code = "background.no_scatter"
    hint = "The image is constant, or holds a single usable pixel: it is no picture of the sky."


class TooManyCosmicRays(AlgorithmError):
    """More cosmic-ray pixels than allowed."""

    code = "repair.too_many_cosmic_rays"
    hint = "Stars much sharper than the first-guess PSF look like cosmic rays: lower install_simple_psf.fwhm."
    suggested_config: ClassVar[dict[str, Any]] = {"install_simple_psf": {"fwhm": 2.5}}


class PsfGenerationError(AlgorithmError):
    """Detection has no usable PSF width."""

    code = "detection.no_psf_width"
    hint = "The exposure carries no PSF, or one with a non-finite width."


class NoStarsForShapeletsError(AlgorithmError):
    """Too few objects for the rough shapelet decomposition."""

    code = "psf.no_stars_for_shapelets"
    hint = "Too few bright objects: lower the detection threshold, or switch the shapelet decomposition off."
    suggested_config: ClassVar[dict[str, Any]] = {"do_compute_shapelet_decomposition": False}


class ObjectSizeNoSourcesError(AlgorithmError):
    """The star selector was given no source."""

    code = "psf.no_sources"
    hint = "Nothing was detected at the PSF threshold: lower psf_detection.threshold_value."
    suggested_config: ClassVar[dict[str, Any]] = {"psf_detection": {"threshold_value": 5.0}}


class ObjectSizeNoGoodSourcesError(AlgorithmError):
    """No source passes the star selector's cuts."""

    code = "psf.no_good_sources"
    hint = "All detections are flagged, too faint, or outside the allowed widths."


class PsfexNoStarsError(AlgorithmError):
    """No PSF candidate at all."""

    code = "psf.no_candidates"
    hint = "No star is far enough from the border for a PSF stamp."


class PsfexNoGoodStarsError(AlgorithmError):
    """No PSF candidate is usable."""

    code = "psf.no_good_candidates"
    hint = "All candidates have flagged centroids or aperture fluxes, or stamps off the image."


class PsfexTooFewGoodStarsError(AlgorithmError):
    """Too few stars for a spatially varying PSF."""

    code = "psf.too_few_good_stars"
    hint = "Lower the detection threshold or the star selector's S/N limit, or allow a constant PSF."
    suggested_config: ClassVar[dict[str, Any]] = {"psf_measure_psf": {"determiner": {"allow_constant_psf": True}}}


class PiffTooFewGoodStarsError(AlgorithmError):
    """Too few stars for Piff's spatial polynomial."""

    code = "psf.piff_too_few_good_stars"
    hint = "Lower the spatial order or the star selector's S/N limit."


class NonfinitePsfShapeError(AlgorithmError):
    """The fitted PSF has no finite size."""

    code = "psf.nonfinite_shape"
    hint = "The PSF model is broken; look at the PSF stars."


class AllCentroidsFlaggedError(AlgorithmError):
    """Every PSF-stage centroid is flagged after the last measurement."""

    code = "psf.all_centroids_flagged"
    hint = "The PSF model probably has a hole or a gradient: out of focus, or no star among the candidates."


class NormalizedCalibrationFluxError(AlgorithmError):
    """No star to normalise the calibration flux with."""

    code = "aperture_correction.no_normalization"
    hint = "No PSF star has both an unflagged aperture flux and an unflagged compensated tophat flux."


class MeasureApCorrError(AlgorithmError):
    """Too few stars for an aperture correction."""

    code = "aperture_correction.too_few_stars"
    hint = "Let more of the PSF stars count, also faint ones."
    suggested_config: ClassVar[dict[str, Any]] = {
        "measure_aperture_correction": {"signal_to_noise_min": 50.0, "min_stars": 20}
    }


class AstrometryError(AlgorithmError):
    """The astrometric solution failed."""

    code = "astrometry.no_good_sources"
    hint = "No PSF-stage source passes the astrometric selection."


class MatcherFailure(AstrometryError):
    """Sources and references could not be matched."""

    code = "astrometry.matcher_failure"
    hint = "The pointing may be off by more than the limits, or the catalogue does not cover the field."
    suggested_config: ClassVar[dict[str, Any]] = {"astrometry": {"matcher": {"max_offset_pix": 1000}}}


class AstrometryFitFailure(AstrometryError):
    """The WCS fit rejected everything or scatters too much."""

    code = "astrometry.fit_failure"
    hint = "The matches do not describe one smooth map."


class BadAstrometryFit(AstrometryError):
    """The mean match distance is above the limit."""

    code = "astrometry.bad_fit"
    hint = "The match is probably false, or the camera's distortion is not in the initial WCS."


class NoAstrometricReferences(MatcherFailure):
    """The astrometric catalogue was read and has no star in the field."""

    code = "astrometry.no_references"
    hint = "The catalogue does not cover the field, or the pointing is far off."
    suggested_config: ClassVar[dict[str, Any]] = {}

    @property
    def type_name(self) -> str:
        """Upstream finds no match."""
        return "MatcherFailure"


class ReferencesUnreachableError(AlgorithmError):
    """A remote reference catalogue could not be read: nothing is known about the stars there."""

    code = "references.unreachable"
    hint = "Submit the job again when the catalogue's service answers; the tiles that came are kept."


class ReferencesUnusableError(AlgorithmError):
    """A remote reference catalogue answers with something else than was declared."""

    code = "references.unusable"
    hint = "The declaration of the catalogue does not fit what its service answers: the operator has to change it."


class ReferenceBandError(AlgorithmError):
    """The reference catalogue has no flux for the band of the exposure."""

    code = "references.no_band"
    hint = "Say which reference band stands for the exposure's: ref_loader.filter_map or any_filter_maps_to_this."


class ColortermNotFoundError(AlgorithmError):
    """There is no colour term for the filter and the catalogue."""

    code = "photometry.no_color_term"
    hint = "Add the filter to photometry.colorterms, or switch apply_color_terms off."


class NoPsfStarsToStarsMatchError(AlgorithmError):
    """No PSF star is found among the stars."""

    code = "stars.no_psf_star_match"
    hint = "The star catalogue has none of the PSF stars."


class PhotometryMatchFailure(AlgorithmError):
    """No star matches a photometric reference."""

    code = "photometry.matcher_failure"
    hint = "No reference with a flux in this band lies within the match radius of a star."
    suggested_config: ClassVar[dict[str, Any]] = {"photometry": {"match_radius_arcsec": 1.0}}

    @property
    def type_name(self) -> str:
        """Upstream raises its matcher failure here too."""
        return "MatcherFailure"


class NoPhotometricReferences(PhotometryMatchFailure):
    """The photometric catalogue was read and has no star in the field."""

    code = "photometry.no_references"
    hint = "The catalogue does not cover the field."
    suggested_config: ClassVar[dict[str, Any]] = {}


class ZeroPointError(AlgorithmError):
    """No star survives the zero-point clip."""

    code = "photometry.no_zero_point"
    hint = "The matched magnitudes do not agree on one zero point."


def algorithm_errors() -> list[type[AlgorithmError]]:
    """All failures, in the order of definition."""
    return [value for name, value in globals().items() if name in __all__ and isinstance(value, type)]
