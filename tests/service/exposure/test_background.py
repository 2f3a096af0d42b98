"""Background models against polynomials, SciPy's splines and the surfaces that Rubin's code drew."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial.chebyshev import chebval2d
from scipy.interpolate import Akima1DInterpolator, CubicSpline

from service import threads
from service.exposure.background import BackgroundList, BackgroundModel, cell_centers, cell_edges
from service.exposure.geometry import Box
from service.exposure.grid_interpolation import PiecewiseCubic, lowered_style


def model(values: np.ndarray, bbox: Box, **options) -> BackgroundModel:
    values = np.asarray(values, np.float32)
    options.setdefault("stderr", np.ones(values.shape, np.float32))
    return BackgroundModel(value=values, mask=np.zeros(values.shape, np.int32), bbox=bbox, **options)


def unit(position: np.ndarray, size: int) -> np.ndarray:
    return (position + 0.5) / size * 2 - 1


def triangle(order: int, seed: int = 3) -> np.ndarray:
    """Random coefficients [x order, y order] with total order at most ``order``."""
    coefficients = np.random.default_rng(seed).normal(0, 10, (order + 1, order + 1))
    i, j = np.indices(coefficients.shape)
    return np.where(i + j <= order, coefficients, 0)


@given(size=st.integers(1, 5000), n=st.integers(1, 60))
def test_cells_divide_the_image_evenly(size: int, n: int) -> None:
    n = min(n, size)
    edges = cell_edges(size, n)
    widths = np.diff(edges)
    assert (edges[0], edges[-1]) == (0, size)
    assert widths.min() >= 1
    assert widths.max() - widths.min() <= 1
    np.testing.assert_array_equal(cell_centers(size, n), [np.arange(a, b).mean() for a, b in itertools.pairwise(edges)])


@pytest.mark.parametrize("weights", ["equal", "uneven", "off"])
def test_chebyshev_surface_reproduces_a_polynomial(weights: str) -> None:
    nx, ny, width, height = 9, 11, 310, 420
    coefficients = triangle(6)
    u, v = unit(cell_centers(width, nx), width), unit(cell_centers(height, ny), height)
    cells = chebval2d(*np.meshgrid(u, v), coefficients)
    cells[4, 5] = np.nan
    stderr = np.ones(cells.shape, np.float32)
    if weights != "equal":
        stderr = np.random.default_rng(0).uniform(0.1, 5, cells.shape).astype(np.float32)
    surface = model(cells, Box(-7, 12, width, height), approx_order=6, stderr=stderr, weighting=weights != "off")
    x, y = np.meshgrid(unit(np.arange(width), width), unit(np.arange(height), height))
    np.testing.assert_allclose(surface.image(), chebval2d(x, y, coefficients), atol=2e-4)
    np.testing.assert_allclose(surface.coefficients, coefficients.T, atol=2e-4)


def test_weights_act_with_the_chosen_power() -> None:
    # a constant fitted to two populations of cells is their weighted mean
    cells = np.zeros((4, 4))
    cells[:2] = 30.0
    stderr = np.where(cells > 0, 2.0, 1.0).astype(np.float32)
    for power, expected in ((1, 30 * 0.5 / 1.5), (2, 30 * 0.25 / 1.25)):
        surface = model(cells, Box(0, 0, 40, 40), approx_order=0, stderr=stderr, weight_power=power)
        assert surface.coefficients[0, 0] == pytest.approx(expected, abs=1e-6)


def test_order_is_lowered_where_cells_are_missing() -> None:
    cells = 100 + np.random.default_rng(1).normal(0, 0.3, (8, 8))
    cells[:5] = np.nan
    surface = model(cells, Box(0, 0, 800, 800), approx_order=6)
    assert len(surface.coefficients) - 1 < 6
    assert abs(surface.image() - 100).max() < 10  # order 6 gives 1e4 here
    few = model(np.where(np.arange(64).reshape(8, 8) < 5, 7.0, np.nan), Box(0, 0, 800, 800), approx_order=6)
    np.testing.assert_allclose(few.image(), 7, rtol=1e-5)


def test_cells_without_noise_have_no_weight() -> None:
    surface = model(np.ones((8, 8)), Box(0, 0, 64, 64), approx_order=6, stderr=np.zeros((8, 8), np.float32))
    with pytest.raises(RuntimeError, match="variance is likely zero"):
        surface.image()


@pytest.mark.parametrize(("style", "n"), [("AKIMA_SPLINE", 12), ("NATURAL_SPLINE", 7), ("LINEAR", 4)])
def test_interpolants_agree_with_scipy_and_extrapolate_by_taylor(style: str, n: int) -> None:
    rng = np.random.default_rng(5)
    x = np.cumsum(rng.uniform(5, 15, n))
    y = rng.normal(100, 20, (n, 3))
    if style == "AKIMA_SPLINE":
        oracle = Akima1DInterpolator(x, y, axis=0)
    elif style == "NATURAL_SPLINE":
        oracle = CubicSpline(x, y, axis=0, bc_type="natural")
    else:
        oracle = None
    curve = PiecewiseCubic.through(x, y, style)
    inside = np.linspace(x[0], x[-1], 501)
    expected = np.stack([np.interp(inside, x, y[:, k]) for k in range(3)], axis=1) if oracle is None else oracle(inside)
    np.testing.assert_allclose(curve(inside), expected, rtol=1e-12, atol=1e-10)
    if oracle is not None:
        for end, at in ((x[0], x[0] - 4.0), (x[-1], x[-1] + 4.0)):
            step = at - end
            taylor = oracle(end) + step * oracle(end, 1) + 0.5 * step**2 * oracle(end, 2)
            np.testing.assert_allclose(curve(np.array([at]))[0], taylor, rtol=1e-10)


def test_akima_keeps_straight_segments_straight_where_slopes_tie() -> None:
    x = np.arange(8.0)
    y = np.array([0, 0, 0, 0, 3.0, 3, 3, 3])
    curve = PiecewiseCubic.through(x, y, "AKIMA_SPLINE")
    np.testing.assert_allclose(curve(np.linspace(-1, 2, 31)), 0, atol=1e-12)


def test_constant_takes_the_nearest_cell() -> None:
    curve = PiecewiseCubic.through(np.array([1.0, 3.0, 9.0]), np.array([5.0, 6.0, 7.0]), "CONSTANT")
    np.testing.assert_array_equal(curve(np.array([-4, 1.9, 2.1, 5.9, 6.1, 20])), [5, 5, 6, 6, 7, 7])


@pytest.mark.parametrize(
    ("n", "expected"), [(9, "AKIMA_SPLINE"), (4, "NATURAL_SPLINE"), (2, "LINEAR"), (1, "CONSTANT")]
)
def test_style_follows_the_number_of_points(n: int, expected: str) -> None:
    assert lowered_style("AKIMA_SPLINE", n) == expected
    with pytest.raises(ValueError, match="at least one"):
        lowered_style("LINEAR", 0)


def test_spline_surface_is_interpolation_along_y_then_x_through_cells_with_values() -> None:
    nx, ny, width, height = 8, 6, 100, 77
    cells = np.random.default_rng(2).normal(0, 9, (ny, nx)).astype(np.float32)
    cells[:, 3] = np.nan
    cells[2, 6] = np.nan
    cells[[0, 1, 3], 1] = np.nan  # three left: a natural spline in this column
    x, y = cell_centers(width, nx), cell_centers(height, ny)
    used = [i for i in range(nx) if i != 3]
    rows = np.arange(height, dtype=float)
    inside = (rows >= y[2]) & (rows <= y[4])
    columns = []
    for i in used:
        ok = np.isfinite(cells[:, i])
        kind = (
            CubicSpline(y[ok], cells[ok, i], bc_type="natural") if i == 1 else Akima1DInterpolator(y[ok], cells[ok, i])
        )
        columns.append(kind(rows[inside]))
    pixels = np.arange(np.ceil(x[0]), np.floor(x[-1]) + 1)
    expected = Akima1DInterpolator(x[used], np.array(columns))(pixels).T
    drawn = model(cells, Box(3, -5, width, height)).image()[inside][:, pixels.astype(int)]
    np.testing.assert_allclose(drawn, expected, atol=1e-4)


def test_surface_of_no_cells_is_refused() -> None:
    with pytest.raises(RuntimeError, match="no cell"):
        model(np.full((6, 6), np.nan), Box(0, 0, 60, 60)).image()


def both_kinds(bbox: Box) -> BackgroundList:
    rng = np.random.default_rng(4)
    return BackgroundList(
        [
            model(rng.normal(900, 5, (8, 8)), bbox, approx_order=6),
            model(rng.normal(0, 5, (9, 7)), bbox),
            model(rng.normal(-3, 1, (8, 8)), bbox, approx_order=0),
        ]
    )


def test_list_is_the_sum_of_what_was_subtracted() -> None:
    bbox = Box(5, 4, 201, 181)
    backgrounds = both_kinds(bbox)
    before = np.random.default_rng(0).normal(1000, 30, bbox.shape).astype(np.float32)
    image = before.copy()
    for part in backgrounds:
        expected = image - part.image()
        part.subtract_from(image)
        np.testing.assert_array_equal(image, expected)
    np.testing.assert_allclose(before - image, backgrounds.image(), atol=3e-4)
    backgrounds.add_to(image)
    np.testing.assert_allclose(image, before, atol=3e-4)
    backgrounds.subtract_from(image)
    backgrounds.pop().add_to(image)
    assert len(backgrounds) == 2
    np.testing.assert_allclose(before - image, backgrounds.image(), atol=3e-4)
    backgrounds.clear()
    assert len(backgrounds) == 0
    backgrounds.add_to(image)
    with pytest.raises(ValueError, match="empty"):
        backgrounds.image()


def test_threads_subtract_and_add_what_one_does() -> None:
    bbox = Box(5, 4, 201, 581)
    before = np.random.default_rng(0).normal(1000, 30, bbox.shape).astype(np.float32)
    backgrounds = both_kinds(bbox)
    for change in (backgrounds.subtract_from, backgrounds.add_to, backgrounds[1].subtract_from, backgrounds[0].add_to):
        alone, together = before.copy(), before.copy()
        change(alone)
        with threads.at_most(3):
            change(together)
        assert (alone != before).all()
        np.testing.assert_array_equal(together, alone)


def test_mean_and_variance_are_those_of_the_image() -> None:
    for backgrounds in (both_kinds(Box(0, 0, 130, 90)), BackgroundList(list(both_kinds(Box(0, 0, 130, 90)))[::2])):
        image = backgrounds.image().astype(np.float64)
        mean, variance = backgrounds.mean_and_variance()
        assert mean == pytest.approx(image.mean(), rel=1e-7)
        assert variance == pytest.approx(image.var(ddof=1), rel=1e-5)


def test_one_pixel_has_no_variance() -> None:
    mean, variance = BackgroundList([model(np.array([[900.0]]), Box(0, 0, 1, 1))]).mean_and_variance()
    assert mean == 900.0
    assert np.isnan(variance)


@settings(max_examples=20, deadline=None)
@given(factor=st.floats(1e-3, 1e3), x0=st.integers(-5000, 5000), y0=st.integers(-5000, 5000))
def test_models_scale_and_do_not_depend_on_the_origin(factor: float, x0: int, y0: int) -> None:
    here, there = both_kinds(Box(0, 0, 70, 60)), both_kinds(Box(x0, y0, 70, 60))
    np.testing.assert_array_equal(here.image(), there.image())
    np.testing.assert_allclose(there.scaled(factor).image(), here.image() * factor, rtol=3e-6, atol=1e-5 * factor)
    np.testing.assert_array_equal(here.scaled(factor)[0].stderr, here[0].stderr)


def test_state_round_trip_through_plain_values() -> None:
    original = model(
        np.random.default_rng(4).normal(900, 5, (8, 7)),
        Box(-3, 9, 201, 181),
        approx_order=4,
        interp_style="LINEAR",
        undersample_style="THROW_EXCEPTION",
        weighting=False,
        weight_power=2,
    )
    header, arrays = original.state()
    assert all(isinstance(value, int) for value in header.values())
    assert (header["BKGD_X0"], header["BKGD_HEIGHT"], header["APPROXSTYLE"]) == (-3, 181, 0)
    again = BackgroundModel.from_state(json.loads(json.dumps(header)), arrays)
    np.testing.assert_array_equal(again.image(), original.image())
    assert again.state()[0] == header
    spline, _ = model(np.ones((6, 6)), Box(0, 0, 60, 60)).state()
    assert spline["APPROXSTYLE"] == -1
    with pytest.raises(ValueError, match="style number 9"):
        BackgroundModel.from_state(header | {"INTERPSTYLE": 9}, arrays)


def test_models_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        model(np.ones((3, 3)), Box(0, 0, 9, 9), stderr=np.ones((2, 3), np.float32))
    with pytest.raises(ValueError, match="unknown background style"):
        model(np.ones((3, 3)), Box(0, 0, 9, 9), interp_style="CUBIC")
    backgrounds = both_kinds(Box(0, 0, 90, 90))
    with pytest.raises(ValueError, match="does not fit"):
        backgrounds.append(model(np.ones((3, 3)), Box(1, 0, 90, 90)))


@pytest.mark.parametrize("field", ["typical1k", "crowded1k", "sharp1k", "undersampled1k"])
def test_surfaces_are_upstreams(parity_dir: Path, field: str) -> None:
    """Drawn from upstream's cells; its Chebyshev images are recorded to 5e-4 counts, samples of its splines exactly."""
    files = sorted(parity_dir.glob(f"{field}/rubin_*/stages/*background_*_[0-9].npz"))
    compared = 0
    for path in files:
        with np.load(path) as data:
            if "stats_value" not in data:
                continue
            options = json.loads(path.with_suffix(".json").read_text())
            height, width = options["shape_hw"]
            order = options["approx_order_used"][0] if options["use_approx"] else -1
            cells = data["stats_value"], data["stats_stderr"], data["stats_mask"]
            image = BackgroundModel(*cells, Box(0, 0, width, height), approx_order=order).image()
            if "model_every_8px" in data:
                np.testing.assert_allclose(image[::8, ::8], data["model_every_8px"], atol=1e-5)
            elif "model_constant" in data:
                np.testing.assert_allclose(image, data["model_constant"], atol=1e-6)
            else:
                recorded = np.cumsum(np.cumsum(data["model_d2_milli"], axis=1, dtype=np.int64), axis=1) * 1e-3
                np.testing.assert_allclose(image, recorded, rtol=0, atol=5e-4 + 2e-4)
        compared += 1
    assert compared >= 4
