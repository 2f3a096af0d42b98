"""Loops of the pinwheel pattern search: pairs of references by length, and candidates for a source pattern."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]
    Indices = NDArray[np.int64]
    Pairs = NDArray[np.uint32]
    Index = int | np.int64

__all__ = ["count_pairs", "fill_pairs", "next_candidate", "pair_lengths"]

_MAX_SIN = 0.0447  # above it sin(a) departs from a by more than 0.1 %


@njit(cache=True, nogil=True)
def _length(points: Vector, i: Index, j: Index) -> np.float32:
    dx = points[i, 0] - points[j, 0]
    dy = points[i, 1] - points[j, 1]
    dz = points[i, 2] - points[j, 2]
    return np.float32(np.sqrt(dx * dx + dy * dy + dz * dz))


@njit(cache=True, nogil=True)
def count_pairs(points: Vector, inverse_width: float, n_bins: int) -> Indices:
    """Number of pairs in each bin of chord length.

    Parameters
    ----------
    points : ndarray of float64, shape (n, 3)
        Unit vectors.
    inverse_width : float
        Bins per unit length; longer chords count in the last bin.
    n_bins : int
        Number of bins.

    Returns
    -------
    ndarray of int64, shape (n_bins,)
    """
    counts = np.zeros(n_bins, np.int64)
    for i in range(points.shape[0]):
        for j in range(i + 1, points.shape[0]):
            counts[min(int(_length(points, i, j) * inverse_width), n_bins - 1)] += 1
    return counts


@njit(cache=True, nogil=True)
def fill_pairs(points: Vector, inverse_width: float, offsets: Indices, pairs: Pairs) -> None:
    """Write every pair ``i << 16 | j`` with i < j into its bin; ``offsets`` advances to the bins' ends."""
    last = offsets.shape[0] - 1
    for i in range(points.shape[0]):
        for j in range(i + 1, points.shape[0]):
            b = min(int(_length(points, i, j) * inverse_width), last)
            pairs[offsets[b]] = np.uint32((i << 16) | j)
            offsets[b] += 1


@njit(cache=True, nogil=True)
def pair_lengths(points: Vector, pairs: Pairs) -> NDArray[np.float32]:
    """Chord lengths (float32) of packed pairs."""
    lengths = np.empty(pairs.shape[0], np.float32)
    for k in range(pairs.shape[0]):
        lengths[k] = _length(points, pairs[k] >> 16, pairs[k] & 0xFFFF)
    return lengths


@njit(cache=True, nogil=True)
def _dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(cache=True, nogil=True)
def _cross(a: Vector, b: Vector) -> Vector:
    c = np.empty(3)
    c[0] = a[1] * b[2] - a[2] * b[1]
    c[1] = a[2] * b[0] - a[0] * b[2]
    c[2] = a[0] * b[1] - a[1] * b[0]
    return c


@njit(cache=True, nogil=True)
def _rotation(axis: Vector, cosine: float, sine: float) -> Vector:
    matrix = np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            matrix[i, j] = (1.0 - cosine) * axis[i] * axis[j]
        matrix[i, i] += cosine
    matrix[0, 1] -= sine * axis[2]
    matrix[0, 2] += sine * axis[1]
    matrix[1, 0] += sine * axis[2]
    matrix[1, 2] -= sine * axis[0]
    matrix[2, 0] -= sine * axis[1]
    matrix[2, 1] += sine * axis[0]
    return matrix


@njit(cache=True, nogil=True)
def _apply(matrix: Vector, vector: Vector) -> Vector:
    out = np.empty(3)
    for i in range(3):
        out[i] = matrix[i, 0] * vector[0] + matrix[i, 1] * vector[1] + matrix[i, 2] * vector[2]
    return out


@njit(cache=True, nogil=True)
def _shift(source: Vector, reference: Vector) -> Vector:
    axis = _cross(source, reference)
    sine = np.sqrt(_dot(axis, axis))
    if sine == 0.0:
        return np.eye(3)
    for i in range(3):
        axis[i] /= sine
    return _rotation(axis, _dot(source, reference), sine)


@njit(cache=True, nogil=True)
def _project(vector: Vector, normal: Vector) -> Vector:
    along = _dot(vector, normal)
    out = np.empty(3)
    for i in range(3):
        out[i] = vector[i] - along * normal[i]
    return out


@njit(cache=True, nogil=True)
def _spoke(points: Vector, i: Index, center: Index) -> Vector:
    out = np.empty(3)
    for k in range(3):
        out[k] = points[i, k] - points[center, k]
    return out


@njit(cache=True, nogil=True)
def _middle_outwards(n: int, step: int) -> int:
    """Index in 0..n-1 at a step of the order m, m-1, m+1, m-2, ... with m = n // 2."""
    half = (step + 1) // 2
    return n // 2 - half if step % 2 else n // 2 + half


