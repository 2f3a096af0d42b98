"""What every PSF offers: images, shapes and aperture fluxes at many positions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from service.exposure.psf.aperture import sinc_aperture
from service.exposure.psf.moments import adaptive_moments, determinant_radii, trace_radii

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Psf", "positions"]

_CHUNK = 256  # stamps evaluated together: a few MB


def positions(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two flat float64 arrays of one length.

    Raises
    ------
    ValueError
        A position is not finite.
    """
    x_flat, y_flat = (np.ravel(np.asarray(a, dtype=np.float64)) for a in np.broadcast_arrays(x, y))
    if not (np.isfinite(x_flat).all() and np.isfinite(y_flat).all()):
        raise ValueError("PSF positions must be finite")
    return x_flat, y_flat


class Psf(ABC):
    """A point-spread function over a detector.

    Positions are parent-frame pixels (centres at integers) and must be finite. The scalar forms take the average
    position where none is given.

    Parameters
    ----------
    width, height : int
        Odd size of its stamps in px.
    average_position : tuple of float
        (x, y) at which "the" PSF of the image is evaluated.

    Raises
    ------
    ValueError
        A size is not odd and positive.
    """

    kind: ClassVar[str]

    def __init__(self, width: int, height: int, average_position: tuple[float, float]) -> None:
        if width < 1 or height < 1 or width % 2 == 0 or height % 2 == 0:
            raise ValueError(f"PSF stamp size {width} x {height} is not odd")
        self.width = width
        self.height = height
        self.average_position = (float(average_position[0]), float(average_position[1]))

    @abstractmethod
    def kernel_images(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float32]:
        """Stamps with the PSF centred on the centre pixel, unit sum; float32 of shape (n, height, width)."""

    @abstractmethod
    def images(self, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]:
        """Stamps drawn at the sub-pixel position, to be laid over the image.

        Returns
        -------
        images : ndarray of float32, shape (n, height, width)
            Fraction of the flux per pixel.
        x0, y0 : ndarray of int32, shape (n,)
            Parent coordinates of the lower-left pixels: nearest pixel minus half the size.
        """

    @abstractmethod
    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Header keywords (at most eight characters) and arrays from which `psf_from_state` rebuilds the PSF."""

    def shapes(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """Truncated adaptive moments Ixx, Iyy, Ixy of the kernel images in px^2, shape (n, 3)."""
        x, y = positions(x, y)
        result = np.empty((len(x), 3))
        for start in range(0, len(x), _CHUNK):
            part = slice(start, start + _CHUNK)
            result[part] = adaptive_moments(self.kernel_images(x[part], y[part]))
        return result

    def aperture_fluxes(self, radius: float, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """Flux of the kernel images in a centred band-limited circle of ``radius`` px, shape (n,)."""
        x, y = positions(x, y)
        weights = sinc_aperture(float(radius))
        dx, dy = (min(size // 2, weights.shape[0] // 2) for size in (self.width, self.height))
        middle = weights.shape[0] // 2
        common = weights[middle - dy : middle + dy + 1, middle - dx : middle + dx + 1].ravel()
        rows = slice(self.height // 2 - dy, self.height // 2 + dy + 1)
        columns = slice(self.width // 2 - dx, self.width // 2 + dx + 1)
        result = np.empty(len(x))
        for start in range(0, len(x), _CHUNK):
            part = slice(start, start + _CHUNK)
            stamps = self.kernel_images(x[part], y[part])[:, rows, columns]
            result[part] = stamps.reshape(len(stamps), -1) @ common
        return result

    def kernel_image(self, x: float | None = None, y: float | None = None) -> NDArray[np.float32]:
        """One centred stamp, shape (height, width)."""
        stamp: NDArray[np.float32] = self.kernel_images(*self._at(x, y))[0]
        return stamp

    def image(self, x: float | None = None, y: float | None = None) -> tuple[NDArray[np.float32], int, int]:
        """One stamp drawn at the sub-pixel position, and its lower-left pixel x0, y0."""
        images, x0, y0 = self.images(*self._at(x, y))
        return images[0], int(x0[0]), int(y0[0])

    def shape(self, x: float | None = None, y: float | None = None) -> tuple[float, float, float]:
        """Ixx, Iyy, Ixy in px^2 at one position."""
        xx, yy, xy = self.shapes(*self._at(x, y))[0]
        return float(xx), float(yy), float(xy)

    def determinant_radius(self, x: float | None = None, y: float | None = None) -> float:
        """``(Ixx Iyy - Ixy^2)^(1/4)`` in px at one position."""
        return float(determinant_radii(self.shapes(*self._at(x, y)))[0])

    def trace_radius(self, x: float | None = None, y: float | None = None) -> float:
        """``sqrt((Ixx + Iyy) / 2)`` in px at one position."""
        return float(trace_radii(self.shapes(*self._at(x, y)))[0])

    def aperture_flux(self, radius: float, x: float | None = None, y: float | None = None) -> float:
        """Flux of the PSF in a band-limited circle of ``radius`` px at one position."""
        return float(self.aperture_fluxes(radius, *self._at(x, y))[0])

    def _at(self, x: float | None, y: float | None) -> tuple[float, float]:
        return (self.average_position[0] if x is None else x, self.average_position[1] if y is None else y)

    def _base_state(self) -> dict[str, Any]:
        x, y = self.average_position
        return {"PSFTYPE": self.kind, "PSFW": self.width, "PSFH": self.height, "PSFAVGX": x, "PSFAVGY": y}
