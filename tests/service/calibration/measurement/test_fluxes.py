"""Fluxes against photutils, closed formulas and the truth that was put in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from photutils.aperture import CircularAperture

from service.calibration.config.measurement import (
    CircularApertureFluxConfig,
    CompensatedTophatFluxConfig,
    MeasurementConfig,
    PsfFluxConfig,
)
from service.calibration.kernels.fluxes import measure_gaussian_flux
from service.calibration.measurement.measure import measure
from service.exposure.exposure import Exposure
from service.exposure.psf import GaussianPsf

PLAIN = MeasurementConfig(do_replace_with_noise=False)
APERTURE, TOPHAT = "base_CircularApertureFlux_12_0", "base_CompensatedTophatFlux_12"
GAUSSIAN, PSF_FLUX = "base_GaussianFlux", "base_PsfFlux"
PSF = GaussianPsf(2.0, 41, 41)


class ExactGaussianPsf(GaussianPsf):
    """Evaluated at the sub-pixel position, where GaussianPsf interpolates a stamp (1e-3 of the flux)."""

    def images(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x, y = np.atleast_1d(x), np.atleast_1d(y)
        x0, y0 = (np.floor(v + 0.5).astype(np.int32) - 20 for v in (x, y))
        dx, dy = (np.arange(41) + corner[:, None] - v[:, None] for corner, v in ((x0, x), (y0, y)))
        profile = [np.exp(-0.5 * d**2 / self.sigma**2) for d in (dx, dy)]
        stamps = profile[1][:, :, None] * profile[0][:, None, :] / (2 * np.pi * self.sigma**2)
        return stamps.astype(np.float32), x0, y0


def run(scene: Any, image: Any, centers: np.ndarray, config: MeasurementConfig = PLAIN, psf: Any = PSF) -> Any:
    catalog = scene.catalog_of(scene.boxes(centers, 14, image.shape))
    measure(catalog, Exposure(image, psf=psf), config)
    return catalog


@pytest.fixture(scope="module")
def field(scene: Any) -> tuple[Any, np.ndarray, Any]:
    """400 stars of flux 2e4 on noise 10 whose variance is not constant, measured."""
    shape, centers = scene.grid(20, 50)
    image = scene.stars(shape, centers, 2e4, 2.0, 10.0)
    ramp = np.linspace(0.5, 2.0, shape[1], dtype=np.float32)
    image.image *= ramp
    image.variance *= ramp**2
    return image, centers, run(scene, image, centers)


def photutils_sums(image: Any, catalog: Any, radius: float) -> tuple[np.ndarray, np.ndarray]:
    positions = np.column_stack([catalog["slot_Centroid_x"], catalog["slot_Centroid_y"]])
    aperture = CircularAperture(positions, radius)
    sums, _ = aperture.do_photometry(image.image.astype(float), method="center")
    variances, _ = aperture.do_photometry(image.variance.astype(float), method="center")
    return sums, variances


def test_aperture_equals_photutils(field: Any) -> None:
    image, _, catalog = field
    sums, variances = photutils_sums(image, catalog, 12.0)
    np.testing.assert_allclose(catalog[f"{APERTURE}_instFlux"], sums, rtol=1e-12)
    np.testing.assert_allclose(catalog[f"{APERTURE}_instFluxErr"], np.sqrt(variances), rtol=1e-12)
    assert not catalog[f"{APERTURE}_flag"].any()


def test_tophat_is_the_aperture_less_its_annulus(field: Any) -> None:
    image, _, catalog = field
    (core, core_variance), (outer, outer_variance) = (photutils_sums(image, catalog, r) for r in (12.0, 20.4))
    scale = 1.0 / (1.7**2 - 1.0)
    np.testing.assert_allclose(catalog[f"{TOPHAT}_instFlux"], core - scale * (outer - core), rtol=1e-10)
    error = np.sqrt(core_variance + scale**2 * (outer_variance - core_variance))
    np.testing.assert_allclose(catalog[f"{TOPHAT}_instFluxErr"], error, rtol=1e-10)
    config = MeasurementConfig(
        do_replace_with_noise=False, compensated_tophat=CompensatedTophatFluxConfig(inner_scale=1.2)
    )
    gap = catalog.copy()
    measure(gap, Exposure(image, psf=PSF), config)
    inner, _ = photutils_sums(image, gap, 14.4)
    core, outer = (photutils_sums(image, gap, r)[0] for r in (12.0, 20.4))
    expected = core - (outer - inner) / (1.7**2 - 1.2**2)
    np.testing.assert_allclose(gap[f"{TOPHAT}_instFlux"], expected, rtol=1e-10)


def test_pedestal_does_not_matter_to_the_tophat(scene: Any) -> None:
    shape, centers = scene.grid(4, 60)
    image = scene.stars(shape, centers, 1e5, 2.0, 0.0)
    before = run(scene, image, centers)
    image.image += 1.0
    after = run(scene, image, centers)
    np.testing.assert_allclose(after[f"{TOPHAT}_instFlux"], before[f"{TOPHAT}_instFlux"], rtol=5e-3)
    assert np.abs(after[f"{APERTURE}_instFlux"] / before[f"{APERTURE}_instFlux"] - 1).min() > 4e-3


def test_psf_flux_closed_form(field: Any) -> None:
    image, _, catalog = field
    phi, x0, y0 = PSF.images(catalog["slot_Centroid_x"], catalog["slot_Centroid_y"])
    for i in range(0, len(catalog), 7):
        cut = np.s_[y0[i] : y0[i] + 41, x0[i] : x0[i] + 41]
        p, d, v = phi[i].astype(float), image.image[cut].astype(float), image.variance[cut].astype(float)
        flux = (p * d).sum() / (p**2).sum()
        assert catalog[f"{PSF_FLUX}_instFlux"][i] == pytest.approx(flux, rel=1e-9)
        assert catalog[f"{PSF_FLUX}_instFluxErr"][i] == pytest.approx(
            np.sqrt((p**2 * v).sum()) / (p**2).sum(), rel=1e-9
        )
        assert catalog[f"{PSF_FLUX}_area"][i] == pytest.approx(p.sum() ** 2 / (p**2).sum(), rel=1e-6)
        assert catalog[f"{PSF_FLUX}_chi2"][i] == pytest.approx(((d - flux * p) ** 2 / v).sum(), rel=1e-6)
    assert (catalog[f"{PSF_FLUX}_npixels"] == 41**2).all()
    assert not catalog[f"{PSF_FLUX}_flag"].any()


@pytest.mark.parametrize("name", [PSF_FLUX, APERTURE, TOPHAT])
def test_errors_are_the_scatter(scene: Any, name: str) -> None:
    shape, centers = scene.grid(30, 50)
    catalog = run(scene, scene.stars(shape, centers, 4e4, 2.0, 10.0), centers, psf=ExactGaussianPsf(2.0, 41, 41))
    good = ~catalog[f"{name}_flag"]
    assert good.sum() > 890
    pulls = ((catalog[f"{name}_instFlux"] - 4e4) / catalog[f"{name}_instFluxErr"])[good]
    assert abs(pulls.mean()) < 3 * pulls.std() / np.sqrt(len(pulls))
    assert pulls.std() == pytest.approx(1.0, abs=0.1)


def test_gaussian_flux_error_is_the_scatter_at_a_given_shape(scene: Any) -> None:
    shape, centers = scene.grid(30, 50)
    image = scene.stars(shape, centers, 4e4, 2.0, 10.0)
    values = np.full((len(centers), 2), np.nan)
    for (x, y), value in zip(centers, values, strict=True):
        measure_gaussian_flux(image.image, image.variance, np.array([4.0, 4.0, 0.0]), x, y, value)
    pulls = (values[:, 0] - 4e4) / values[:, 1]
    assert abs(pulls.mean()) < 3 * pulls.std() / np.sqrt(len(pulls))
    assert pulls.std() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("shape", [(4.0, 4.0, 0.0), (0.05, 0.4, 0.1), (90.0, 80.0, 84.0), (2500.0, 9.0, 100.0)])
def test_gaussian_flux_weighs_each_pixel_with_the_exponential(shape: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(4)
    image = rng.normal(1.0, 1.0, (60, 90)).astype(np.float32)
    inverse = np.linalg.inv([[shape[0], shape[2]], [shape[2], shape[1]]])
    for x, y in ((44.7, 30.2), (0.2, 59.9), (88.0, 3.5)):
        dy, dx = np.mgrid[:60, :90] - np.array([y, x])[:, None, None]
        exponent = inverse[0, 0] * dx * dx + 2.0 * inverse[0, 1] * dx * dy + inverse[1, 1] * dy * dy
        expected = 2.0 * (np.exp(-0.5 * exponent) * image)[exponent <= 14.0].sum()
        value = np.full(2, np.nan)
        measure_gaussian_flux(image, np.ones_like(image), np.array(shape), x, y, value)
        assert value[0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("variance", [1e6, 1e30, 1e150])
def test_gaussian_flux_of_a_shape_beyond_the_image_is_cut_at_the_largest_half_size(variance: float) -> None:
    image = np.ones((3, 2600), np.float32)
    value = np.full(2, np.nan)
    measure_gaussian_flux(image, image, np.array([variance, variance, 0.0]), 1300.0, 1.0, value)
    assert value[0] == pytest.approx(6.0 * np.exp(-0.5 * (np.arange(2600) - 1300.0)[299:2301] ** 2 / variance).sum())


def test_noiseless_fluxes(scene: Any) -> None:
    shape, centers = scene.grid(4, 60)
    catalog = run(scene, scene.stars(shape, centers, 1e6, 2.0, 0.0), centers, psf=ExactGaussianPsf(2.0, 41, 41))
    for name in (GAUSSIAN, PSF_FLUX, APERTURE, TOPHAT):
        np.testing.assert_allclose(catalog[f"{name}_instFlux"], 1e6, rtol=1e-3, err_msg=name)
    # 2 sqrt(V pi sqrt(det Q)) with V = 1 and Q = 4
    np.testing.assert_allclose(catalog[f"{GAUSSIAN}_instFluxErr"], 2 * np.sqrt(np.pi * 4.0), rtol=1e-4)


def test_elongated_gaussian_flux(scene: Any) -> None:
    shape, centers = scene.grid(2, 70)
    matrix = np.array([[4.0, 2.0], [2.0, 7.0]])
    catalog = run(scene, scene.stars(shape, centers, 1e6, matrix, 0.0), centers)
    np.testing.assert_allclose(catalog[f"{GAUSSIAN}_instFlux"], 1e6, rtol=1e-3)
    error = 2 * np.sqrt(np.pi * np.sqrt(np.linalg.det(matrix)))
    np.testing.assert_allclose(catalog[f"{GAUSSIAN}_instFluxErr"], error, rtol=1e-4)


def test_border_cuts(scene: Any) -> None:
    """Distance of the centre from the border: what is cut and flagged at each."""
    shape, distances = (200, 400), np.array([8.0, 14.0, 19.0, 24.0])
    centers = np.column_stack([60 + 80 * np.arange(4), distances])
    catalog = run(scene, scene.stars(shape, centers, 1e6, 1.5, 0.0), centers, psf=GaussianPsf(1.5, 41, 41))
    np.testing.assert_array_equal(catalog[f"{APERTURE}_flag_apertureTruncated"], [True, False, False, False])
    np.testing.assert_array_equal(np.isnan(catalog[f"{APERTURE}_instFlux"]), [True, False, False, False])
    np.testing.assert_array_equal(catalog[f"{TOPHAT}_flag_bounds"], [True, True, True, False])
    np.testing.assert_array_equal(np.isnan(catalog[f"{TOPHAT}_instFlux"]), [True, True, True, False])
    np.testing.assert_array_equal(catalog[f"{PSF_FLUX}_flag_edge"], [True, True, True, False])
    np.testing.assert_array_equal(catalog[f"{PSF_FLUX}_npixels"], [41 * 29, 41 * 35, 41 * 40, 41 * 41])
    np.testing.assert_allclose(catalog[f"{PSF_FLUX}_instFlux"], 1e6, rtol=2e-3)
    # within the half size of the PSF plus 2 of the border the centroid is flagged, and everything that uses it
    flagged = catalog["slot_Centroid_flag"]
    np.testing.assert_array_equal(flagged, [True, True, True, False])
    for name in (APERTURE, PSF_FLUX, "ext_shapeHSM_HsmSourceMoments"):
        np.testing.assert_array_equal(catalog[f"{name}_flag"], flagged)
    assert not catalog[f"{GAUSSIAN}_flag"].any()


def test_mask_bits_of_the_tophat_box(scene: Any) -> None:
    center = np.array([[60.6, 60.6]])
    image = scene.stars((121, 121), center, 1e6, 2.0, 0.0)
    image.mask[60 - 21, 60 + 21] = 64
    image.mask[60 - 22, 60] = 128
    image.mask[60, 60 + 22] = 256
    assert run(scene, image, center)[f"{TOPHAT}_mask_bits"][0] == 64


def test_masked_pixels_can_be_left_out_of_the_psf_flux(scene: Any) -> None:
    center = np.array([[60.2, 59.7]])
    image = scene.stars((121, 121), center, 1e6, 2.0, 0.0)
    image.image[70, 60] = 1e6
    image.mask[70, 60] = 1 << image.planes["BAD"]
    config = MeasurementConfig(do_replace_with_noise=False, psf_flux=PsfFluxConfig(bad_mask_planes=("BAD",)))
    catalog = run(scene, image, center, config)
    assert catalog[f"{PSF_FLUX}_npixels"][0] == 41**2 - 1
    assert catalog[f"{PSF_FLUX}_instFlux"][0] == pytest.approx(1e6, rel=1e-3)
    image.mask[:] = 1 << image.planes["BAD"]
    catalog = run(scene, image, center, config)
    assert catalog[f"{PSF_FLUX}_flag_noGoodPixels"][0]
    assert catalog[f"{PSF_FLUX}_flag"][0]
    assert np.isnan(catalog[f"{PSF_FLUX}_instFlux"][0])


def test_zero_variance_is_no_error(scene: Any) -> None:
    center = np.array([[60.2, 59.7]])
    image = scene.stars((121, 121), center, 1e6, 2.0, 0.0)
    image.variance[:] = 0.0
    catalog = run(scene, image, center)
    assert catalog[f"{PSF_FLUX}_instFlux"][0] == pytest.approx(1e6, rel=1e-3)
    assert catalog[f"{PSF_FLUX}_instFluxErr"][0] == 0.0


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        CircularApertureFluxConfig(radii=(0.0, 12.0))
    with pytest.raises(ValueError, match="one decimal"):
        CircularApertureFluxConfig(radii=(6.0, 6.01))
    with pytest.raises(ValueError, match="outer_scale"):
        CompensatedTophatFluxConfig(outer_scale=0.9)
