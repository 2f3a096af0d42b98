"""Search for the field when the pointing is off by more than the pattern matcher allows.

Method: triangles of bright stars are compared by their side lengths (Groth 1986, AJ 91, 1244; Valdes et al. 1995, PASP
107, 1119), each agreement votes for a similarity of the plane, and what gathers votes is verified with all stars. Works
in pixels of the tangent plane about the centre of the exposure.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial import KDTree
from scipy.stats import poisson

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from service.calibration.config.astrometry import WideSearchConfig

__all__ = ["WideMatch", "WideReport", "chance_of_pairs", "wide_search"]

_SIDE_TOLERANCE = 0.01  # of the logarithm of a ratio of sides: noise, and distortion that the WCS does not have
_SHORTEST_SIDE = 0.05  # of the diagonal; shorter ones are all noise
_VOTE_RADIUS = 0.012  # of half the diagonal: where the rim of the exposure has to land for two votes to agree
_CANDIDATES = 40  # verified per try
_CLOSEST_RADIUS = 1.0  # pixels
_FIRST_RADIUS = 12.0
_FITTED_PAIRS = 3  # a fit of six numbers makes three pairs agree by itself
_LEAST_PAIRS = 7
_MAX_SHEAR = 0.02


@dataclass(frozen=True, slots=True)
class WideMatch:
    """A verified transformation of the plane: ``reference = matrix @ source + offset``.

    Parameters
    ----------
    matrix : ndarray of float64, shape (2, 2)
        Rotation, scale and, where the determinant is negative, mirror.
    offset : ndarray of float64, shape (2,)
        Shift of the centre, pixels.
    """

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]


@dataclass(slots=True)
class WideReport:
    """What a search saw.

    Parameters
    ----------
    triangles, votes, verified : int
        Similar triangles, the most that agreed on a transformation, transformations that were verified.
    pairs : int
        Most pairs of a transformation.
    expected : float
        Pairs that chance gives there.
    chance : float
        Decimal logarithm of the probability of so many pairs anywhere in the search.
    """

    triangles: int = 0
    votes: int = 0
    verified: int = 0
    pairs: int = 0
    expected: float = 0.0
    chance: float = 0.0

    def numbers(self) -> dict[str, Any]:
        """The report as numbers of an error."""
        return {
            "wideTriangles": self.triangles,
            "wideVotes": self.votes,
            "wideVerified": self.verified,
            "wideBestPairs": self.pairs,
            "wideExpectedPairs": round(self.expected, 2),
            "wideLogChance": round(self.chance, 1),
        }


def chance_of_pairs(n_pairs: int, expected: float, log_trials: float) -> float:
    """Decimal logarithm of the probability that one of many tries has so many pairs by chance, at most 0.

    Parameters
    ----------
    n_pairs : int
        Pairs found.
    expected : float
        Mean number of pairs at a random place.
    log_trials : float
        Decimal logarithm of the number of independent places.
    """
    log_tail = float(poisson.logsf(max(n_pairs - _FITTED_PAIRS, 0) - 1, max(expected, 1e-12))) / np.log(10.0)
    return float(min(max(log_tail, -300.0) + log_trials, 0.0))


def wide_search(
    sources: NDArray[np.float64],
    references: NDArray[np.float64],
    size: tuple[float, float],
    config: WideSearchConfig,
) -> tuple[WideMatch | None, WideReport]:
    """Find the transformation from sources to references.

    Parameters
    ----------
    sources, references : ndarray of float64, shape (n, 2)
        Positions in pixels about the centre of the exposure, brightest first.
    size : tuple of float
        Width and height of the exposure, pixels.
    config : WideSearchConfig
        Limits.

    Returns
    -------
    match : WideMatch or None
        None where nothing stands out from chance.
    report : WideReport
        What was seen, also where nothing was found.
    """
    report = WideReport()
    if len(sources) < _LEAST_PAIRS or len(references) < _LEAST_PAIRS:
        return None, report
    radius = 0.5 * float(np.hypot(*size))
    verifier = _Verifier(sources, references, size, config)
    for bright_sources, bright_references in _tries(sources, references, size, config):
        votes = _votes(bright_sources, bright_references, radius, verifier.limit, config)
        report.triangles += len(votes)
        for transformation, n_votes in _clusters(votes, radius):
            report.votes = max(report.votes, n_votes)
            report.verified += 1
            match = verifier.verify(transformation, report)
            if match is not None:
                return match, report
    return None, report


def _tries(
    sources: NDArray[np.float64], references: NDArray[np.float64], size: tuple[float, float], config: WideSearchConfig
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Bright sources with ever fainter references: the brightest stars may be saturated, or on one list only."""
    n_sources = config.num_bright_stars
    inside = np.all(np.abs(references) <= 0.5 * np.array(size), axis=1)
    share = max(float(inside.mean()), 1.0 / len(references), 0.05)
    n_references = int(min(max(1.5 * n_sources / share, 20), config.max_references, len(references)))
    for start in (0, n_references // 2, n_references, 2 * n_references):
        if start and start + _LEAST_PAIRS > len(references):
            return
        yield sources[:n_sources], references[start : start + n_references]
    if len(sources) > n_sources + _LEAST_PAIRS:
        yield sources[n_sources // 2 : n_sources // 2 + n_sources], references[:n_references]


def _triangles(points: NDArray[np.float64], shortest: float, longest: float) -> tuple[Any, Any]:
    """Vertices (complex, by length of the opposite side) and logarithms of the sides, shape (n, 3) each."""
    z = points[:, 0] + 1j * points[:, 1]
    corners = z[np.array(list(combinations(range(len(z)), 3)), dtype=np.int64).reshape(-1, 3)]
    sides = np.abs(corners[:, [1, 2, 0]] - corners[:, [2, 0, 1]])
    useful = (sides.min(axis=1) > shortest) & (sides.max(axis=1) < longest)
    corners, sides = corners[useful], sides[useful]
    order = np.argsort(sides, axis=1)
    return np.take_along_axis(corners, order, axis=1), np.log(np.take_along_axis(sides, order, axis=1))


def _votes(
    sources: NDArray[np.float64],
    references: NDArray[np.float64],
    radius: float,
    limit: float,
    config: WideSearchConfig,
) -> NDArray[np.complex128]:
    """Transformations that similar triangles ask for, rows of (alpha, beta, mirrored).

    A source at complex position z goes to ``alpha * z + beta``, or to ``alpha * conj(z) + beta`` where mirrored.
    """
    largest = np.log1p(config.max_scale_change)
    shortest, longest = 2 * radius * _SHORTEST_SIDE, 2 * radius * (1 + config.max_scale_change)
    source, source_sides = _triangles(sources, shortest, longest)
    reference, reference_sides = _triangles(references, shortest * np.exp(-largest), longest)
    if not len(source) or not len(reference):
        return np.zeros((0, 3), np.complex128)
    # two ratios, and the size on a scale on which its tolerance is theirs
    features = [
        np.column_stack([s[:, 1] - s[:, 0], s[:, 2] - s[:, 1], s[:, 2] * (_SIDE_TOLERANCE / largest)])
        for s in (source_sides, reference_sides)
    ]
    similar = KDTree(features[0]).sparse_distance_matrix(
        KDTree(features[1]), _SIDE_TOLERANCE, p=np.inf, output_type="ndarray"
    )
    p, q = source[similar["i"]], reference[similar["j"]]
    mirrored = _orientation(p) != _orientation(q)
    p = np.where(mirrored[:, None], np.conj(p), p)
    dp, dq = p - p.mean(axis=1, keepdims=True), q - q.mean(axis=1, keepdims=True)
    alpha = (np.conj(dp) * dq).sum(axis=1) / (np.abs(dp) ** 2).sum(axis=1)
    beta = q.mean(axis=1) - alpha * p.mean(axis=1)
    allowed = (np.abs(np.log(np.abs(alpha))) < largest) & (np.abs(beta) < limit)
    if not config.allow_flip:
        allowed &= ~mirrored
    allowed &= mirrored | (np.abs(np.angle(alpha, deg=True)) <= config.max_rotation_deg)
    return np.asarray(np.column_stack([alpha, beta, mirrored])[allowed])


def _orientation(corners: NDArray[np.complex128]) -> NDArray[np.bool_]:
    """Whether corners go round counter-clockwise."""
    return np.asarray((np.conj(corners[:, 1] - corners[:, 0]) * (corners[:, 2] - corners[:, 0])).imag > 0)


def _clusters(votes: NDArray[np.complex128], radius: float) -> Iterator[tuple[NDArray[np.complex128], int]]:
    """Mean (alpha, beta, mirrored) of the places where votes gather, and their number; most votes first."""
    if not len(votes):
        return
    first, second = votes[:, 1] + votes[:, 0] * radius, votes[:, 1] - votes[:, 0] * radius
    far = 1e3 * radius * votes[:, 2].real  # keeps mirrored votes to themselves
    places = np.column_stack([first.real, first.imag, second.real, second.imag, far])
    tree = KDTree(places)
    reach = max(_VOTE_RADIUS * radius, 4.0)
    counts = np.asarray(tree.query_ball_point(places, reach, p=np.inf, return_length=True))
    free = np.ones(len(votes), dtype=bool)
    for _ in range(_CANDIDATES):
        best = int(np.argmax(np.where(free, counts, -1)))
        if not free[best]:
            return
        members = tree.query_ball_point(places[best], reach, p=np.inf)
        yield np.median(votes[members].real, axis=0) + 1j * np.median(votes[members].imag, axis=0), len(members)
        free[tree.query_ball_point(places[best], 2 * reach, p=np.inf)] = False


class _Verifier:
    """Counts the pairs that a transformation makes of all sources and references."""

    def __init__(
        self,
        sources: NDArray[np.float64],
        references: NDArray[np.float64],
        size: tuple[float, float],
        config: WideSearchConfig,
    ) -> None:
        self._sources, self._references, self._config = sources, references, config
        self._half = 0.5 * np.array(size)
        self._area = size[0] * size[1]
        self._tree = KDTree(references)
        self.limit = config.max_shift_field * max(size)

    def verify(self, transformation: NDArray[np.complex128], report: WideReport) -> WideMatch | None:
        """Refine with ever smaller radius; None unless the pairs stand out from chance."""
        alpha, beta, mirrored = transformation
        sign = -1.0 if mirrored.real > 0.5 else 1.0
        matrix = np.array([[alpha.real, -sign * alpha.imag], [alpha.imag, sign * alpha.real]])
        offset = np.array([beta.real, beta.imag])
        for radius in (_FIRST_RADIUS, _FIRST_RADIUS, 6.0, 4.0, 3.0):
            pairs, _ = self._pairs(matrix, offset, radius)
            if len(pairs) < _FITTED_PAIRS + 1:
                return None
            design = np.column_stack([self._sources[pairs[:, 0]], np.ones(len(pairs))])
            fit = np.linalg.lstsq(design, self._references[pairs[:, 1]], rcond=None)[0]
            matrix, offset = np.array(fit[:2].T), np.array(fit[2])
        pairs, distances = self._pairs(matrix, offset, 3.0)
        if len(pairs) < _FITTED_PAIRS + 1:
            return None
        radius = max(2.0 * float(np.median(distances)), _CLOSEST_RADIUS)
        n_pairs = int(np.count_nonzero(distances < radius))
        expected = self._expected(matrix, offset, radius)
        chance = chance_of_pairs(n_pairs, expected, self._log_trials(radius))
        if n_pairs > report.pairs or chance < report.chance:
            report.pairs, report.expected, report.chance = n_pairs, expected, chance
        if n_pairs < _LEAST_PAIRS or chance > np.log10(self._config.false_alarm) or not self._allowed(matrix, offset):
            return None
        return WideMatch(matrix, offset)

    def _pairs(
        self, matrix: NDArray[np.float64], offset: NDArray[np.float64], radius: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Mutual nearest neighbours (source, reference) within a radius, and their distances."""
        moved = self._sources @ matrix.T + offset
        distances, nearest = (np.asarray(v) for v in self._tree.query(moved, distance_upper_bound=radius))
        rows = np.flatnonzero(np.isfinite(distances))
        if not len(rows):
            return np.zeros((0, 2), np.int64), np.zeros(0)
        back = np.asarray(KDTree(moved).query(self._references[nearest[rows]])[1])
        rows = rows[back == rows]
        return np.column_stack([rows, nearest[rows]]), distances[rows]

    def _expected(self, matrix: NDArray[np.float64], offset: NDArray[np.float64], radius: float) -> float:
        """Pairs at a random place among references as dense as under the exposure."""
        back = np.linalg.solve(matrix, (self._references - offset).T).T
        n_inside = int(np.count_nonzero(np.all(np.abs(back) <= self._half, axis=1)))
        share = min(np.pi * radius**2 * max(n_inside, 1) / self._area, 1.0)
        return len(self._sources) * share

    def _log_trials(self, radius: float) -> float:
        """Logarithm of the number of places, angles, scales and mirror images that a radius tells apart."""
        rim = float(np.hypot(*self._half))
        places = max((self.limit / radius) ** 2, 1.0)
        angles = max(2 * np.radians(self._config.max_rotation_deg) * rim / radius, 1.0)
        scales = max(2 * self._config.max_scale_change * rim / radius, 1.0)
        return float(np.log10(places * angles * scales * (2 if self._config.allow_flip else 1)))

    def _allowed(self, matrix: NDArray[np.float64], offset: NDArray[np.float64]) -> bool:
        """Whether a fitted transformation is a similarity within the limits."""
        scales = np.linalg.svd(matrix, compute_uv=False)
        largest = self._config.max_scale_change
        similar = scales[0] / max(scales[1], 1e-6) < 1 + _MAX_SHEAR
        return bool(similar and abs(np.sqrt(scales[0] * scales[1]) - 1) < largest and np.hypot(*offset) < self.limit)
