"""The affine fit against known transformations."""

from __future__ import annotations

import numpy as np
import pytest

from service.calibration.astrometry.fit_affine import fit_affine_wcs
from service.calibration.errors import AstrometryFitFailure
from service.exposure.wcs import LinearMap, SipMap, Wcs

_CD = 0.2 / 3600 * np.array([[-1.0, 0.05], [0.05, 1.0]])


def _distorted():
    a, b = np.zeros((4, 4)), np.zeros((4, 4))
    a[2, 0], a[1, 2], b[0, 2], b[3, 0] = 3e-7, 2e-10, -2e-7, 1e-10
    return Wcs(SipMap(LinearMap((1000.0, 900.0), _CD), a, b), (150.0, 65.0))


@pytest.mark.parametrize("camera", [Wcs.tan((1000.0, 900.0), (150.0, 2.2), _CD), _distorted()], ids=["tan", "sip"])
@pytest.mark.parametrize(
    ("matrix", "offset_arcsec"),
    [
        (np.eye(2), (0.0, 0.0)),
        (np.eye(2), (30.0, -17.0)),
        (np.array([[1.0, 3e-3], [0.0, 1.0]]), (0.0, 2.0)),
        (np.array([[np.cos(0.01), -np.sin(0.01)], [np.sin(0.01), np.cos(0.01)]]) * 1.0005, (-5.0, 8.0)),
    ],
    ids=["none", "offset", "shear", "rotation and scale"],
)
def test_exact_on_a_grid(camera, matrix, offset_arcsec):
    """25 x 25 noiseless matches give the transformation back: < 0.001 arcsec and < 0.005 px, upstream's tolerance."""
    truth = camera.with_affine(matrix, np.array(offset_arcsec) / 3600)
    x, y = (v.ravel() for v in np.meshgrid(np.linspace(0, 2047, 25), np.linspace(0, 4095, 25)))
    ra, dec = truth.pixel_to_sky(x, y)
    fitted = fit_affine_wcs(camera, x, y, ra, dec)
    x, y = np.random.default_rng(1).uniform(0, 4095, (2, 500))
    ra, dec = truth.pixel_to_sky(x, y)
    fitted_ra, fitted_dec = fitted.pixel_to_sky(x, y)
    error = 3600 * np.hypot((fitted_ra - ra) * np.cos(np.radians(dec)), fitted_dec - dec)
    assert error.max() < 1e-6
    fitted_x, fitted_y = fitted.sky_to_pixel(ra, dec)
    assert np.hypot(fitted_x - x, fitted_y - y).max() < 1e-4
    assert fitted.crval == camera.crval
    assert fitted.pixel_map is camera.pixel_map


def test_start_of_the_fit_does_not_matter():
    """A WCS that was fitted before gives the same result as the camera's own: fits do not pile up."""
    camera = _distorted()
    rng = np.random.default_rng(2)
    x, y = rng.uniform(0, 2000, (2, 40))
    ra, dec = camera.with_affine(np.eye(2), np.array([1e-3, 0.0])).pixel_to_sky(x, y)
    ra, dec = ra + rng.normal(0, 1e-5, 40), dec + rng.normal(0, 1e-5, 40)
    first = fit_affine_wcs(camera, x, y, ra, dec)
    second = fit_affine_wcs(first, x, y, ra, dec)
    np.testing.assert_array_equal(first.matrix, second.matrix)
    np.testing.assert_array_equal(first.offset, second.offset)


def test_residuals_are_least_squares():
    """The fit beats small changes of each of its numbers."""
    camera = Wcs.tan((1000.0, 900.0), (150.0, 2.2), _CD)
    rng = np.random.default_rng(3)
    x, y = rng.uniform(0, 2000, (2, 30))
    ra, dec = camera.pixel_to_sky(x + rng.normal(0, 0.3, 30), y + rng.normal(0, 0.3, 30))
    fitted = fit_affine_wcs(camera, x, y, ra, dec)

    def cost(wcs):
        other_ra, other_dec = wcs.pixel_to_sky(x, y)
        return (((other_ra - ra) * np.cos(np.radians(dec))) ** 2 + (other_dec - dec) ** 2).sum()

    best = cost(fitted)
    for i in range(6):
        for sign in (-1, 1):
            matrix, offset = fitted.matrix.copy(), fitted.offset.copy()
            if i < 4:
                matrix.flat[i] += sign * 2e-5
            else:
                offset[i - 4] += sign * 1e-6
            assert cost(fitted.with_affine(matrix, offset)) > best


@pytest.mark.parametrize(
    ("x", "y"), [([1.0, 2.0], [3.0, 5.0]), ([0.0, 10.0, 20.0, 50.0], [0.0, 5.0, 10.0, 25.0]), ([7.0] * 5, [9.0] * 5)]
)
def test_singular_matches_are_a_failure(x, y):
    camera = Wcs.tan((1000.0, 900.0), (150.0, 2.2), _CD)
    x, y = np.array(x), np.array(y)
    with pytest.raises(AstrometryFitFailure) as failure:
        fit_affine_wcs(camera, x, y, *camera.pixel_to_sky(x, y))
    assert failure.value.numbers["nMatches"] == len(x)
