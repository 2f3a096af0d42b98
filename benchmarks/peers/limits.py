"""How well a star can be measured at all: the Cramer-Rao bound of its flux and position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

STEP = 1e-3  # of the derivative along an axis, px


class PointSpread(Protocol):
    """What draws a star of unit flux."""

    def stamp(self, x: float, y: float, half: int) -> tuple[NDArray[np.float64], int, int]:
        """Flux per pixel around a position and the lower-left pixel."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Smallest standard deviations of unbiased measurements: of flux, counts, and of x and y, pixels."""

    flux: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]


def _drawn(psf: PointSpread, x: float, y: float, x0: int, y0: int, side: int) -> NDArray[np.float64]:
    """The star on given pixels, whichever the pixel is that it is nearest to."""
    stamp, left, low = psf.stamp(x, y, side // 2 + 1)
    return stamp[y0 - low : y0 - low + side, x0 - left : x0 - left + side]


def fisher_information(
    psf: PointSpread, x: float, y: float, flux: float, sky_variance: float, half: int
) -> NDArray[np.float64]:
    """Information that the pixels of an isolated star have on (flux, x, y).

    Parameters
    ----------
    psf : PointSpread
        The true PSF.
    x, y : float
        True position, pixels.
    flux : float
        True counts, electrons.
    sky_variance : float
        Variance of a pixel without the star; the star's own photons come on top.
    half : int
        Half width of the pixels that count.

    Returns
    -------
    ndarray of float64, shape (3, 3)
        Sum over pixels of the products of the light's derivatives over the variance. That the variance changes with
        the flux too is left out: it says nothing more where photons are counted, and the read noise hides it.
    """
    side = 2 * half + 1
    x0, y0 = int(np.floor(x + 0.5)) - half, int(np.floor(y + 0.5)) - half
    unit = _drawn(psf, x, y, x0, y0, side)
    along_x = _drawn(psf, x + STEP, y, x0, y0, side) - _drawn(psf, x - STEP, y, x0, y0, side)
    along_y = _drawn(psf, x, y + STEP, x0, y0, side) - _drawn(psf, x, y - STEP, x0, y0, side)
    slopes = np.stack([unit.ravel(), *(flux / (2 * STEP) * along.ravel() for along in (along_x, along_y))])
    return np.asarray((slopes / (sky_variance + flux * unit.ravel())) @ slopes.T)


def point_source_limits(
    psf: PointSpread,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    flux: NDArray[np.float64],
    sky_variance: NDArray[np.float64],
    half: int = 20,
) -> Limits:
    """Cramer-Rao bounds of stars whose flux and position are fitted together; arguments as of the information."""
    rows = zip(x, y, flux, sky_variance, strict=True)
    information = np.array([fisher_information(psf, *row, half) for row in rows]).reshape(-1, 3, 3)
    return Limits(*np.sqrt(np.diagonal(np.linalg.inv(information), axis1=1, axis2=2)).T)
