"""Stamps of PSF candidates with contaminated pixels marked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["cut_stamps", "largest_pixels"]

_GROW = 3  # px


@njit(cache=True, nogil=True)
def largest_pixels(image: NDArray[np.float32], corners: NDArray[np.int64], size: int) -> NDArray[np.float32]:
    """Largest value of each stamp, NaN where it has none but NaN.

    Parameters
    ----------
    image : ndarray of float32, shape (height, width)
        Plane.
    corners : ndarray of int64, shape (n, 2)
        Lower-left pixels (x, y), array coordinates; the stamps must lie inside the image.
    size : int
        Width and height of a stamp.

    Returns
    -------
    ndarray of float32, shape (n,)
        Counts.
    """
    result = np.full(len(corners), np.nan, np.float32)
    for s in range(len(corners)):
        x, y = corners[s]
        found = False
        for row in range(y, y + size):
            for value in image[row, x : x + size]:
                if not np.isnan(value) and not (found and value <= result[s]):
                    result[s] = value
                    found = True
    return result


@njit(cache=True, nogil=True)
def cut_stamps(
    image: NDArray[np.float32],
    mask: NDArray[np.int32],
    corners: NDArray[np.int64],
    size: int,
    rows: NDArray[np.int64],
    centers: NDArray[np.float64],
    spans: NDArray[np.int32],
    span_offsets: NDArray[np.int64],
    peaks: NDArray[np.int32],
    peak_offsets: NDArray[np.int64],
    origin: NDArray[np.int64],
    detected: int,
    ignored: int,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Cut stamps, which must lie inside the image, and move contaminated pixels from one mask plane to another.

    Parameters
    ----------
    image, mask : ndarray, shape (height, width)
        Planes.
    corners : ndarray of int64, shape (n, 2)
        Lower-left pixels (x, y), parent frame.
    size : int
        Width and height of a stamp.
    rows : ndarray of int64, shape (n,)
        Footprint of each stamp's source.
    centers : ndarray of float64, shape (n, 2)
        Centroids (x, y).
    spans, span_offsets, peaks, peak_offsets : ndarray
        Footprints.
    origin : ndarray of int64, shape (2,)
        Parent coordinates (x, y) of ``image[0, 0]``.
    detected, ignored : int
        Bits (values) that contaminated pixels lose and get.

    Returns
    -------
    images, masks : ndarray of float32 and int32, shape (n, size, size)
        The stamps.
    """
    n = len(corners)
    images = np.empty((n, size, size), np.float32)
    masks = np.empty((n, size, size), np.int32)
    for s in range(n):
        left = corners[s, 0] - origin[0]
        bottom = corners[s, 1] - origin[1]
        for i in range(size):
            for j in range(size):
                images[s, i, j] = image[bottom + i, left + j]
                masks[s, i, j] = mask[bottom + i, left + j]
        row = rows[s]
        own_peaks = peaks[peak_offsets[row] : peak_offsets[row + 1]]
        own_spans = spans[span_offsets[row] : span_offsets[row + 1]]
        if len(own_peaks) > 1:
            _mark_other_peaks(masks[s], corners[s], centers[s], own_spans, own_peaks, detected, ignored)
        _mark_other_regions(masks[s], detected, ignored)
    return images, masks


@njit(cache=True, nogil=True)
def _mark_other_peaks(mask, corner, center, spans, peaks, detected, ignored):  # type: ignore[no-untyped-def]
    """Mark the pixels of the source's own footprint that are nearer to another of its peaks."""
    size = mask.shape[0]
    central = 0
    nearest = np.inf
    for p in range(len(peaks)):
        distance = (peaks[p, 0] - center[0]) ** 2 + (peaks[p, 1] - center[1]) ** 2
        if distance < nearest:
            nearest = distance
            central = p
    for span in spans:
        y = span[0]
        if y < corner[1] or y >= corner[1] + size:
            continue
        for x in range(max(span[1], corner[0]), min(span[2], corner[0] + size - 1) + 1):
            own = (x - peaks[central, 0]) ** 2 + (y - peaks[central, 1]) ** 2
            for p in range(len(peaks)):
                if (x - peaks[p, 0]) ** 2 + (y - peaks[p, 1]) ** 2 < own:
                    i = y - corner[1]
                    j = x - corner[0]
                    mask[i, j] = (mask[i, j] & ~detected) | ignored
                    break


@njit(cache=True, nogil=True)
def _mark_other_regions(mask, detected, ignored):  # type: ignore[no-untyped-def]
    """Mark, grown by 3 px, every detected region that does not hold the centre, where there are several."""
    size = mask.shape[0]
    label = np.zeros((size, size), np.int32)
    stack = np.empty((size * size, 2), np.int64)
    regions = 0
    for i in range(size):
        for j in range(size):
            if mask[i, j] & detected and label[i, j] == 0:
                regions += 1
                label[i, j] = regions
                stack[0, 0], stack[0, 1] = i, j
                depth = 1
                while depth > 0:
                    depth -= 1
                    y, x = stack[depth, 0], stack[depth, 1]
                    for v in range(max(0, y - 1), min(size, y + 2)):
                        for u in range(max(0, x - 1), min(size, x + 2)):
                            if mask[v, u] & detected and label[v, u] == 0:
                                label[v, u] = regions
                                stack[depth, 0], stack[depth, 1] = v, u
                                depth += 1
    if regions < 2:
        return
    own = label[size // 2, size // 2]
    for i in range(size):
        for j in range(size):
            if label[i, j] == 0 or label[i, j] == own:
                continue
            for v in range(max(0, i - _GROW), min(size, i + _GROW + 1)):
                for u in range(max(0, j - _GROW), min(size, j + _GROW + 1)):
                    if (v - i) ** 2 + (u - j) ** 2 <= _GROW * _GROW:
                        mask[v, u] = (mask[v, u] & ~detected) | ignored
