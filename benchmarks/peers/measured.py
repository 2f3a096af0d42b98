"""What a program says of an exposure, in terms that all share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Measured:
    """A catalogue and models.

    Parameters
    ----------
    x, y : ndarray
        Centroids, pixels; the centre of the first pixel is (0, 0).
    mag : ndarray
        Calibrated magnitudes of PSF fluxes, not finite where there is none.
    centroid_good : ndarray of bool
        Whether a program stands by the centroid.
    pixel_to_sky : callable
        The WCS: right ascension and declination, deg, of x and y.
    psf_stamps : callable
        Models of the PSF centred on pixels, at x and y: shape (n, side, side).
    zero_point : float
        AB magnitude of one electron in the calibration aperture.
    n_psf_stars : int
        Stars that the model of the PSF was fitted to.
    cpu : dict of str to float
        CPU seconds by step.
    """

    x: Array
    y: Array
    mag: Array
    centroid_good: Array
    pixel_to_sky: Callable[[Array, Array], tuple[Array, Array]]
    psf_stamps: Callable[[Array, Array], Array]
    zero_point: float
    n_psf_stars: int
    cpu: dict[str, float]
