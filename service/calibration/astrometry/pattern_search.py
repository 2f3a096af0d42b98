"""Search of source patterns among the references: one tolerance, one answer.

Method: pinwheel patterns on the sphere (Rubin PessimisticPatternMatcherB; after Tabur 2007, PASA 24, 189). All points
are unit vectors; lengths are chords, which at these sizes are radians.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import KDTree
from scipy.stats import sigmaclip

from service.calibration.astrometry.pair_table import PairTable
from service.calibration.kernels.pattern_match import next_candidate

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from numpy.typing import NDArray

__all__ = ["PatternLimits", "PatternMatch", "PatternSearch"]

_CLIP_LOW, _CLIP_HIGH = 100.0, 2.0  # short distances are never outliers
_SMALLEST_CLIP = 1e-16  # keeps noiseless data from being clipped to nothing


@dataclass(frozen=True, slots=True)
class PatternLimits:
    """What a search allows.

    Parameters
    ----------
    distance : float
        Tolerance of lengths and positions, rad.
    shift, rotation : float
        Largest shift and rotation, rad.
    n_check, n_match : int
        Points of a pattern, and how many of them have to match.
    n_agree : int
        Patterns that have to agree.
    n_patterns : int
        Patterns tried.
    min_matches : int
        Pairs within ``distance`` that a match needs.
    continue_after_failed_verify : bool
        Try further reference candidates of a source pattern after one that fails its verification.
    """

    distance: float
    shift: float
    rotation: float
    n_check: int
    n_match: int
    n_agree: int
    n_patterns: int
    min_matches: int
    continue_after_failed_verify: bool = True


@dataclass(frozen=True, slots=True)
class PatternMatch:
    """A verified match.

    Parameters
    ----------
    pairs : ndarray of int64, shape (n, 2)
        Rows of sources and references that are mutually nearest.
    distances : ndarray of float64, shape (n,)
        Chord between rotated source and reference.
    max_distance : float
        Distance beyond which pairs are unlikely to be real.
    shift : float
        Angle between the pattern's source centre and its reference centre, rad.
    pattern : int
        Rank of the pattern's central source by brightness.
    """

    pairs: NDArray[np.int64]
    distances: NDArray[np.float64]
    max_distance: float
    shift: float
    pattern: int


class PatternSearch:
    """Search among one set of references, prepared once.

    Parameters
    ----------
    references : ndarray of float64, shape (n, 3)
        Unit vectors.
    """

    def __init__(self, references: NDArray[np.float64]) -> None:
        self._references = np.ascontiguousarray(references, dtype=np.float64)
        self._table = PairTable(self._references)
        self._tree = KDTree(self._references)

    def find(
        self, sources: NDArray[np.float64], limits: PatternLimits, skip: Collection[int] = ()
    ) -> PatternMatch | None:
        """First pattern that is confirmed by the others and by the whole catalogues.

        Parameters
        ----------
        sources : ndarray of float64, shape (n, 3)
            Unit vectors, brightest first.
        limits : PatternLimits
            What is allowed.
        skip : collection of int
            Patterns that are not tried.

        Returns
        -------
        PatternMatch or None
        """
        sources = np.ascontiguousarray(sources, dtype=np.float64)
        tests = _test_vectors(sources)
        tree = KDTree(sources)
        accepted: list[NDArray[np.float64]] = []
        for index in range(min(limits.n_patterns, len(sources) - limits.n_match)):
            if index in skip:
                continue
            candidate = self._candidate(sources[index : index + limits.n_check], limits)
            if candidate is None:
                continue
            matrix, shift = candidate
            moved = tests @ matrix.T
            lengths = np.linalg.norm(moved, axis=1)
            if not np.all(np.abs(lengths - 1.0) < limits.distance):
                continue
            agreeing = sum(bool(np.all(_distance(moved, other) < limits.distance)) for other in accepted)
            accepted.append(moved)
            if agreeing < limits.n_agree - 1:
                continue
            verified = self._verify(sources, tree, matrix, limits)
            if verified is not None:
                return PatternMatch(*verified, shift=shift, pattern=index)
        return None

    def _candidate(
        self, pattern: NDArray[np.float64], limits: PatternLimits
    ) -> tuple[NDArray[np.float64], float] | None:
        """Refined matrix (3, 3) and shift of the first verified way to lay a pattern on the references."""
        for source_ids, reference_ids, matrix in self._layouts(pattern, limits):
            source, reference = pattern[source_ids], self._references[reference_ids]
            if np.all(_distance(source @ matrix.T, reference) < limits.distance):
                refined = _refine(matrix, source, reference)
                if np.all(_distance(source @ refined.T, reference) < limits.distance):
                    cosine = float(source[0] @ reference[0])
                    return refined, float(np.arccos(min(cosine, 1.0)))
            if not limits.continue_after_failed_verify:
                return None
        return None

    def _layouts(
        self, pattern: NDArray[np.float64], limits: PatternLimits
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
        length = float(np.sqrt(((pattern[1] - pattern[0]) ** 2).sum()))
        pairs = self._table.within(length, limits.distance)
        source_ids, reference_ids = np.zeros(limits.n_match, np.int64), np.zeros(limits.n_match, np.int64)
        matrix = np.zeros((3, 3))
        cos_shift, cos2_rotation = float(np.cos(limits.shift)), float(np.cos(limits.rotation)) ** 2
        position = 0
        while True:
            position = next_candidate(
                pattern,
                self._references,
                pairs,
                position,
                limits.distance,
                cos_shift,
                cos2_rotation,
                source_ids,
                reference_ids,
                matrix,
            )
            if position < 0:
                return
            yield source_ids, reference_ids, matrix

    def _verify(
        self, sources: NDArray[np.float64], tree: KDTree, matrix: NDArray[np.float64], limits: PatternLimits
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], float] | None:
        """Mutual nearest pairs, their distances and the distance limit, refined once; None with too few pairs."""
        pairs, distances = self._mutual(sources, tree, matrix)
        close = pairs[distances < limits.distance]
        if len(close) < limits.min_matches or _clip(distances)[0] < limits.min_matches:
            return None
        refined = _refine(matrix, sources[close[:, 0]], self._references[close[:, 1]])
        pairs, distances = self._mutual(sources, tree, refined)
        n_clipped, clip_limit = _clip(distances)
        if n_clipped < limits.min_matches or np.count_nonzero(distances < limits.distance) < limits.min_matches:
            return None
        return pairs, distances, min(clip_limit, limits.distance)

    def _mutual(
        self, sources: NDArray[np.float64], tree: KDTree, matrix: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Pairs (source, reference) that are nearest to each other, and the chord from source to reference."""
        distances, nearest_reference = (np.asarray(a) for a in self._tree.query(sources @ matrix.T))
        nearest_source = np.asarray(tree.query(self._references @ np.linalg.inv(matrix).T)[1])
        index = np.arange(len(sources))
        mutual = nearest_source[nearest_reference] == index
        return np.column_stack([index, nearest_reference])[mutual], distances[mutual]


def _distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(((a - b) ** 2).sum(axis=-1)))


def _refine(
    matrix: NDArray[np.float64], source: NDArray[np.float64], reference: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Nine-element least-squares matrix from source to reference, (3, 3); the smallest change where degenerate."""
    change = np.linalg.lstsq(source, reference - source @ matrix.T, rcond=None)[0]
    return np.asarray(matrix + change.T)


def _clip(distances: NDArray[np.float64]) -> tuple[int, float]:
    """Number of distances that survive the clip, and the upper limit of it."""
    kept, _, limit = sigmaclip(distances, low=_CLIP_LOW, high=_CLIP_HIGH)
    upper = float(limit)
    if upper < _SMALLEST_CLIP:
        return int(np.count_nonzero(distances < _SMALLEST_CLIP)), _SMALLEST_CLIP
    return len(kept), upper


def _test_vectors(sources: NDArray[np.float64]) -> NDArray[np.float64]:
    """Six unit vectors that bracket the sources along each axis, shape (6, 3)."""
    vectors = np.tile(sources.mean(axis=0), (6, 1))
    for axis in range(3):
        vectors[2 * axis, axis] = sources[:, axis].min()
        vectors[2 * axis + 1, axis] = sources[:, axis].max()
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
