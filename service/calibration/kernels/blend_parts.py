"""Partition of a blend into parts of bounded size along its valleys."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["brightest_first", "flooded_parts"]


_DIGIT = 11  # bits of a sort key that are looked at at once
_UNSEEN = np.int32(2**31 - 1)


@njit(cache=True, nogil=True)
def brightest_first(image: NDArray[np.float32], spans: NDArray[np.int32]) -> NDArray[np.int32]:
    """Flat indices of the pixels of a footprint, brightest first and NaN last, equal ones in the order of the spans.

    Parameters
    ----------
    image : ndarray of float32, shape (height, width)
        Numbers.
    spans : ndarray of int32, shape (n, 3)
        Spans ``y, x0, x1`` in array coordinates.

    Returns
    -------
    ndarray of int32
        The indices.

    Notes
    -----
    Method: radix sort of the bits of the numbers.
    """
    n = 0
    for i in range(len(spans)):
        n += int(spans[i, 2] - spans[i, 1] + 1)
    pixels, values = np.empty(n, np.int32), np.empty(n, np.float32)
    n = 0
    for i in range(len(spans)):
        for x in range(spans[i, 1], spans[i, 2] + 1):
            pixels[n] = spans[i, 0] * image.shape[1] + x
            values[n] = np.float32(0) - image[spans[i, 0], x]  # the only 0 is +0
            n += 1
    keys = values.view(np.uint32)
    for i in range(n):
        key = keys[i]
        if np.isnan(values[i]):
            keys[i] = np.uint32(0xFFFFFFFF)
        else:
            keys[i] = ~key if key >> np.uint32(31) else key | np.uint32(0x80000000)
    other_pixels, other_keys = np.empty_like(pixels), np.empty_like(keys)
    for shift in range(0, 32, _DIGIT):
        start = np.zeros((1 << _DIGIT) + 1, np.int64)
        mask = np.uint32((1 << _DIGIT) - 1)
        for i in range(n):
            start[np.int64((keys[i] >> np.uint32(shift)) & mask) + 1] += 1
        for digit in range(1 << _DIGIT):
            start[digit + 1] += start[digit]
        for i in range(n):
            this = np.int64((keys[i] >> np.uint32(shift)) & mask)
            other_keys[start[this]], other_pixels[start[this]] = keys[i], pixels[i]
            start[this] += 1
        keys, other_keys, pixels, other_pixels = other_keys, keys, other_pixels, pixels
    return pixels


@njit(cache=True, nogil=True)
def _root(parent: NDArray[np.int32], i: int) -> int:
    while parent[i] >= 0:
        above = parent[i]
        if parent[above] >= 0:
            parent[i] = parent[above]
        i = above
    return i


@njit(cache=True, nogil=True)
def flooded_parts(order: NDArray[np.int32], is_peak: NDArray[np.bool_], limit: int) -> NDArray[np.int32]:
    """Flood an image from its brightest pixel down; parts grow together unless both have peaks and are too large.

    Parameters
    ----------
    order : ndarray of int32, shape (n,)
        Flat indices of the pixels of the blend, brightest first; none of them on the border.
    is_peak : ndarray of bool, shape (height, width)
        Pixels with peaks.
    limit : int
        Largest area of two parts with peaks that join, px.

    Returns
    -------
    ndarray of int32, shape (height, width)
        The number of each pixel's part (numbers with gaps), -1 elsewhere.
    """
    width = is_peak.shape[1]
    peaks = is_peak.ravel()
    # of a pixel its parent, another of the same part; of the root minus twice the area, and minus 1 with a peak
    parent = np.full(peaks.shape[0], _UNSEEN, np.int32)
    steps = np.array([-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1])
    for new in range(len(order)):
        pixel = np.int64(order[new])
        parent[pixel] = -3 if peaks[pixel] else -2
        mine = pixel
        for step in steps:
            if parent[pixel + step] == _UNSEEN:
                continue
            other = np.int64(_root(parent, pixel + step))
            if other == mine:
                continue
            my_area, my_peak = -parent[mine] >> 1, -parent[mine] & 1
            other_area, other_peak = -parent[other] >> 1, -parent[other] & 1
            if my_peak and other_peak and my_area + other_area > limit:
                continue
            if my_area > other_area:
                mine, other = other, mine
            parent[mine] = other
            parent[other] = -(2 * (my_area + other_area) + (my_peak | other_peak))
            mine = other
    labels = np.full(peaks.shape[0], -1, np.int32)
    for new in range(len(order)):
        if parent[order[new]] < 0:
            labels[order[new]] = new
    for place in range(parent.shape[0]):  # in the order of memory, which the brightest first are not
        if parent[place] != _UNSEEN:
            labels[place] = labels[_root(parent, place)]
    return labels.reshape(is_peak.shape)
