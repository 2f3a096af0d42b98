"""Band-limited apertures against areas, closed formulas and galsim; the columns of further apertures."""

from __future__ import annotations

from typing import Any

import galsim
import numpy as np
import pytest

from service.calibration.config.measurement import (
    CircularApertureFluxConfig,
    CompensatedTophatFluxConfig,
    MeasurementConfig,
)
from service.calibration.kernels.sinc_aperture import shift_coefficients
from service.calibration.measurement.columns import configured_columns
from service.calibration.measurement.measure import measure
from service.exposure.catalog import SourceCatalog
from service.exposure.exposure import Exposure
from service.exposure.psf import GaussianPsf
from service.exposure.psf.aperture import sinc_aperture
from service.exposure.star_schema import psf_star_schema, star_schema

RADII = (3.0, 4.5, 6.0, 9.0, 12.0)


def config_of(radii: tuple[float, ...], *, sinc: float = 12.0) -> MeasurementConfig:
    aperture = CircularApertureFluxConfig(radii=radii, max_sinc_radius=sinc)
    return MeasurementConfig(do_replace_with_noise=False, circular_aperture=aperture)


def name(radius: float) -> str:
    return f"base_CircularApertureFlux_{radius:.1f}".replace(".", "_")


def measured(scene: Any, image: Any, centers: np.ndarray, config: MeasurementConfig) -> Any:
    found = scene.boxes(centers, 14, image.shape)
    schema = star_schema().extended(configured_columns(config, calibrated=True))
    catalog = SourceCatalog.allocate(schema, len(found), found)
    catalog["id"] = np.arange(1, len(found) + 1)
    measure(catalog, Exposure(image, psf=GaussianPsf(2.0, 41, 41)), config)
    return catalog


@pytest.fixture(scope="module")
def field(scene: Any) -> tuple[Any, np.ndarray]:
    """144 noiseless Gaussian stars at every sub-pixel position."""
    shape, centers = scene.grid(12, 80)
    return scene.stars(shape, centers, 1e5, 2.0, 0.0), centers


def test_flux_of_a_gaussian_is_the_closed_formula(scene: Any, field: Any) -> None:
    image, centers = field
    catalog = measured(scene, image, centers, config_of(RADII))
    naive = measured(scene, image, centers, config_of(RADII, sinc=0.0))
    for radius in RADII:
        expected = 1e5 * (1 - np.exp(-(radius**2) / 8))
        flux = catalog[f"{name(radius)}_instFlux"]
        np.testing.assert_allclose(flux, expected, rtol=2e-3 if radius < 4 else 1e-3, err_msg=str(radius))
        assert not catalog[f"{name(radius)}_flag"].any()
        if radius < 6:  # what fractional pixels are for
            assert np.abs(naive[f"{name(radius)}_instFlux"] / expected - 1).max() > 0.01


def test_flux_of_a_moffat_is_what_galsim_has_inside(scene: Any) -> None:
    profile = galsim.Moffat(beta=3.0, fwhm=4.0)
    fine = profile.drawImage(nx=1601, ny=1601, scale=0.025, method="no_pixel").array.astype(float)
    ticks = (np.arange(1601) - 800) * 0.025
    distance = np.hypot(ticks, ticks[:, None])
    shape, centers = scene.grid(4, 90)
    image = scene.stars(shape, centers, 0.0, 2.0, 0.0)
    drawn = galsim.Image(image.image, xmin=0, ymin=0)
    for x, y in centers:
        stamp = drawn[galsim.BoundsI(int(x) - 40, int(x) + 40, int(y) - 40, int(y) + 40)]
        star = (1e5 * profile).drawImage(
            bounds=stamp.bounds, scale=1.0, method="no_pixel", center=galsim.PositionD(x, y), dtype=float
        )
        stamp += galsim.Image(star.array.astype(np.float32), xmin=stamp.xmin, ymin=stamp.ymin)
    catalog = measured(scene, image, centers, config_of(RADII))
    for radius in RADII:
        expected = 1e5 * fine[distance <= radius].sum()
        np.testing.assert_allclose(catalog[f"{name(radius)}_instFlux"], expected, rtol=3e-3, err_msg=str(radius))


def test_parity_keeps_the_bias_of_the_smallest_circle(scene: Any, field: Any) -> None:
    image, centers = field
    aperture = CircularApertureFluxConfig(radii=(3.0, 6.0), pad_small_circles=False)
    config = MeasurementConfig(do_replace_with_noise=False, circular_aperture=aperture)
    catalog = measured(scene, image, centers, config)
    bias = catalog[f"{name(3.0)}_instFlux"] / (1e5 * (1 - np.exp(-9 / 8))) - 1
    assert 0.015 < bias.max() < 0.025
    assert bias.min() > -1e-3
    padded = measured(scene, image, centers, config_of((6.0,)))
    np.testing.assert_array_equal(catalog[f"{name(6.0)}_instFlux"], padded[f"{name(6.0)}_instFlux"])


