"""The simulation against what it claims to be true."""

from __future__ import annotations

import galsim
import numpy as np
import pytest

from service.simulation.config import SimulationConfig
from service.simulation.simulate import Simulation, simulate

QUIET = {"n_galaxies": 0, "n_cosmic_rays": 0, "n_bad_columns": 0, "n_hot_pixels": 0}


@pytest.fixture(scope="module")
def scene() -> Simulation:
    return simulate(SimulationConfig(size=512, seed=11, n_stars=120, n_galaxies=40))


def test_equal_configurations_give_equal_pixels(scene: Simulation) -> None:
    again = simulate(scene.config)
    assert np.array_equal(again.exposures[0].masked_image.image, scene.exposures[0].masked_image.image)
    assert all(np.array_equal(again.references[name], scene.references[name]) for name in scene.references)
    other = simulate(scene.config.model_copy(update={"seed": 12}))
    assert not np.array_equal(other.exposures[0].masked_image.image, scene.exposures[0].masked_image.image)


def test_moffat_matches_galsim(scene: Simulation) -> None:
    x, y = 300.3, 210.8
    stamp, x0, y0 = scene.psf.stamp(x, y, 40)
    fwhm, e1, e2 = scene.psf.shape(x, y)
    profile = galsim.Moffat(beta=3.5, fwhm=fwhm).shear(e1=e1, e2=e2).shift(x - x0 - 40, y - y0 - 40)
    expected = profile.drawImage(nx=81, ny=81, scale=1.0, method="no_pixel").array
    assert np.max(np.abs(stamp - expected)) < 2e-4 * stamp.max()


def test_noise_agrees_with_the_variance_plane() -> None:
    scene = simulate(SimulationConfig(size=512, seed=3, n_stars=0, **QUIET))
    image = scene.exposures[0].masked_image
    pulls = (image.image - scene.sky) / np.sqrt(image.variance)
    assert abs(pulls.mean()) < 0.02
    assert pulls.std() == pytest.approx(1.0, abs=0.01)


def test_flux_of_a_star_is_in_the_image() -> None:
    config = SimulationConfig(size=512, seed=5, n_stars=1, mag_bright=17.0, mag_faint=17.1, sky=100.0, **QUIET)
    scene = next(
        s
        for s in (simulate(config.model_copy(update={"seed": seed})) for seed in range(20))
        if 60 < s.sources.x[0] < 450 and 60 < s.sources.y[0] < 450
    )
    image = scene.exposures[0].masked_image.image - scene.sky
    dx, dy = np.arange(512) - scene.sources.x[0], np.arange(512) - scene.sources.y[0]
    total = image[dx**2 + (dy**2)[:, None] <= 12.0**2].sum()
    expected = scene.flux[0] * scene.psf.enclosed(scene.sources.x[0], scene.sources.y[0], 12.0)
    assert total == pytest.approx(expected, abs=5 * np.sqrt(expected + 450 * 181))


def test_cosmic_rays_and_defects_are_recorded(scene: Simulation) -> None:
    image, rays = scene.exposures[0].masked_image, scene.cosmic_rays[0]
    assert (rays > 0).sum() > 50
    free = image.is_set(["BAD", "SAT"])
    hit = (rays > 2000) & ~free
    assert np.all(image.image[hit] > scene.sky[hit])
    assert image.count("BAD") >= 300
    assert image.count("BAD") == image.count("INTRP")


def test_references_lie_on_the_stars_at_the_epoch_of_the_exposure(scene: Simulation) -> None:
    refs, config = scene.references, scene.config
    elapsed = 2000.0 + (config.mjd - 51544.5) / 365.25 - config.reference_epoch
    dec = refs["dec"] + refs["pmdec"] * elapsed / 3.6e6
    ra = refs["ra"] + refs["pmra"] * elapsed / 3.6e6 / np.cos(np.radians(dec))
    x, y = scene.wcs.sky_to_pixel(ra, dec)
    distance = np.hypot(x[:, None] - scene.sources.x, y[:, None] - scene.sources.y).min(axis=1)
    spurious = 1 - config.reference_spurious
    assert np.quantile(distance, spurious - 0.02) * config.pixel_scale < 5e-3
    assert (distance > 1).sum() == pytest.approx(
        len(ra) * config.reference_spurious / (1 + config.reference_spurious), abs=2
    )


def test_header_wcs_is_off_as_asked(scene: Simulation) -> None:
    header = scene.exposures[0].wcs
    assert header is not None
    center = (scene.config.size - 1) / 2
    ra, dec = scene.wcs.pixel_to_sky(center, center)
    x, y = header.sky_to_pixel(ra, dec)
    assert np.hypot(x - center, y - center) * 0.2 == pytest.approx(scene.config.pointing_error, rel=1e-3)


def test_two_snaps_share_the_light() -> None:
    config = SimulationConfig(size=256, seed=4, n_stars=20, n_snaps=2, **QUIET)
    scene = simulate(config)
    total = sum(e.masked_image.image.astype(float).sum() for e in scene.exposures)
    single = simulate(config.model_copy(update={"n_snaps": 1})).exposures[0].masked_image.image.sum(dtype=float)
    assert total == pytest.approx(single, rel=2e-3)
    assert scene.exposures[0].visit_info.exposure_time == 15.0


def test_saturated_stars_bleed_along_columns() -> None:
    scene = simulate(SimulationConfig(size=512, seed=8, n_stars=3, mag_bright=11.0, mag_faint=11.5, **QUIET))
    saturated = scene.exposures[0].masked_image.is_set(["SAT"])
    rows, columns = np.nonzero(saturated)
    assert saturated.sum() > 100
    assert np.ptp(rows) > np.ptp(columns) or len(np.unique(columns)) < len(np.unique(rows))
    assert scene.exposures[0].masked_image.image.max() < scene.config.full_well * 1.01
