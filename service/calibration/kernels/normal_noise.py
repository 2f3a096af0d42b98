"""Normal deviates in the sequence of the GNU Scientific Library's generator, for the pixels of footprints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["draw_noise", "ziggurat_tables"]

_STATE_SIZE = 624
_SHIFT = 397
_TAIL_START = 3.44428647676  # 128 strips of equal area, the tail strip being R + 1/R wide
_MANTISSA = 2.0**24
_UNIT = 2.0**-32


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
def _mix(high: np.uint32, low: np.uint32, far: np.uint32) -> np.uint32:
    word = (high & np.uint32(0x80000000)) | (low & np.uint32(0x7FFFFFFF))
    odd = np.uint32(0) - (word & np.uint32(1))
    return np.uint32(far ^ (word >> np.uint32(1)) ^ (odd & np.uint32(0x9908B0DF)))


@njit(cache=True, nogil=True, error_model="numpy")
def _draw_words(state: NDArray[np.uint32], words: NDArray[np.uint32]) -> None:
    """The next 624 words of the Mersenne twister MT19937, in stretches that do not depend on themselves."""
    before, after = _STATE_SIZE - _SHIFT, _SHIFT - _STATE_SIZE
    for i in range(before):
        state[i] = _mix(state[i], state[i + 1], state[i + _SHIFT])
    for i in range(before, _STATE_SIZE - 1):
        state[i] = _mix(state[i], state[i + 1], state[i + after])
    state[_STATE_SIZE - 1] = _mix(state[_STATE_SIZE - 1], state[0], state[_SHIFT - 1])
    for i in range(_STATE_SIZE):
        y = state[i]
        y ^= y >> np.uint32(11)
        y ^= (y << np.uint32(7)) & np.uint32(0x9D2C5680)
        y ^= (y << np.uint32(15)) & np.uint32(0xEFC60000)
        words[i] = y ^ (y >> np.uint32(18))


@njit(cache=True, nogil=True, error_model="numpy")
def _next(state: NDArray[np.uint32], words: NDArray[np.uint32], cursor: int) -> tuple[np.int64, int]:
    """The next word, and the cursor after it."""
    if cursor == _STATE_SIZE:
        _draw_words(state, words)
        cursor = 0
    return np.int64(words[cursor]), cursor + 1


@njit(cache=True, nogil=True, error_model="numpy")
def _accept(
    state: NDArray[np.uint32],
    words: NDArray[np.uint32],
    cursor: int,
    heights: NDArray[np.float64],
    strip: np.int64,
    x: float,
) -> tuple[bool, float, int]:
    """Whether a deviate at the edge of a strip stands, or one of the tail, which is drawn here."""
    word, cursor = _next(state, words, cursor)
    if strip < 127:
        height = heights[strip + 1] + (heights[strip] - heights[strip + 1]) * (word * _UNIT)
    else:
        x = _TAIL_START - np.log(1.0 - word * _UNIT) / _TAIL_START
        word, cursor = _next(state, words, cursor)
        height = np.exp(-_TAIL_START * (x - 0.5 * _TAIL_START)) * (word * _UNIT)
    return height < np.exp(-0.5 * x * x), x, cursor


@njit(cache=True, nogil=True, error_model="numpy")
def _draw_deviates(
    state: NDArray[np.uint32],
    words: NDArray[np.uint32],
    cursor: int,
    limits: NDArray[np.int64],
    widths: NDArray[np.float64],
    heights: NDArray[np.float64],
    deviates: NDArray[np.float32],
) -> int:
    """Fill with unit normal deviates by the ziggurat of Marsaglia and Tsang (2000); the cursor after them."""
    k = 0
    while k < len(deviates):
        if cursor == _STATE_SIZE:  # not by `_next`, which is too large to be inlined
            _draw_words(state, words)
            cursor = 0
        word = np.int64(words[cursor])
        cursor += 1
        strip, mantissa = word & 0x7F, word >> 8
        x = mantissa * widths[strip]
        accepted = mantissa < limits[strip]
        if not accepted:
            accepted, x, cursor = _accept(state, words, cursor, heights, strip, x)
        if accepted:
            deviates[k] = x if word & 0x80 else -x
            k += 1
    return cursor


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
        Footprints; the spans of each in order of rows and columns, none over another.
    noise_offsets : ndarray of int64, shape (n + 1,)
        Cumulative areas.
    state : ndarray of uint32, shape (624,)
        Seeded MT19937 state, used up.
    limits, widths, heights : ndarray
        `ziggurat_tables`.
    mean, sigma : float32
        Of the noise, counts.
    """
    words, cursor = np.empty(_STATE_SIZE, np.uint32), _STATE_SIZE
    noise = np.empty(noise_offsets[-1], np.float32)
    for source in range(len(span_offsets) - 1):
        own = spans[span_offsets[source] : span_offsets[source + 1]]
        if len(own) == 0:
            continue
        x_low, x_high = own[:, 1].min(), own[:, 2].max()
        deviates = np.empty(x_high - x_low + 1, np.float32)
        s, k = 0, noise_offsets[source]
        for y in range(own[0, 0], own[-1, 0] + 1):
            cursor = _draw_deviates(state, words, cursor, limits, widths, heights, deviates)
            while s < len(own) and own[s, 0] == y:
                for x in range(own[s, 1] - x_low, own[s, 2] - x_low + 1):
                    noise[k] = np.float32(deviates[x] * sigma) + mean
                    k += 1
                s += 1
    return noise
