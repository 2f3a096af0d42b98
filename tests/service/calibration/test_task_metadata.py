"""The numbers that a complete run writes, by upstream's names."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scenes

from service.calibration.calibrate_image import CalibrateImage, References
from service.calibration.presets import resolve_config
from service.exposure.mask import DEFAULT_PLANES

DETECTION = ("doSmooth", "sigma", "smoothingKernelWidth", "nGrow")
COUNTS = [
    f"{stage}_psf_{sign}_{what}_count"
    for stage in ("initial", "simple")
    for sign in ("positive", "negative")
    for what in ("footprint", "peak")
]
BOTH_VARIANTS = {
    "ref_cat_source_density": float,
    **dict.fromkeys(COUNTS, int),
    "final_psf_sigma": float,
    "astrometry_matches_count": int,
    "initial_to_final_wcs": float,
    "astrom_offset_mean": float,
    "astrom_offset_std": float,
    "astrom_offset_median": float,
    "adaptive_threshold_value": float,
    "post_deblend_source_count": int,
    "failed_deblend_source_count": int,
    "saturated_source_count": int,
    "bad_source_count": int,
    "matched_psf_star_count": int,
    "star_count": int,
    "photometry_matches_count": int,
    "zero_point": float,
    "zero_point_sigma": float,
    "zero_point_scatter": float,
    "zero_point_n_stars": int,
    "zero_point_color_min": float,
    "zero_point_color_max": float,
    "zero_point_uncolored": float,
    "bg_subtracted_skyPixel_instFlux_median": float,
    "bg_subtracted_skyPixel_instFlux_stdev": float,
    "bg_subtracted_skySource_flux_median": float,
    "bg_subtracted_skySource_flux_stdev": float,
    **{f"{plane.lower()}_mask_fraction": float for plane in DEFAULT_PLANES},
    "psf_repair.cosmic_ray_count": int,
    "star_sky_sources.sky_footprint_count": int,
    "psf_measure_psf.spatialFitChi2": float,
    "psf_measure_psf.numAvailStars": int,
    "psf_measure_psf.numGoodStars": int,
    "psf_measure_psf.avgX": float,
    "psf_measure_psf.avgY": float,
    **{f"{task}.{name}": None for task in ("psf_detection", "star_detection") for name in DETECTION},
}
ADAPTIVE_ONLY = {"psf_adaptive_threshold_value": float, "psf_adaptive_include_threshold_multiplier": float}


@pytest.fixture(scope="module", params=["classic", "adaptive"])
def completed(request):
    rng = np.random.default_rng(31)
    stars = scenes.random_stars((300, 300), 30, rng)
    exposure = scenes.make_exposure((300, 300), stars, rng, origin=(20, 30))
    exposure.masked_image.image[40::60, 40::60] += 3000
    exposure.metadata |= {"FAILURE.TYPE": "MatcherFailure", "FAILURE.METADATA.ITERATION": 2}  # of an earlier run
    loader = scenes.references(exposure, stars)
    overrides = {"do_adaptive_threshold_detection": request.param == "adaptive"}
    result = CalibrateImage(resolve_config("generic", overrides)).run([exposure], References(loader, loader))
    assert result.failure is None
    return request.param, result


def test_all_numbers_are_there(completed):
    variant, result = completed
    wanted = BOTH_VARIANTS | (ADAPTIVE_ONLY if variant == "adaptive" else {})
    assert set(wanted) <= set(result.metadata)
    assert result.metadata["zero_point_color"] is None  # references of one band
    extra = set(result.metadata) - set(wanted) - {"zero_point_color"}
    assert extra <= {"not_deblended_mask_fraction", "spike_mask_fraction"}
    for name, kind in wanted.items():
        value = result.metadata[name]
        if kind is not None:
            assert type(value) is kind, name
        assert isinstance(value, (bool, int, float))


def test_the_failure_of_an_earlier_run_is_forgotten(completed):
    _, result = completed
    assert not [key for key in result.exposure.metadata if key.startswith("FAILURE")]


def test_numbers_are_those_of_the_products(completed):
    variant, result = completed
    numbers, stars, psf_stars, psf = result.metadata, result.stars, result.psf_stars, result.exposure.psf
    assert numbers["simple_psf_positive_footprint_count"] == len(psf_stars)
    assert numbers["star_count"] == np.count_nonzero(~stars["sky_source"])
    assert numbers["matched_psf_star_count"] == np.count_nonzero(stars["psf_id"])
    assert numbers["astrometry_matches_count"] == len(result.astrometry_matches)
    assert numbers["photometry_matches_count"] == len(result.photometry_matches)
    assert numbers["zero_point"] == pytest.approx(result.summary.zeroPoint, abs=1e-9)
    assert 10 <= numbers["zero_point_n_stars"] <= numbers["photometry_matches_count"]
    assert 0 < numbers["zero_point_scatter"] < 0.1
    assert numbers["zero_point_sigma"] == pytest.approx(
        result.applied_photo_calib.error / result.applied_photo_calib.mean / (0.4 * np.log(10))
    )
    assert numbers["final_psf_sigma"] == psf.determinant_radius()
    assert (numbers["psf_measure_psf.avgX"], numbers["psf_measure_psf.avgY"]) == psf.average_position
    assert numbers["psf_measure_psf.numAvailStars"] == psf_stars["calib_psf_candidate"].sum()
    assert numbers["psf_measure_psf.numGoodStars"] == psf_stars["calib_psf_used"].sum()
    assert math.isnan(numbers["psf_measure_psf.spatialFitChi2"])
    assert numbers["psf_repair.cosmic_ray_count"] == 25
    assert numbers["star_detection.doSmooth"] is True
    assert numbers["star_detection.sigma"] == pytest.approx(4 / scenes.FWHM_PER_SIGMA, rel=0.03)
    assert numbers["star_detection.nGrow"] == int(2.4 * numbers["star_detection.sigma"] + 0.5)
    assert (
        numbers["star_detection.smoothingKernelWidth"] == 2 * (int(7 * numbers["star_detection.sigma"] + 0.5) // 2) + 1
    )
    for plane in DEFAULT_PLANES:
        assert numbers[f"{plane.lower()}_mask_fraction"] == result.exposure.masked_image.count(plane) / 300**2
    sky = stars["base_CircularApertureFlux_12_0_flux"][stars["sky_source"]]
    assert numbers["bg_subtracted_skySource_flux_median"] == np.median(sky[np.isfinite(sky)])
    assert numbers["bg_subtracted_skySource_flux_stdev"] == np.std(sky[np.isfinite(sky)])
    assert numbers["bg_subtracted_skyPixel_instFlux_stdev"] == pytest.approx(10, rel=0.02)
    if variant == "classic":  # the other one may use a threshold of its own or keep the usual
        assert math.isnan(numbers["adaptive_threshold_value"])


def test_a_sky_source_at_the_border_spoils_the_flux_of_the_sky_only_as_upstream():
    rng = np.random.default_rng(31)
    stars = scenes.random_stars((300, 300), 30, rng)
    loader = scenes.references(exposure := scenes.make_exposure((300, 300), stars, rng), stars)
    overrides = {"ignore_truncated_sky_sources": False}
    result = CalibrateImage(resolve_config("generic", overrides)).run([exposure], References(loader, loader))
    sky = result.stars["sky_source"]
    assert np.any(result.stars["base_CircularApertureFlux_12_0_flag_apertureTruncated"][sky])
    assert math.isnan(result.metadata["bg_subtracted_skySource_flux_median"])


def test_a_failed_run_has_the_numbers_up_to_its_end(completed):
    """The same exposure with a limit that no star reaches: numbers of the PSF stage, and the failure."""
    variant, _ = completed
    rng = np.random.default_rng(31)
    stars = scenes.random_stars((300, 300), 30, rng)
    exposure = scenes.make_exposure((300, 300), stars, rng)
    loader = scenes.references(exposure, stars)
    overrides = {
        "do_adaptive_threshold_detection": variant == "adaptive",
        "measure_aperture_correction": {"signal_to_noise_min": 1e6, "min_stars": 0},
    }
    result = CalibrateImage(resolve_config("generic", overrides)).run([exposure], References(loader, loader))
    assert result.metadata["failure"]["type"] == "MeasureApCorrError"
    reached = set(result.metadata)
    assert {"final_psf_sigma", "psf_measure_psf.avgX", "simple_psf_positive_peak_count"} <= reached
    assert not reached & {"astrometry_matches_count", "star_count", "star_detection.sigma", "sat_mask_fraction"}
