"""The astrometric solution against the recorded rounds and outputs of Rubin's task."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from service.calibration.astrometry import astrometry
from service.calibration.astrometry.pessimistic_b import PessimisticB
from service.calibration.astrometry.source_selector import select_sources
from service.calibration.config.astrometry import AstrometryConfig, MatchPessimisticBConfig, WideSearchConfig
from service.calibration.errors import BadAstrometryFit, MatcherFailure
from service.calibration.reference_selector import select_references
from service.exposure.star_schema import psf_star_schema
from service.exposure.wcs import Wcs

_FITTED = ("coord_", "calib_astrometry_used")


def _sky_distance(wcs, xy, radec):
    ra, dec = wcs.pixel_to_sky(*xy.T)
    return 3600 * np.hypot((ra - radec[:, 0]) * np.cos(np.radians(dec)), dec - radec[:, 1])


def test_source_selection_is_upstreams(staged_run):
    recorded, _ = staged_run.stage("select_astrometry-sourceSelector_1")
    catalog = staged_run.catalog("psf_stars.parquet", psf_star_schema())
    assert np.array_equal(catalog["id"], recorded["id"])
    assert 0 < recorded["selected"].sum() < len(catalog)
    assert np.array_equal(select_sources(catalog, AstrometryConfig().source_selector), recorded["selected"])


def test_reference_selection_is_upstreams(staged_run):
    recorded, _ = staged_run.stage("select_astrometry-referenceSelector_1")
    _, references = staged_run.astrometry_inputs()
    selected = select_references(references, "phot_g_mean", AstrometryConfig().reference_selector)
    assert np.array_equal(references.table["id"][selected], recorded["id"][recorded["selected"]])


@pytest.mark.parametrize("continue_after_failed_verify", [False, True])
def test_each_round_of_the_matcher_is_upstreams(staged_run, continue_after_failed_verify):
    """Tolerance, shift, pattern and pairs; on fields that match, the switch makes no difference."""
    table = staged_run.table("psf_stars.parquet")
    flux = dict(zip(table["id"], table["slot_PsfFlux_instFlux"], strict=True))
    matcher = None
    for k in (1, 2, 3):
        arrays, options = staged_run.stage(f"astrometry_{k}")
        wcs, _ = staged_run.astrometry_inputs(k)
        if matcher is None:
            config = MatchPessimisticBConfig(continue_after_failed_verify=continue_after_failed_verify)
            matcher = PessimisticB(*arrays["reference_radec_deg"].T, arrays["reference_flux_njy"], config)
        ra, dec = wcs.pixel_to_sky(*arrays["source_xy"].T)
        fluxes = np.array([flux[i] for i in arrays["source_id"]])
        pairs = matcher.match(ra, dec, fluxes, options["pixel_scale_center_arcsec"])
        found = np.column_stack([arrays["source_id"][pairs[:, 0]], arrays["reference_id"][pairs[:, 1]]])
        assert np.array_equal(found, arrays["matcher_pairs"])
        assert matcher.tolerance == pytest.approx(options["tolerance_out"]["maxMatchDist_arcsec"], abs=1e-9)
        assert matcher.shift == pytest.approx(options["tolerance_out"]["maxShift_arcsec"], abs=2e-3)  # acos near 1
        assert matcher.pattern == options["tolerance_out"]["lastMatchedPattern"]


def test_the_solution_is_upstreams(staged_run):
    catalog = staged_run.catalog("psf_stars.parquet", psf_star_schema(), without=_FITTED)
    wcs, references = staged_run.astrometry_inputs()
    exposure = staged_run.empty_exposure(wcs)
    result = astrometry.solve(exposure, catalog, references, AstrometryConfig())

    last, _ = staged_run.stage("astrometry_3")
    pairs = np.column_stack([result.matches["src_id"], result.matches["ref_id"]])
    assert np.array_equal(pairs, last["pairs"])
    np.testing.assert_allclose(
        np.degrees(result.matches["distance"]) * 3600, last["pair_distance_after_arcsec"], atol=1e-8
    )
    assert _sky_distance(result.wcs, last["grid25_xy"], last["grid25_radec_after"]).max() < 1e-6
    assert exposure.wcs is result.wcs

    metadata = staged_run.json("task_metadata.json")
    assert result.iterations == 3
    assert len(result.matches) == metadata["astrometry_matches_count"]
    for name in ("offset_mean", "offset_std", "offset_median"):
        assert getattr(result, name) == pytest.approx(metadata[f"astrom_{name}"], abs=1e-8)
        assert exposure.metadata[f"SFM_ASTROM_{name.upper()}"] == getattr(result, name)
    assert result.initial_to_final == pytest.approx(metadata["initial_to_final_wcs"], abs=1e-8)

    recorded = staged_run.table("psf_stars.parquet")
    for name in ("coord_ra", "coord_dec"):
        np.testing.assert_allclose(catalog[name], recorded[name], rtol=0, atol=1e-14)
    for name in ("coord_raErr", "coord_decErr"):
        np.testing.assert_allclose(catalog[name], recorded[name], rtol=1e-6)
    scale = recorded["coord_raErr"] * recorded["coord_decErr"]
    np.testing.assert_array_less(
        np.abs(catalog["coord_ra_dec_Cov"] - recorded["coord_ra_dec_Cov"]), 1e-6 * scale + 1e-30
    )
    assert np.array_equal(catalog["calib_astrometry_used"], recorded["calib_astrometry_used"])


def test_match_list_has_upstreams_columns(upstream):
    run = upstream("typical1k")
    catalog = run.catalog("psf_stars.parquet", psf_star_schema(), without=_FITTED)
    wcs, references = run.astrometry_inputs()
    matches = astrometry.solve(run.empty_exposure(wcs), catalog, references, AstrometryConfig()).matches
    recorded = run.table("astrometry_matches.parquet")
    ours = {name for name in matches.schema.names if name.startswith("src_")}
    true_columns = {name for name in recorded if name.startswith("src_") and name in matches.schema}
    assert ours == true_columns
    for name in recorded:
        if name.startswith(("src_slot_", "ref_slot_", "ref_anyFilter", "ref_phot_g_mean", "ref_id", "ref_coord")):
            expected = recorded[name]
            if name.endswith("Err") and name.startswith("ref_"):
                assert name in matches  # the recorded stage has no errors of the references
            elif expected.dtype == bool:
                assert np.array_equal(matches[name], expected), name
            else:
                np.testing.assert_allclose(matches[name], expected, rtol=1e-6, atol=1e-9, err_msg=name)


def test_pointing_far_off_is_a_matcher_failure(upstream):
    run = upstream("fail_offset")
    catalog = run.catalog("psf_stars.parquet", psf_star_schema(), without=_FITTED)
    catalog["coord_ra"] = catalog["coord_dec"] = 1.0
    exposure = run.empty_exposure(_header_wcs(run))
    narrow = AstrometryConfig(wide_search=WideSearchConfig(enabled=False))
    with pytest.raises(MatcherFailure) as failure:
        astrometry.solve(exposure, catalog, run.refcat(), narrow)
    assert failure.value.numbers["iterations"] == 1
    assert exposure.wcs is None
    assert np.isnan(catalog["coord_ra"]).all()
    assert np.isnan(catalog["coord_dec"]).all()


@pytest.mark.parametrize("variant", ["rubin_classic", "rubin_adaptive"])
def test_false_references_are_upstreams_bad_fit(upstream, variant):
    """Chance matches, softened and skipped as upstream does; the judgement afterwards says what they are."""
    run = upstream("fail_wrongrefs", variant)
    catalog = run.catalog("psf_stars.parquet", psf_star_schema(), without=_FITTED)
    wcs, references = _header_wcs(run), run.refcat()
    x, y = wcs.sky_to_pixel(*np.degrees([references.table["coord_ra"], references.table["coord_dec"]]))
    exposure = run.empty_exposure(wcs)
    references.table = references.table.select(exposure.bbox.grown(250).contains(x, y))
    config = AstrometryConfig(
        matcher=MatchPessimisticBConfig(continue_after_failed_verify=False),
        wide_search=WideSearchConfig(enabled=False),
    )
    result = astrometry.solve(exposure, catalog, references, config)
    recorded, metadata = run.table("astrometry_matches.parquet"), run.json("task_metadata.json")
    assert np.array_equal(result.matches["src_id"], recorded["src_id"])
    assert np.array_equal(result.matches["ref_id"], recorded["ref_id"])
    np.testing.assert_allclose(result.matches["distance"], recorded["distance"], rtol=1e-8)
    with pytest.raises(BadAstrometryFit) as failure:
        astrometry.check(result, config)
    numbers = failure.value.numbers
    assert numbers["nMatches"] == metadata["astrometry_matches_count"]
    assert numbers["distMean"] == pytest.approx(metadata["astrom_offset_mean"], abs=1e-8)
    assert numbers["distMedian"] == pytest.approx(metadata["astrom_offset_median"], abs=1e-8)
    assert numbers["maxMeanDist"] == 0.5


def _header_wcs(run):
    return Wcs.from_header(fits.getheader(run.field / "exposure.fits", 1))
