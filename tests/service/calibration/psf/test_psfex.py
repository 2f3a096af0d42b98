"""The PSF fit against the truth of a simulated field, its options and its failures."""

from __future__ import annotations

import galsim
import numpy as np
import pytest

from service import threads
from service.calibration.config.psf import MeasurePsfConfig, PsfexDeterminerConfig, ReserveSourcesConfig
from service.calibration.errors import (
    NonfinitePsfShapeError,
    PsfexNoGoodStarsError,
    PsfexNoStarsError,
    PsfexTooFewGoodStarsError,
)
from service.calibration.kernels.psfex import fit_grid_pixels, fit_refinement
from service.calibration.psf import measure_psf as stage
from service.calibration.psf.measure_psf import measure_psf, reserve_sources
from service.calibration.psf.psfex import determine_psf, polynomial_degree
from service.exposure.catalog import SourceCatalog
from service.exposure.exposure import Exposure
from service.exposure.footprint import FootprintSet
from service.exposure.masked_image import MaskedImage
from service.exposure.psf import determinant_radii
from service.exposure.star_schema import psf_star_schema

SIZE = 1200
HALF = 25


def covariance(x, y):
    """Truth: the PSF grows to the right and becomes elliptical to the top; px^2."""
    u, v = x / SIZE - 0.5, y / SIZE - 0.5
    xx = 4.0 * (1 + 0.15 * u + 0.1 * u * u + 0.05 * v)
    return xx, xx * (1 - 0.1 * v), 0.15 * v + 0.1 * u * v


def moffat(x, y, cx: float, cy: float, scale: float = 1.0) -> np.ndarray:
    """True profile at pixels x, y of a star at (cx, cy), integrating to 1: the Moffat index is 3.5."""
    xx, yy, xy = (scale * value for value in covariance(cx, cy))
    det = xx * yy - xy * xy
    dx, dy = x - cx, y - cy
    q = (yy * dx**2 + xx * dy**2 - 2 * xy * dx * dy) / (5 * det)
    return 2.5 * (1 + q) ** -3.5 / (np.pi * 5 * np.sqrt(det))


