"""Sharing the pixels of blends among the templates of their peaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from service.calibration.kernels.deblend_fit import footprint_mask
from service.calibration.kernels.deblend_templates import (
    continue_template,
    falling_template,
    grown,
    has_gaps,
    is_cut_while_bright,
    pixels_inside,
    symmetric_template,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["EXTENDED", "POINT_SOURCE", "SKIPPED", "split_blends"]

#: What a peak is taken for.
SKIPPED, POINT_SOURCE, EXTENDED = 0, 1, 2


@njit(cache=True, nogil=True)
def _point_source_template(
    stamp: NDArray[np.float32], origin: tuple[int, int], flux: float, inside: NDArray[np.bool_], box: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], int, int]:
    """PSF times flux within the footprint, on the common box of both."""
    x0, y0 = max(origin[0], box[0]), max(origin[1], box[1])
    x1 = min(origin[0] + stamp.shape[1], box[0] + inside.shape[1])
    y1 = min(origin[1] + stamp.shape[0], box[1] + inside.shape[0])
    shape = (max(0, y1 - y0), max(0, x1 - x0))
    template, member = np.zeros(shape, np.float32), np.zeros(shape, np.bool_)
    for y in range(shape[0]):
        for x in range(shape[1]):
            if inside[y + y0 - box[1], x + x0 - box[0]]:
                member[y, x] = True
                template[y, x] = flux * np.float64(stamp[y + y0 - origin[1], x + x0 - origin[0]])
    return template, member, x0, y0


@njit(cache=True, nogil=True)
def _within(
    template: NDArray[np.float32], member: NDArray[np.bool_], x0: int, y0: int, shape: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], int, int]:
    """A template cut to an image of some shape, on the smallest box."""
    if x0 >= 0 and y0 >= 0 and x0 + member.shape[1] <= shape[1] and y0 + member.shape[0] <= shape[0]:
        return template, member, x0, y0
    low_x, low_y, high_x, high_y = member.shape[1], member.shape[0], 0, 0
    for y in range(max(0, -y0), min(member.shape[0], shape[0] - y0)):
        for x in range(max(0, -x0), min(member.shape[1], shape[1] - x0)):
            if member[y, x]:
                low_x, low_y = min(low_x, x), min(low_y, y)
                high_x, high_y = max(high_x, x + 1), max(high_y, y + 1)
    cut = template[low_y:high_y, low_x:high_x].copy()
    return cut, member[low_y:high_y, low_x:high_x].copy(), x0 + low_x, y0 + low_y


@njit(cache=True, nogil=True)
def _region(
    image: NDArray[np.float32], inside: NDArray[np.bool_], x0: int, y0: int
) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32], int, int]:
    """What templates are made from: a mask and its pixels, both turned, and their lower-left pixel."""
    pixels = pixels_inside(image, inside, x0, y0)
    return inside, pixels, inside[::-1, ::-1].copy(), pixels[::-1, ::-1].copy(), x0, y0


@njit(cache=True, nogil=True)
def _extended_template(
    parent: tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32], int, int],
    larger: tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32], int, int],
    shape: tuple[int, int],
    peak: tuple[int, int],
    bright: float,
    margin: int,
    psf: NDArray[np.float32],
    smooth: bool,
) -> tuple[NDArray[np.float32], NDArray[np.bool_], int, int, bool]:
    """Symmetric template of a peak, made anew from a larger region where an edge reaches ``bright`` counts."""
    inside, pixels, turned_inside, turned_pixels, x0, y0 = parent
    reach = (inside.shape[1], inside.shape[0])
    at = (peak[0] - x0, peak[1] - y0)
    template, member, left, bottom = symmetric_template(pixels, inside, turned_pixels, turned_inside, at, reach)
    left += x0
    bottom += y0
    ramped = is_cut_while_bright(template, member, bright)
    if ramped:
        inside, pixels, turned_inside, turned_pixels, x0, y0 = larger
        u, v = left - margin - x0, bottom - margin - y0
        part = slice(v, v + template.shape[0] + 2 * margin), slice(u, u + template.shape[1] + 2 * margin)
        if psf.size and has_gaps(pixels[part], inside[part]):
            pixels, inside = pixels[part].copy(), inside[part].copy()
            continue_template(pixels, inside, template, member, margin, psf)
            turned_pixels, turned_inside = pixels[::-1, ::-1].copy(), inside[::-1, ::-1].copy()
            x0, y0 = x0 + u, y0 + v
        reach = (member.shape[1] // 2 + margin, member.shape[0] // 2 + margin)
        at = (peak[0] - x0, peak[1] - y0)
        template, member, left, bottom = symmetric_template(pixels, inside, turned_pixels, turned_inside, at, reach)
        template, member, left, bottom = _within(template, member, left + x0, bottom + y0, shape)
    cx, cy = peak[0] - left, peak[1] - bottom
    template, rings = falling_template(template, cx, cy, smooth)
    low_x, low_y = max(0, cx - rings + 1), max(0, cy - rings + 1)
    kept = slice(low_y, cy + rings), slice(low_x, cx + rings)
    return template[kept].copy(), member[kept].copy(), left + low_x, bottom + low_y, ramped


@njit(cache=True, nogil=True)
def _drop_empty_ends(template: NDArray[np.float32], member: NDArray[np.bool_]) -> int:
    """Take pixels of value 0 off both ends of every horizontal run; number of pixels that are left."""
    height, width = template.shape
    area = 0
    for y in range(height):
        x = 0
        while x < width:
            if not member[y, x]:
                x += 1
                continue
            start = x
            while x < width and member[y, x]:
                x += 1
            stop = x
            while start < stop and template[y, start] == 0:
                member[y, start] = False
                start += 1
            while stop > start and template[y, stop - 1] == 0:
                stop -= 1
                member[y, stop] = False
            area += stop - start
    return area


@njit(cache=True, nogil=True)
def _count_runs(member: NDArray[np.bool_]) -> int:
    n = 0
    for y in range(member.shape[0]):
        for x in range(member.shape[1]):
            n += member[y, x] and (x == 0 or not member[y, x - 1])
    return n


@njit(cache=True, nogil=True)
def _spans_of(member: NDArray[np.bool_], x0: int, y0: int) -> NDArray[np.int32]:
    """Spans of a boolean image whose lower-left pixel is (x0, y0)."""
    spans = np.empty((_count_runs(member), 3), np.int32)
    n = 0
    for y in range(member.shape[0]):
        x = 0
        while x < member.shape[1]:
            if not member[y, x]:
                x += 1
                continue
            spans[n, 0] = y + y0
            spans[n, 1] = x + x0
            while x < member.shape[1] and member[y, x]:
                x += 1
            spans[n, 2] = x - 1 + x0
            n += 1
    return spans


@njit(cache=True, nogil=True)
def _add(
    total: NDArray[np.float64],
    box: tuple[int, int],
    template: NDArray[np.float32],
    member: NDArray[np.bool_],
    x0: int,
    y0: int,
) -> None:
    """Add the positive pixels of a template to the sum of the templates on the parent's box."""
    for y in range(max(y0, box[1]), min(y0 + template.shape[0], box[1] + total.shape[0])):
        for x in range(max(x0, box[0]), min(x0 + template.shape[1], box[0] + total.shape[1])):
            if member[y - y0, x - x0] and template[y - y0, x - x0] > 0:
                total[y - box[1], x - box[0]] += template[y - y0, x - x0]


