"""Every named failure, provoked with pixels: its code, its numbers, and exactly which products are left."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import scenes

from service.calibration import calibrate_image
from service.calibration.calibrate_image import CalibrateImage, References
from service.calibration.detection import detect_sources
from service.calibration.errors import AlgorithmError, PsfGenerationError, algorithm_errors
from service.calibration.presets import resolve_config
from service.calibration.psf.measure_psf import measure_psf
from service.exposure.psf import PsfexPsf

NO_SHAPELETS: dict[str, Any] = {"do_compute_shapelet_decomposition": False}

#: What is there at all after each stage, as the table of partial outputs has it: products of the ``parity`` preset.
PSF = set()
CENTROIDS = {"psf", "psf_stars"}
ASTROMETRY = {"psf", "psf_stars", "ap_corr_map"}
STARS = ASTROMETRY | {"astrometry_matches"}
MATCHED = STARS | {"stars"}
PHOTOMETRY = MATCHED | {"wcs"}


@dataclass
class Provocation:
    """An exposure and a configuration that must end in ``code`` with ``numbers``."""

    code: str
    stage: str
    left: set[str]
    numbers: set[str] = field(default_factory=set)
    overrides: dict[str, Any] = field(default_factory=dict)
    spoil: Any = None
    stars: Any = None
    references: str = "all"
    background: bool = True


def _at_border(distance):
    """Ten bright stars as far from the border of a 256-pixel image, along two sides."""
    along = np.linspace(30, 220, 5)
    near, far, snr = np.full(5, float(distance)), np.full(5, 255.0 - distance), np.full(5, 500.0)
    return np.concatenate([np.stack([along, near, snr], 1), np.stack([far, along, snr], 1)])


def _cosmic_rays(exposure):
    exposure.masked_image.image[40::50, 40::50] += 4000


def _masked(exposure):
    exposure.masked_image.mask |= np.int32(exposure.masked_image.planes.bitmask(["BAD"]))


def _selector(**options):
    return {"psf_measure_psf": {"star_selector": options}}


PROVOCATIONS = {
    "TooManyMaskedPixelsError": Provocation(
        "background.too_many_masked_pixels", "psf.first_pass", PSF, spoil=_masked, background=False
    ),
    "ConstantBackgroundError": Provocation(
        "background.no_scatter",
        "psf.first_pass",
        PSF,
        spoil=lambda e: e.masked_image.image.fill(7.0),
        background=False,
    ),
    "TooManyCosmicRays": Provocation(
        "repair.too_many_cosmic_rays",
        "psf.first_pass",
        PSF,
        {"maxCosmicRays"},
        {"psf_repair": {"cosmicray": {"n_cr_pixel_max": 5}}},
        spoil=_cosmic_rays,
    ),
    "NoStarsForShapeletsError": Provocation(
        "psf.no_stars_for_shapelets", "psf.first_pass", PSF, {"n_sources"}, stars=_at_border(60)[:3]
    ),
    "ObjectSizeNoSourcesError": Provocation(
        "psf.no_sources",
        "psf.first_pass",
        PSF,
        {"n_input_sources"},
        NO_SHAPELETS,
        references="elsewhere",
        stars=np.zeros((0, 3)),
    ),
    "ObjectSizeNoGoodSourcesError": Provocation(
        "psf.no_good_sources", "psf.first_pass", PSF, {"n_input_sources"}, _selector(signal_to_noise_min=1e6)
    ),
    "PsfexNoStarsError": Provocation(
        "psf.no_candidates",
        "psf.first_pass",
        PSF,
        {"num_candidates"},
        {"psf_measure_psf": {"make_psf_candidates": {"kernel_size": 257}}},
    ),
    "PsfexNoGoodStarsError": Provocation(
        "psf.no_good_candidates",
        "psf.first_pass",
        PSF,
        {"num_candidates"},
        NO_SHAPELETS
        | {"psf_measure_psf": {"star_selector": {"bad_flags": []}, "make_psf_candidates": {"kernel_size": 9}}},
        stars=_at_border(10),
    ),
    "PsfexTooFewGoodStarsError": Provocation(
        "psf.too_few_good_stars",
        "psf.first_pass",
        PSF,
        {"num_available_stars", "num_good_stars", "poly_ndim_initial", "poly_ndim_final"},
        NO_SHAPELETS,
        stars=_at_border(60)[:3],
    ),
    "NormalizedCalibrationFluxError": Provocation(
        "aperture_correction.no_normalization",
        "aperture_correction",
        CENTROIDS,
        {"n_initial_sources", "n_calib_flux_flag", "n_ref_flux_flag"},
        NO_SHAPELETS
        | {
            "psf_measure_psf": {
                "star_selector": {"bad_flags": []},
                "determiner": {"stamp_size": 27, "stamp_size_per_fwhm": 0},
            }
        },
        stars=_at_border(16),
    ),
    "MeasureApCorrError": Provocation(
        "aperture_correction.too_few_stars",
        "aperture_correction",
        CENTROIDS,
        {"name", "nSources", "ndof", "iteration"},
        {"measure_aperture_correction": {"signal_to_noise_min": 1e6, "min_stars": 0}},
    ),
    "AstrometryError": Provocation(
        "astrometry.no_good_sources",
        "astrometry",
        ASTROMETRY,
        {"lenSourceSelectionCat"},
        {"astrometry": {"source_selector": {"signal_to_noise_min": 1e6}}},
    ),
    "MatcherFailure": Provocation(
        "astrometry.matcher_failure", "astrometry", ASTROMETRY, {"iterations"}, references="elsewhere"
    ),
    "TooManyMaskedPixelsError in the stars": Provocation(
        "background.too_many_masked_pixels",
        "stars.detect",
        STARS,
        {"pixels", "masked"},
        {"star_detection": {"threshold_value": 1e-3, "include_threshold_multiplier": 1.0}},
    ),
    "NoPsfStarsToStarsMatchError": Provocation(
        "stars.no_psf_star_match",
        "stars.match",
        MATCHED,
        {"n_psf_stars", "n_stars"},
        {"star_selector": {"signal_to_noise_min": 1e6}},
    ),
    "BadAstrometryFit": Provocation(
        "astrometry.bad_fit",
        "astrometry",
        MATCHED,
        {"nMatches", "distMean", "distMedian", "maxMeanDist"},
        {"astrometry": {"max_mean_distance_arcsec": 1e-9}},
    ),
    "PhotometryMatchFailure": Provocation(
        "photometry.matcher_failure",
        "photometry",
        PHOTOMETRY,
        {"goodSrc", "goodRef"},
        references="elsewhere for photometry",
    ),
    "NoAstrometricReferences": Provocation(
        "astrometry.no_references",
        "astrometry",
        ASTROMETRY,
        {"catalog"},
        {"astrometry": {"ref_loader": {"require_references": False}}},
        references="none",
    ),
    "NoPhotometricReferences": Provocation(
        "photometry.no_references",
        "photometry",
        PHOTOMETRY,
        {"catalog", "goodSrc", "goodRef"},
        references="none for photometry",
    ),
}

#: Failures that upstream calls otherwise.
UPSTREAM_NAMES = dict.fromkeys(
    ("PhotometryMatchFailure", "NoAstrometricReferences", "NoPhotometricReferences"), "MatcherFailure"
)


def _loaders(exposure, stars, which):
    rng = np.random.default_rng(99)
    true = scenes.references(exposure, stars)
    others = scenes.references(exposure, scenes.random_stars((256, 256), 40, rng, rim=5))
    none = scenes.references(exposure, stars[:0])
    return {
        "all": References(true, true),
        "elsewhere": References(others, others),
        "elsewhere for photometry": References(true, others),
        "none": References(none, none),
        "none for photometry": References(true, none),
    }[which]


def provoke(name, preset):
    provocation = PROVOCATIONS[name]
    rng = np.random.default_rng(12)
    stars = scenes.random_stars((256, 256), 25, rng) if provocation.stars is None else provocation.stars
    exposure = scenes.make_exposure((256, 256), stars, rng)
    if provocation.spoil is not None:
        provocation.spoil(exposure)
    before = exposure.masked_image.copy()
    config = resolve_config(preset, provocation.overrides)
    return CalibrateImage(config).run([exposure], _loaders(exposure, stars, provocation.references)), before


def products(result):
    """Names of the products that exist, without what is always there."""
    of_exposure = {name for name in ("psf", "wcs", "ap_corr_map", "photo_calib") if getattr(result.exposure, name)}
    names = ("psf_stars", "stars", "astrometry_matches", "photometry_matches", "mask", "applied_photo_calib")
    return of_exposure | {name for name in names if getattr(result, name) is not None}


@pytest.mark.parametrize("name", PROVOCATIONS)
def test_failures_and_what_they_leave(name):
    """Exactly upstream's products in the parity preset; the default keeps these and may keep more."""
    wanted = PROVOCATIONS[name]
    result, before = provoke(name, "parity")
    assert result.failure.code == wanted.code
    assert result.failure.type_name == UPSTREAM_NAMES.get(name, name.split()[0])
    assert wanted.numbers <= set(result.failure.numbers)
    assert products(result) == wanted.left
    annotation = result.metadata["failure"]
    assert annotation["stage"] == wanted.stage
    assert annotation["message"] == str(result.failure)
    assert annotation["type"] == result.failure.type_name
    assert annotation.get("metadata", {}) == result.failure.numbers
    assert (len(result.background) > 0) == wanted.background

    default, _ = provoke(name, "generic")
    assert default.failure.code == wanted.code
    assert products(default) >= wanted.left
    assert default.metadata["failure"]["stage"] == wanted.stage

    for kept in (result, default):
        _check_rules_of_partial_products(kept, before)


