"""Integer pixel boxes and the conversion between positions and pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Box", "pixel_index"]

_FAR = 2.0**40


def pixel_index(position: ArrayLike) -> NDArray[np.int64]:
    """Nearest pixel of a position: ``floor(position + 0.5)``.

    Parameters
    ----------
    position : array_like
        Finite positions in pixels; pixel centres are at integers. Beyond any image they all count as 2**40.

    Returns
    -------
    ndarray of int64
        Pixel indices of the same shape.
    """
    nearest = np.floor(np.asarray(position, dtype=np.float64) + 0.5)
    return np.clip(nearest, -_FAR, _FAR).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Box:
    """An integer pixel box in the parent frame, both ends inclusive.

    Parameters
    ----------
    x0, y0 : int
        Lower-left pixel, which may be negative.
    width, height : int
        Size in pixels, at least 0.
    """

    x0: int
    y0: int
    width: int
    height: int

    @property
    def x1(self) -> int:
        """Last column, inclusive."""
        return self.x0 + self.width - 1

    @property
    def y1(self) -> int:
        """Last row, inclusive."""
        return self.y0 + self.height - 1

    @property
    def shape(self) -> tuple[int, int]:
        """Array shape, (height, width)."""
        return self.height, self.width

    @property
    def center(self) -> tuple[float, float]:
        """Centre (x, y) in pixels."""
        return self.x0 + 0.5 * (self.width - 1), self.y0 + 0.5 * (self.height - 1)

    @property
    def corners(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Outer pixel edges x, y in the order lower left, lower right, upper right, upper left."""
        left, right, bottom, top = self.x0 - 0.5, self.x1 + 0.5, self.y0 - 0.5, self.y1 + 0.5
        return np.array([left, right, right, left]), np.array([bottom, bottom, top, top])

    def grown(self, margin: int) -> Box:
        """Box with ``margin`` pixels added on every side (removed when negative)."""
        return Box(self.x0 - margin, self.y0 - margin, self.width + 2 * margin, self.height + 2 * margin)

    def intersection(self, other: Box) -> Box:
        """Common box; width or height 0 where there is none."""
        x0, y0 = max(self.x0, other.x0), max(self.y0, other.y0)
        width = max(0, min(self.x1, other.x1) - x0 + 1)
        height = max(0, min(self.y1, other.y1) - y0 + 1)
        return Box(x0, y0, width, height)

    def contains(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.bool_]:
        """Whether positions fall on a pixel of the box; NaN does not."""
        x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        inside = (x >= self.x0 - 0.5) & (x < self.x1 + 0.5) & (y >= self.y0 - 0.5) & (y < self.y1 + 0.5)
        return np.asarray(inside)

    def slices(self, origin: Box) -> tuple[slice, slice]:
        """Slices (rows, columns) of this box in an array whose box is ``origin``."""
        row, column = self.y0 - origin.y0, self.x0 - origin.x0
        return slice(row, row + self.height), slice(column, column + self.width)
