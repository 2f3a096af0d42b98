from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from service.analysis.star_comparison import compare_stars
from service.exposure.catalog import Column, Schema, SourceCatalog

_NAMES = (
    "base_SdssCentroid_x",
    "base_SdssCentroid_y",
    "coord_ra",
    "coord_dec",
    "base_PsfFlux_mag",
    "base_PsfFlux_instFlux",
)
_FLAGS = ("detect_isPrimary", "sky_source", "base_SdssCentroid_flag", "base_PsfFlux_flag")


def catalog_of(x, y, ra, dec, flux, zero_point=31.0):
    schema = Schema([*(Column(name, "f8", "", "") for name in _NAMES), *(Column(name, "?", "", "") for name in _FLAGS)])
    catalog = SourceCatalog.allocate(schema, len(x))
    with np.errstate(divide="ignore", invalid="ignore"):
        values = (x, y, np.radians(ra), np.radians(dec), zero_point - 2.5 * np.log10(flux), flux)
    for name, value in zip(_NAMES, values, strict=True):
        catalog[name] = value
    catalog["detect_isPrimary"] = True
    return catalog


@pytest.fixture
def field():
    rng = np.random.default_rng(3)
    n = 300
    x, y = rng.uniform(0, 2000, (2, n))
    flux = 10 ** rng.uniform(2, 5, n)
    return x, y, 359.99 + 0.2 / 3600 * x, -40 + 0.2 / 3600 * y, flux


def test_a_run_against_itself_differs_in_nothing(field):
    a = catalog_of(*field)
    found = compare_stars(a, a)
    assert (found.matched, found.only_a, found.only_b) == (300, 0, 0)
    assert (found.magnitude, found.magnitude_scatter, found.along_x, found.along_y, found.position_scatter) == (0,) * 5


def test_known_differences_come_back(field):
    """Shift, zero point and scatter that were put in, and positions as astropy sees them, across 0 h."""
    x, y, ra, dec, flux = field
    rng = np.random.default_rng(4)
    noise = rng.normal(0, 0.02, len(x))
    a = catalog_of(x, y, ra, dec, flux)
    here = SkyCoord(ra * u.deg, dec * u.deg)
    there = here.spherical_offsets_by(0.030 * u.arcsec, -0.012 * u.arcsec)
    b = catalog_of(x + 0.15, y - 0.06, there.ra.deg, there.dec.deg, flux * 10 ** (-0.4 * noise), zero_point=31.05)
    found = compare_stars(a, b)
    assert found.is_on_sky
    assert found.is_calibrated
    assert found.matched == 300
    assert found.magnitude == pytest.approx(0.05, abs=0.005)
    assert found.magnitude_scatter == pytest.approx(0.02, rel=0.15)
    assert (found.along_x, found.along_y) == pytest.approx((30.0, -12.0), abs=0.05)
    pixels = compare_stars(a, b, use_sky=False)
    assert (pixels.along_x, pixels.along_y) == pytest.approx((0.15, -0.06))
    assert pixels.position_scatter == pytest.approx(0.0, abs=1e-9)


def test_stars_of_one_run_alone_are_counted(field):
    a, b = catalog_of(*(value[:200] for value in field)), catalog_of(*(value[50:] for value in field))
    found = compare_stars(a, b)
    assert (found.matched, found.only_a, found.only_b) == (150, 50, 100)


def test_of_two_that_are_near_the_nearest_is_the_pair_and_none_twice():
    def one(x):
        x = np.asarray(x, float)
        return catalog_of(x, np.zeros(len(x)), x, x, np.ones(len(x)))

    found = compare_stars(one([10.0, 11.0]), one([10.9]))
    assert (found.matched, found.only_a, found.only_b) == (1, 1, 0)
    assert compare_stars(one([10.0]), one([13.0])).matched == 0


def test_what_is_no_star_does_not_count(field):
    a, b = catalog_of(*field), catalog_of(*field)
    for row, flag in enumerate(("sky_source", "base_SdssCentroid_flag")):
        a[flag][row] = True
    a["detect_isPrimary"][5] = False
    b["base_PsfFlux_flag"][7] = True
    found = compare_stars(a, b)
    assert (found.matched, found.only_a, found.only_b, found.n_magnitudes) == (297, 0, 3, 296)


def test_a_run_without_calibration_is_compared_in_pixels_and_counts(field):
    x, y, ra, dec, flux = field
    a, b = catalog_of(x, y, ra, dec, flux), catalog_of(x + 0.5, y, np.full(300, np.nan), dec, flux / 10**0.4)
    b["base_PsfFlux_mag"] = np.nan
    found = compare_stars(a, b)
    assert (found.is_on_sky, found.is_calibrated) == (False, False)
    assert found.magnitude == pytest.approx(1.0)
    assert found.along_x == pytest.approx(0.5)


def test_without_stars_there_are_no_differences(field):
    found = compare_stars(catalog_of(*field), catalog_of(*(value[:0] for value in field)))
    assert (found.matched, found.only_a) == (0, 300)
    assert np.isnan(found.magnitude)
