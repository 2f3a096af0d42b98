"""Loops over the pixels of compressed tiles. They import no kernels, and their callers have checked sizes.

Methods: FITS 4.0, sections 10.2 (quantised floats, dither) and 10.4.1 (Rice).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["dither", "rice_tiles", "undither_tiles", "unquantise_tiles"]

_ZERO = -2147483646  # stands for a pixel that is exactly 0
_N_RANDOM = 10_000
_WORD = np.uint64(0xFFFFFFFF)  # what a longer code is cut to, which only damage makes


@intrinsic
def _leading_zeros(context: Any, word: Any) -> Any:
    """Zero bits above the highest bit that is set; 64 where none is."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


@njit("UniTuple(uint64, 3)(uint8[::1], uint64, uint64, uint64, uint64)", cache=True, nogil=True)
def _filled(
    data: NDArray[np.uint8], position: np.uint64, stop: np.uint64, word: np.uint64, ready: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64]:
    """The next place, and a word with at least 56 bits, or all that are left, from the highest on."""
    if position + np.uint64(8) <= stop:
        more = np.uint64(0)
        for k in range(8):
            more = more << np.uint64(8) | np.uint64(data[position + np.uint64(k)])
        word |= more >> ready
        taken = (np.uint64(63) - ready) >> np.uint64(3)
        return position + taken, word, ready + (taken << np.uint64(3))
    while ready <= np.uint64(56) and position < stop:
        word |= np.uint64(data[position]) << (np.uint64(56) - ready)
        position += np.uint64(1)
        ready += np.uint64(8)
    return position, word, ready


@njit("boolean(uint8[::1], int64, int64, int64, int64, int32[::1])", cache=True, nogil=True)
def _rice_tile(
    data: NDArray[np.uint8], start: int, stop: int, n_bytes: int, block: int, out: NDArray[np.int32]
) -> bool:
    """Decode one tile; whether its bytes are used up just so."""
    fs_bits, fs_max = (5, 25) if n_bytes == 4 else (4, 14) if n_bytes == 2 else (3, 6)
    if stop - start < n_bytes:
        return False
    last = np.int64(0)
    for _ in range(n_bytes):
        last = last << 8 | np.int64(data[start])
        start += 1
    position, end, word, ready = np.uint64(start), np.uint64(stop), np.uint64(0), np.uint64(0)
    n = out.size
    for first in range(0, n, block):
        position, word, ready = _filled(data, position, end, word, ready)
        bits = np.uint64(fs_bits)
        fs = np.int64(word >> (np.uint64(64) - bits)) - 1
        if ready < bits or fs > fs_max:
            return False
        word <<= bits
        ready -= bits
        after = min(first + block, n)
        if fs < 0:  # all as the last one
            out[first:after] = np.int32(last)
        elif fs == fs_max:  # differences as they are
            bits = np.uint64(8 * n_bytes)
            for i in range(first, after):
                position, word, ready = _filled(data, position, end, word, ready)
                if ready < bits:
                    return False
                code = np.int64(word >> (np.uint64(64) - bits))
                word <<= bits
                ready -= bits
                last += (code >> 1) ^ -(code & 1)
                out[i] = np.int32(last)
        else:  # as many zeros as the high part says, a one, the low part
            low = np.uint64(fs)
            for i in range(first, after):
                if ready < np.uint64(40):
                    position, word, ready = _filled(data, position, end, word, ready)
                high, zeros = np.uint64(0), np.uint64(_leading_zeros(word))  # type: ignore[call-arg]
                while zeros >= ready:
                    high += ready
                    position, word, ready = _filled(data, position, end, np.uint64(0), np.uint64(0))
                    if ready == np.uint64(0):
                        return False
                    zeros = np.uint64(_leading_zeros(word))
                word <<= zeros
                ready -= zeros
                if ready <= low:
                    position, word, ready = _filled(data, position, end, word, ready)
                    if ready <= low:
                        return False
                word <<= np.uint64(1)
                bits = (high + zeros) << low | (word >> np.uint64(1)) >> (np.uint64(63) - low)
                code = np.int64(bits & _WORD)
                word <<= low
                ready -= low + np.uint64(1)
                last += (code >> 1) ^ -(code & 1)
                out[i] = np.int32(last)
    return bool((end - position) * np.uint64(8) + ready < np.uint64(8))


