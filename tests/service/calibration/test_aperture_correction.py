"""Calibration-flux normalisation and aperture corrections: made-up ratios, and the recorded upstream runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest
from accuracy import calibrate, judge

from service.calibration.aperture_correction import (
    apply_aperture_correction,
    measure_aperture_correction,
    normalize_calibration_flux,
    remeasure_aperture_correction,
)
from service.calibration.calibrate_image import CalibrateImage
from service.calibration.config import CalibrateImageConfig
from service.calibration.config.aperture_correction import (
    ApplyApertureCorrectionConfig,
    MeasureApertureCorrectionConfig,
    NormalizedCalibrationFluxConfig,
)
from service.calibration.errors import MeasureApCorrError, NormalizedCalibrationFluxError
from service.calibration.presets import resolve_config
from service.exposure.ap_corr import ApCorrMap, ChebyshevField
from service.exposure.catalog import SourceCatalog
from service.exposure.geometry import Box
from service.exposure.star_schema import psf_star_schema, star_schema
from service.simulation import SimulationConfig, simulate

if TYPE_CHECKING:
    from pathlib import Path

    from service.exposure.catalog import Schema

BOX = Box(10, -20, 1000, 800)
RAW = "base_CompensatedTophatFlux_12"
APERTURE = "base_CircularApertureFlux_12_0"
NORMALIZED = "base_NormalizedCompensatedTophatFlux"
PARITY = resolve_config("parity")
RUNS = [
    ("typical1k", "rubin_classic", 3),
    ("crowded1k", "rubin_classic", 3),
    ("sharp1k", "rubin_classic", 3),
    ("undersampled1k", "rubin_classic", 3),
    ("typical1k", "rubin_adaptive", 2),
]


def psf_stars(n: int, seed: int = 1) -> SourceCatalog:
    """PSF stars of S/N 1000 whose reference flux is their calibration flux."""
    rng = np.random.default_rng(seed)
    catalog = SourceCatalog.allocate(psf_star_schema(), n)
    catalog["base_SdssCentroid_x"] = rng.uniform(BOX.x0, BOX.x1, n)
    catalog["base_SdssCentroid_y"] = rng.uniform(BOX.y0, BOX.y1, n)
    flux = 10 ** rng.uniform(4, 6, n)
    for name in (RAW, APERTURE, NORMALIZED, "base_PsfFlux", "base_GaussianFlux"):
        catalog[f"{name}_instFlux"] = flux
        catalog[f"{name}_instFluxErr"] = flux / 1000
    catalog["calib_psf_used"] = True
    return catalog


def correction(catalog: SourceCatalog) -> np.ndarray:
    u = (catalog["slot_Centroid_x"] - 509.5) / 500
    v = (catalog["slot_Centroid_y"] - 379.5) / 400
    return 1.02 + 0.01 * u - 0.02 * v + 0.005 * u * v + 0.003 * (2 * u**2 - 1)


def test_smooth_correction_is_recovered_exactly_despite_outliers():
    catalog = psf_stars(60)
    catalog["base_PsfFlux_instFlux"] /= correction(catalog)
    catalog["base_PsfFlux_instFlux"][[3, 17]] *= 1.5
    catalog["base_PsfFlux_instFlux"][5] = np.nan
    result = measure_aperture_correction(catalog, BOX, MeasureApertureCorrectionConfig())
    x, y = catalog["slot_Centroid_x"], catalog["slot_Centroid_y"]
    np.testing.assert_allclose(result["base_PsfFlux_instFlux"].evaluate(x, y), correction(catalog), rtol=1e-9)
    np.testing.assert_allclose(result["base_GaussianFlux_instFlux"].evaluate(x, y), 1.0, rtol=1e-12)
    used = catalog["apcorr_base_PsfFlux_used"]
    assert not used[[3, 5, 17]].any()
    assert used.sum() >= 50  # the first clips are about a constant, so the extremes of the gradient may go too
    assert result["base_PsfFlux_instFluxErr"].evaluate(500.0, 300.0) < 1e-2
    assert not catalog["apcorr_slot_CalibFlux_used"].any()


def test_only_bright_unflagged_psf_stars_count():
    catalog = psf_stars(40)
    catalog["calib_psf_used"][:10] = False
    catalog["base_PsfFlux_instFluxErr"][10:15] *= 5.1
    catalog[f"{NORMALIZED}_flag"][15:18] = True
    catalog["base_GaussianFlux_flag"][18:20] = True
    measure_aperture_correction(catalog, BOX, MeasureApertureCorrectionConfig())
    np.testing.assert_array_equal(np.flatnonzero(catalog["apcorr_base_PsfFlux_used"]), np.arange(18, 40))
    np.testing.assert_array_equal(np.flatnonzero(catalog["apcorr_base_GaussianFlux_used"]), np.arange(20, 40))


@pytest.mark.parametrize(("n", "order"), [(2, 0), (3, 0), (4, 1), (6, 1), (7, 2), (20, 2)])
def test_orders_follow_the_number_of_stars(n: int, order: int):
    result = measure_aperture_correction(psf_stars(n), BOX, MeasureApertureCorrectionConfig())
    assert result["base_PsfFlux_instFlux"].coefficients.shape == (order + 1, order + 1)


def test_one_star_is_too_few_unless_the_flux_may_fail():
    catalog = psf_stars(1)
    with pytest.raises(MeasureApCorrError) as failure:
        measure_aperture_correction(catalog, BOX, MeasureApertureCorrectionConfig())
    assert failure.value.numbers == {"name": "base_GaussianFlux", "nSources": 1, "ndof": 0, "iteration": 0}
    allowed = MeasureApertureCorrectionConfig(allow_failure=("base_GaussianFlux", "base_PsfFlux"))
    assert len(measure_aperture_correction(catalog, BOX, allowed)) == 0


def test_the_brightest_stars_are_taken_where_few_are_bright():
    catalog = psf_stars(12)
    catalog["base_PsfFlux_instFluxErr"] = catalog["base_PsfFlux_instFlux"] / np.linspace(220, 60, 12)
    catalog["calib_psf_used"][3] = False
    measure_aperture_correction(catalog, BOX, MeasureApertureCorrectionConfig(min_stars=8))
    np.testing.assert_array_equal(np.flatnonzero(catalog["apcorr_base_PsfFlux_used"]), [0, 1, 2, 4, 5, 6, 7, 8])
    measure_aperture_correction(catalog, BOX, MeasureApertureCorrectionConfig(min_stars=0))
    np.testing.assert_array_equal(np.flatnonzero(catalog["apcorr_base_PsfFlux_used"]), [0, 1])  # above 200


def test_a_sparse_field_is_calibrated():
    simulation = simulate(SimulationConfig(size=1024, seed=8, n_stars=220, n_galaxies=60, fwhm=5.0))
    limit_alone = {"measure_aperture_correction": {"min_stars": 0}, "psf_normalized_calibration_flux": {"min_stars": 0}}
    failed = calibrate(simulation, CalibrateImageConfig.model_validate(limit_alone))
    assert isinstance(failed.failure, MeasureApCorrError)
    result = calibrate(simulation)
    assert result.failure is None
    assert abs(judge(simulation, result)["zero_point_mmag"]) < 12  # three times the scatter over 39 such fields


def test_normalisation_puts_all_rows_on_the_scale_of_the_aperture():
    catalog = psf_stars(12)
    catalog["calib_psf_used"][6:] = False
    catalog[f"{RAW}_instFlux"] /= 1.04
    catalog[f"{RAW}_flag"][11] = True
    fields = ApCorrMap()
    normalize_calibration_flux(catalog, fields, BOX, NormalizedCalibrationFluxConfig(), measure=True)
    np.testing.assert_allclose(catalog["slot_CalibFlux_instFlux"], catalog[f"{APERTURE}_instFlux"], rtol=1e-10)
    np.testing.assert_allclose(catalog["slot_CalibFlux_instFluxErr"], catalog[f"{RAW}_instFluxErr"] * 1.04, rtol=1e-10)
    np.testing.assert_array_equal(np.flatnonzero(catalog["slot_CalibFlux_flag"]), [11])
    assert fields[f"{RAW}_instFlux"].evaluate(0.0, 0.0) == pytest.approx(1.04, rel=1e-10)
    assert fields[f"{RAW}_instFluxErr"].evaluate(0.0, 0.0) == 0.0


def test_normalisation_falls_back_to_faint_psf_stars():
    catalog = psf_stars(5)
    catalog[f"{RAW}_instFluxErr"] = catalog[f"{RAW}_instFlux"] / 20
    catalog[f"{APERTURE}_instFlux"] *= np.array([1.1, 1.2, 1.3, 1.4, 9.0])
    catalog[f"{RAW}_flag"][4] = True
    fields = ApCorrMap()
    normalize_calibration_flux(catalog, fields, BOX, NormalizedCalibrationFluxConfig(min_stars=0), measure=True)
    assert fields[f"{RAW}_instFlux"].evaluate(0.0, 0.0) == pytest.approx(1.25)
    assert not catalog[f"apcorr_{RAW}_used"].any()


def test_normalisation_without_any_star_fails_with_its_counts():
    catalog = psf_stars(5)
    catalog[f"{RAW}_flag"][:3] = True
    catalog[f"{APERTURE}_flag"][2:] = True
    with pytest.raises(NormalizedCalibrationFluxError) as failure:
        normalize_calibration_flux(catalog, ApCorrMap(), BOX, NormalizedCalibrationFluxConfig(), measure=True)
    assert list(failure.value.numbers.values()) == [5, 3, 3]


def test_stored_factor_is_applied_and_a_missing_one_is_identity(caplog: pytest.LogCaptureFixture):
    catalog = psf_stars(3)
    fields = ApCorrMap({f"{RAW}_instFlux": ChebyshevField.constant(BOX, -2.0)})
    config = NormalizedCalibrationFluxConfig()
    normalize_calibration_flux(catalog, fields, BOX, config, measure=False)
    np.testing.assert_array_equal(catalog["slot_CalibFlux_instFlux"], -2.0 * catalog[f"{RAW}_instFlux"])
    assert catalog["slot_CalibFlux_flag"].all()
    normalize_calibration_flux(catalog, ApCorrMap(), BOX, config, measure=False)
    np.testing.assert_array_equal(catalog["slot_CalibFlux_instFlux"], catalog[f"{RAW}_instFlux"])
    assert not catalog["slot_CalibFlux_flag"].any()
    assert "not normalised" in caplog.text


def test_application_multiplies_and_flags_what_it_cannot_correct():
    stars = SourceCatalog.allocate(star_schema(), 3)
    stars["base_SdssCentroid_x"] = np.array([10.0, 509.5, np.nan])
    stars["base_SdssCentroid_y"] = 100.0
    for name in ("base_PsfFlux", "base_GaussianFlux"):
        stars[f"{name}_instFlux"] = 100.0
        stars[f"{name}_instFluxErr"] = 10.0
    falling = ChebyshevField(BOX, np.array([[0.5, 1.0]]))  # -0.5 at the left edge, 0.5 in the middle
    fields = ApCorrMap(
        {"base_PsfFlux_instFlux": falling, "base_PsfFlux_instFluxErr": ChebyshevField.constant(BOX, 0.01)}
    )
    apply_aperture_correction(stars, fields, ApplyApertureCorrectionConfig())
    np.testing.assert_allclose(stars["base_PsfFlux_instFlux"], [100, 50, 100])
    np.testing.assert_allclose(stars["base_PsfFlux_instFluxErr"], [10, 5, 10])
    np.testing.assert_array_equal(stars["base_PsfFlux_flag_apCorr"], [True, False, True])
    np.testing.assert_array_equal(stars["base_PsfFlux_flag"], [True, False, True])
    np.testing.assert_allclose(stars["base_PsfFlux_apCorr"], [-0.499, 0.5, np.nan], atol=1e-12)
    np.testing.assert_allclose(stars["base_PsfFlux_apCorrErr"], [0.01, 0.01, np.nan])
    assert stars["base_GaussianFlux_flag_apCorr"].all()
    assert not stars["base_GaussianFlux_flag"].any()
    np.testing.assert_array_equal(stars["base_GaussianFlux_instFlux"], 100.0)


def test_noisy_stars_with_neighbours_do_not_decide():
    catalog = psf_stars(90)
    rng = np.random.default_rng(3)
    faint = np.arange(90) % 3 != 0  # their neighbours add 4 % to the calibration flux and its scatter
    error = np.where(faint, 0.03, 0.002)
    for name in (NORMALIZED, RAW):
        catalog[f"{name}_instFluxErr"] = error * catalog[f"{name}_instFlux"]
    catalog[f"{NORMALIZED}_instFlux"] *= 1.01 + rng.normal(0, error) + np.where(faint, rng.uniform(0, 0.08, 90), 0)
    x, y = np.array([509.5, 100.0, 900.0]), np.array([379.5, 700.0, 50.0])
    found = {}
    for weighted in (True, False):
        config = MeasureApertureCorrectionConfig(weight_by_noise=weighted)
        found[weighted] = measure_aperture_correction(catalog, BOX, config)["base_PsfFlux_instFlux"].evaluate(x, y)
    assert np.abs(found[True] - 1.01).max() < 0.005
    assert np.abs(found[False] - 1.01).max() > 0.015


def stars_of(catalog: SourceCatalog) -> SourceCatalog:
    """The same sources among stars, in another order and behind three others."""
    n = len(catalog)
    stars = SourceCatalog.allocate(star_schema(), n + 3)
    for name in ("base_SdssCentroid_x", "base_SdssCentroid_y"):
        stars[name][3:] = catalog[name][::-1]
        stars[name][:3] = -500.0
    for name in (RAW, APERTURE, NORMALIZED, "base_PsfFlux", "base_GaussianFlux"):
        for column in (f"{name}_instFlux", f"{name}_instFluxErr"):
            stars[column][3:] = catalog[column][::-1]
    return stars


def test_corrections_are_those_of_the_deblended_stars():
    catalog = psf_stars(40)
    catalog["id"] = 1 + np.arange(40)
    catalog["calib_psf_used"][30:] = False
    stars = stars_of(catalog)
    stars[f"{NORMALIZED}_instFlux"] *= 1.01
    stars[f"{NORMALIZED}_instFlux"][-4] *= 3  # row 3 of the PSF stars was not deblended
    stars["deblend_skipped"][-4] = True
    config = MeasureApertureCorrectionConfig()
    fields = measure_aperture_correction(catalog, BOX, config)
    assert fields["base_PsfFlux_instFlux"].evaluate(500.0, 300.0) == pytest.approx(1, abs=1e-12)
    remeasure_aperture_correction(catalog, stars, fields, BOX, config, radius=3.0)
    for name in ("base_PsfFlux", "base_GaussianFlux"):
        assert fields[f"{name}_instFlux"].evaluate(500.0, 300.0) == pytest.approx(1.01, abs=1e-12)
        expected = catalog["calib_psf_used"] & (catalog["id"] != 4)
        np.testing.assert_array_equal(catalog[f"apcorr_{name}_used"], expected)
    assert not stars["calib_psf_used"].any()


@pytest.mark.parametrize("n_left", [0, 2, 10])
def test_corrections_of_the_psf_stage_stay_where_few_stars_were_deblended(n_left: int):
    catalog = psf_stars(40)
    stars = stars_of(catalog)
    stars[f"{NORMALIZED}_instFlux"] *= 1.01
    stars["deblend_skipped"][n_left:] = True
    config = MeasureApertureCorrectionConfig()
    fields = measure_aperture_correction(catalog, BOX, config)
    remeasure_aperture_correction(catalog, stars, fields, BOX, config, radius=3.0)
    assert fields["base_PsfFlux_instFlux"].evaluate(500.0, 300.0) == pytest.approx(1, abs=1e-12)
    assert catalog["apcorr_base_PsfFlux_used"].sum() >= 39


def test_psf_and_calibration_fluxes_of_a_crowded_field_agree():
    scene = simulate(SimulationConfig(size=2048, seed=54, fwhm=3.0, n_stars=12500, n_galaxies=0, mag_bright=15.0))
    everything = {"do_unresolved": False, "do_signal_to_noise": False}
    stars = CalibrateImage(resolve_config("generic", {"star_selector": everything})).run(scene.exposures).stars
    assert stars is not None
    psf, calib = stars["base_PsfFlux_instFlux"], stars["slot_CalibFlux_instFlux"]
    bright = (psf > 300 * stars["base_PsfFlux_instFluxErr"]) & ~stars["base_PsfFlux_flag"] & (calib > 0)
    bright &= ~stars["base_PixelFlags_flag_saturated"]
    difference = -2500 * np.log10(psf[bright] / calib[bright])
    assert bright.sum() > 100
    assert abs(np.median(difference)) < 2  # mmag; 6 with the corrections of the PSF stage


def read(folder: Path, pattern: str, schema: Schema) -> SourceCatalog:
    (path,) = folder.glob(pattern)
    table = pq.read_table(path)
    catalog = SourceCatalog.allocate(schema, table.num_rows)
    for name in schema.names:
        if name in table.column_names:
            catalog[name] = table.column(name).to_numpy()
    return catalog


def arrays(folder: Path, pattern: str) -> dict[str, np.ndarray]:
    (path,) = folder.glob(pattern)
    return dict(np.load(path))


@pytest.mark.parametrize(("field", "variant", "k"), RUNS)
def test_corrections_equal_the_recorded_ones(parity_dir: Path, field: str, variant: str, k: int):
    stages = parity_dir / field / variant / "stages"
    box = Box(0, 0, 1024, 1024)
    catalog = read(stages, f"*_psf_source_measurement_{k}.parquet", psf_star_schema())
    fields = ApCorrMap()
    normalize_calibration_flux(catalog, fields, box, PARITY.psf_normalized_calibration_flux, measure=True)
    fields.update(measure_aperture_correction(catalog, box, PARITY.measure_aperture_correction))
    recorded = arrays(stages, "*_apcorr_normalization_1.npz") | arrays(stages, "*_apcorr_main_1.npz")
    for name in (RAW, "base_PsfFlux", "base_GaussianFlux"):
        expected = recorded[f"{name}__final_coefficients"]
        np.testing.assert_allclose(fields[f"{name}_instFlux"].coefficients, expected, atol=1e-12)
        used = catalog["id"][catalog[f"apcorr_{name}_used"]]
        np.testing.assert_array_equal(used, recorded[f"{name}__iter4_id"])
    for name in ("base_PsfFlux", "base_GaussianFlux"):
        error = fields[f"{name}_instFluxErr"].coefficients
        np.testing.assert_allclose(error, recorded[f"{name}__error"], rtol=1e-6)


@pytest.mark.parametrize(("field", "variant", "k"), RUNS)
def test_corrected_fluxes_equal_the_recorded_ones(parity_dir: Path, field: str, variant: str, k: int):
    stages = parity_dir / field / variant / "stages"
    box = Box(0, 0, 1024, 1024)
    recorded = arrays(stages, "*_apcorr_normalization_1.npz") | arrays(stages, "*_apcorr_main_1.npz")
    fields = ApCorrMap()
    for name in (RAW, "base_PsfFlux", "base_GaussianFlux"):
        fields[f"{name}_instFlux"] = ChebyshevField(box, recorded[f"{name}__final_coefficients"])
    stars = read(stages, "*_star_measurement_1.parquet", star_schema())
    normalize_calibration_flux(stars, fields, box, NormalizedCalibrationFluxConfig(), measure=False)
    apply_aperture_correction(stars, fields, ApplyApertureCorrectionConfig())
    after = read(stages, "*_stars_before_selection.parquet", star_schema())
    np.testing.assert_array_equal(stars["id"], after["id"])
    for name in ("base_PsfFlux", "base_GaussianFlux", NORMALIZED):
        for column in (f"{name}_instFlux", f"{name}_instFluxErr"):
            np.testing.assert_allclose(stars[column], after[column], rtol=1e-10, err_msg=column)
        np.testing.assert_array_equal(stars[f"{name}_flag"], after[f"{name}_flag"], err_msg=name)
    np.testing.assert_array_equal(stars["base_PsfFlux_flag_apCorr"], after["base_PsfFlux_flag_apCorr"])