@njit(cache=True, nogil=True)
def _shared_pixels(
    image: NDArray[np.float32],
    template: NDArray[np.float32],
    member: NDArray[np.bool_],
    x0: int,
    y0: int,
    total: NDArray[np.float64],
    box: tuple[int, int],
    area: int,
) -> NDArray[np.float32]:
    """Pixels of one child in span order: the image times its share of the templates; 0 outside the parent's box."""
    values = np.zeros(area, np.float32)
    n = 0
    for y in range(template.shape[0]):
        for x in range(template.shape[1]):
            if not member[y, x]:
                continue
            u, v = x + x0 - box[0], y + y0 - box[1]
            if 0 <= u < total.shape[1] and 0 <= v < total.shape[0] and total[v, u] > 0 and template[y, x] > 0:
                values[n] = np.float64(image[y + y0, x + x0]) * np.float64(template[y, x]) / total[v, u]
            n += 1
    return values


@njit(cache=True, nogil=True)
def _enlarged(array: NDArray[np.int32], used: int, more: int) -> NDArray[np.int32]:
    if used + more <= array.shape[0]:
        return array
    larger = np.empty((2 * (used + more), 3), np.int32)
    larger[:used] = array[:used]
    return larger


@njit(cache=True, nogil=True)
def _enlarged_values(array: NDArray[np.float32], used: int, more: int) -> NDArray[np.float32]:
    if used + more <= array.shape[0]:
        return array
    larger = np.empty(2 * (used + more), np.float32)
    larger[:used] = array[:used]
    return larger