def _check_rules_of_partial_products(result, before):
    """Pixels stay in counts and are the input minus the background; the statistics are those of what is left."""
    exposure, summary = result.exposure, result.summary
    assert exposure.unit == "electron"
    image = exposure.masked_image
    background = result.background.image() if len(result.background) else np.float32(0)
    untouched = ~image.is_set(["CR"])
    np.testing.assert_allclose((image.image + background)[untouched], before.image[untouched], atol=0.02)
    assert summary.expTime == 30.0
    assert summary.meanVar == pytest.approx(100.0) or np.all(before.is_set(["BAD"]))
    assert np.isfinite(summary.skyBg) == (len(result.background) > 0)
    assert np.isfinite(summary.psfSigma) == (exposure.psf is not None)
    assert np.isfinite(summary.ra) == (exposure.wcs is not None)
    assert np.isnan(summary.zeroPoint)
    for name in ("bg_subtracted_skyPixel_instFlux_median", "sat_mask_fraction"):
        assert name not in result.metadata


def test_coordinates_after_each_astrometric_failure():
    """NaN for want of a match, of the initial WCS for want of sources, of the rejected fit after a bad one."""
    none, _ = provoke("AstrometryError", "parity")
    matcher, _ = provoke("MatcherFailure", "parity")
    bad, _ = provoke("BadAstrometryFit", "parity")
    assert np.isfinite(none.psf_stars["coord_ra"]).all()
    assert np.isnan(matcher.psf_stars["coord_ra"]).all()
    assert np.isfinite(bad.psf_stars["coord_ra"]).all()
    assert np.isnan(bad.stars["coord_ra"]).all()
    assert np.isnan(bad.stars["coord_dec"]).all()
    assert np.isfinite(bad.summary.astromOffsetMean)
    assert bad.failure.numbers["distMean"] == bad.metadata["astrom_offset_mean"]


