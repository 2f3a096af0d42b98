"""The WCS chain against astropy and closed forms."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS

from service.exposure.geometry import Box
from service.exposure.wcs import LinearMap, SipMap, Wcs, WcsError, gnomonic, gnomonic_inverse

CD = 0.2 / 3600 * np.array([[-0.8, 0.6], [0.6, 0.8]])
HEADER = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRVAL1": 359.99,
    "CRVAL2": -35.0,
    "CRPIX1": 513.0,
    "CRPIX2": 401.5,
    "CD1_1": CD[0, 0],
    "CD1_2": CD[0, 1],
    "CD2_1": CD[1, 0],
    "CD2_2": CD[1, 1],
}
SIP = HEADER | {
    "CTYPE1": "RA---TAN-SIP",
    "CTYPE2": "DEC--TAN-SIP",
    "A_ORDER": 3,
    "B_ORDER": 3,
    "A_2_0": 3e-6,
    "A_1_2": -2e-9,
    "B_0_2": -1e-6,
    "B_3_0": 4e-9,
}
SWAPPED = HEADER | {"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "CRVAL1": -35.0, "CRVAL2": 359.99}


def pixels() -> tuple[np.ndarray, np.ndarray]:
    x, y = np.meshgrid(np.linspace(-50, 1100, 7), np.linspace(-20, 900, 6))
    return x.ravel(), y.ravel()


@pytest.mark.parametrize("header", [HEADER, SIP, SWAPPED], ids=["tan", "sip", "swapped"])
def test_agrees_with_astropy(header: dict[str, object]) -> None:
    x, y = pixels()
    ours = Wcs.from_header(header)
    sky = WCS(header).pixel_to_world(x, y)
    ra, dec = ours.pixel_to_sky(x, y)
    assert np.max(sky.separation(SkyCoord(ra, dec, unit="deg")).mas) < 1e-4
    back = ours.sky_to_pixel(ra, dec)
    assert np.max(np.hypot(back[0] - x, back[1] - y)) < 1e-7


def test_origin_shifts_the_parent_frame() -> None:
    shifted = Wcs.from_header(HEADER, x0=100.0, y0=-7.0)
    assert np.allclose(shifted.pixel_to_sky(120.0, 30.0), Wcs.from_header(HEADER).pixel_to_sky(20.0, 37.0), atol=1e-12)


def test_tpv_goes_through_astropy_and_back() -> None:
    header = HEADER | {"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "PV1_1": 1.0, "PV2_1": 1.0, "PV1_7": 0.5}
    x, y = pixels()
    ours = Wcs.from_header(header)
    ra, dec = ours.pixel_to_sky(x, y)
    sky = WCS(header).pixel_to_world(x, y)
    assert np.max(sky.separation(SkyCoord(ra, dec, unit="deg")).mas) < 1e-3
    back = ours.sky_to_pixel(ra, dec)
    assert np.max(np.hypot(back[0] - x, back[1] - y)) < 1e-4


@pytest.mark.parametrize("header", [{}, HEADER | {"CD1_1": 0.0, "CD1_2": 0.0}], ids=["none", "singular"])
def test_unusable_headers_are_refused(header: dict[str, object]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(WcsError):
            Wcs.from_header(header)


def test_gnomonic_round_trip_near_the_pole() -> None:
    rng = np.random.default_rng(5)
    xi, eta = rng.uniform(-3, 3, (2, 100))
    back = gnomonic(*gnomonic_inverse(xi, eta, 12.0, 89.0), 12.0, 89.0)
    assert np.allclose(back, (xi, eta), atol=1e-11)


def test_far_hemisphere_is_nan() -> None:
    assert np.isnan(gnomonic(190.0, 5.0, 10.0, -5.0)).all()


def test_affine_part_moves_the_plane() -> None:
    wcs = Wcs.from_header(HEADER)
    moved = wcs.with_affine(np.array([[1.0, 1e-4], [-1e-4, 1.0]]), np.array([1e-3, -2e-3]))
    xi, eta = wcs.pixel_to_iwc(700.0, 200.0)
    expected = gnomonic_inverse(xi + 1e-4 * eta + 1e-3, eta - 1e-4 * xi - 2e-3, *wcs.crval)
    assert np.allclose(moved.pixel_to_sky(700.0, 200.0), expected, atol=1e-13)
    assert np.allclose(moved.sky_to_pixel(*moved.pixel_to_sky(700.0, 200.0)), (700.0, 200.0), atol=1e-7)


def test_pixel_scale_and_jacobian() -> None:
    wcs = Wcs.from_header(HEADER)
    assert wcs.pixel_scale(512.0, 400.5) == pytest.approx(0.2, rel=1e-7)
    assert np.allclose(wcs.jacobian(512.0, 400.5)[0], CD, rtol=1e-6)


def test_fits_approximation_of_a_distorted_wcs() -> None:
    a, b = np.zeros((4, 4)), np.zeros((4, 4))
    a[1, 2], a[3, 0], b[0, 3], b[2, 0] = 3e-9, 2e-9, -4e-9, 2e-6
    wcs = Wcs(SipMap(LinearMap((500.0, 480.0), CD), a, b), (12.0, 33.0)).with_affine(
        np.array([[1.001, 2e-4], [1e-4, 0.999]]), np.array([2e-3, 1e-3])
    )
    header, deviation = wcs.fits_approximation(Box(10, 20, 1000, 900))
    assert header["CTYPE1"] == "RA---TAN-SIP"
    assert deviation < 1e-6
    x, y = np.array([15.0, 700.0, 1000.0]), np.array([25.0, 333.0, 910.0])
    sky = WCS(header).pixel_to_world(x, y)
    ra, dec = wcs.pixel_to_sky(x, y)
    assert np.max(sky.separation(SkyCoord(ra, dec, unit="deg")).arcsec) < 1e-6
    assert wcs.fits_approximation(Box(700, 800, 130, 90))[1] < 1e-6
    plain, deviation = Wcs.from_header(HEADER).fits_approximation(Box(0, 0, 1000, 900))
    assert plain["CTYPE1"] == "RA---TAN"
    assert deviation < 1e-6


@pytest.mark.parametrize("header", [HEADER, SIP], ids=["tan", "sip"])
def test_state_round_trip(header: dict[str, object]) -> None:
    wcs = Wcs.from_header(header).with_affine(np.array([[1.0, 2e-4], [1e-4, 1.0]]), np.array([1e-3, 0.0]))
    x, y = pixels()
    assert np.array_equal(Wcs.from_state(wcs.state()).pixel_to_sky(x, y), wcs.pixel_to_sky(x, y))
