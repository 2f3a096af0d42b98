"""Separable Lanczos-5 resampling as matrices, one for each of many sub-pixel shifts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LANCZOS_ORDER", "check_shifts", "lanczos_kernel", "lanczos_matrices"]

LANCZOS_ORDER = 5
_TAPS = np.arange(-LANCZOS_ORDER, LANCZOS_ORDER + 2)  # reached by any shift in [-1, 2)
_PAD = LANCZOS_ORDER + 3
# PSFEx's value. At whole pixels its kernel is not exactly 0, and what is left, 1e-14 of the PSF, decides to which child
# of a blend the pixels beyond the reach of all its PSFs go.
_PI = 3.1415926535898


def lanczos_kernel(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """``sinc(t) sinc(t / 5)`` for ``|t| <= 5``, else 0."""
    angle = _PI * np.where(t == 0, 1.0, t)
    value = np.sin(angle) * np.sin(angle / LANCZOS_ORDER) / (angle * angle / LANCZOS_ORDER)
    return np.where(t == 0, 1.0, np.where(np.abs(t) <= LANCZOS_ORDER, value, 0.0))


def lanczos_matrices(shift: NDArray[np.float64], n_in: int, n_out: int, step: float) -> NDArray[np.float32]:
    """Matrices that resample ``n_in`` pixels to ``n_out``, aligned at their centres.

    Output pixel ``i`` reads the input at ``n_in // 2 + shift + (i - n_out // 2) * step``. The weights of the pixels
    inside the input are normalised to unit sum; an output pixel that reads outside the input is 0.

    Method: PSFEx ``vignet_resample``, including the loss of a position of exactly 0 when the first one is negative.

    Parameters
    ----------
    shift : ndarray of float64, shape (n,)
        Shifts in input pixels, in [-1, 1].
    n_in, n_out : int
        Numbers of pixels.
    step : float
        Input pixels an output pixel; an integer or one over an integer.

    Returns
    -------
    ndarray of float32, shape (n, n_out, n_in)
        One matrix a shift.

    Raises
    ------
    ValueError
        The step is neither, or a shift is too large.
    """
    period = max(1, round(1.0 / step))
    stride = round(step * period)
    if stride < 1 or abs(stride - step * period) > 1e-9:
        raise ValueError(f"step {step} is neither an integer nor one over an integer")
    check_shifts(shift)
    n = len(shift)
    first = n_in // 2 - (n_out // 2) * step
    margin = _PAD + max(0, int(-np.floor(first)), int(np.ceil(first + (n_out - 1) * step)) - (n_in - 1))
    padded = np.zeros((n, n_out, n_in + 2 * margin), np.float32)
    outside = _outside(shift[:, None] + first, step * np.arange(n_out), n_in)
    for phase in range(period):
        start = first + phase * step
        base = int(np.floor(start))
        weights = lanczos_kernel(_TAPS - (start - base) - shift[:, None])
        rows = padded[:, phase::period, margin + base + _TAPS[0] :]
        read = base + stride * np.arange(rows.shape[1])[:, None] + _TAPS
        total = weights @ ((read >= 0) & (read < n_in)).T  # of the weights inside the input
        total[outside[:, phase::period]] = np.inf
        strides = (rows.strides[0], rows.strides[1] + stride * rows.strides[2], rows.strides[2])
        band = np.lib.stride_tricks.as_strided(rows, (n, rows.shape[1], len(_TAPS)), strides)
        np.divide(weights[:, None, :], total[:, :, None], out=band, casting="same_kind")
    # contiguous, because a stack of views sends numpy's matmul down its slow path
    return np.ascontiguousarray(padded[:, :, margin : margin + n_in])


def check_shifts(*shifts: NDArray[np.float64]) -> None:
    """Refuse shifts that are beyond one input pixel, or NaN: compiled loops would read beside the input."""
    if not all(np.all(np.abs(shift) <= 1.0) for shift in shifts):
        raise ValueError("Lanczos shifts must be within one input pixel")


def _outside(start: NDArray[np.floating], steps: NDArray[np.floating], n_in: int) -> NDArray[np.bool_]:
    """Output pixels whose position is outside the input."""
    position = start + steps
    return np.asarray((position < 0) | (position > n_in - 1) | ((position == 0) & (start < 0)))