@njit(cache=True, nogil=True)
def _match_spoke(
    cos_s: float,
    sin_s: float,
    length: float,
    center: Vector,
    spoke: Vector,
    points: Vector,
    distances: NDArray[np.float32],
    center_id: Index,
    tol: float,
) -> int:
    """Reference whose spoke has the length and the opening angle to the first spoke of a source spoke, or -1."""
    wanted = np.float64(np.float32(length))
    low, high = wanted - tol - 1e-16, wanted + tol + 1e-16
    near = np.empty(distances.shape[0], np.int64)
    n = 0
    for k in range(distances.shape[0]):
        if low < distances[k] <= high:
            place = n  # insertion by distance: there are few, and a sort would take long to compile
            while place > 0 and distances[near[place - 1]] > distances[k]:
                near[place] = near[place - 1]
                place -= 1
            near[place] = k
            n += 1
    tau = min(tol / (length + tol), _MAX_SIN)
    spoke_length = np.sqrt(_dot(spoke, spoke))
    for step in range(n):
        k = near[_middle_outwards(n, step)]
        projected = _project(_spoke(points, k, center_id), center)
        norm = np.sqrt(_dot(projected, projected)) * spoke_length
        if k == center_id or norm == 0.0:
            continue
        cos_r = _dot(projected, spoke) / norm
        sine_squared = 1.0 - cos_r * cos_r
        if cos_r * cos_r >= 1.0 - tau * tau:
            sine_squared = tau * tau
        if (cos_s - cos_r) ** 2 / sine_squared > tau * tau:
            continue
        sin_r = _dot(_cross(projected, spoke), center) / norm
        slope = tau if abs(cos_s) < tau else cos_r
        if slope != 0.0 and abs((sin_s - sin_r) / slope) < tau:
            return k
    return -1


@njit(cache=True, nogil=True)
def _match_spokes(
    pattern: Vector,
    points: Vector,
    center_id: Index,
    first_id: Index,
    tol: float,
    n_match: int,
    source_ids: Indices,
    reference_ids: Indices,
) -> bool:
    """Fill in the points of a pattern beyond the first spoke; whether there are enough of them."""
    n_spokes = pattern.shape[0] - 1
    center, source_center = points[center_id], pattern[0]
    distances = np.empty(points.shape[0], np.float32)
    for k in range(points.shape[0]):
        distances[k] = _length(points, k, center_id)
    spoke = _project(_spoke(points, first_id, center_id), center)
    source_spoke = _project(_spoke(pattern, 1, 0), source_center)
    source_spoke_length = np.sqrt(_dot(source_spoke, source_spoke))
    source_ids[0], source_ids[1] = 0, 1
    reference_ids[0], reference_ids[1] = center_id, first_id
    found, failed = 2, 0
    for s in range(2, n_spokes + 1):
        if failed > n_spokes - (n_match - 1):
            return False
        delta = _spoke(pattern, s, 0)
        projected = _project(delta, source_center)
        norm = np.sqrt(_dot(projected, projected)) * source_spoke_length
        hit = -1
        if norm > 0.0:
            cos_s = _dot(projected, source_spoke) / norm
            sin_s = _dot(_cross(projected, source_spoke), source_center) / norm
            length = np.sqrt(_dot(delta, delta))
            hit = _match_spoke(cos_s, sin_s, length, center, spoke, points, distances, center_id, tol)
        if hit < 0:
            failed += 1
            continue
        source_ids[found], reference_ids[found] = s, hit
        found += 1
        if found == n_match:
            return True
    return False


@njit(cache=True, nogil=True)
def next_candidate(
    pattern: Vector,
    points: Vector,
    pairs: Pairs,
    start: int,
    tol: float,
    cos_shift_min: float,
    cos2_rotation_min: float,
    source_ids: Indices,
    reference_ids: Indices,
    matrix: Vector,
) -> int:
    """Next way to lay a source pattern on the references.

    Parameters
    ----------
    pattern : ndarray of float64, shape (n_check, 3)
        Unit vectors of the sources: centre, first spoke, other spokes.
    points : ndarray of float64, shape (n, 3)
        Unit vectors of the references.
    pairs : ndarray of uint32
        Packed reference pairs whose length agrees with the first spoke, by length.
    start : int
        Where to go on: 0, or what the call before returned.
    tol : float
        Distance tolerance, chord.
    cos_shift_min, cos2_rotation_min : float
        Cosine of the largest shift; squared cosine of the largest rotation.
    source_ids, reference_ids : ndarray of int64, shape (n_match,)
        Written: rows of ``pattern`` and of ``points`` that correspond.
    matrix : ndarray of float64, shape (3, 3)
        Written: rotation from sources to references.

    Returns
    -------
    int
        Position after the candidate, or -1 where there is none left.
    """
    source_center = pattern[0]
    source_delta = _spoke(pattern, 1, 0)
    for position in range(start, 2 * pairs.shape[0]):
        pair = pairs[_middle_outwards(pairs.shape[0], position // 2)]
        low, high = np.int64(pair >> 16), np.int64(pair & 0xFFFF)
        center_id, first_id = (low, high) if position % 2 == 0 else (high, low)
        center = points[center_id]
        if _dot(source_center, center) < cos_shift_min:
            continue
        shift = _shift(source_center, center)
        delta = _spoke(points, first_id, center_id)
        moved = _apply(shift, source_delta)
        a, b = _project(moved, center), _project(delta, center)
        norm = _dot(a, a) * _dot(b, b)
        cos2 = _dot(a, b) ** 2 / norm if norm > 0.0 else 0.0
        if cos2 < cos2_rotation_min:
            continue
        n_match = source_ids.shape[0]
        if not _match_spokes(pattern, points, center_id, first_id, tol, n_match, source_ids, reference_ids):
            continue
        sine = np.sign(_dot(_cross(moved, delta), center)) * np.sqrt(max(1.0 - cos2, 0.0))
        rotation = _rotation(center, np.sqrt(cos2), sine)
        for i in range(3):
            for j in range(3):
                matrix[i, j] = (
                    rotation[i, 0] * shift[0, j] + rotation[i, 1] * shift[1, j] + rotation[i, 2] * shift[2, j]
                )
        return position + 1
    return -1