def test_area_is_that_of_the_circle(scene: Any, field: Any) -> None:
    image, centers = field
    flat = type(image)(np.ones_like(image.image), image.mask, image.variance)
    catalog = measured(scene, flat, centers, config_of(RADII))
    for radius in RADII:
        np.testing.assert_allclose(catalog[f"{name(radius)}_instFlux"], np.pi * radius**2, rtol=1e-3)


def test_error_is_the_scatter_on_white_noise(scene: Any) -> None:
    shape, centers = scene.grid(40, 26)
    image = scene.stars(shape, centers, 0.0, 2.0, 5.0, seed=8)
    catalog = measured(scene, image, centers, config_of((4.5,)))
    values, errors = catalog[f"{name(4.5)}_instFlux"], catalog[f"{name(4.5)}_instFluxErr"]
    good = np.isfinite(values)
    pulls = values[good] / errors[good]
    assert good.sum() > 1500
    assert pulls.std() == pytest.approx(1.0, abs=0.06)
    assert errors[good].mean() == pytest.approx(5.0 * np.sqrt(np.pi) * 4.5, rel=0.05)


def test_borders_set_the_flags_they_should(scene: Any) -> None:
    centers = np.array([[60.0, 60.0], [25.2, 60.0], [8.0, 60.0], [60.0, 117.8]])
    image = scene.stars((121, 121), centers, 1e5, 2.0, 0.0)
    catalog = measured(scene, image, centers, config_of((9.0, 17.0)))
    base = name(9.0)
    assert catalog[f"{base}_flag_sincCoeffsTruncated"].tolist() == [False, True, True, True]
    assert catalog[f"{base}_flag_apertureTruncated"].tolist() == [False, False, True, True]
    assert catalog[f"{base}_flag"].tolist() == [False, False, True, True]
    assert np.isnan(catalog[f"{base}_instFlux"]).tolist() == [False, False, True, True]
    assert catalog[f"{base}_instFlux"][1] == pytest.approx(1e5, rel=1e-3)
    assert f"{name(17.0)}_flag_sincCoeffsTruncated" not in catalog  # summed naively


def test_shift_moves_a_smooth_image_by_the_fraction() -> None:
    y, x = np.mgrid[-31:32, -31:32].astype(float)
    image = np.exp(-(x**2 + y**2) / 18)
    for dx, dy in ((0.0, 0.0), (0.3, -0.45), (-0.5, 0.499)):
        shifted = np.empty_like(image)
        shift_coefficients(image, dx, dy, np.empty_like(image), shifted)
        np.testing.assert_allclose(shifted, np.exp(-((x - dx) ** 2 + (y - dy) ** 2) / 18), atol=1.5e-3)
    disc = sinc_aperture(9.0)
    shift_coefficients(disc, 0.0, 0.0, np.empty_like(disc), shifted)
    np.testing.assert_allclose(shifted, disc, atol=1e-15)


def test_the_default_catalogues_keep_their_columns() -> None:
    columns = configured_columns(MeasurementConfig(), calibrated=True)
    assert star_schema().extended(columns).names == star_schema().names
    assert {column.name for column in columns} <= set(star_schema().names)
    columns = configured_columns(MeasurementConfig(), calibrated=False)
    assert psf_star_schema().extended(columns).names == psf_star_schema().names


def test_further_apertures_have_columns_and_values(scene: Any, field: Any) -> None:
    image, centers = field
    config = MeasurementConfig(
        circular_aperture=CircularApertureFluxConfig(radii=(12.0, 17.0)),
        compensated_tophat=CompensatedTophatFluxConfig(apertures=(12, 17)),
    )
    catalog = measured(scene, image, centers, config)
    added = set(catalog.schema.names) - set(star_schema().names)
    aperture, tophat = "base_CircularApertureFlux_17_0", "base_CompensatedTophatFlux_17"
    both = ["instFlux", "instFluxErr", "flag", "flux", "mag", "fluxErr", "magErr"]
    assert added == {
        *(f"{base}_{suffix}" for base in (aperture, tophat) for suffix in both),
        f"{aperture}_flag_apertureTruncated",
        f"{tophat}_flag_bounds",
        f"{tophat}_mask_bits",
    }
    for base in (aperture, tophat):
        np.testing.assert_allclose(catalog[f"{base}_instFlux"], 1e5, rtol=2e-3)
