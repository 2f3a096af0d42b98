"""Image, mask and variance of one detector."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from service import threads
from service.exposure.geometry import Box
from service.exposure.mask import MaskPlanes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = ["MaskedImage"]


@dataclass(slots=True)
class MaskedImage:
    """Three planes over one pixel box.

    Parameters
    ----------
    image : ndarray of float32, shape (height, width)
        Counts.
    mask : ndarray of int32, same shape
        Bits named by ``planes``.
    variance : ndarray of float32, same shape
        Counts squared.
    planes : MaskPlanes
        Names of the bits.
    x0, y0 : int
        Parent coordinates of ``image[0, 0]``.

    Raises
    ------
    ValueError
        The planes are not two-dimensional arrays of one shape.
    """

    image: NDArray[np.float32]
    mask: NDArray[np.int32]
    variance: NDArray[np.float32]
    planes: MaskPlanes = field(default_factory=MaskPlanes)
    x0: int = 0
    y0: int = 0

    def __post_init__(self) -> None:
        if self.image.ndim != 2 or not self.image.shape == self.mask.shape == self.variance.shape:
            raise ValueError(
                f"image {self.image.shape}, mask {self.mask.shape} and variance {self.variance.shape}"
                " are not 2-D planes of one shape"
            )
        self.image = np.ascontiguousarray(self.image, dtype=np.float32)
        self.mask = np.ascontiguousarray(self.mask, dtype=np.int32)
        self.variance = np.ascontiguousarray(self.variance, dtype=np.float32)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def bbox(self) -> Box:
        """Pixel box in the parent frame."""
        return Box(self.x0, self.y0, self.image.shape[1], self.image.shape[0])

    def copy(self) -> MaskedImage:
        """Deep copy."""
        return MaskedImage(
            self.image.copy(), self.mask.copy(), self.variance.copy(), self.planes.copy(), self.x0, self.y0
        )

    def scale(self, factor: float | NDArray[np.float32]) -> None:
        """Multiply the image by ``factor`` and the variance by its square, in place."""
        k = np.asarray(factor, dtype=np.float32)
        self.image *= k
        self.variance *= k * k

    def is_set(self, names: Iterable[str]) -> NDArray[np.bool_]:
        """Where any of the named planes is set."""
        return np.asarray((self.mask & np.int32(self.planes.bitmask(names))) != 0)

    def clear_planes(self, names: Iterable[str]) -> None:
        """Clear the named planes everywhere."""
        kept = np.int32(~self.planes.bitmask(names))

        def clear(rows: slice) -> None:
            self.mask[rows] &= kept

        threads.each(clear, threads.bands(len(self.mask)))

    def count(self, name: str) -> int:
        """Number of pixels with a plane set."""
        return int(np.count_nonzero(self.mask & np.int32(1 << self.planes[name])))
