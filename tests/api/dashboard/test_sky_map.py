"""The map of the sky: places against astropy's projection, areas against the sphere's."""

from __future__ import annotations

import re

import numpy as np
import pytest
from astropy.wcs import WCS

from api.dashboard import sky_map


def polygons(path: str) -> list[np.ndarray]:
    return [
        np.array([[float(value) for value in point.split()] for point in part.split("L")])
        for part in re.findall(r"M([^Z]+)Z", path)
    ]


def size(path: str) -> float:
    """By the shoelace formula, in units of the map."""
    total = 0.0
    for points in polygons(path):
        x, y = points.T
        total += 0.5 * abs(float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))))
    return total


def test_places_are_those_of_the_projection() -> None:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---MOL", "DEC--MOL"]
    wcs.wcs.crval = [180.0, 0.0]
    wcs.wcs.cdelt = [-1.0, 1.0]
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(0.01, 359.99, 500), np.append(rng.uniform(-90, 90, 498), [89.99, -89.99])
    x, y = sky_map.project(ra, dec)
    their_x, their_y = wcs.wcs_world2pix(ra, dec, 0)
    degree = 100 * np.pi / 180  # their plane is in degrees
    np.testing.assert_allclose(x, (their_x + 1) * degree, atol=0.05)
    np.testing.assert_allclose(y, -(their_y + 1) * degree, atol=0.05)


def test_east_is_left_and_north_is_up() -> None:
    x, y = sky_map.project(np.array([200.0, 180.0]), np.array([0.0, 30.0]))
    assert x[0] < 0
    assert y[1] < 0
    assert np.hypot(*sky_map.project(np.array(180.0), np.array(0.0))) == pytest.approx(0.0, abs=1e-9)


def test_cells_of_the_same_area_are_of_the_same_size_wherever_they_are() -> None:
    ellipse = np.pi * sky_map.WIDTH / 2 * sky_map.HEIGHT / 2
    base = [size(sky_map.cell_path([(0, pixel)])) for pixel in range(12)]
    assert sum(base) == pytest.approx(ellipse, rel=0.01)
    np.testing.assert_allclose(base, ellipse / 12, rtol=0.03)
    fine = [size(sky_map.cell_path([(3, pixel)])) for pixel in range(0, 768, 7)]
    np.testing.assert_allclose(fine, ellipse / 768, rtol=0.08)
    assert sky_map.area([(0, pixel) for pixel in range(12)]) == pytest.approx(41_252.96, abs=0.01)


def test_a_cell_that_hangs_over_the_rim_shows_at_both() -> None:
    across = [pixel for pixel in range(192) if len(polygons(sky_map.cell_path([(2, pixel)]))) == 2]
    assert len(across) >= 4
    for pixel in across:
        centres = sorted(float(points[:, 0].mean()) for points in polygons(sky_map.cell_path([(2, pixel)])))
        assert centres[0] < 0 < centres[1]
    assert abs(polygons(sky_map.cell_path([(0, 4)]))[0]).max() <= sky_map.WIDTH / 2 + 0.1


def test_many_cells_are_drawn_as_fewer() -> None:
    cells = [(5, pixel) for pixel in range(0, 12_288, 2)]
    path = sky_map.cell_path(cells)
    assert 0 < len(polygons(path)) < 2200
    assert sky_map.cell_path([]) == ""


def test_the_mark_is_amid_the_cells_or_nowhere() -> None:
    place = sky_map.middle([(5, 6814)])
    assert place is not None
    (outline,) = polygons(sky_map.cell_path([(5, 6814)]))
    assert np.hypot(*(outline.mean(axis=0) - place)) < 2
    assert sky_map.middle([(0, pixel) for pixel in range(12)]) is None
    assert sky_map.middle([]) is None
