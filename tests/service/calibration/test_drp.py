"""The production preset and the thinning of detections, through the whole calibration."""

from __future__ import annotations

import accuracy
import numpy as np
import pyarrow.parquet as pq
import pytest

from service.calibration.calibrate_image import CalibrateImage
from service.calibration.presets import resolve_config
from service.exposure.star_schema import star_schema
from service.jobs.product_files import write_products
from service.simulation import SimulationConfig, simulate

_APERTURES = ("3_0", "6_0", "9_0", "12_0", "17_0", "25_0", "35_0", "50_0", "70_0")


@pytest.fixture(scope="module")
def scene():
    return simulate(SimulationConfig(size=1024, seed=77, n_stars=300, n_galaxies=300))


@pytest.fixture(scope="module")
def prompt(scene):
    return accuracy.calibrate(scene)


@pytest.fixture(scope="module")
def drp(scene):
    return accuracy.calibrate(scene, resolve_config("drp"))


def test_apertures_grow_to_the_flux_of_the_star(drp):
    stars = drp.stars
    bright = stars["detect_isPrimary"] & stars["calib_psf_used"]
    bright &= stars["base_PsfFlux_instFlux"] > 100 * stars["base_PsfFlux_instFluxErr"]
    assert bright.sum() >= 10
    flux = np.stack([stars[f"base_CircularApertureFlux_{a}_instFlux"][bright] for a in _APERTURES[:5]])
    growth = np.nanmedian(flux / flux[3], axis=1)
    assert np.all(np.diff(growth) > 0)
    assert growth[4] < 1.05
    # a band-limited circle of the PSF's own image holds the same share of the light
    psf = drp.exposure.psf
    x, y = stars["slot_Centroid_x"][bright], stars["slot_Centroid_y"][bright]
    share = psf.aperture_fluxes(6.0, x, y) / psf.aperture_fluxes(9.0, x, y)
    assert np.median(flux[1] / flux[2] / share) == pytest.approx(1.0, abs=0.01)


def test_catalogue_is_more_complete_and_pixels_stay_in_counts(scene, prompt, drp):
    assert drp.failure is None
    assert (~drp.stars["sky_source"]).sum() > 1.5 * (~prompt.stars["sky_source"]).sum()
    extended = drp.stars["base_ClassificationSizeExtendedness_value"] > 0.5
    assert (extended & ~drp.stars["sky_source"]).sum() > 20
    assert drp.exposure.unit == scene.exposures[0].unit
    assert drp.applied_photo_calib is None
    assert drp.exposure.photo_calib.zero_point == pytest.approx(scene.aperture_zero_point(), abs=0.01)
    image = drp.exposure.masked_image
    untouched = ~image.is_set(["CR"])
    restored = (image.image + drp.background.image())[untouched]
    np.testing.assert_allclose(restored, scene.exposures[0].masked_image.image[untouched], rtol=3e-6, atol=3e-3)


def test_further_apertures_are_in_the_file(drp, tmp_path):
    files = {product.product: product.path for product in write_products(drp, tmp_path)}
    names = set(pq.read_schema(files["single_visit_star_unstandardized"]).names)
    for aperture in _APERTURES:
        base = f"base_CircularApertureFlux_{aperture}"
        assert {f"{base}_instFlux", f"{base}_flux", f"{base}_mag", f"{base}_flag"} <= names
    assert "base_CircularApertureFlux_12_0_flag_sincCoeffsTruncated" in names
    assert "base_CircularApertureFlux_17_0_flag_sincCoeffsTruncated" not in names
    assert "base_CompensatedTophatFlux_17_flux" in names
    assert set(star_schema().names) <= names


def test_detections_are_thinned_and_sky_sources_kept(scene, prompt):
    config = resolve_config("generic", {"do_downsample_footprints": True, "downsample_max_footprints": 150})
    thinned = CalibrateImage(config).run([accuracy.copied(scene.exposures[0])])
    again = CalibrateImage(config).run([accuracy.copied(scene.exposures[0])])
    assert thinned.stars["sky_source"].sum() == prompt.stars["sky_source"].sum()
    kept = thinned.stars["id"][(thinned.stars["parent"] == 0) & ~thinned.stars["sky_source"]]
    assert 20 < len(kept) <= 150
    assert set(kept) < set(prompt.stars["id"])
    assert np.array_equal(again.stars["id"], thinned.stars["id"])
    limit = {"do_downsample_footprints": True, "downsample_max_footprints": 100_000}
    unthinned = CalibrateImage(resolve_config("generic", limit)).run([accuracy.copied(scene.exposures[0])])
    assert np.array_equal(unthinned.stars["id"], prompt.stars["id"])