@njit("int64(uint8[::1], int64[:, ::1], int64[::1], int64, int64, int32[:, ::1])", cache=True, nogil=True)
def rice_tiles(
    data: NDArray[np.uint8],
    places: NDArray[np.int64],
    sizes: NDArray[np.int64],
    n_bytes: int,
    block: int,
    out: NDArray[np.int32],
) -> int:
    """Decode tiles of RICE_1.

    Parameters
    ----------
    data : ndarray of uint8
        All compressed bytes.
    places : ndarray of int64, shape (n, 2)
        Length and first byte of each tile, inside ``data``; tiles without bytes are left out.
    sizes : ndarray of int64, shape (n,)
        Pixels of each tile, at most the columns of ``out``.
    n_bytes : int
        Of the integers that were compressed: 1, 2 or 4.
    block : int
        Pixels that share a code, at least 1.
    out : ndarray of int32, shape (n, most pixels)
        Gets the integers.

    Returns
    -------
    int
        The first tile that is damaged, or does not use its own bytes up; -1 where all are well.
    """
    for tile in range(sizes.size):
        length, start = places[tile]
        if length > 0:
            values = out[tile, : sizes[tile]]
            if not _rice_tile(data, start, start + length, n_bytes, block, values):
                return tile
            if n_bytes == 2:
                for i in range(values.size):
                    values[i] = np.int16(values[i])
            elif n_bytes == 1:
                for i in range(values.size):
                    values[i] = np.uint8(values[i])
    return -1


@njit("void(int32[::1], int32, float32[::1])", cache=True, nogil=True)
def _undefine(codes: NDArray[np.int32], blank: np.int32, out: NDArray[np.float32]) -> None:
    for i in range(out.size):
        if codes[i] == blank:
            out[i] = np.nan


@njit("void(int32[:, ::1], int64[::1], float64[:, ::1], int32[::1], float32[:, ::1])", cache=True, nogil=True)
def unquantise_tiles(
    codes: NDArray[np.int32],
    sizes: NDArray[np.int64],
    scale_and_zero: NDArray[np.float64],
    blank: NDArray[np.int32],
    out: NDArray[np.float32],
) -> None:
    """Floats of tiles that were quantised without dither.

    Parameters
    ----------
    codes : ndarray of int32, shape (n, most pixels)
        The integers.
    sizes : ndarray of int64, shape (n,)
        Pixels of each tile.
    scale_and_zero : ndarray of float64, shape (n, 2)
        Step and zero of each tile.
    blank : ndarray of int32, shape (n,)
        The integer of undefined pixels; of shape (0,) where there are none.
    out : ndarray of float32, shape (n, most pixels)
        Gets the values.
    """
    for tile in range(sizes.size):
        scale, zero = scale_and_zero[tile]
        for i in range(sizes[tile]):
            out[tile, i] = np.float32(np.float64(codes[tile, i]) * scale + zero)
        if blank.size:
            _undefine(codes[tile], blank[tile], out[tile, : sizes[tile]])


@njit(
    "void(int32[:, ::1], int64[::1], float64[:, ::1], int64[::1], float32[::1], boolean, int32[::1], float32[:, ::1])",
    cache=True,
    nogil=True,
)
def undither_tiles(
    codes: NDArray[np.int32],
    sizes: NDArray[np.int64],
    scale_and_zero: NDArray[np.float64],
    rows: NDArray[np.int64],
    random: NDArray[np.float32],
    keeps_zero: bool,
    blank: NDArray[np.int32],
    out: NDArray[np.float32],
) -> None:
    """Floats of tiles that were quantised with dither.

    Parameters
    ----------
    codes, sizes, scale_and_zero, blank, out : ndarray
        As of `unquantise_tiles`.
    rows : ndarray of int64, shape (n,)
        Number of each tile that its dither begins with, at least 1.
    random : ndarray of float32
        `dither`.
    keeps_zero : bool
        SUBTRACTIVE_DITHER_2: one integer stands for 0.
    """
    for tile in range(sizes.size):
        scale, zero = scale_and_zero[tile]
        seed = (rows[tile] - 1) % _N_RANDOM
        i = 0
        while i < sizes[tile]:
            offset = np.int64(random[seed] * np.float32(500))
            end = min(sizes[tile], i + _N_RANDOM - offset)
            for k in range(i, end):
                steps = np.float64(codes[tile, k]) - np.float64(random[offset + k - i]) + 0.5
                out[tile, k] = np.float32(steps * scale + zero)
            i = end
            seed = (seed + 1) % _N_RANDOM
        if keeps_zero:
            for i in range(sizes[tile]):
                if codes[tile, i] == _ZERO:
                    out[tile, i] = 0.0
        if blank.size:
            _undefine(codes[tile], blank[tile], out[tile, : sizes[tile]])


@cache
def dither() -> NDArray[np.float32]:
    """The sequence of random numbers of FITS 4.0, appendix I.

    Method: Park & Miller (1988), "Random number generators: good ones are hard to find".
    """
    seed, values = 1, np.empty(_N_RANDOM)
    for i in range(_N_RANDOM):
        seed = 16807 * seed % 2147483647
        values[i] = seed
    return (values / 2147483647.0).astype(np.float32)
