"""Templates of extended sources in blends: symmetric about the peak, smoothed, falling outwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "continue_template",
    "falling_template",
    "grown",
    "has_gaps",
    "is_cut_while_bright",
    "median_smoothed",
    "pixels_inside",
    "symmetric_template",
]

_HALF, _SIZE = 2, 5  # of the median filter
_SORT_COLUMN = ((0, 3), (1, 4), (0, 2), (1, 3), (0, 1), (2, 4), (1, 2), (3, 4), (2, 3))
#: Comparisons by which, of a window with sorted columns, the median comes to this place.
_MEDIAN = 17
_FIND_MEDIAN = (
    (0, 3), (1, 4), (0, 2), (1, 3), (2, 4), (3, 4), (2, 3), (5, 8), (6, 9), (5, 7),
    (6, 8), (5, 6), (7, 9), (6, 7), (7, 8), (10, 13), (11, 14), (10, 12), (11, 13), (10, 11),
    (12, 14), (11, 12), (13, 14), (12, 13), (15, 18), (16, 19), (15, 17), (16, 18), (15, 16), (17, 19),
    (17, 18), (20, 23), (21, 24), (20, 22), (21, 23), (20, 21), (22, 24), (21, 22), (11, 15), (3, 7),
    (4, 16), (17, 12), (21, 8), (15, 7), (4, 17), (16, 12), (9, 21), (16, 17), (13, 21), (9, 20),
    (7, 16), (21, 20), (7, 4), (16, 17), (13, 21), (4, 9), (16, 13), (17, 21), (17, 9), (16, 17),
)  # fmt: skip
_AT_ONCE = 256  # pixels that are smoothed at once: their windows stay in the cache
_AHEAD = 25  # rings that are smoothed beyond the one that is reached
_SHADOW = 5  # length of the shadow of a pixel, and number of rings between refreshments
_CONE = 0.3  # half the opening of a shadow, as a slope


@njit(cache=True, nogil=True)
def _either(row: NDArray[np.bool_], mirror: NDArray[np.bool_], seen: NDArray[np.bool_]) -> bool:
    """Mark in ``seen`` the columns in which a row and its mirror image are both set; whether there is one."""
    some = False
    for x in range(row.shape[0]):
        both = row[x] & mirror[x]
        seen[x] |= both
        some |= both
    return some


@njit(cache=True, nogil=True)
def _reach(
    inside: NDArray[np.bool_], turned_inside: NDArray[np.bool_], cx: int, cy: int, rx: int, ry: int
) -> tuple[int, int]:
    """Largest distances in x and y from the peak to a pixel that is inside together with its mirror image."""
    height, width = inside.shape
    seen = np.zeros(2 * rx + 1, np.bool_)
    far_y, left, low = 0, cx - rx, width - 1 - cx - rx
    for dy in range(ry + 1):
        row = inside[cy + dy, left : left + 2 * rx + 1]
        if _either(row, turned_inside[height - 1 - cy + dy, low : low + 2 * rx + 1], seen):
            far_y = dy
    far_x = rx
    while far_x > 0 and not (seen[rx - far_x] or seen[rx + far_x]):
        far_x -= 1
    return far_x, far_y


@njit(cache=True, nogil=True)
def _smaller(
    pixels: NDArray[np.float32],
    mirror: NDArray[np.float32],
    inside: NDArray[np.bool_],
    mirror_inside: NDArray[np.bool_],
    template: NDArray[np.float32],
    member: NDArray[np.bool_],
) -> None:
    for x in range(template.shape[0]):
        value = min(pixels[x], mirror[x])
        both = inside[x] & mirror_inside[x]
        member[x] = both
        template[x] = value if both & (value > 0) else np.float32(0)  # not so for NaN


@njit(cache=True, nogil=True)
def symmetric_template(
    pixels: NDArray[np.float32],
    inside: NDArray[np.bool_],
    turned_pixels: NDArray[np.float32],
    turned_inside: NDArray[np.bool_],
    peak: tuple[int, int],
    reach: tuple[int, int],
) -> tuple[NDArray[np.float32], NDArray[np.bool_], int, int]:
    """The smaller of each pixel and its mirror image about a peak, at least 0.

    Parameters
    ----------
    pixels : ndarray of float32, shape (height, width)
        Counts.
    inside : ndarray of bool, shape (height, width)
        Pixels that may belong to the template; their mirror images have to be in it, too.
    turned_pixels, turned_inside : ndarray
        Both turned by half a circle: mirror pixels about any peak follow each other as the pixels do.
    peak : tuple of int
        The peak x, y.
    reach : tuple of int
        Largest distances of the template's pixels from the peak in x and y.

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
    cx, cy = peak
    if not (0 <= cx < width and 0 <= cy < height and inside[cy, cx]):
        return np.zeros((0, 0), np.float32), np.zeros((0, 0), np.bool_), 0, 0
    rx, ry = min(cx, width - 1 - cx, reach[0]), min(cy, height - 1 - cy, reach[1])
    rx, ry = _reach(inside, turned_inside, cx, cy, rx, ry)
    template = np.empty((2 * ry + 1, 2 * rx + 1), np.float32)
    member = np.empty(template.shape, np.bool_)
    here, there = slice(cx - rx, cx + rx + 1), slice(width - 1 - cx - rx, width - cx + rx)
    for dy in range(-ry, ry + 1):
        v, w = cy + dy, height - 1 - cy + dy
        _smaller(
            pixels[v, here], turned_pixels[w, there], inside[v, here], turned_inside[w, there],
            template[ry + dy], member[ry + dy],
        )  # fmt: skip
    return template, member, cx - rx, cy - ry


