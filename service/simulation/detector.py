"""What a detector adds: saturation with bleed trails, defects, cosmic rays and noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

__all__ = ["bleed", "cosmic_ray_tracks", "defects", "fill_defects"]


def bleed(image: NDArray[np.float32], full_well: float) -> NDArray[np.bool_]:
    """Spread charge above the full well along columns, in place.

    Parameters
    ----------
    image : ndarray of float32, shape (height, width)
        Electrons.
    full_well : float
        Electrons a pixel holds.

    Returns
    -------
    ndarray of bool
        Saturated pixels, trails included.
    """
    for column in np.unique(np.nonzero(image > full_well)[1]):
        line = image[:, column].astype(np.float64)
        for row in np.flatnonzero(line > full_well):
            excess = line[row] - full_well
            line[row] = full_well
            for step in (1, -1):
                left, place = excess / 2.0, row + step
                while left > 0 and 0 <= place < line.size:
                    taken = min(left, max(full_well - line[place], 0.0))
                    line[place] += taken
                    left -= taken
                    place += step
        image[:, column] = line
    return np.asarray(image >= full_well * 0.999)


def defects(shape: tuple[int, int], n_columns: int, n_hot: int, rng: Generator) -> NDArray[np.bool_]:
    """Mask of bad columns (partly of half height) and single hot pixels."""
    height, width = shape
    mask = np.zeros(shape, dtype=bool)
    for column in rng.choice(width, size=min(n_columns, width), replace=False):
        start = 0 if rng.random() < 0.7 else int(rng.integers(height))
        mask[start:, column] = True
    mask[rng.integers(height, size=n_hot), rng.integers(width, size=n_hot)] = True
    return mask


def fill_defects(image: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
    """Replace masked pixels by the linear interpolation along their row, in place."""
    columns = np.arange(image.shape[1])
    for row in np.flatnonzero(mask.any(axis=1)):
        bad = mask[row]
        if not bad.all():
            image[row, bad] = np.interp(columns[bad], columns[~bad], image[row, ~bad])


def cosmic_ray_tracks(shape: tuple[int, int], n: int, rng: Generator) -> NDArray[np.float32]:
    """Electrons of straight, unblurred cosmic-ray tracks, shape ``shape``."""
    height, width = shape
    image = np.zeros(shape, dtype=np.float32)
    lengths = np.minimum(1.0 + rng.exponential(5.0, n), 60.0)
    angles = rng.uniform(0, np.pi, n)
    density = rng.lognormal(np.log(700.0), 0.8, n)
    start_x, start_y = rng.uniform(0, width, n), rng.uniform(0, height, n)
    for length, angle, per_pixel, x, y in zip(lengths, angles, density, start_x, start_y, strict=True):
        steps = np.arange(0.0, length, 0.1)
        ix = np.floor(x + steps * np.cos(angle)).astype(int)
        iy = np.floor(y + steps * np.sin(angle)).astype(int)
        inside = (ix >= 0) & (ix < width) & (iy >= 0) & (iy < height)
        np.add.at(image, (iy[inside], ix[inside]), np.float32(per_pixel * 0.1))
    return image