def test_photometry_failure_leaves_the_wcs_and_counts():
    result, _ = provoke("PhotometryMatchFailure", "generic")
    assert np.isfinite(result.stars["coord_ra"]).any()
    assert np.isnan(result.stars["base_PsfFlux_flux"]).all()
    assert np.isfinite(result.stars["base_PsfFlux_instFlux"]).sum() > 10


def test_cosmic_rays_give_their_limit():
    result, before = provoke("TooManyCosmicRays", "generic")
    assert result.failure.numbers == {"maxCosmicRays": 5}
    assert result.failure.suggested_config
    assert result.exposure.masked_image.count("CR") == 0
    assert result.exposure.masked_image.image.shape == before.image.shape


def _with_hole_and_gradient(psf):
    """The PSF of a telescope out of focus: a ring, a little brighter on one side."""
    r = np.arange(83.0) - 41
    distance = np.hypot(r, r[:, None]) / 2
    ring = np.exp(-0.5 * ((distance - 5) / 1.5) ** 2) * np.clip(1 + 0.005 * r, 0, None)
    return PsfexPsf((ring / ring.sum())[None].astype(np.float32), (0.0, 0.0), (1.0, 1.0), psf.average_position)


@pytest.mark.parametrize("preset", ["parity", "generic"])
def test_all_centroids_flagged(monkeypatch, preset):
    """Stars smoothed with such a PSF have a minimum at their centre; the failure tells its shape and the scores."""
    calls = []

    def measured(catalog, exposure, config, **known):
        found = measure_psf(catalog, exposure, config, **known)
        calls.append(found)
        if len(calls) == 2:
            exposure.psf = _with_hole_and_gradient(found.psf)
        return found

    monkeypatch.setattr(calibrate_image.measure_psf, "measure_psf", measured)
    rng = np.random.default_rng(12)
    stars = scenes.random_stars((256, 256), 16, rng, snr=(300, 1000))
    exposure = scenes.make_exposure((256, 256), stars, rng)
    config = resolve_config(preset, {"psf_repair": {"do_cosmic_ray": False}})  # stars are sharp beside such a PSF
    result = CalibrateImage(config).run([exposure], _loaders(exposure, stars, "all"))
    failure = result.failure
    assert failure.code == "psf.all_centroids_flagged"
    assert failure.message == f"All source centroids (out of {len(result.psf_stars)}) flagged"
    assert products(result) == CENTROIDS
    assert result.psf_stars["slot_Centroid_flag"].all()
    assert result.metadata["failure"]["stage"] == "psf.measure"
    numbers = failure.numbers
    assert numbers["n_sources"] == len(result.psf_stars)
    assert numbers["shapelets_iq_score"] == result.summary.shapeletsIqScore
    determinant = numbers["psf_shape_ixx"] * numbers["psf_shape_iyy"] - numbers["psf_shape_ixy"] ** 2
    assert numbers["psf_size"] == pytest.approx(determinant**0.25)
    assert numbers["psf_size"] > 2 * calls[1].psf.determinant_radius()


