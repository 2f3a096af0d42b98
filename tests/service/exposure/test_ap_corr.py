"""Aperture-correction fields against numpy's Chebyshev polynomials."""

from __future__ import annotations

import numpy as np
from numpy.polynomial import chebyshev

from service.exposure.ap_corr import ApCorrMap, ChebyshevField
from service.exposure.geometry import Box

BOX = Box(10, -20, 1000, 800)
COEFFICIENTS = np.arange(6.0).reshape(2, 3)


def test_domain_spans_the_outer_pixel_edges():
    field = ChebyshevField(BOX, COEFFICIENTS)
    x, y = np.array([9.5, 1009.5, 509.5]), np.array([-20.5, 779.5, 379.5])
    expected = chebyshev.chebval2d([-1, 1, 0], [-1, 1, 0], COEFFICIENTS.T)  # numpy's first index is x
    np.testing.assert_allclose(field.evaluate(x, y), expected, atol=1e-12)
    assert field.evaluate(509.5, 379.5).shape == ()
    assert np.isnan(field.evaluate(np.nan, 0.0))


def test_one_position_axis_broadcasts_over_the_other():
    field = ChebyshevField(BOX, COEFFICIENTS)
    grid = field.evaluate(np.arange(3.0)[None, :], np.arange(2.0)[:, None])
    assert grid.shape == (2, 3)
    np.testing.assert_allclose(grid[1, 2], field.evaluate(2.0, 1.0))


def test_constant_is_constant():
    np.testing.assert_array_equal(ChebyshevField.constant(BOX, 7.0).evaluate([0.0, 2000.0], 3.0), [7.0, 7.0])


def test_map_survives_its_state():
    fields = ApCorrMap({"a_instFlux": ChebyshevField(BOX, COEFFICIENTS), "b": ChebyshevField.constant(BOX, 7.0)})
    again = ApCorrMap.from_state(*fields.state())
    assert list(again) == ["a_instFlux", "b"]
    np.testing.assert_array_equal(again["a_instFlux"].coefficients, COEFFICIENTS)
    assert again["b"].bbox == BOX
    assert again["b"].coefficients.shape == (1, 1)
    assert len(ApCorrMap.from_state(*ApCorrMap().state())) == 0


def test_scaled_and_updated_maps_leave_the_original_alone():
    fields = ApCorrMap({"b": ChebyshevField.constant(BOX, 7.0)})
    doubled = fields.scaled(2.0)
    copy = fields.copy()
    copy.update(doubled)
    assert doubled["b"].evaluate(0.0, 0.0) == 14.0
    assert copy["b"].evaluate(0.0, 0.0) == 14.0
    assert fields["b"].evaluate(0.0, 0.0) == 7.0
    assert "b" in fields
    assert "c" not in fields
