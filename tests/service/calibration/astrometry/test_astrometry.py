"""The match-fit loop on simulated catalogues with truth, and its failures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from service.calibration.astrometry import astrometry
from service.calibration.config.astrometry import AstrometryConfig
from service.calibration.errors import AstrometryError, AstrometryFitFailure, BadAstrometryFit, ReferenceBandError
from service.exposure.catalog import SourceCatalog
from service.exposure.exposure import Exposure, FilterLabel
from service.exposure.masked_image import MaskedImage
from service.exposure.star_schema import psf_star_schema
from service.exposure.wcs import Wcs

_SIZE, _SCALE = 2000, 0.2


def _field(references_of, seed=0, *, n=100, noise_mas=20.0, offset=30.0, rotation=0.5, band="phot_g_mean"):
    """Stars of S/N 100 with exact centroids, references with position noise, and a wrong initial WCS."""
    rng = np.random.default_rng(seed)
    true = Wcs.tan((999.5, 999.5), (150.0, 30.0), _SCALE / 3600 * np.array([[-1.0, 0.0], [0.0, 1.0]]))
    x, y = rng.uniform(20, _SIZE - 20, (2, n))
    magnitude = rng.uniform(16, 20, n)
    ra, dec = true.pixel_to_sky(x, y)
    sky = np.column_stack(
        [
            ra + rng.normal(0, noise_mas, n) / 3.6e6 / np.cos(np.radians(dec)),
            dec + rng.normal(0, noise_mas, n) / 3.6e6,
        ]
    )
    references = references_of(sky, {band: 10 ** (0.4 * (31.4 - magnitude))})
    stars = SourceCatalog.allocate(psf_star_schema(), n)
    stars["id"] = np.arange(1, n + 1)
    stars["slot_Centroid_x"], stars["slot_Centroid_y"] = x, y
    stars["slot_Centroid_xErr"] = stars["slot_Centroid_yErr"] = 0.01
    stars["slot_PsfFlux_instFlux"] = 10 ** (0.4 * (30 - magnitude))
    stars["slot_PsfFlux_instFluxErr"] = stars["slot_PsfFlux_instFlux"] / 100
    a = np.radians(rotation)
    matrix = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    wrong = true.with_affine(matrix, np.array([offset, 0.0]) / 3600)
    planes = [np.zeros((_SIZE, _SIZE), dtype) for dtype in ("f4", "i4", "f4")]
    exposure = Exposure(MaskedImage(*planes), wcs=wrong, filter=FilterLabel("r"))
    return exposure, stars, references, true


def _grid_rms_mas(wcs, true):
    x, y = (v.ravel() for v in np.meshgrid(np.linspace(0, _SIZE - 1, 7), np.linspace(0, _SIZE - 1, 7)))
    ra, dec = true.pixel_to_sky(x, y)
    fitted_ra, fitted_dec = wcs.pixel_to_sky(x, y)
    d2 = ((fitted_ra - ra) * np.cos(np.radians(dec))) ** 2 + (fitted_dec - dec) ** 2
    return 3.6e6 * np.sqrt(d2.mean())


@pytest.mark.parametrize("seed", range(10))
def test_noisy_references(references_of, seed):
    """20 mas per axis: mean offset 21-29 mas, the fitted grid within 10 mas (specification, quality figures)."""
    exposure, stars, references, true = _field(references_of, seed)
    result = astrometry.solve(exposure, stars, references, AstrometryConfig())
    assert 0.021 < result.offset_mean < 0.029
    assert _grid_rms_mas(result.wcs, true) < 10
    assert np.array_equal(result.matches["src_id"], result.matches["ref_id"])
    assert len(result.matches) > 85
    assert 29 < result.initial_to_final < 31
    assert stars["calib_astrometry_used"].sum() == len(result.matches)
    astrometry.check(result, AstrometryConfig())


def test_contaminated_lists(references_of):
    """Half as many false sources and references as true ones, bright ones among them."""
    exposure, stars, references, true = _field(references_of, 3)
    rng = np.random.default_rng(3)
    fake = stars.select(rng.permutation(100)[:50])
    fake["slot_Centroid_x"], fake["slot_Centroid_y"] = rng.uniform(0, _SIZE, (2, 50))
    stars = SourceCatalog.concatenate([stars, fake])
    fake_refs = references.table.select(rng.permutation(100)[:50])
    ra, dec = true.pixel_to_sky(*rng.uniform(0, _SIZE, (2, 50)))
    fake_refs["coord_ra"], fake_refs["coord_dec"] = np.radians(ra), np.radians(dec)
    references.table = SourceCatalog.concatenate([references.table, fake_refs])
    result = astrometry.solve(exposure, stars, references, AstrometryConfig())
    assert _grid_rms_mas(result.wcs, true) < 15
    assert np.mean(result.matches["src_id"] == result.matches["ref_id"]) > 0.95


def test_magnitude_outliers_are_exactly_the_wrong_ones(references_of):
    exposure, stars, references, _ = _field(references_of, 4, noise_mas=1.0)
    rng = np.random.default_rng(4)
    stars["slot_PsfFlux_instFlux"] = stars["slot_PsfFlux_instFlux"] * 10 ** rng.uniform(-0.01, 0.01, 100)
    stars["slot_PsfFlux_instFlux"][[5, 17, 60, 88]] *= 1000
    loose = AstrometryConfig(magnitude_outlier_rejection_n_sigma=5.0)
    with_cut = astrometry.solve(exposure, stars, references, loose)
    assert set(range(1, 101)) - set(with_cut.matches["src_id"]) == {6, 18, 61, 89}
    without = AstrometryConfig(do_magnitude_outlier_rejection=False)
    assert len(astrometry.solve(exposure, stars, references, without).matches) == 100


def test_no_good_source_leaves_everything_as_it_was(references_of):
    exposure, stars, references, _ = _field(references_of)
    stars["base_PixelFlags_flag_saturated"] = True
    stars["coord_ra"] = 1.0
    wcs = exposure.wcs
    with pytest.raises(AstrometryError) as failure:
        astrometry.solve(exposure, stars, references, AstrometryConfig())
    assert "iterations" not in failure.value.numbers
    assert exposure.wcs is wcs
    assert np.all(stars["coord_ra"] == 1.0)


def test_no_reference_left_is_a_failure_of_the_matcher(references_of):
    exposure, stars, references, _ = _field(references_of)
    exposure.masked_image.mask |= np.int32(1 << exposure.masked_image.planes["NO_DATA"])
    with pytest.raises(AstrometryError, match="references") as failure:
        astrometry.solve(exposure, stars, references, AstrometryConfig())
    assert failure.value.numbers["iterations"] == 1
    assert exposure.wcs is None


def test_collinear_field_cannot_be_fitted(references_of):
    exposure, stars, references, true = _field(references_of, offset=1.0, rotation=0.0)
    stars["slot_Centroid_y"] = 0.5 * stars["slot_Centroid_x"]
    ra, dec = true.pixel_to_sky(stars["slot_Centroid_x"], stars["slot_Centroid_y"])
    references.table["coord_ra"], references.table["coord_dec"] = np.radians(ra), np.radians(dec)
    with pytest.raises(AstrometryFitFailure) as failure:
        astrometry.solve(exposure, stars, references, AstrometryConfig())
    assert failure.value.numbers["iterations"] == 1
    assert np.isnan(stars["coord_ra"]).all()


def test_known_wcs_is_kept(references_of):
    exposure, stars, references, true = _field(references_of)
    exposure.wcs = true
    result = astrometry.solve(exposure, stars, references, AstrometryConfig(force_known_wcs=True))
    assert exposure.wcs is true
    assert result.iterations == 1
    assert len(result.matches) > 85
    assert 0.018 < result.offset_mean < 0.03
    assert np.isnan(result.offset_median)


def test_rounds_end_when_the_distances_are_small(references_of):
    exposure, stars, references, _ = _field(references_of)
    result = astrometry.solve(exposure, stars, references, AstrometryConfig(min_match_distance_arc_sec=0.1))
    assert result.iterations == 1


@pytest.mark.parametrize("mean", [0.51, np.nan])
def test_check_refuses_large_and_unknown_distances(references_of, mean):
    exposure, stars, references, _ = _field(references_of)
    result = astrometry.solve(exposure, stars, references, AstrometryConfig())
    with pytest.raises(BadAstrometryFit) as failure:
        astrometry.check(replace(result, offset_mean=mean), AstrometryConfig())
    assert failure.value.numbers["maxMeanDist"] == 0.5
    assert failure.value.numbers["nMatches"] == len(result.matches)


def test_any_band_of_the_references_ranks_them(references_of):
    exposure, stars, references, _ = _field(references_of, band="BP")
    assert len(astrometry.solve(exposure, stars, references, AstrometryConfig()).matches) > 85


def test_references_without_a_flux_are_a_named_failure(references_of):
    exposure, stars, references, _ = _field(references_of, band="BP")
    with pytest.raises(ReferenceBandError) as failure:
        astrometry.solve(exposure, stars, replace(references, bands=()), AstrometryConfig())
    assert failure.value.code == "references.no_band"


def test_missing_wcs_is_an_error_of_the_caller(references_of):
    exposure, stars, references, _ = _field(references_of)
    exposure.wcs = None
    with pytest.raises(ValueError, match="no initial WCS"):
        astrometry.solve(exposure, stars, references, AstrometryConfig())


def test_source_density_of_a_uniform_field(references_of):
    """10,000 references over 0.25 deg x 0.25 deg and more."""
    rng = np.random.default_rng(5)
    sky = np.column_stack([150 + rng.uniform(-0.2, 0.2, 20000), rng.uniform(-0.2, 0.2, 20000)])
    references = references_of(sky, {"r": np.ones(20000)})
    references.table["coord_ra"][:10] = np.nan
    exposure = Exposure(
        MaskedImage(*[np.zeros((1000, 3000), t) for t in ("f4", "i4", "f4")]),
        wcs=Wcs.tan((1499.5, 499.5), (150.0, 0.0), _SCALE / 3600 * np.eye(2)),
    )
    radius = 0.5 * np.hypot(1000, 3000) * _SCALE / 3600
    inside = np.hypot(sky[10:, 0] - 150, sky[10:, 1]) < radius
    density = astrometry.source_density(references, exposure)
    assert density == pytest.approx(inside.sum() / (np.pi * radius**2), rel=1e-3)
    assert density == pytest.approx(20000 / 0.16, rel=0.05)
    exposure.wcs = None
    assert astrometry.source_density(references, exposure) == pytest.approx(20000 / 0.16, rel=0.05)
