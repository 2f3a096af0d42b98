"""Templates of extended sources in blends: symmetric about the peak, smoothed, falling outwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["extended_region", "fall_outwards", "is_cut_while_bright", "median_smoothed", "symmetric_template"]

_HALF = 2  # of the median filter
_SHADOW = 5  # length of the shadow of a pixel, and number of rings between refreshments
_CONE = 0.3  # half the opening of a shadow, as a slope


@njit(cache=True, nogil=True)
def symmetric_template(
    pixels: NDArray[np.float32], inside: NDArray[np.bool_], cx: int, cy: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_], int, int]:
    """The smaller of each pixel and its mirror image about a peak, at least 0.

    Parameters
    ----------
    pixels : ndarray of float32, shape (height, width)
        Counts.
    inside : ndarray of bool, shape (height, width)
        Pixels that may belong to the template; their mirror images have to be in it, too.
    cx, cy : int
        The peak.

    Returns
    -------
    template : ndarray of float32
        On the smallest box around the template, 0 outside it.
    member : ndarray of bool, same shape
        Its pixels; none, of shape (0, 0), where the peak is not inside.
    x0, y0 : int
        Lower-left pixel of the box.
    """
    height, width = inside.shape
    if not (0 <= cx < width and 0 <= cy < height and inside[cy, cx]):
        return np.zeros((0, 0), np.float32), np.zeros((0, 0), np.bool_), 0, 0
    rx, ry = min(cx, width - 1 - cx), min(cy, height - 1 - cy)
    template = np.zeros((2 * ry + 1, 2 * rx + 1), np.float32)
    member = np.zeros(template.shape, np.bool_)
    far_x, far_y = 0, 0
    for dy in range(-ry, ry + 1):
        for dx in range(-rx, rx + 1):
            if inside[cy + dy, cx + dx] and inside[cy - dy, cx - dx]:
                value = min(pixels[cy + dy, cx + dx], pixels[cy - dy, cx - dx])
                member[ry + dy, rx + dx] = True
                if value > 0:  # not so for NaN
                    template[ry + dy, rx + dx] = value
                far_x, far_y = max(far_x, abs(dx)), max(far_y, abs(dy))
    rows, columns = slice(ry - far_y, ry + far_y + 1), slice(rx - far_x, rx + far_x + 1)
    return template[rows, columns].copy(), member[rows, columns].copy(), cx - far_x, cy - far_y


@njit(cache=True, nogil=True)
def _is_edge(member: NDArray[np.bool_], y: int, x: int) -> bool:
    """Whether a pixel of the template has one of its four neighbours outside."""
    height, width = member.shape
    if y == 0 or y == height - 1 or x == 0 or x == width - 1:
        return True
    return not (member[y - 1, x] and member[y + 1, x] and member[y, x - 1] and member[y, x + 1])


@njit(cache=True, nogil=True)
def is_cut_while_bright(template: NDArray[np.float32], member: NDArray[np.bool_], level: float) -> bool:
    """Whether an edge pixel of the template reaches a level."""
    for y in range(template.shape[0]):
        for x in range(template.shape[1]):
            if member[y, x] and template[y, x] >= level and _is_edge(member, y, x):
                return True
    return False


@njit(cache=True, nogil=True)
def _ramp(
    template: NDArray[np.float32],
    member: NDArray[np.bool_],
    margin: int,
    psf: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Largest PSF-shaped wing of the template's edge pixels, on its box grown by ``margin``.

    Of each horizontal run of edge pixels only the right-most one counts, as upstream.
    """
    height, width = template.shape
    out = np.zeros((height + 2 * margin, width + 2 * margin), np.float32)
    half_y, half_x = min(psf.shape[0] // 2, margin), min(psf.shape[1] // 2, margin)
    middle_y, middle_x = psf.shape[0] // 2, psf.shape[1] // 2
    top = psf.max()
    for y in range(height):
        for x in range(width):
            if not member[y, x] or not _is_edge(member, y, x):
                continue
            if x + 1 < width and member[y, x + 1] and _is_edge(member, y, x + 1):
                continue
            for dy in range(-half_y, half_y + 1):
                for dx in range(-half_x, half_x + 1):
                    value = template[y, x] * (psf[middle_y + dy, middle_x + dx] / top)
                    if value > out[y + margin + dy, x + margin + dx]:
                        out[y + margin + dy, x + margin + dx] = value
    return out


@njit(cache=True, nogil=True)
def _grown(mask: NDArray[np.bool_], x0: int, y0: int, radius: int, height: int, width: int) -> NDArray[np.bool_]:
    """A mask dilated by the digital disc, cut out of a frame in which the mask starts at (x0, y0)."""
    steps = np.zeros((height, width + 1), np.int32)
    for y in range(mask.shape[0]):
        x = 0
        while x < mask.shape[1]:
            if not mask[y, x]:
                x += 1
                continue
            start = x
            while x < mask.shape[1] and mask[y, x]:
                x += 1
            for dy in range(-radius, radius + 1):
                v = y + y0 + dy
                if not 0 <= v < height:
                    continue
                reach = int(np.sqrt(np.float64(radius * radius - dy * dy)))
                low = max(0, start + x0 - reach)
                high = min(width, x + x0 + reach)
                if low < high:
                    steps[v, low] += 1
                    steps[v, high] -= 1
    out = np.zeros((height, width), np.bool_)
    for y in range(height):
        cover = 0
        for x in range(width):
            cover += steps[y, x]
            out[y, x] = cover > 0
    return out


@njit(cache=True, nogil=True)
def extended_region(
    image: NDArray[np.float32],
    footprint: NDArray[np.bool_],
    footprint_box: tuple[int, int],
    template: NDArray[np.float32],
    member: NDArray[np.bool_],
    template_box: tuple[int, int],
    margin: int,
    psf: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.bool_], int, int]:
    """Pixels from which a template that is cut while bright is made anew.

    Parameters
    ----------
    image : ndarray of float32, shape (height, width)
        The whole image.
    footprint, template, member : ndarray
        The parent, the first template and its pixels, each on its box.
    footprint_box, template_box : tuple of int
        Lower-left pixels x, y of the boxes in the image.
    margin : int
        Growth of the parent and of the template's box, px.
    psf : ndarray of float32, shape (h, w)
        Centred PSF: continues the template beyond the image's border. Of shape (0, 0) where the border is far.

    Returns
    -------
    pixels, inside : ndarray
        Counts, and the grown parent, on the template's box grown by ``margin``.
    x0, y0 : int
        Lower-left pixel of that box, which may lie outside the image.
    """
    x0, y0 = template_box[0] - margin, template_box[1] - margin
    height, width = template.shape[0] + 2 * margin, template.shape[1] + 2 * margin
    inside = _grown(footprint, footprint_box[0] - x0, footprint_box[1] - y0, margin, height, width)
    pixels = np.zeros((height, width), np.float32)
    wings = _ramp(template, member, margin, psf) if psf.size else pixels.copy()
    for y in range(height):
        for x in range(width):
            if 0 <= y + y0 < image.shape[0] and 0 <= x + x0 < image.shape[1] and inside[y, x]:
                pixels[y, x] = image[y + y0, x + x0]
            if pixels[y, x] == 0:
                pixels[y, x] = wings[y, x]
    return pixels, inside, x0, y0