@njit(cache=True, nogil=True)
def _is_edge(member: NDArray[np.bool_], y: int, x: int) -> bool:
    """Whether a pixel of the template has one of its four neighbours outside."""
    height, width = member.shape
    if y == 0 or y == height - 1 or x == 0 or x == width - 1:
        return True
    return not (member[y - 1, x] and member[y + 1, x] and member[y, x - 1] and member[y, x + 1])


@njit(cache=True, nogil=True)
def _reaches(row: NDArray[np.float32], level: float) -> bool:
    some = False
    for x in range(row.shape[0]):
        some |= row[x] >= level
    return some


@njit(cache=True, nogil=True)
def is_cut_while_bright(template: NDArray[np.float32], member: NDArray[np.bool_], level: float) -> bool:
    """Whether an edge pixel of the template reaches a level."""
    for y in range(template.shape[0]):
        if not _reaches(template[y], level):
            continue
        for x in range(template.shape[1]):
            if template[y, x] >= level and member[y, x] and _is_edge(member, y, x):
                return True
    return False


@njit(cache=True, nogil=True)
def grown(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """A mask dilated by the digital disc, on its box grown by the radius."""
    height, width = mask.shape[0] + 2 * radius, mask.shape[1] + 2 * radius
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
                reach = int(np.sqrt(np.float64(radius * radius - dy * dy)))
                steps[y + radius + dy, start + radius - reach] += 1
                steps[y + radius + dy, x + radius + reach] -= 1
    out = np.zeros((height, width), np.bool_)
    for y in range(height):
        cover = 0
        for x in range(width):
            cover += steps[y, x]
            out[y, x] = cover > 0
    return out


@njit(cache=True, nogil=True)
def pixels_inside(image: NDArray[np.float32], inside: NDArray[np.bool_], x0: int, y0: int) -> NDArray[np.float32]:
    """Counts where a mask, whose lower-left pixel is (x0, y0), is set; 0 elsewhere and beyond the image."""
    pixels = np.zeros(inside.shape, np.float32)
    left, right = max(0, -x0), min(inside.shape[1], image.shape[1] - x0)
    for y in range(max(0, -y0), min(inside.shape[0], image.shape[0] - y0)):
        for x in range(left, right):
            if inside[y, x]:
                pixels[y, x] = image[y + y0, x + x0]
    return pixels


@njit(cache=True, nogil=True)
def _right_edges(member: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of each horizontal run of edge pixels the right-most one: only that counts, as upstream."""
    height, width = member.shape
    edges = np.zeros(member.shape, np.bool_)
    for y in range(height):
        for x in range(width):
            if member[y, x] and _is_edge(member, y, x):
                edges[y, x] = True
                if x > 0:
                    edges[y, x - 1] = False
    return edges


@njit(cache=True, nogil=True)
def has_gaps(pixels: NDArray[np.float32], inside: NDArray[np.bool_]) -> bool:
    """Whether some pixel that is inside is 0, as those beyond the border of the image are."""
    for y in range(pixels.shape[0]):
        some = False
        for x in range(pixels.shape[1]):
            some |= inside[y, x] & (pixels[y, x] == 0)
        if some:
            return True
    return False


@njit(cache=True, nogil=True)
def continue_template(
    pixels: NDArray[np.float32],
    inside: NDArray[np.bool_],
    template: NDArray[np.float32],
    member: NDArray[np.bool_],
    margin: int,
    psf: NDArray[np.float32],
) -> None:
    """Continue a template that the border of the image cuts: pixels of 0 get the largest wing of its edge pixels.

    Parameters
    ----------
    pixels, inside : ndarray, shape (height + 2 margin, width + 2 margin)
        The pixels from which the template is made anew, changed in place, and which of them count.
    template, member : ndarray, shape (height, width)
        The first template and its pixels.
    margin : int
        Reach of the wings, px.
    psf : ndarray of float32, shape (h, w)
        Centred PSF: the shape of a wing.
    """
    height, width = template.shape
    edges = _right_edges(member)
    middle_y, middle_x = psf.shape[0] // 2, psf.shape[1] // 2
    half_y, half_x = min(middle_y, margin), min(middle_x, margin)
    top = psf.max()
    for y in range(pixels.shape[0]):
        for x in range(pixels.shape[1]):
            if not inside[y, x] or pixels[y, x] != 0:
                continue
            best = np.float32(0)
            for v in range(max(0, y - margin - half_y), min(height, y - margin + half_y + 1)):
                for u in range(max(0, x - margin - half_x), min(width, x - margin + half_x + 1)):
                    if edges[v, u]:
                        best = max(
                            best, template[v, u] * (psf[middle_y + y - margin - v, middle_x + x - margin - u] / top)
                        )
            pixels[y, x] = best


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz"})
def _order(low: NDArray[np.float32], high: NDArray[np.float32]) -> None:
    for x in range(low.shape[0]):
        a, b = low[x], high[x]
        low[x] = a if a < b else b
        high[x] = b if a < b else a


@njit(cache=True, nogil=True)
def _copy(source: NDArray[np.float32], target: NDArray[np.float32]) -> None:
    for x in range(target.shape[0]):
        target[x] = source[x]


@njit(cache=True, nogil=True)
def median_smoothed(
    template: NDArray[np.float32], rows: tuple[int, int], columns: tuple[int, int], out: NDArray[np.float32]
) -> None:
    """Median of 5x5 pixels; the margins (2 px, on the right 3, as upstream) and small templates stay as they are.

    Parameters
    ----------
    template : ndarray of float32, shape (height, width)
        Numbers, none of them NaN.
    rows, columns : tuple of int
        First, and last but one, of the pixels wanted.
    out : ndarray of float32, shape (height, width)
        Receives these pixels.

    Notes
    -----
    Method: a network of comparisons, for all pixels of a row at once. It first sorts the columns of all windows, which
    neighbours share.
    """
    height, width = template.shape
    for y in range(rows[0], rows[1]):
        _copy(template[y, columns[0] :], out[y, columns[0] : columns[1]])
    left, right = max(columns[0], _HALF), min(columns[1], width - _HALF - 1)
    bottom, top = max(rows[0], _HALF), min(rows[1], height - _HALF)
    n = right - left
    if height < _SIZE or width < _SIZE or n <= 0 or top <= bottom:
        return
    at_once = min(top - bottom, max(1, _AT_ONCE // n))
    wide = n + 2 * _HALF
    strip = np.empty((at_once + 2 * _HALF) * wide, np.float32)
    column = np.empty((_SIZE, at_once * wide), np.float32)
    window = np.empty((_SIZE * _SIZE, at_once * wide), np.float32)
    for y in range(bottom, top, at_once):
        lines = min(at_once, top - y)
        for i in range(lines + 2 * _HALF):
            _copy(template[y - _HALF + i, left - _HALF :], strip[i * wide : (i + 1) * wide])
        for i in range(_SIZE):
            _copy(strip[i * wide :], column[i])
        for i, j in _SORT_COLUMN:
            _order(column[i], column[j])
        size = at_once * wide - 2 * _HALF  # windows across two lines are not used
        for i in range(_SIZE):
            for j in range(_SIZE):
                _copy(column[i, j:], window[_SIZE * i + j, :size])
        for i, j in _FIND_MEDIAN:
            _order(window[i], window[j])
        for i in range(lines):
            _copy(window[_MEDIAN, i * wide :], out[y + i, left:right])


@njit(cache=True, nogil=True)
def _round(value: float) -> int:
    """Nearest integer, halves away from zero."""
    return int(np.floor(value + 0.5)) if value >= 0 else int(np.ceil(value - 0.5))


@njit(cache=True, nogil=True)
def _shadows(ring: int, low: NDArray[np.int64], high: NDArray[np.int64]) -> None:
    """How far the shadow of each pixel of one side of a ring spreads beside its own axis, at each step outwards."""
    for q in range(1, _SHADOW + 1):
        for i in range(2 * ring + 1):
            slope = np.float64(i - ring) / np.float64(ring) - _CONE
            low[q - 1, i] = _round(q * slope)
            high[q - 1, i] = _round(q * (slope + 2.0 * _CONE))


@njit(cache=True, nogil=True)
def _darken_ring(
    template: NDArray[np.float32],
    cx: int,
    cy: int,
    ring: int,
    low: NDArray[np.int64],
    high: NDArray[np.int64],
) -> bool:
    """Lower the pixels in the cones behind those of a ring to their values; whether the whole ring is 0."""
    height, width = template.shape
    dark = True
    # a corner belongs to the side that starts there: right, top, left, bottom, counter-clockwise
    for side in range(4):
        vertical, sign = side % 2 == 1, 1 if side < 2 else -1
        along = cy if vertical else cx
        middle = cx if vertical else cy
        length = height if vertical else width
        breadth = width if vertical else height
        if not 0 <= along + sign * ring < length:
            continue
        steps = min(_SHADOW, length - 1 - along - ring if sign > 0 else along - ring)
        first = -ring if side % 3 == 0 else 1 - ring
        for across in range(max(first, -middle), min(first + 2 * ring, breadth - middle)):
            beside, outward = middle + across, along + sign * ring
            value = template[outward, beside] if vertical else template[beside, outward]
            dark &= value == 0
            for q in range(steps):
                outward += sign
                near, far = low[q, ring + sign * across], high[q, ring + sign * across]
                start, stop = (near, far) if sign > 0 else (-far, -near)
                for k in range(max(beside + start, 0), min(beside + stop + 1, breadth)):
                    if vertical:
                        template[outward, k] = min(template[outward, k], value)
                    else:
                        template[k, outward] = min(template[k, outward], value)
    return dark


@njit(cache=True, nogil=True)
def _smooth_rings(
    template: NDArray[np.float32], cx: int, cy: int, inner: int, outer: int, smooth: bool, out: NDArray[np.float32]
) -> None:
    """Copy, or smooth, the rings about the peak from one to before another."""
    height, width = template.shape
    left, right = max(0, cx - outer + 1), min(width, cx + outer)
    bottom, top = max(0, cy - outer + 1), min(height, cy + outer)
    hole = (max(0, cx - inner + 1), min(width, cx + inner), max(0, cy - inner + 1), min(height, cy + inner))
    for x0, x1, y0, y1 in (
        (left, right, bottom, hole[2]),
        (left, hole[0], hole[2], hole[3]),
        (hole[1], right, hole[2], hole[3]),
        (left, right, hole[3], top),
    ):
        if smooth:
            median_smoothed(template, (y0, y1), (x0, x1), out)
        else:
            out[y0:y1, x0:x1] = template[y0:y1, x0:x1]


@njit(cache=True, nogil=True)
def falling_template(template: NDArray[np.float32], cx: int, cy: int, smooth: bool) -> tuple[NDArray[np.float32], int]:
    """A template that falls outwards from the peak (cx, cy).

    Square rings are walked outwards; each pixel lowers those in a cone of 5 px behind it to its own value. The values
    that cast shadows are those before every fifth ring: rings are taken five by five, in these from the outermost.

    Parameters
    ----------
    template : ndarray of float32
        Numbers, none of them negative.
    cx, cy : int
        The peak.
    smooth : bool
        Median-filter the template first.

    Returns
    -------
    falling : ndarray of float32, same shape
        The template within these rings, beyond them nothing is set.
    rings : int
        All pixels of this ring and of those beyond would be 0.

    Notes
    -----
    A ring that is 0 darkens the five behind it wholly, so that the walk ends there. In crowds templates are a small
    part of their boxes: they are smoothed just as far as the walk gets.
    """
    height, width = template.shape
    far = max(cx + 1, width - cx, cy + 1, height - cy)
    out = np.empty(template.shape, np.float32)
    low, high = np.empty((_SHADOW, 2 * far), np.int64), np.empty((_SHADOW, 2 * far), np.int64)
    ready = 0
    for start in range(0, far, _SHADOW):
        if start + 2 * _SHADOW > ready:
            more = min(far, start + _AHEAD)
            _smooth_rings(template, cx, cy, ready, more, smooth, out)
            ready = more
        last = min(far, start + _SHADOW) - 1
        ends = False
        for ring in range(last, max(1, start) - 1, -1):
            _shadows(ring, low, high)
            dark = _darken_ring(out, cx, cy, ring, low, high)
            ends |= dark and ring == last
        if ends:
            return out, last + 1
    return out, far
