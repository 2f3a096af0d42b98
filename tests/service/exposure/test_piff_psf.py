"""A PSF on a grid of points against galsim, which draws Piff's own, and its way through a file."""

from __future__ import annotations

import galsim
import numpy as np
import pytest

from service.exposure.psf import PiffPsf, psf_from_state


def psf_of(order: int = 11, size: int = 25, n_grid: int = 25, sampling: float = 1.0) -> PiffPsf:
    """A Gaussian that widens to the right, as six polynomial terms."""
    ticks = (np.arange(n_grid) - n_grid // 2) * sampling
    r2 = ticks**2 + ticks[:, None] ** 2
    gaussian = np.exp(-r2 / 8) / (8 * np.pi) * sampling**2
    components = np.stack([gaussian, 0.1 * gaussian * (r2 / 8 - 1), *np.zeros((4, n_grid, n_grid))])
    return PiffPsf(
        components.astype(np.float32),
        (500.0, 600.0),
        (1000.0, 1200.0),
        (480.0, 620.0),
        size=size,
        sampling=sampling,
        order=order,
    )


@pytest.mark.parametrize(("order", "n_grid", "sampling"), [(11, 25, 1.0), (7, 25, 1.0), (11, 49, 0.5), (3, 31, 0.8)])
def test_drawn_as_galsim_draws_it(order: int, n_grid: int, sampling: float) -> None:
    psf = psf_of(order, 25, n_grid, sampling)
    for x, y in ((480.0, 620.0), (100.3, 900.45), (999.5, 3.501)):
        u = (x - 500) / 1000
        grid = (psf.components[0] + u * psf.components[1]).astype(float)
        profile = galsim.InterpolatedImage(
            galsim.Image(grid, scale=sampling), x_interpolant=galsim.Lanczos(order), use_true_center=False, flux=1.0
        )
        stamp, x0, y0 = psf.image(x, y)
        expected = profile.drawImage(
            bounds=galsim.BoundsI(x0, x0 + 24, y0, y0 + 24),
            scale=1.0,
            method="no_pixel",
            center=galsim.PositionD(x, y),
            dtype=float,
        ).array
        expected /= expected.sum()
        np.testing.assert_allclose(stamp, expected, atol=2e-5 * expected.max() if order > 3 else 1e-3 * expected.max())


def test_kernel_is_centred_and_interface_holds() -> None:
    psf = psf_of()
    kernel = psf.kernel_image()
    assert kernel.shape == (25, 25)
    assert np.unravel_index(kernel.argmax(), kernel.shape) == (12, 12)
    assert kernel.sum() == pytest.approx(1.0, abs=1e-6)
    wide, narrow = psf.determinant_radius(999.0, 600.0), psf.determinant_radius(1.0, 600.0)
    assert wide > 1.02 * narrow
    assert psf.determinant_radius() == pytest.approx(2.0, rel=0.01)
    images, x0, y0 = psf.images([10.0, 10.49, 10.5], [20.0, 20.0, 20.0])
    assert images.shape == (3, 25, 25)
    assert x0.tolist() == [-2, -2, -1]
    assert y0.tolist() == [8, 8, 8]
    assert psf.aperture_flux(12.0) == pytest.approx(1.0, abs=0.01)


def test_read_back_from_its_state() -> None:
    psf = psf_of(order=9, sampling=0.8, n_grid=31)
    header, arrays = psf.state()
    assert all(len(key) <= 8 for key in header)
    again = psf_from_state(header, arrays)
    assert isinstance(again, PiffPsf)
    assert again.average_position == psf.average_position
    np.testing.assert_array_equal(
        again.kernel_images([3.0, 700.2], [5.0, 9.9]), psf.kernel_images([3.0, 700.2], [5.0, 9.9])
    )


def test_incomplete_polynomials_and_oblong_grids_are_refused() -> None:
    with pytest.raises(ValueError, match="polynomial"):
        PiffPsf(np.zeros((5, 9, 9), np.float32), (0, 0), (1, 1), (0, 0), size=9)
    with pytest.raises(ValueError, match="square"):
        PiffPsf(np.zeros((3, 9, 11), np.float32), (0, 0), (1, 1), (0, 0), size=9)
