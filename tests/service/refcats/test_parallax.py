"""The shift by parallax, beside vectors and beside astropy's change of frame."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import CartesianRepresentation, Distance, SkyCoord, get_body_barycentric
from astropy.time import Time

from service import refcats
from service.exposure.geometry import Box
from service.exposure.wcs import Wcs
from service.refcats.columns import Table

EPOCH = Time(2019.37, format="jyear", scale="tai")


@pytest.fixture(scope="module")
def rows() -> Table:
    rng = np.random.default_rng(3)
    n = 400
    z = rng.uniform(-1, 1, n)
    table = {
        "id": np.arange(1, n + 1),
        "ra": rng.uniform(0, 360, n),
        "dec": np.degrees(np.arcsin(z)),
        "ra_err": np.full(n, 0.5),
        "dec_err": np.full(n, 0.5),
        "parallax": rng.uniform(5, 750, n),  # the nearest star has 768 mas
        "parallax_err": np.full(n, 10.0),
        "g_flux": np.full(n, 1e5),
        "g_fluxErr": np.full(n, 1e3),
    }
    table["dec"][0] = 89.9999  # a tenth of an arcsec moves its right ascension by degrees
    table["parallax"][1:20] = np.nan
    return table


def as_seen(rows: Table) -> SkyCoord:
    """Directions from the Earth to the stars as points in space."""
    parallax = np.where(np.isfinite(rows["parallax"]), rows["parallax"], 1e-6)
    stars = SkyCoord(rows["ra"] * u.deg, rows["dec"] * u.deg, distance=Distance(parallax=parallax * u.mas))
    earth = get_body_barycentric("earth", EPOCH)
    return SkyCoord(CartesianRepresentation(stars.cartesian.xyz - earth.xyz[:, None]), frame="icrs")


def test_stars_are_where_the_earth_sees_them(rows: Table) -> None:
    found = refcats.TableCatalog("near", rows).load_circle(0.0, 0.0, 180.0, epoch=EPOCH.tai.mjd, parallax=True).table
    order = found["id"] - 1
    here = SkyCoord(found["coord_ra"] * u.rad, found["coord_dec"] * u.rad)
    seen = as_seen(rows)[order]
    # the formula is of first order: the second is parallax squared, 3 microarcsec for the nearest star
    assert here.separation(seen).max() < 4 * u.uas
    moved = here.separation(SkyCoord(rows["ra"] * u.deg, rows["dec"] * u.deg)[order])
    without = np.isnan(rows["parallax"])[order]
    assert np.array_equal(found["parallax_flag"], without)
    assert moved[without].max() < 0.01 * u.uas
    assert moved.max() > 600 * u.mas


def test_its_errors_grow_with_the_parallax_factors(rows: Table) -> None:
    loader = refcats.TableCatalog("near", rows)
    before = loader.load_circle(0.0, 0.0, 180.0, epoch=EPOCH.tai.mjd).table
    after = loader.load_circle(0.0, 0.0, 180.0, epoch=EPOCH.tai.mjd, parallax=True).table
    start = SkyCoord(before["coord_ra"] * u.rad, before["coord_dec"] * u.rad)
    east, north = start.spherical_offsets_to(SkyCoord(after["coord_ra"] * u.rad, after["coord_dec"] * u.rad))
    measured = np.isfinite(before["parallax"]) & (np.abs(before["coord_dec"]) < 1.5)
    for name, shift in (("coord_raErr", east), ("coord_decErr", north)):
        factor = shift.rad / before["parallax"]
        expected = np.hypot(0.5, 10.0 * factor) * u.mas.to(u.rad)
        np.testing.assert_allclose(after[name][measured], expected[measured], rtol=1e-4)
        np.testing.assert_array_equal(after[name][~np.isfinite(before["parallax"])], np.float32(0.5 * u.mas.to(u.rad)))


def test_pixels_follow_and_the_default_is_not_to(rows: Table) -> None:
    star = 30
    wcs = Wcs.tan((50.0, 50.0), (rows["ra"][star], rows["dec"][star]), 0.2 / 3600 * np.array([[-1.0, 0], [0, 1.0]]))
    loader = refcats.TableCatalog("near", rows)
    shifted = loader.load_pixel_box(Box(0, 0, 100, 100), wcs, margin=5, epoch=EPOCH.tai.mjd, parallax=True).table
    x, y = wcs.sky_to_pixel(as_seen(rows)[star].ra.deg, as_seen(rows)[star].dec.deg)
    assert shifted["centroid_x"] == pytest.approx(x, abs=1e-4)
    assert shifted["centroid_y"] == pytest.approx(y, abs=1e-4)
    assert np.hypot(x - 50, y - 50) > 0.1
    for options in ({"epoch": EPOCH.tai.mjd}, {"epoch": np.nan, "parallax": True}):
        plain = loader.load_pixel_box(Box(0, 0, 100, 100), wcs, margin=5, **options).table  # type: ignore[arg-type]
        assert plain["centroid_x"] == pytest.approx(50.0, abs=1e-6)
