"""The compiled PSF against the one in numpy, which has its own oracles."""

from __future__ import annotations

import numpy as np
import pytest

from service.calibration.kernels.lanczos import fill_matrices, resample
from service.calibration.kernels.psf_shapes import measure_shapes
from service.calibration.psf.compiled import CompiledPsfexPsf
from service.exposure.psf import PsfexPsf, psf_from_state
from service.exposure.psf.lanczos import lanczos_matrices
from service.exposure.psf.moments import adaptive_moments


def gaussians(*covariances: tuple[float, float, float], size: int = 41, step: float = 1.0) -> np.ndarray:
    """Gaussians sampled at points, of unit sum; float32."""
    r = step * (np.arange(size) - size // 2)
    x, y = r, r[:, None]
    images = [np.exp(-0.5 * (yy * x**2 + xx * y**2 - 2 * xy * x * y) / (xx * yy - xy**2)) for xx, yy, xy in covariances]
    return np.array([image / image.sum() for image in images], np.float32)


def both(components: np.ndarray, oversampling: int = 2) -> tuple[PsfexPsf, CompiledPsfexPsf]:
    arguments = components, (500.0, 400.0), (900.0, 700.0), (510.0, 390.0), oversampling
    return PsfexPsf(*arguments), CompiledPsfexPsf(*arguments)


def varying() -> tuple[PsfexPsf, CompiledPsfexPsf]:
    """Round at the left, elongated at the right, with noise in all pixels."""
    left, right = gaussians((2.0, 2.0, 0.0), (4.0, 5.0, 0.8), size=83, step=0.5)
    noise = np.random.default_rng(3).normal(scale=1e-5, size=(3, 83, 83)).astype(np.float32)
    return both(noise + np.stack([0.5 * (left + right), right - left, 0.1 * left]))


def test_images_are_those_of_numpy() -> None:
    numpy, compiled = varying()
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0, 1000, 150), rng.uniform(-20, 800, 150)
    x[:20], y[10:30] = np.rint(x[:20]), np.rint(y[10:30]) + 0.5
    images, x0, y0 = numpy.images(x, y)
    again, x0_again, y0_again = compiled.images(x, y)
    assert again.dtype == np.float32
    np.testing.assert_allclose(again, images, rtol=1e-6, atol=2e-7 * images.max())
    np.testing.assert_array_equal([x0_again, y0_again], [x0, y0])


def test_positions_too_large_for_pixels_are_refused_as_by_numpy() -> None:
    for psf in varying():
        with pytest.raises(ValueError, match="within one input pixel"):
            psf.images([1e15], [40.0])


def test_what_the_kernel_leaves_at_whole_pixels_is_that_of_numpy() -> None:
    # 1e-14 of the PSF: it decides to which child of a blend the pixels beyond all PSFs go
    point = np.zeros((1, 83, 83), np.float32)
    point[0, 41, 41] = 1.0
    numpy, compiled = (psf.images([30.0], [40.0])[0][0] for psf in both(point))
    assert np.count_nonzero(numpy) > 1
    np.testing.assert_allclose(compiled, numpy, rtol=1e-2)


@pytest.mark.parametrize(
    ("size", "new", "step", "phases"), [(83, 41, 2, 1), (41, 83, 1, 2), (25, 25, 1, 1), (9, 5, 3, 1)]
)
def test_resampling_equals_the_matrices(size: int, new: int, step: int, phases: int) -> None:
    rng = np.random.default_rng(2)
    images = rng.normal(size=(40, size, size)).astype(np.float32)
    dx, dy = rng.uniform(-1, 1, (2, 40))
    dx[:3], dy[:3] = [-1.0, 0.0, 1.0], [0.0, -1.0, 0.0]
    rows, columns = (lanczos_matrices(shift, size, new, step / phases).astype(float) for shift in (dy, dx))
    again = np.empty((40, new, size), np.float32)
    fill_matrices(dy, step, phases, again)
    np.testing.assert_allclose(again, rows, rtol=1e-6, atol=1e-16)
    result = np.empty((40, new, new), np.float32)
    resample(np.ascontiguousarray(images.transpose(0, 2, 1)), dx, dy, step, phases, result)
    np.testing.assert_allclose(result, rows @ images @ columns.transpose(0, 2, 1), atol=3e-6)


def test_shapes_are_those_of_numpy() -> None:
    numpy, compiled = varying()
    rng = np.random.default_rng(4)
    x, y = rng.uniform(0, 1000, 150), rng.uniform(0, 800, 150)
    np.testing.assert_allclose(compiled.shapes(x, y), numpy.shapes(x, y), rtol=1e-10, atol=1e-10)


def test_shapes_of_stamps_larger_and_smaller_than_the_weight() -> None:
    for size in (7, 11, 41):
        stamps = gaussians((4.0, 4.0, 0.0), (9.0, 6.0, -2.0), (1.0, 0.8, 0.3), (30.0, 40.0, 10.0), size=size)
        expected, found = adaptive_moments(stamps), np.empty((4, 3))
        measure_shapes(stamps, found)
        measured = np.isfinite(found).all(axis=1)
        assert measured[[0, 2]].all()
        np.testing.assert_allclose(found[measured], expected[measured], rtol=1e-10, atol=1e-10)


def test_what_does_not_settle_is_left_to_numpy() -> None:
    x, y = np.array([10.0, 900.0]), np.array([20.0, 30.0])
    narrow = gaussians((0.04, 0.04, 0.0), size=83, step=0.5)
    hollow = -gaussians((1.0, 1.0, 0.0), size=83, step=0.5) + 1.5 * gaussians((16.0, 16.0, 0.0), size=83, step=0.5)
    for components in (narrow, hollow):
        numpy, compiled = both(components)
        np.testing.assert_array_equal(compiled.shapes(x, y), numpy.shapes(x, y))
    stamps = np.stack([narrow[0], np.full_like(narrow[0], np.nan), -narrow[0]])
    found = np.empty((3, 3))
    measure_shapes(stamps, found)
    assert np.isnan(found).all()


def test_its_state_is_that_of_a_psf_without_kernels() -> None:
    numpy, compiled = varying()
    again = psf_from_state(*compiled.state())
    assert type(again) is PsfexPsf
    np.testing.assert_array_equal(again.image(30.2, 40.7)[0], numpy.image(30.2, 40.7)[0])


def test_a_position_that_is_not_finite_is_refused() -> None:
    for function in (varying()[1].images, varying()[1].shapes):
        with pytest.raises(ValueError, match="finite"):
            function([np.nan], [1.0])
