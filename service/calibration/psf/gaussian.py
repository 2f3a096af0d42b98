"""The Gaussian PSF of the first detection, and the one that stands in for a fitted PSF before the second."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.exposure.psf import GaussianPsf

if TYPE_CHECKING:
    from service.calibration.config.psf import InstallSimplePsfConfig
    from service.exposure.exposure import Exposure

__all__ = ["FWHM_PER_SIGMA", "install_simple_psf"]

#: Full width at half maximum of a Gaussian of unit standard deviation.
FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))


def install_simple_psf(exposure: Exposure, config: InstallSimplePsfConfig) -> None:
    """Put a circular Gaussian PSF on an exposure, in place.

    Where the exposure has a PSF, the Gaussian has its determinant radius and stamp size at its average position, else
    the configured width.

    Parameters
    ----------
    exposure : Exposure
        Its ``psf`` is replaced.
    config : InstallSimplePsfConfig
        First guess.

    Raises
    ------
    RuntimeError
        The existing PSF has no finite positive size.
    """
    if exposure.psf is None:
        x, y = exposure.bbox.center
        sigma, width, height = config.fwhm / FWHM_PER_SIGMA, config.width, config.width
    else:
        x, y = exposure.psf.average_position
        sigma, width, height = exposure.psf.determinant_radius(), exposure.psf.width, exposure.psf.height
        if not (np.isfinite(sigma) and sigma > 0):
            raise RuntimeError(f"the PSF of the exposure has determinant radius {sigma}, which is no size")
    exposure.psf = GaussianPsf(sigma, width, height, (x, y))