def field(n: int = 120, *, seed: int = 11, scale: float = 1.0, noise: float = 20.0) -> tuple[Exposure, SourceCatalog]:
    """Isolated stars with their true positions, fluxes and shapes in the catalogue."""
    rng = np.random.default_rng(seed)
    cells = int(np.ceil(np.sqrt(n)))
    pitch = (SIZE - 2 * HALF) / cells
    order = rng.permutation(cells * cells)[:n]
    x = HALF + (order % cells + rng.uniform(0.35, 0.65, n)) * pitch
    y = HALF + (order // cells + rng.uniform(0.35, 0.65, n)) * pitch
    flux = 10 ** rng.uniform(4.5, 5.7, n)
    image = np.zeros((SIZE, SIZE))
    for cx, cy, f in zip(x, y, flux, strict=True):
        px, py = round(cx), round(cy)
        yy, xx = np.mgrid[py - HALF : py + HALF + 1, px - HALF : px + HALF + 1]
        image[py - HALF : py + HALF + 1, px - HALF : px + HALF + 1] += f * moffat(xx, yy, cx, cy, scale)
    variance = np.maximum(image, 0) + noise**2
    image += rng.normal(size=image.shape) * np.sqrt(variance)
    peaks = np.stack([np.rint(x), np.rint(y)], axis=1).astype(np.int32)
    spans = np.array([(py, px - 5, px + 5) for px, py in peaks], np.int32)
    offsets = np.arange(n + 1)
    footprints = FootprintSet.build(spans, offsets, peaks, peak_offsets=offsets)
    planes = MaskedImage(image.astype("f4"), np.zeros(image.shape, "i4"), variance.astype("f4"))
    footprints.paint(planes.mask, planes.planes.bitmask(["DETECTED"]))
    catalog = SourceCatalog.allocate(psf_star_schema(), n, footprints)
    catalog["base_SdssCentroid_x"], catalog["base_SdssCentroid_y"] = x, y
    for name, value in zip(("xx", "yy", "xy"), covariance(x, y), strict=True):
        catalog[f"slot_Shape_{name}"] = scale * value
    for name in ("base_CircularApertureFlux_12_0", "base_PsfFlux"):
        catalog[f"{name}_instFlux"], catalog[f"{name}_instFluxErr"] = flux, flux / 300
    return Exposure(planes), catalog


def true_shapes(x: np.ndarray, y: np.ndarray, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Adaptive size and ellipticity of the truth, by galsim."""
    j, i = np.mgrid[-20:21, -20:21]
    results = []
    for cx, cy in zip(x, y, strict=True):
        stamp = galsim.Image(moffat(i + cx, j + cy, cx, cy, scale), xmin=-20, ymin=-20)
        moments = galsim.hsm.FindAdaptiveMom(stamp, precision=1e-7)
        results.append((moments.moments_sigma, moments.observed_e1, moments.observed_e2))
    return tuple(np.array(results).T)


NINE = np.array([(x, y) for y in (100.0, 600.0, 1100.0) for x in (100.0, 600.0, 1100.0)]).T


@pytest.mark.parametrize("scale", [1.0, 0.36])  # FWHM 4.5 px, and 2.7 px where the grid is refined
@pytest.mark.parametrize("masked_pixels", ["zero_full_weight", "zero_weight"])
def test_model_follows_the_truth_over_the_field(scale: float, masked_pixels: str):
    exposure, catalog = field(scale=scale)
    config = PsfexDeterminerConfig(masked_pixels=masked_pixels)
    psf, used = determine_psf(exposure, catalog, np.arange(len(catalog)), config)
    assert len(used) > 105
    sigma, e1, e2 = true_shapes(*NINE, scale)
    shapes = psf.shapes(*NINE)
    radius = determinant_radii(shapes)
    np.testing.assert_allclose(radius, sigma, rtol=0.01)
    assert abs(np.median(radius / sigma) - 1) < 0.004
    xx, yy, xy = shapes.T
    assert np.median(np.abs((xx - yy) / (xx + yy) - e1)) < 0.005
    assert np.median(np.abs(2 * xy / (xx + yy) - e2)) < 0.005


def test_images_leave_little_of_the_stars():
    exposure, catalog = field(noise=2.0)
    psf, used = determine_psf(exposure, catalog, np.arange(len(catalog)), PsfexDeterminerConfig())
    images, x0, y0 = psf.images(catalog["slot_Centroid_x"][used], catalog["slot_Centroid_y"][used])
    stamps = np.stack([exposure.masked_image.image[b : b + 41, a : a + 41] for a, b in zip(x0, y0, strict=True)])
    amplitude = (images * stamps).sum((1, 2)) / (images**2).sum((1, 2))
    flux = catalog["base_PsfFlux_instFlux"][used]
    assert abs(np.median(amplitude / flux) - 1) < 0.01
    residual = np.abs(stamps - amplitude[:, None, None] * images)[:, 8:33, 8:33].max(axis=(1, 2))
    assert np.median(residual / stamps.max(axis=(1, 2))) < 0.03


@pytest.mark.parametrize("scale", [1.0, 0.36])
@pytest.mark.parametrize("count", [2, 5])
def test_threads_change_no_bit(scale: float, count: int):
    exposure, catalog = field(scale=scale)
    arguments = exposure, catalog, np.arange(len(catalog)), PsfexDeterminerConfig()
    one, used = determine_psf(*arguments)
    with threads.at_most(count):
        many, used_by_many = determine_psf(*arguments)
    np.testing.assert_array_equal(used_by_many, used)
    np.testing.assert_array_equal(many.components, one.components)


def test_deformed_stars_are_cleaned_away():
    exposure, catalog = field()
    for row in (5, 50):
        x, y = catalog.footprints.peaks[row]
        exposure.masked_image.image[y + 2 : y + 6, x + 2 : x + 6] += 0.01 * catalog["base_PsfFlux_instFlux"][row]
    _, used = determine_psf(exposure, catalog, np.arange(len(catalog)), PsfexDeterminerConfig())
    assert not np.isin([5, 50], used).any()
    assert len(used) > 105


def test_masked_neighbours_do_less_harm_without_weight():
    exposure, catalog = field(noise=2.0)
    planes = exposure.masked_image
    peaks = catalog.footprints.peaks[::2]
    for x, y in peaks:  # a star in two has a saturated block on the flank of its profile
        planes.image[y - 2 : y + 3, x + 3 : x + 8] = 1e5
        planes.mask[y - 2 : y + 3, x + 3 : x + 8] |= planes.planes.bitmask(["SAT"])
    sigma, _, _ = true_shapes(*NINE)
    error = {}
    for masked_pixels in ("zero_full_weight", "zero_weight"):
        config = PsfexDeterminerConfig(masked_pixels=masked_pixels)
        psf, _ = determine_psf(exposure, catalog, np.arange(len(catalog)), config)
        error[masked_pixels] = np.abs(determinant_radii(psf.shapes(*NINE)) / sigma - 1).max()
    assert error["zero_weight"] < 0.02 < error["zero_full_weight"]


@pytest.mark.parametrize(("n", "degree"), [(1, 0), (3, 0), (4, 1), (7, 1), (8, 2), (100, 2)])
def test_degree_follows_the_number_of_stars(n: int, degree: int):
    assert polynomial_degree(2, n) == degree


@pytest.mark.parametrize(("n", "terms"), [(5, 3), (9, 6)])
def test_few_stars_give_a_simpler_model(n: int, terms: int):
    exposure, catalog = field(n)
    psf, _ = determine_psf(exposure, catalog, np.arange(n), PsfexDeterminerConfig())
    assert psf.components.shape == (terms, 83, 83)


def test_failures_say_how_many_stars_there_were():
    exposure, catalog = field(3)
    with pytest.raises(PsfexNoStarsError):
        determine_psf(exposure, catalog, np.arange(0), PsfexDeterminerConfig())
    with pytest.raises(PsfexTooFewGoodStarsError) as failure:
        determine_psf(exposure, catalog, np.arange(3), PsfexDeterminerConfig())
    assert failure.value.numbers["num_good_stars"] == 3
    psf, used = determine_psf(exposure, catalog, np.arange(3), PsfexDeterminerConfig(allow_constant_psf=True))
    assert psf.components.shape == (1, 83, 83)
    assert len(used) >= 1
    sigma, _, _ = true_shapes(np.array([600.0]), np.array([600.0]))
    assert psf.determinant_radius() == pytest.approx(sigma[0], rel=0.1)
    catalog["base_CircularApertureFlux_12_0_flag"][0] = True
    catalog["base_CircularApertureFlux_12_0_instFlux"][1] = -5.0
    catalog["base_SdssCentroid_flag"][2] = True
    with pytest.raises(PsfexNoGoodStarsError) as failure:
        determine_psf(exposure, catalog, np.arange(3), PsfexDeterminerConfig())
    assert failure.value.numbers == {"num_candidates": 3}


def test_many_candidates_are_thinned_out_reproducibly():
    exposure, catalog = field()
    config = PsfexDeterminerConfig(max_candidates=40)
    first, used = determine_psf(exposure, catalog, np.arange(120), config)
    second, _ = determine_psf(exposure, catalog, np.arange(120), config)
    assert 30 <= len(used) <= 40
    np.testing.assert_array_equal(first.components, second.components)


def test_reserved_stars_are_candidates_but_not_used():
    exposure, catalog = field()
    config = MeasurePsfConfig(reserve=ReserveSourcesConfig(fraction=0.25))
    result = measure_psf(catalog, exposure, config)
    candidates, reserved, used = (catalog[f"calib_psf_{name}"] for name in ("candidate", "reserved", "used"))
    assert reserved.sum() == round(0.25 * candidates.sum())
    assert candidates[reserved].all()
    assert not (reserved & used).any()
    assert result.num_avail_stars == candidates.sum() - reserved.sum()
    assert result.num_good_stars == used.sum()
    assert exposure.psf is result.psf
    np.testing.assert_array_equal(reserve_sources(8, ReserveSourcesConfig()), np.zeros(8, bool))


def test_psf_without_finite_size_is_not_attached(monkeypatch: pytest.MonkeyPatch):
    exposure, catalog = field(40)
    real = determine_psf

    def broken(*arguments, **known):
        psf, used = real(*arguments, **known)
        psf.components[:] = np.nan
        return type(psf)(psf.components, psf.context_offset, psf.context_scale, psf.average_position), used

    monkeypatch.setattr(stage, "determine_psf", broken)
    with pytest.raises(NonfinitePsfShapeError):
        measure_psf(catalog, exposure, MeasurePsfConfig())
    assert exposure.psf is None


def test_kernel_solves_the_normal_equations():
    rng = np.random.default_rng(0)
    stars, pixels, terms = 15, 70, 6
    flux, basis = rng.uniform(1e3, 1e4, stars), rng.normal(size=(stars, terms))
    profiles = rng.normal(0.01, 0.01, (stars, pixels)).astype(np.float32)
    known = rng.random((stars, pixels)) > 0.2
    rows = np.array([0, 1, 2, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14])
    result = fit_grid_pixels(profiles, known, (0, pixels), rows, flux, basis, 400.0, 1.5, 0.1, 1e3)
    of_some = fit_grid_pixels(profiles, known, (9, 34), rows, flux, basis, 400.0, 1.5, 0.1, 1e3)
    np.testing.assert_array_equal(of_some, result[:, 9:34])
    for pixel in (0, 33, 69):
        q = profiles[:, pixel].astype(float)
        v = flux**2 / (400.0 + (0.1 * flux * q) ** 2 + np.maximum(q, 0) / 1.5) * known[:, pixel]
        v[[3, 7]] = 0.0
        normal = (basis * v[:, None]).T @ basis + 1e3 * np.eye(terms)
        np.testing.assert_allclose(result[:, pixel], np.linalg.solve(normal, basis.T @ (v * q)), rtol=1e-9)


def test_refinement_kernel_is_the_triangle_projection():
    rng = np.random.default_rng(0)
    stars, size, grid, step = 6, 11, 23, 2
    residual, weight = rng.normal(size=(2, stars, size, size)).astype(np.float32)
    weight = np.abs(weight)
    flux, shift = rng.uniform(10, 100, stars), rng.uniform(-0.5, 0.5, (stars, 2))
    basis = rng.normal(size=(stars, 3))
    pixels = np.array([[11, 11], [9, 14], [0, 22]])
    result = fit_refinement(residual, weight, flux, shift, basis, pixels, grid, step, 50.0)
    r = np.arange(size) - size // 2
    for k, (row, column) in enumerate(pixels):
        normal, right = 50.0 * np.eye(3), np.zeros(3)
        for s in range(stars):
            ty = np.maximum(0, 2 - np.abs(2 * (r - shift[s, 1]) - (row - 11)))
            tx = np.maximum(0, 2 - np.abs(2 * (r - shift[s, 0]) - (column - 11)))
            t = np.outer(ty, tx)
            normal += (weight[s] * flux[s] ** 2 * t**2).sum() * np.outer(basis[s], basis[s])
            right += (weight[s] * flux[s] * t * residual[s]).sum() * basis[s]
        np.testing.assert_allclose(result[k], np.linalg.solve(normal, right), rtol=1e-6)