def test_detection_without_a_psf_width():
    rng = np.random.default_rng(1)
    exposure = scenes.make_exposure((64, 64), np.zeros((0, 3)), rng)
    with pytest.raises(PsfGenerationError) as failure:
        detect_sources(exposure, resolve_config().star_detection)
    assert failure.value.code == "detection.no_psf_width"
    assert np.isnan(failure.value.numbers["sigma"])


def test_psf_of_stars_without_digits():
    """Stars of 1e-30 counts: their profiles divide by fluxes that float32 does not hold."""
    rng = np.random.default_rng(12)
    stars = scenes.random_stars((256, 256), 25, rng)
    exposure = scenes.make_exposure((256, 256), stars, rng)
    exposure.masked_image.image -= 500
    exposure.masked_image.image *= np.float32(1e-30)
    result = CalibrateImage(resolve_config("parity")).run([exposure], _loaders(exposure, stars, "all"))
    assert isinstance(result.failure, AlgorithmError)
    assert products(result) == PSF


def test_every_failure_is_provoked_somewhere():
    """Here, or by the tests of the stage named."""
    elsewhere = {
        "PsfGenerationError": "above",
        "AllCentroidsFlaggedError": "above",
        "NonfinitePsfShapeError": "psf",
        "PiffTooFewGoodStarsError": "psf",
        "AstrometryFitFailure": "astrometry",
        "ZeroPointError": "photometry",
        "ReferenceBandError": "astrometry",
        "ReferencesUnreachableError": "jobs",
        "ReferencesUnusableError": "jobs",
        "ColortermNotFoundError": "photometry",
    }
    known = {error.__name__ for error in algorithm_errors()} - {"AlgorithmError"}
    assert known == {name.split()[0] for name in PROVOCATIONS} | set(elsewhere)
    codes = [error.code for error in algorithm_errors()]
    assert len(set(codes)) == len(codes)
    assert all(error.hint for error in algorithm_errors() if error is not AlgorithmError)