@njit(cache=True, nogil=True)
def split_blends(
    image: NDArray[np.float32],
    spans: NDArray[np.int32],
    offsets: NDArray[np.int64],
    peaks: NDArray[np.int32],
    peak_offsets: NDArray[np.int64],
    kind: NDArray[np.int64],
    stamps: NDArray[np.float32],
    origins: NDArray[np.int32],
    flux: NDArray[np.float64],
    margins: NDArray[np.int64],
    edge_psfs: NDArray[np.float32],
    edge_index: NDArray[np.int64],
    bright: float,
    smooth: bool,
) -> tuple[
    NDArray[np.int32],
    NDArray[np.int64],
    NDArray[np.float32],
    NDArray[np.int64],
    NDArray[np.int32],
    NDArray[np.int64],
    NDArray[np.bool_],
]:
    """Share the pixels of footprints among their peaks.

    Parameters
    ----------
    image : ndarray of float32, shape (height, width)
        Counts.
    spans, offsets, peaks, peak_offsets : ndarray
        Footprints in array coordinates.
    kind : ndarray of int64, shape (peaks,)
        `POINT_SOURCE`, `EXTENDED` or `SKIPPED`.
    stamps, origins, flux : ndarray
        PSF at each peak (peaks, h, w), its lower-left pixel x, y and the flux of a point source.
    margins : ndarray of int64, shape (footprints,)
        Growth of the region of templates that are cut while bright, px.
    edge_psfs, edge_index : ndarray
        Centred PSFs, and which of them continues the templates of a footprint beyond the image's border; -1 for none.
    bright : float
        Counts at which an edge pixel makes its template be made anew.
    smooth : bool
        Median-filter extended templates.

    Returns
    -------
    child_spans, child_offsets, child_pixels, pixel_offsets : ndarray
        Footprint and pixels of each peak's child, none for a peak without one.
    union_spans, union_offsets : ndarray
        Union of the children of each footprint.
    ramped : ndarray of bool, shape (peaks,)
        The template was made anew.
    """
    n_peaks, n_footprints = peaks.shape[0], offsets.shape[0] - 1
    child_spans, n_spans = np.empty((1024, 3), np.int32), 0
    child_pixels, n_pixels = np.empty(16384, np.float32), 0
    union_spans, n_union = np.empty((1024, 3), np.int32), 0
    child_offsets, pixel_offsets = np.zeros(n_peaks + 1, np.int64), np.zeros(n_peaks + 1, np.int64)
    union_offsets = np.zeros(n_footprints + 1, np.int64)
    ramped = np.zeros(n_peaks, np.bool_)
    no_psf = np.zeros((0, 0), np.float32)
    for f in range(n_footprints):
        first, last = peak_offsets[f], peak_offsets[f + 1]
        inside, bx, by = footprint_mask(spans[offsets[f] : offsets[f + 1]])
        box, margin = (bx, by), margins[f]
        parent = _region(image, inside, bx, by)
        larger = _region(image, grown(inside, margin), bx - margin, by - margin)
        total = np.zeros(inside.shape)
        boxes = np.zeros((last - first, 3), np.int64)  # x0, y0, area
        templates = [np.zeros((0, 0), np.float32) for _ in range(last - first)]
        members = [np.zeros((0, 0), np.bool_) for _ in range(last - first)]
        low_x, low_y = int(image.shape[1]), int(image.shape[0])
        high_x, high_y = 0, 0
        for k in range(first, last):
            if kind[k] == SKIPPED:
                continue
            if kind[k] == POINT_SOURCE:
                origin = (int(origins[k, 0]), int(origins[k, 1]))
                template, member, x0, y0 = _point_source_template(stamps[k], origin, flux[k], inside, box)
            else:
                psf = no_psf if edge_index[f] < 0 else edge_psfs[edge_index[f]]
                peak = (int(peaks[k, 0]), int(peaks[k, 1]))
                template, member, x0, y0, ramped[k] = _extended_template(
                    parent, larger, image.shape, peak, bright, margin, psf, smooth
                )
            area = _drop_empty_ends(template, member)
            if area == 0:
                continue
            templates[k - first], members[k - first] = template, member
            boxes[k - first, 0], boxes[k - first, 1], boxes[k - first, 2] = x0, y0, area
            low_x, low_y = min(low_x, x0), min(low_y, y0)
            high_x, high_y = max(high_x, x0 + template.shape[1]), max(high_y, y0 + template.shape[0])
            _add(total, box, template, member, x0, y0)
        union = np.zeros((max(0, high_y - low_y), max(0, high_x - low_x)), np.bool_)
        for k in range(first, last):
            x0, y0, area = boxes[k - first]
            if area > 0:
                template, member = templates[k - first], members[k - first]
                found = _spans_of(member, x0, y0)
                child_spans = _enlarged(child_spans, n_spans, found.shape[0])
                child_spans[n_spans : n_spans + found.shape[0]] = found
                n_spans += found.shape[0]
                child_pixels = _enlarged_values(child_pixels, n_pixels, area)
                child_pixels[n_pixels : n_pixels + area] = _shared_pixels(
                    image, template, member, x0, y0, total, box, area
                )
                n_pixels += area
                union[y0 - low_y :, x0 - low_x :][: member.shape[0], : member.shape[1]] |= member
            child_offsets[k + 1] = n_spans
            pixel_offsets[k + 1] = n_pixels
        found = _spans_of(union, low_x, low_y)
        union_spans = _enlarged(union_spans, n_union, found.shape[0])
        union_spans[n_union : n_union + found.shape[0]] = found
        n_union += found.shape[0]
        union_offsets[f + 1] = n_union
    return (
        child_spans[:n_spans].copy(),
        child_offsets,
        child_pixels[:n_pixels].copy(),
        pixel_offsets,
        union_spans[:n_union].copy(),
        union_offsets,
        ramped,
    )
