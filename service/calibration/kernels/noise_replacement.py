"""Hiding the neighbours of a source behind Gaussian noise, one source at a time, and putting all back at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "NoiseReplacedPlane",
    "draw_noise",
    "footprint_pixels",
    "hide_source",
    "hide_sources",
    "restore_sources",
    "show_source",
    "ziggurat_tables",
]

_STATE_SIZE = 624
_TAIL_START = 3.44428647676  # 128 strips of equal area, the tail strip being R + 1/R wide
_MANTISSA = 2.0**24


class NoiseReplacedPlane(NamedTuple):
    """An image in which all footprints are noise, and what is needed to put single sources back.

    Attributes
    ----------
    work : ndarray of float32, shape (h, w)
        The image, which is changed.
    spans, span_offsets : ndarray
        Footprints as in `service.exposure.footprint.FootprintSet`, but with array coordinates.
    pixels, pixel_offsets : ndarray
        Own pixels of heavy footprints; the others show ``originals``.
    noise, originals, noise_offsets : ndarray
        Noise of each footprint and the true pixels of the image, in span order.
    replaced : bool
        False: sources are neither hidden nor shown.
    """

    work: NDArray[np.float32]
    spans: NDArray[np.int32]
    span_offsets: NDArray[np.int64]
    pixels: NDArray[np.float32]
    pixel_offsets: NDArray[np.int64]
    noise: NDArray[np.float32]
    originals: NDArray[np.float32]
    noise_offsets: NDArray[np.int64]
    replaced: bool


def ziggurat_tables() -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Strips of the ziggurat: acceptance limits, widths over 2^24 (both 128), heights (128)."""
    base = _TAIL_START + 1.0 / _TAIL_START
    area = base * np.exp(-0.5 * _TAIL_START**2)
    edges = np.zeros(129)
    edges[128], edges[127] = base, _TAIL_START
    for i in range(127, 1, -1):
        edges[i - 1] = np.sqrt(-2.0 * np.log(np.exp(-0.5 * edges[i] ** 2) + area / edges[i]))
    limits = (_MANTISSA * edges[:-1] / edges[1:]).astype(np.int64)
    return limits, edges[1:] / _MANTISSA, np.exp(-0.5 * edges[:-1] ** 2)


@njit(cache=True, nogil=True, error_model="numpy")
def _twist(state: NDArray[np.uint32]) -> None:
    for i in range(_STATE_SIZE):
        word = (state[i] & np.uint32(0x80000000)) | (state[(i + 1) % _STATE_SIZE] & np.uint32(0x7FFFFFFF))
        value = state[(i + 397) % _STATE_SIZE] ^ (word >> np.uint32(1))
        if word & np.uint32(1):
            value ^= np.uint32(0x9908B0DF)
        state[i] = value


@njit(cache=True, nogil=True, error_model="numpy")
def _next(state: NDArray[np.uint32], cursor: NDArray[np.int64]) -> np.int64:
    """Next 32 bits of the Mersenne twister MT19937."""
    if cursor[0] >= _STATE_SIZE:
        _twist(state)
        cursor[0] = 0
    y = state[cursor[0]]
    cursor[0] += 1
    y ^= y >> np.uint32(11)
    y ^= (y << np.uint32(7)) & np.uint32(0x9D2C5680)
    y ^= (y << np.uint32(15)) & np.uint32(0xEFC60000)
    y ^= y >> np.uint32(18)
    return np.int64(y)


@njit(cache=True, nogil=True, error_model="numpy")
def _gaussian(
    state: NDArray[np.uint32],
    cursor: NDArray[np.int64],
    limits: NDArray[np.int64],
    widths: NDArray[np.float64],
    heights: NDArray[np.float64],
) -> float:
    """One unit normal deviate by the ziggurat of Marsaglia and Tsang (2000) with 128 strips."""
    while True:
        word = _next(state, cursor)
        strip = word & 0x7F
        sign = 1.0 if word & 0x80 else -1.0
        mantissa = word >> 8
        x = mantissa * widths[strip]
        if mantissa < limits[strip]:
            return sign * x
        if strip < 127:
            height = heights[strip + 1] + (heights[strip] - heights[strip + 1]) * (_next(state, cursor) / 2.0**32)
        else:
            x = _TAIL_START - np.log(1.0 - _next(state, cursor) / 2.0**32) / _TAIL_START
            height = np.exp(-_TAIL_START * (x - 0.5 * _TAIL_START)) * (_next(state, cursor) / 2.0**32)
        if height < np.exp(-0.5 * x * x):
            return sign * x


