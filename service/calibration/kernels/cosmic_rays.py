"""Cosmic-ray search: the sequential scan, the grouping and the growth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

from service.calibration.kernels.statistics import sort_in_place

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["grow_round", "label_runs", "mark_candidates", "scan"]

_EIGHT_BYTES_TO_BITS = np.uint64(0x0102040810204080)


@njit(cache=True, nogil=True)
def _estimate(
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    y: int,
    x: int,
    background: float,
    ratios: NDArray[np.float64],
    min_sigma: float,
    noise_factor: float,
) -> float:
    """Replacement of a pixel that is sharper than the PSF; NaN where it is not.

    ``ratios`` are the PSF's neighbour-to-peak ratios along the rows (left, right), the columns and the diagonals.
    """
    value = np.float64(image[y, x])
    if not value >= 0:
        return np.nan
    sigma = np.sqrt(np.float64(variance[y, x]))
    means = (
        np.float64(image[y - 1, x] + image[y + 1, x]) * 0.5,
        np.float64(image[y, x - 1] + image[y, x + 1]) * 0.5,
        np.float64(image[y - 1, x - 1] + image[y + 1, x + 1]) * 0.5,
        np.float64(image[y + 1, x - 1] + image[y - 1, x + 1]) * 0.5,
    )
    if min_sigma < 0:
        significant = value >= -min_sigma
    else:
        margin = min_sigma * sigma
        significant = (
            value >= means[0] + margin
            or value >= means[1] + margin
            or value >= means[2] + margin
            or value >= means[3] + margin
        )
    if not significant:
        return np.nan
    excess = value - background - noise_factor * sigma
    for k in range(4):
        if k == 0:
            pair, ratio = variance[y - 1, x] + variance[y + 1, x], ratios[1]
        elif k == 1:
            pair, ratio = variance[y, x - 1] + variance[y, x + 1], ratios[0]
        elif k == 2:
            pair, ratio = variance[y - 1, x - 1] + variance[y + 1, x + 1], ratios[2]
        else:
            pair, ratio = variance[y + 1, x - 1] + variance[y - 1, x + 1], ratios[2]
        error = np.sqrt(np.float64(pair)) * 0.5
        if ratio * excess > means[k] - background + noise_factor * error:
            return means[k]
    return np.nan


@njit(cache=True, nogil=True)
def _enlarged(array: NDArray[Any]) -> NDArray[Any]:
    larger = np.empty(2 * array.size, array.dtype)
    for i in range(array.size):
        larger[i] = array[i]
    return larger


@njit(cache=True, nogil=True)
def _mark_row(
    below: NDArray[np.float32],
    row: NDArray[np.float32],
    above: NDArray[np.float32],
    variance: NDArray[np.float32],
    squared_limit: np.float32,
    candidate: NDArray[np.bool_],
) -> None:
    """Mark pixels that may exceed a pair mean by some sigma > 0, a little too many; the rim keeps its marks."""
    n = row.size - 2
    left, middle, right = row[:n], row[1 : n + 1], row[2:]
    below_left, below_middle, below_right = below[:n], below[1 : n + 1], below[2:]
    above_left, above_middle, above_right = above[:n], above[1 : n + 1], above[2:]
    middle_variance, marks = variance[1 : n + 1], candidate[1 : n + 1]
    for x in range(n):
        lowest = np.float32(np.inf)  # so that no NaN, which is not less, hides the other pairs
        pair = below_middle[x] + above_middle[x]
        lowest = pair if pair < lowest else lowest
        pair = left[x] + right[x]
        lowest = pair if pair < lowest else lowest
        pair = below_left[x] + above_right[x]
        lowest = pair if pair < lowest else lowest
        pair = above_left[x] + below_right[x]
        lowest = pair if pair < lowest else lowest
        difference = middle[x] - np.float32(0.5) * lowest
        marks[x] = (difference >= 0) & (difference * difference >= squared_limit * middle_variance[x])


@njit(cache=True, nogil=True)
def _near(mask: NDArray[np.int32], bits: np.int32, y: int, x: int) -> bool:
    """Whether the pixel or one of its 8 neighbours has any of the bits."""
    for yy in range(y - 1, y + 2):
        for xx in range(x - 1, x + 2):
            if (mask[yy, xx] & bits) != 0:
                return True
    return False


@njit(cache=True, nogil=True)
def mark_candidates(
    image: NDArray[np.float32], variance: NDArray[np.float32], min_sigma: float, y0: int, marks: NDArray[np.uint8]
) -> None:
    """Mark the pixels of some rows that may be cosmic rays, for `scan`.

    Nearly no pixel is marked and reaches the test proper; this vectorises.

    Parameters
    ----------
    image, variance : ndarray of float32, shape (height, width)
        Planes.
    min_sigma : float
        Significance over a pair of neighbours, more than 0.
    y0 : int
        Row that ``marks`` begins with.
    marks : ndarray of uint8, shape (rows, (width + 7) // 8)
        Output: a bit for each pixel, the lowest of a byte first.
    """
    height, width = image.shape
    squared_limit = np.float32(0.999 * min_sigma * min_sigma)
    row = np.zeros((width + 7) // 8 * 8, np.bool_)
    words = row.view(np.uint64)
    for k in range(marks.shape[0]):
        y = y0 + k
        if y == 0 or y == height - 1:
            marks[k] = 0
            continue
        _mark_row(image[y - 1], image[y], image[y + 1], variance[y], squared_limit, row[:width])
        for i in range(words.size):
            marks[k, i] = np.uint8((words[i] * _EIGHT_BYTES_TO_BITS) >> np.uint64(56))


@njit(cache=True, nogil=True)
def _mark(marks: NDArray[np.uint8], x: int) -> None:
    marks[x // 8] |= np.uint8(1 << x % 8)


@njit(cache=True, nogil=True)
def _next_marked(marks: NDArray[np.uint8], start: int, stop: int) -> int:
    """First marked pixel of a row from ``start`` on, or one that is not below ``stop``."""
    x = start
    while x < stop and not marks[x // 8] >> x % 8 & 1:
        x += 1
        while x < stop and x % 8 == 0 and marks[x // 8] == 0:
            x += 8
    return x


@njit(cache=True, nogil=True)
def scan(
    image: NDArray[np.float32],
    mask: NDArray[np.int32],
    variance: NDArray[np.float32],
    background: float,
    ratios: NDArray[np.float64],
    min_sigma: float,
    noise_factor: float,
    bad: np.int32,
    interpolated: np.int32,
    max_pixels: int,
    marks: NDArray[np.uint8],
) -> NDArray[np.int64]:
    """Flat indices of cosmic-ray pixels in raster order, at most ``max_pixels + 1``; the image is left as it was.

    A pixel that is found is overwritten at once, so that the pixels after it see a clean neighbour. Only candidates
    are tested, a bit each in ``marks`` as from `mark_candidates`, to which the later neighbours of a pixel that is
    found are added.
    """
    height, width = image.shape
    found = np.empty(1024, np.int64)
    originals = np.empty(1024, np.float32)
    n = 0
    for y in range(1, height - 1):
        row = marks[y]
        x = _next_marked(row, 1, width - 1)
        while x < width - 1 and n <= max_pixels:
            estimate = _estimate(image, variance, y, x, background, ratios, min_sigma, noise_factor)
            if not (np.isnan(estimate) or (mask[y, x] & bad) != 0 or _near(mask, interpolated, y, x)):
                if n == found.size:
                    found = _enlarged(found)
                    originals = _enlarged(originals)
                found[n] = y * width + x
                originals[n] = image[y, x]
                image[y, x] = estimate
                n += 1
                _mark(row, x + 1)
                for xx in range(x - 1, x + 2):
                    _mark(marks[y + 1], xx)
            x = _next_marked(row, x + 1, width - 1)
    for i in range(n):
        image[found[i] // width, found[i] % width] = originals[i]
    return found[:n]


@njit(cache=True, nogil=True)
def _root(parents: NDArray[np.int64], label: int) -> int:
    while parents[label] != label:
        label = parents[label]
    return label


@njit(cache=True, nogil=True)
def label_runs(pixels: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Group label of each pixel, given in raster order; pixels that touch, also diagonally, share one.

    Runs along x are numbered in raster order; where two touch, the root label of the earlier one becomes the root of
    the later one, so that a group has the number of one of its last runs.
    """
    n = pixels.size
    run_of = np.empty(n, np.int64)
    first = np.empty(n, np.int64)
    last = np.empty(n, np.int64)
    runs = 0
    for i in range(n):
        if i > 0 and pixels[i] == pixels[i - 1] + 1 and pixels[i] % width != 0:
            last[runs - 1] = pixels[i]
        else:
            first[runs] = last[runs] = pixels[i]
            runs += 1
        run_of[i] = runs - 1
    parents = np.arange(runs)
    start = 0
    for a in range(runs):
        row = first[a] // width
        start = max(start, a + 1)
        while start < runs and first[start] // width <= row:
            start += 1
        b = start
        while b < runs and first[b] // width == row + 1 and first[b] - width <= last[a] + 1:
            if last[b] - width >= first[a] - 1:
                parents[_root(parents, a)] = _root(parents, b)
            b += 1
    labels = np.empty(n, np.int64)
    for i in range(n):
        labels[i] = _root(parents, run_of[i])
    return labels


@njit(cache=True, nogil=True)
def grow_round(
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    pixels: NDArray[np.int64],
    offsets: NDArray[np.int64],
    background: float,
    ratios: NDArray[np.float64],
    min_sigma: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """One round of growth of every group, whose pixels are ascending flat indices.

    Accepted pixels are overwritten in the image at once.

    Returns
    -------
    pixels, offsets
        The groups with what they took in.
    touched, originals
        Pixels overwritten, in order and possibly repeatedly, and their values before that.
    """
    height, width = image.shape
    grown = np.empty(max(2 * pixels.size, 64), np.int64)
    grown_offsets = np.zeros_like(offsets)
    touched = np.empty(256, np.int64)
    originals = np.empty(256, np.float32)
    n = n_touched = 0
    for group in range(offsets.size - 1):
        first_touched = n_touched
        i = offsets[group]
        while i < offsets[group + 1]:
            stop = i + 1
            while stop < offsets[group + 1] and pixels[stop] == pixels[stop - 1] + 1 and pixels[stop] % width != 0:
                stop += 1
            y = pixels[i] // width
            x0 = min(max(pixels[i] % width, 2), width - 3)
            x1 = min(max(pixels[stop - 1] % width, 2), width - 3)
            i = stop
            if y < 2 or y >= height - 2 or width < 5:
                continue
            for yy in range(y - 1, y + 2):
                for xx in range(x0 - 1, x1 + 2):
                    estimate = _estimate(image, variance, yy, xx, background, ratios, min_sigma, 0.0)
                    if np.isnan(estimate):
                        continue
                    if n_touched == touched.size:
                        touched = _enlarged(touched)
                        originals = _enlarged(originals)
                    touched[n_touched] = yy * width + xx
                    originals[n_touched] = image[yy, xx]
                    n_touched += 1
                    image[yy, xx] = estimate
        n_members = offsets[group + 1] - offsets[group] + n_touched - first_touched
        while n + n_members > grown.size:
            grown = _enlarged(grown)
        members = grown[n : n + n_members]
        n_own = offsets[group + 1] - offsets[group]
        for k in range(n_own):
            members[k] = pixels[offsets[group] + k]
        for k in range(n_touched - first_touched):
            members[n_own + k] = touched[first_touched + k]
        sort_in_place(members)
        first = n
        for k in range(n_members):
            if n == first or members[k] != grown[n - 1]:
                grown[n] = members[k]
                n += 1
        grown_offsets[group + 1] = n
    return grown[:n], grown_offsets, touched[:n_touched], originals[:n_touched]