@njit(cache=True, nogil=True)
def _select(values: NDArray[np.float32], k: int) -> float:
    """The ``k``-th smallest value; reorders them."""
    low, high = 0, values.shape[0] - 1
    while low < high:
        pivot = values[k]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if j < k:
            low = i
        if i > k:
            high = j
    return values[k]


@njit(cache=True, nogil=True)
def median_smoothed(template: NDArray[np.float32]) -> NDArray[np.float32]:
    """Median of 5x5 pixels; the margins (2 px, on the right 3, as upstream) and small templates stay as they are."""
    height, width = template.shape
    out = template.copy()
    size = 2 * _HALF + 1
    if height < size or width < size:
        return out
    window = np.empty(size * size, np.float32)
    for y in range(_HALF, height - _HALF):
        for x in range(_HALF, width - _HALF - 1):
            n = 0
            positive = 0
            for v in range(y - _HALF, y + _HALF + 1):
                for u in range(x - _HALF, x + _HALF + 1):
                    window[n] = template[v, u]
                    positive += template[v, u] > 0
                    n += 1
            out[y, x] = _select(window, size * size // 2) if positive > size * size // 2 else 0
    return out


@njit(cache=True, nogil=True)
def _round(value: float) -> int:
    """Nearest integer, halves away from zero."""
    return int(np.floor(value + 0.5)) if value >= 0 else int(np.ceil(value - 0.5))


@njit(cache=True, nogil=True)
def _cast_shadow(template: NDArray[np.float32], value: float, cx: int, cy: int, x: int, y: int, vertical: bool) -> None:
    """Lower the pixels in the cone behind ring pixel (x, y) to its value."""
    height, width = template.shape
    along, across = (x, y) if vertical else (y, x)
    sign = 1 if along > 0 else -1
    low = np.float64(across) / np.float64(along) - _CONE
    high = low + 2.0 * _CONE
    for q in range(1, _SHADOW + 1):
        for side in range(_round(q * low), _round(q * high) + 1):
            outward, beside = along + q * sign, across + sign * side
            u, v = (cx + outward, cy + beside) if vertical else (cx + beside, cy + outward)
            if 0 <= u < width and 0 <= v < height and template[v, u] > value:
                template[v, u] = value


@njit(cache=True, nogil=True)
def fall_outwards(template: NDArray[np.float32], cx: int, cy: int) -> None:
    """Make a template fall outwards from the peak (cx, cy), in place.

    Square rings are walked outwards; each pixel lowers those in a cone of 5 px behind it to its own value. The values
    that cast shadows are taken from a copy, which is renewed after every fifth ring.
    """
    height, width = template.shape
    far = max(cx, width - cx, cy, height - cy)
    frozen = template.copy()
    for start in range(0, far, _SHADOW):
        for ring in range(max(1, start), start + _SHADOW):
            # a corner belongs to the side that starts there: right, top, left, bottom, counter-clockwise
            for side in range(4):
                for i in range(2 * ring):
                    if side == 0:
                        x, y = ring, i - ring
                    elif side == 1:
                        x, y = ring - i, ring
                    elif side == 2:
                        x, y = -ring, ring - i
                    else:
                        x, y = i - ring, -ring
                    if 0 <= cx + x < width and 0 <= cy + y < height:
                        _cast_shadow(template, frozen[cy + y, cx + x], cx, cy, x, y, side % 2 == 0)
        frozen[:] = template