@njit(cache=True, nogil=True, error_model="numpy")
def draw_noise(
    spans: NDArray[np.int32],
    span_offsets: NDArray[np.int64],
    noise_offsets: NDArray[np.int64],
    state: NDArray[np.uint32],
    limits: NDArray[np.int64],
    widths: NDArray[np.float64],
    heights: NDArray[np.float64],
    mean: np.float32,
    sigma: np.float32,
) -> NDArray[np.float32]:
    """Gaussian noise for every footprint, in span order.

    One deviate is drawn for each pixel of a footprint's bounding box, row by row, and those outside the footprint are
    thrown away: so the stream is Rubin's own and a source's noise does not depend on the shape of those before it.

    Parameters
    ----------
    spans, span_offsets : ndarray
        Footprints.
    noise_offsets : ndarray of int64, shape (n + 1,)
        Cumulative areas.
    state : ndarray of uint32, shape (624,)
        Seeded MT19937 state, used up.
    limits, widths, heights : ndarray
        `ziggurat_tables`.
    mean, sigma : float32
        Of the noise, counts.
    """
    cursor = np.full(1, _STATE_SIZE, np.int64)
    noise = np.empty(noise_offsets[-1], np.float32)
    for source in range(len(span_offsets) - 1):
        first, last = span_offsets[source], span_offsets[source + 1]
        if first == last:
            continue
        x_low, x_high = spans[first, 1], spans[first, 2]
        for s in range(first, last):
            x_low, x_high = min(x_low, spans[s, 1]), max(x_high, spans[s, 2])
        s = first
        k = noise_offsets[source]
        for y in range(spans[first, 0], spans[last - 1, 0] + 1):
            for x in range(x_low, x_high + 1):
                while s < last and (spans[s, 0] < y or (spans[s, 0] == y and spans[s, 2] < x)):
                    s += 1
                deviate = np.float32(_gaussian(state, cursor, limits, widths, heights))
                if s < last and spans[s, 0] == y and spans[s, 1] <= x:
                    noise[k] = np.float32(deviate * sigma) + mean
                    k += 1
    return noise


@njit(cache=True, nogil=True, error_model="numpy")
def footprint_pixels(image: NDArray[np.float32], spans: NDArray[np.int32], n: int) -> NDArray[np.float32]:
    """The ``n`` pixels of an image in spans, in their order; 0 outside the image."""
    height, width = image.shape
    pixels = np.zeros(n, np.float32)
    k = 0
    for s in range(spans.shape[0]):
        y, x0, x1 = spans[s, 0], spans[s, 1], spans[s, 2]
        if 0 <= y < height:
            for x in range(max(x0, 0), min(x1 + 1, width)):
                pixels[k + x - x0] = image[y, x]
        k += x1 - x0 + 1
    return pixels


@njit(cache=True, nogil=True, error_model="numpy")
def _write(plane: NoiseReplacedPlane, source: int, values: NDArray[np.float32], first: int) -> None:
    height, width = plane.work.shape
    k = first
    for s in range(plane.span_offsets[source], plane.span_offsets[source + 1]):
        y, x0, x1 = plane.spans[s, 0], plane.spans[s, 1], plane.spans[s, 2]
        if 0 <= y < height:
            for x in range(max(x0, 0), min(x1 + 1, width)):
                plane.work[y, x] = values[k + x - x0]
        k += x1 - x0 + 1


@njit(cache=True, nogil=True, error_model="numpy")
def show_source(plane: NoiseReplacedPlane, source: int) -> None:
    """Put the pixels of one source back."""
    if not plane.replaced:
        return
    first = plane.pixel_offsets[source]
    if plane.pixel_offsets[source + 1] > first:
        _write(plane, source, plane.pixels, first)
    else:
        _write(plane, source, plane.originals, plane.noise_offsets[source])


@njit(cache=True, nogil=True, error_model="numpy")
def hide_source(plane: NoiseReplacedPlane, source: int) -> None:
    """Replace the pixels of one source by its noise."""
    if plane.replaced:
        _write(plane, source, plane.noise, plane.noise_offsets[source])


@njit(cache=True, nogil=True, error_model="numpy")
def hide_sources(plane: NoiseReplacedPlane, rows: NDArray[np.int64]) -> None:
    """Replace sources by their noise, one after the other."""
    for source in rows:
        hide_source(plane, source)


@njit(cache=True, nogil=True, error_model="numpy")
def restore_sources(plane: NoiseReplacedPlane) -> None:
    """Make the image what it was."""
    if plane.replaced:
        for source in range(plane.span_offsets.size - 1):
            _write(plane, source, plane.originals, plane.noise_offsets[source])
