"""Choice of discs that overlap nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from service.calibration.kernels.footprints import dilated

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["accepted_discs"]


@njit(cache=True, nogil=True)
def _is_free(
    mask: NDArray[np.int32], bits: np.int32, taken: NDArray[np.bool_], disc: NDArray[np.int32], x: int, y: int
) -> bool:
    for i in range(disc.shape[0]):
        row, low, high = y + disc[i, 0], x + disc[i, 1], x + disc[i, 2] + 1
        for xx in range(low, high):
            if (mask[row, xx] & bits) != 0 or taken[row, xx]:
                return False
    return True


@njit(cache=True, nogil=True)
def accepted_discs(
    mask: NDArray[np.int32],
    bits: np.int32,
    taken: NDArray[np.bool_],
    disc: NDArray[np.int32],
    centers: NDArray[np.int64],
    apart: int,
    grow: int,
    n_wanted: int,
) -> NDArray[np.int64]:
    """Indices of the first ``n_wanted`` centres whose discs are free.

    Parameters
    ----------
    mask : ndarray of int32, shape (height, width)
        Mask plane.
    bits : int32
        Pixels with any of these bits are not to be touched.
    taken : ndarray of bool, shape (height, width)
        Nor are these; the accepted discs, grown by ``apart``, are added. Fresh zeros take no memory where none is.
    disc : ndarray of int32, shape (n, 3)
        Spans ``(dy, dx0, dx1)`` of a disc about its centre.
    centers : ndarray of int64, shape (t, 2)
        ``(x, y)`` to try in order, far enough from the border for a disc.
    apart : int
        Growth of an accepted disc.
    grow : int
        Growth of the pixels with ``bits`` before the first trial.
    n_wanted : int
        Stop at so many.
    """
    height, width = mask.shape
    if grow > 0:
        for y in range(height):
            for x in range(width):
                if mask[y, x] & bits:
                    for dy in range(max(-grow, -y), min(grow, height - 1 - y) + 1):
                        reach = np.int64(np.sqrt(np.float64(grow * grow - dy * dy)))
                        taken[y + dy, max(0, x - reach) : x + reach + 1] = True
    accepted = np.empty(min(n_wanted, centers.shape[0]), np.int64)
    n = 0
    for k in range(centers.shape[0]):
        x, y = centers[k, 0], centers[k, 1]
        if n == n_wanted:
            break
        if _is_free(mask, bits, taken, disc, x, y):
            accepted[n] = k
            n += 1
            spans = disc.copy()
            spans[:, 0] += np.int32(y)
            spans[:, 1:] += np.int32(x)
            size = disc.shape[0] + 2 * apart + 2  # only the rows around the disc
            low = max(0, y - size)
            spans[:, 0] -= np.int32(low)
            runs = dilated(spans, min(height, y + size) - low, width, apart)
            for i in range(runs.shape[0]):
                taken[runs[i, 0] + low, runs[i, 1] : runs[i, 2] + 1] = True
    return accepted[:n].copy()
