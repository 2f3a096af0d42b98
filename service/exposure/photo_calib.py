"""Photometric calibration: nanojansky per count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["AB_ZERO_NJY", "PhotoCalib", "nanojansky_to_abmag"]

#: Magnitude of 1 nJy in the AB system.
AB_ZERO_NJY = 31.4


def nanojansky_to_abmag(flux: ArrayLike) -> NDArray[np.float64]:
    """AB magnitude ``31.4 - 2.5 log10(flux)`` of fluxes in nJy; NaN where the flux is not positive."""
    flux = np.asarray(flux, dtype=np.float64)
    magnitude = np.full(flux.shape, np.nan)
    np.log10(flux, out=magnitude, where=flux > 0)
    return np.asarray(AB_ZERO_NJY - 2.5 * magnitude)


@dataclass(frozen=True, slots=True)
class PhotoCalib:
    """A spatially constant calibration.

    Parameters
    ----------
    mean : float
        nJy per count.
    error : float
        Its 1 sigma error, nJy per count.
    """

    mean: float
    error: float = 0.0

    @classmethod
    def from_zero_point(cls, zero_point: float, sigma: float = 0.0) -> PhotoCalib:
        """From the magnitude of one count and its error, mag."""
        mean = 10.0 ** (0.4 * (AB_ZERO_NJY - zero_point))
        return cls(mean, 0.4 * np.log(10.0) * sigma * mean)

    @property
    def zero_point(self) -> float:
        """AB magnitude of one count."""
        return float(AB_ZERO_NJY - 2.5 * np.log10(self.mean))

    @property
    def zero_point_error(self) -> float:
        """Error of the zero point, mag."""
        return float(2.5 / np.log(10.0) * self.error / self.mean)

    def state(self) -> dict[str, Any]:
        """Plain values for a file."""
        return {"mean": self.mean, "error": self.error}
