"""What an image says about its own noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["fill_undefined", "gain_from_variance", "sky_level_and_noise"]

_CELL = 64  # px: smaller than sky structure, larger than stars
_MAX_CELLS = 20  # per axis
_MAD_TO_SIGMA = 1.482602218505602


def _sample_cells(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cells on a regular grid, one a row, shape (n, pixels)."""
    height, width = plane.shape
    size = min(_CELL, height, width)
    tops, lefts = (
        np.unique(np.linspace(0, length - size, min(_MAX_CELLS, length // size)).astype(int))
        for length in (height, width)
    )
    return np.stack([plane[top : top + size, left : left + size].ravel() for top in tops for left in lefts])


def sky_level_and_noise(image: NDArray[np.float32]) -> tuple[float, float]:
    """Level and standard deviation of the sky.

    Medians over 64-px cells of the median and of the scaled median absolute deviation, so that neither stars nor a
    gradient matter much. Cells without variation (padding) do not count.

    Parameters
    ----------
    image : ndarray of float32, shape (height, width)
        May hold NaN.

    Returns
    -------
    level, sigma : float
        Image units; NaN where no cell varies.
    """
    cells = _sample_cells(image)
    cells = cells[np.isfinite(cells).mean(axis=1) > 0.5]
    if not len(cells):
        return np.nan, np.nan
    if np.all((cells == np.floor(cells)) | ~np.isfinite(cells)):
        cells += np.random.default_rng(0).uniform(-0.5, 0.5, cells.shape).astype(np.float32)  # else steps of 1.48
    level = np.nanmedian(cells, axis=1)
    sigma = _MAD_TO_SIGMA * np.nanmedian(np.abs(cells - level[:, None]), axis=1)
    varied = sigma > 0
    if not varied.any():
        return float(np.median(level)), np.nan
    return float(np.median(level[varied])), float(np.median(sigma[varied]))


def gain_from_variance(
    image: NDArray[np.float32], variance: NDArray[np.float32], good: NDArray[np.bool_]
) -> float | None:
    """Electrons per count from the slope of variance against signal, as Poisson noise makes it.

    Parameters
    ----------
    image, variance : ndarray of float32, shape (height, width)
        Counts and counts squared.
    good : ndarray of bool, same shape
        Pixels to use.

    Returns
    -------
    float or None
        None where the variance does not follow the signal.
    """
    step = max(1, image.size // 200_000)
    flat = good.ravel()[::step]
    signal = image.ravel()[::step][flat].astype(np.float64)
    noise = variance.ravel()[::step][flat].astype(np.float64)
    usable = np.isfinite(signal) & np.isfinite(noise)
    signal, noise = signal[usable], noise[usable]
    if signal.size < 1000 or np.ptp(signal) == 0 or np.ptp(noise) == 0:
        return None
    if np.corrcoef(signal, noise)[0, 1] < 0.9:
        return None
    slope = float(np.polyfit(signal - signal.mean(), noise, 1)[0])
    return 1.0 / slope if 0.01 < slope < 100 else None


def fill_undefined(plane: NDArray[np.float32], undefined: NDArray[np.bool_]) -> None:
    """Replace undefined pixels by the median of the defined ones around them, in place.

    Parameters
    ----------
    plane : ndarray of float32, shape (height, width)
        Changed where ``undefined``.
    undefined : ndarray of bool, same shape
        At least one pixel is False.
    """
    from scipy.ndimage import distance_transform_edt

    height, width = plane.shape
    rows, columns = -(-height // _CELL), -(-width // _CELL)
    level = np.full((rows, columns), np.nan)
    wanted = [
        (row, column)
        for row in range(rows)
        for column in range(columns)
        if undefined[row * _CELL : (row + 1) * _CELL, column * _CELL : (column + 1) * _CELL].any()
    ]
    touched = {(r, c) for row, column in wanted for r in range(row - 1, row + 2) for c in range(column - 1, column + 2)}
    for row, column in touched:
        if 0 <= row < rows and 0 <= column < columns:
            cell = np.s_[row * _CELL : (row + 1) * _CELL, column * _CELL : (column + 1) * _CELL]
            defined = plane[cell][~undefined[cell]]
            level[row, column] = np.median(defined) if defined.size else np.nan
    known = np.isfinite(level)
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    level = level[tuple(nearest)]
    for row, column in wanted:
        cell = np.s_[row * _CELL : (row + 1) * _CELL, column * _CELL : (column + 1) * _CELL]
        plane[cell][undefined[cell]] = level[row, column]
