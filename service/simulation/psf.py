"""The true PSF: an elliptical Moffat profile that varies over the detector.

The profile is the *effective* PSF (pixel response included), sampled at pixel centres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MoffatField"]


@dataclass(frozen=True, slots=True)
class MoffatField:
    """Moffat PSF with quadratic variation.

    Parameters
    ----------
    size : int
        Detector width and height, pixels.
    fwhm : float
        At the centre, pixels.
    beta : float
        Moffat exponent.
    fwhm_variation : float
        Relative change from centre to corner.
    ellipticity : float
        Largest distortion |e| = (a^2 - b^2)/(a^2 + b^2).
    angle : float
        Orientation of the pattern, rad.
    """

    size: int
    fwhm: float
    beta: float
    fwhm_variation: float
    ellipticity: float
    angle: float

    def shape(self, x: float, y: float) -> tuple[float, float, float]:
        """FWHM (pixels, geometric mean) and distortion components e1, e2 at a position."""
        u, v = 2.0 * x / (self.size - 1) - 1.0, 2.0 * y / (self.size - 1) - 1.0
        fwhm = self.fwhm * (1.0 + self.fwhm_variation * (0.35 * u - 0.15 * v + 0.5 * (u * u + v * v) / 2.0))
        amplitude = self.ellipticity * 0.5 * (1.0 + 0.6 * u + 0.4 * v)
        direction = 2.0 * (self.angle + 0.4 * u)
        return fwhm, amplitude * np.cos(direction), amplitude * np.sin(direction)

    def matrix(self, x: float, y: float) -> NDArray[np.float64]:
        """Inverse of the squared scale matrix of the profile, 1/pixel^2, shape (2, 2)."""
        fwhm, e1, e2 = self.shape(x, y)
        alpha2 = (0.5 * fwhm) ** 2 / (2.0 ** (1.0 / self.beta) - 1.0)
        root = np.sqrt(1.0 - e1 * e1 - e2 * e2)
        scale = alpha2 / root * np.array([[1.0 + e1, e2], [e2, 1.0 - e1]])
        return np.linalg.inv(scale)

    def stamp(self, x: float, y: float, half: int) -> tuple[NDArray[np.float64], int, int]:
        """Unit-flux PSF drawn at a position.

        Parameters
        ----------
        x, y : float
            Position, pixels.
        half : int
            Half width of the stamp.

        Returns
        -------
        stamp : ndarray of float64, shape (2 half + 1, 2 half + 1)
            Flux per pixel; the sum over the whole plane is 1.
        x0, y0 : int
            Lower-left pixel.
        """
        x0, y0 = int(np.floor(x + 0.5)) - half, int(np.floor(y + 0.5)) - half
        dx = np.arange(x0, x0 + 2 * half + 1) - x
        dy = np.arange(y0, y0 + 2 * half + 1) - y
        inverse = self.matrix(x, y)
        radius2 = inverse[0, 0] * dx**2 + (inverse[1, 1] * dy**2)[:, None] + 2 * inverse[0, 1] * dx * dy[:, None]
        norm = (self.beta - 1.0) / np.pi * np.sqrt(np.linalg.det(inverse))
        return norm * (1.0 + radius2) ** -self.beta, x0, y0

    def enclosed(self, x: float, y: float, radius: float) -> float:
        """Fraction of the flux within a circle, by the pixel-centre rule of the aperture flux, averaged over phase."""
        half = int(np.ceil(radius)) + 2
        total = 0.0
        phases = (np.arange(8) + 0.5) / 8 - 0.5
        for px in phases:
            for py in phases:
                cx, cy = np.floor(x + 0.5) + px, np.floor(y + 0.5) + py
                stamp, x0, y0 = self.stamp(cx, cy, half)
                dx, dy = np.arange(stamp.shape[1]) + x0 - cx, np.arange(stamp.shape[0]) + y0 - cy
                total += float(stamp[dx**2 + (dy**2)[:, None] <= radius**2].sum())
        return total / phases.size**2
