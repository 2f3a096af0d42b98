"""Stacks of stamps resampled with Lanczos-5, one after the other, so that all that a stamp needs stays in the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["fill_matrices", "resample"]

_ORDER = 5
_TAPS = 2 * _ORDER + 2  # reached by any shift in [-1, 1]
_PI = 3.1415926535898  # PSFEx's, see `service.exposure.psf.lanczos`
_ANGLES = _PI * np.arange(-_ORDER, _ORDER + 2)
_SIN, _COS = np.sin(_ANGLES), np.cos(_ANGLES)
_SLOW_SIN, _SLOW_COS = np.sin(_ANGLES / _ORDER), np.cos(_ANGLES / _ORDER)


@njit(cache=True, nogil=True, error_model="numpy")
def _kernel(offset, values):  # type: ignore[no-untyped-def]
    """Lanczos kernel at -5, -4 ... 6 minus an offset; by the sums of angles, of which one is a constant."""
    angle = _PI * offset
    sin, cos = np.sin(angle), np.cos(angle)
    slow_sin, slow_cos = np.sin(angle / _ORDER), np.cos(angle / _ORDER)
    for k in range(_TAPS):
        t = k - _ORDER - offset
        values[k] = 0.0
        if t == 0.0:
            values[k] = 1.0
        elif abs(t) <= _ORDER:
            product = (_SIN[k] * cos - _COS[k] * sin) * (_SLOW_SIN[k] * slow_cos - _SLOW_COS[k] * slow_sin)
            values[k] = product * _ORDER / (_PI * t * _PI * t)


@njit(cache=True, nogil=True, error_model="numpy")
def _normalize(values, start, stop, weights):  # type: ignore[no-untyped-def]
    """Divide all values by the sum of those that are inside the input."""
    inside = 0.0
    for k in range(start, stop):
        inside += values[k]
    scale = 1.0 / inside
    for k in range(_TAPS):
        weights[k] = values[k] * scale


@njit(cache=True, nogil=True, error_model="numpy")
def _plan(shift, n_in, step, phases, first, weights):  # type: ignore[no-untyped-def]
    """Fill the first input pixel that each output pixel reads, (n_out,), and its weights, (n_out, taps)."""
    n_out = len(first)
    origin = n_in // 2 - (n_out // 2) * step / phases
    values, whole = np.empty(_TAPS), np.empty(_TAPS, np.float32)
    for phase in range(phases):
        start = origin + phase * step / phases
        base = int(np.floor(start))
        _kernel(start - base + shift, values)
        _normalize(values, 0, _TAPS, whole)
        for i in range(phase, n_out, phases):
            left = base + (i // phases) * step - _ORDER
            first[i] = left
            position = shift + origin + i * step / phases
            if position < 0 or position > n_in - 1 or (position == 0 and shift + origin < 0):
                weights[i] = 0.0
            elif left >= 0 and left + _TAPS <= n_in:
                weights[i] = whole
            else:
                _normalize(values, max(0, -left), min(_TAPS, n_in - left), weights[i])


@njit(cache=True, nogil=True, error_model="numpy")
def fill_matrices(shift: NDArray[np.float64], step: int, phases: int, matrices: NDArray[np.float32]) -> None:
    """Matrices that resample along one axis, as `service.exposure.psf.lanczos.lanczos_matrices` makes them.

    Parameters
    ----------
    shift : ndarray of float64, shape (n,)
        Where the centre of the output reads, relative to the centre of the input; input pixels, within [-1, 1].
    step, phases : int
        ``step / phases`` input pixels are an output pixel; one of them is 1.
    matrices : ndarray of float32, shape (n, output pixels, input pixels)
        Filled.
    """
    n, n_out, n_in = matrices.shape
    first, weights = np.empty(n_out, np.int64), np.empty((n_out, _TAPS), np.float32)
    for s in range(n):
        _plan(shift[s], n_in, step, phases, first, weights)
        matrices[s] = 0.0
        for i in range(n_out):
            for k in range(max(0, -first[i]), min(_TAPS, n_in - first[i])):
                matrices[s, i, first[i] + k] = weights[i, k]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz"})
def _combine_rows(source, first, weights, result):  # type: ignore[no-untyped-def]
    """Rows of ``result``, each the weighted sum of some rows of ``source``."""
    n_in, width = source.shape
    for i in range(len(first)):
        line, f, w = result[i], first[i], weights[i]
        if f >= 0 and f + _TAPS <= n_in:
            w0, w1, w2, w3, w4, w5 = w[0], w[1], w[2], w[3], w[4], w[5]
            w6, w7, w8, w9, w10, w11 = w[6], w[7], w[8], w[9], w[10], w[11]
            for j in range(width):
                line[j] = (
                    (w0 * source[f, j] + w1 * source[f + 1, j] + w2 * source[f + 2, j])
                    + (w3 * source[f + 3, j] + w4 * source[f + 4, j] + w5 * source[f + 5, j])
                    + (w6 * source[f + 6, j] + w7 * source[f + 7, j] + w8 * source[f + 8, j])
                    + (w9 * source[f + 9, j] + w10 * source[f + 10, j] + w11 * source[f + 11, j])
                )
        else:
            line[:] = 0.0
            for k in range(max(0, -f), min(_TAPS, n_in - f)):
                for j in range(width):
                    line[j] += w[k] * source[f + k, j]


@njit(cache=True, nogil=True, error_model="numpy")
def resample(
    transposed: NDArray[np.float32],
    shift_x: NDArray[np.float64],
    shift_y: NDArray[np.float64],
    step: int,
    phases: int,
    result: NDArray[np.float32],
) -> None:
    """Resample images to others with ``step / phases`` input pixels an output pixel, aligned at their centres.

    Method: `service.exposure.psf.lanczos.lanczos_matrices`, which is the oracle of the tests.

    Parameters
    ----------
    transposed : ndarray of float32, shape (n, input width, input height)
        The images, transposed, which saves to transpose what is between the two axes twice.
    shift_x, shift_y : ndarray of float64, shape (n,)
        Where the centre of the output reads, relative to the centre of the input; input pixels, within [-1, 1].
    step, phases : int
        One of them is 1.
    result : ndarray of float32, shape (n, output height, output width)
        Filled.
    """
    _, n_columns, n_rows = transposed.shape
    _, height, width = result.shape
    half = np.empty((width, n_rows), np.float32)
    turned = np.empty((n_rows, width), np.float32)
    first_x, first_y = np.empty(width, np.int64), np.empty(height, np.int64)
    weights_x, weights_y = np.empty((width, _TAPS), np.float32), np.empty((height, _TAPS), np.float32)
    for i in range(len(result)):
        _plan(shift_x[i], n_columns, step, phases, first_x, weights_x)
        _plan(shift_y[i], n_rows, step, phases, first_y, weights_y)
        _combine_rows(transposed[i], first_x, weights_x, half)
        for row in range(n_rows):
            for column in range(width):
                turned[row, column] = half[column, row]
        _combine_rows(turned, first_y, weights_y, result[i])
