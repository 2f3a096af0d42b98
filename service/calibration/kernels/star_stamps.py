"""Sums over the stamps of stars and their models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["far_from_masked", "reduced_chi2"]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def _amplitude(image, weight, model):  # type: ignore[no-untyped-def]
    """Factor by which a model fits an image best."""
    moment = norm = np.float64(0.0)
    for j in range(len(image)):
        weighted = weight[j] * model[j]
        moment += weighted * image[j]
        norm += weighted * model[j]
    return moment / norm


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def _row_chi2(image, weight, model, amplitude, accuracy, x, y2, limit):  # type: ignore[no-untyped-def]
    """Chi^2 of the pixels of a row that are known and within the limit of the squared distance, and their number."""
    total = counted = np.float64(0.0)
    for j in range(len(image)):
        expected = model[j] * amplitude
        error, residual = accuracy * expected, image[j] - expected
        # w / (1 + w v) is 1 / (1/w + v) without a division by zero in masked pixels
        term = weight[j] / (np.float32(1.0) + weight[j] * (error * error)) * (residual * residual)
        known = weight[j] > np.float32(0.0) and (j - x) * (j - x) + y2 < limit
        total += term if known else np.float32(0.0)
        counted += 1.0 if known else 0.0
    return total, counted


@njit(cache=True, nogil=True, error_model="numpy")
def reduced_chi2(
    image: NDArray[np.float32],
    weight: NDArray[np.float32],
    shift: NDArray[np.float64],
    rows: NDArray[np.int64],
    models: NDArray[np.float32],
    accuracy: float,
) -> NDArray[np.float64]:
    """Chi^2 of stars about their models, scaled to fit best, a degree of freedom.

    Parameters
    ----------
    image, weight : ndarray of float32, shape (n, size, size)
        Stamps in counts, and inverse variances; 0 is a masked pixel.
    shift : ndarray of float64, shape (n, 2)
        Position (x, y) relative to the stamp's centre pixel.
    rows : ndarray of int64, shape (m,)
        The stars.
    models : ndarray of float32, shape (m, size, size)
        Their models, up to a factor.
    accuracy : float
        Relative error of the models.

    Returns
    -------
    ndarray of float64, shape (m,)
        Of the known pixels nearer than half the size to the star.
    """
    size = image.shape[1]
    result = np.empty(len(rows))
    for k in range(len(rows)):
        s = rows[k]
        amplitude = np.float32(_amplitude(image[s].reshape(-1), weight[s].reshape(-1), models[k].reshape(-1)))
        total = counted = 0.0
        for i in range(size):
            y2 = (i - size // 2 - shift[s, 1]) ** 2
            chi2, number = _row_chi2(
                image[s, i],
                weight[s, i],
                models[k, i],
                amplitude,
                np.float32(accuracy),
                size // 2 + shift[s, 0],
                y2,
                (0.5 * size) ** 2,
            )
            total += chi2
            counted += number
        result[k] = total / max(counted - 1.0, 1.0)
    return result


@njit(cache=True, nogil=True)
def far_from_masked(
    weight: NDArray[np.float32], rows: NDArray[np.int64], columns: NDArray[np.int64], known: NDArray[np.bool_]
) -> None:
    """Whether no masked pixel touches the pixel in which a grid pixel lies.

    Parameters
    ----------
    weight : ndarray of float32, shape (n, size, size)
        0 is a masked pixel.
    rows, columns : ndarray of int64, shape (n, grid)
        Pixel in which each row and column of the grid lies, inside the stamp.
    known : ndarray of bool, shape (n, grid, grid)
        Filled.
    """
    n, height, width = weight.shape
    far = np.empty((height, width), np.bool_)
    for s in range(n):
        far[:] = True
        whole = True
        for i in range(height):
            for j in range(width):
                if weight[s, i, j] == 0.0:
                    far[max(0, i - 1) : i + 2, max(0, j - 1) : j + 2] = False
                    whole = False
        if whole:
            known[s] = True
            continue
        for i in range(known.shape[1]):
            line, result = far[rows[s, i]], known[s, i]
            for j in range(len(result)):
                result[j] = line[columns[s, j]]
