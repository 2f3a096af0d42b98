"""The matcher of the astrometric fit: preconditions, tolerances, softening and what is remembered between rounds.

Method: Rubin MatchPessimisticB.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import KDTree

from service.calibration.astrometry.pattern_search import PatternLimits, PatternMatch, PatternSearch
from service.calibration.errors import MatcherFailure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.astrometry import MatchPessimisticBConfig

__all__ = ["PessimisticB", "unit_vectors"]

_FAINT = 99.0  # magnitude of fluxes that have none
_ARCSEC = np.pi / 648000.0


def unit_vectors(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors, shape (n, 3), of positions in deg."""
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


@dataclass(slots=True)
class _Memory:
    """What one round of the match-fit loop leaves to the next."""

    shift: float | None = None
    pattern: int | None = None
    skip: list[int] = field(default_factory=list)


class PessimisticB:
    """Matcher of one astrometric solution; rounds share its references, its tolerance and its memory.

    Parameters
    ----------
    ra, dec : ndarray of float64, shape (n,)
        References, deg, finite.
    flux : ndarray of float64, shape (n,)
        Their fluxes in any unit; only the order counts.
    config : MatchPessimisticBConfig
        Settings.

    Attributes
    ----------
    tolerance : float or None
        Distance tolerance found in the first round, arcsec.
    """

    def __init__(
        self,
        ra: NDArray[np.float64],
        dec: NDArray[np.float64],
        flux: NDArray[np.float64],
        config: MatchPessimisticBConfig,
    ) -> None:
        self._config = config
        brightness = np.where(np.isnan(flux), -np.inf, flux)
        self._rows = np.arange(len(ra))
        if len(ra) > config.max_ref_objects:
            brightest = np.argsort(-brightness, kind="stable")[: config.max_ref_objects]
            self._rows = np.sort(brightest)
        self._n_loaded = len(ra)
        self._vectors = unit_vectors(ra[self._rows], dec[self._rows])
        self._magnitude = _magnitude(flux[self._rows])
        self._search: PatternSearch | None = None
        self._memory = _Memory()
        self.tolerance: float | None = None

    @property
    def shift(self) -> float | None:
        """Shift found by the last successful round, arcsec."""
        return None if self._memory.shift is None else self._memory.shift / _ARCSEC

    @property
    def pattern(self) -> int | None:
        """Pattern that matched in the last round."""
        return self._memory.pattern

    def match(
        self, ra: NDArray[np.float64], dec: NDArray[np.float64], flux: NDArray[np.float64], pixel_scale: float
    ) -> NDArray[np.int64]:
        """Match sources by the current WCS.

        Parameters
        ----------
        ra, dec : ndarray of float64, shape (n,)
            Sources, deg, finite.
        flux : ndarray of float64, shape (n,)
            Their fluxes.
        pixel_scale : float
            At the detector's centre, arcsec.

        Returns
        -------
        ndarray of int64, shape (m, 2)
            Rows of sources and references.

        Raises
        ------
        MatcherFailure
            Too few sources or references for a pattern, or no match within the limits.
        """
        self._require(len(ra))
        order = np.argsort(_magnitude(flux), kind="stable")
        vectors = unit_vectors(ra, dec)
        if self._search is None:
            self._search = PatternSearch(self._vectors)
        if self.tolerance is None:
            self.tolerance = self._automatic_tolerance(vectors[order], pixel_scale)
        found = self._soften(self._search, vectors[order], self.tolerance * _ARCSEC, pixel_scale * _ARCSEC)
        if found is None:
            raise MatcherFailure("No matches found", nSources=len(ra), nReferences=self._n_loaded)
        cut = max(found.max_distance, self._config.min_match_dist_pixels * pixel_scale * _ARCSEC)
        pairs = found.pairs[found.distances < cut]
        pairs = np.column_stack([order[pairs[:, 0]], self._rows[pairs[:, 1]]])
        return pairs[np.argsort(pairs[:, 0], kind="stable")]

    def _require(self, n_sources: int) -> None:
        n_points = self._config.num_points_for_shape
        if n_sources == 0:
            raise MatcherFailure("No usable sources to match")
        for n, what in ((n_sources, "sources"), (len(self._vectors), "references")):
            if n <= n_points:
                raise MatcherFailure(f"Too few {what} for a pattern", n=n, numPointsForShape=n_points)

    def _automatic_tolerance(self, sources: NDArray[np.float64], pixel_scale: float) -> float:
        """Distance (arcsec) below which patterns of one catalogue cannot be confused, at least one pixel."""
        references = self._vectors[np.argsort(self._magnitude, kind="stable")]
        n = self._config.num_points_for_shape
        confusable = min(_pattern_separation(sources, n), _pattern_separation(references, n)) / _ARCSEC
        smallest = self._config.min_match_dist_pixels * pixel_scale
        # a catalogue with one pattern has nothing to be confused with
        return max(smallest, confusable) if np.isfinite(confusable) else smallest

    def _soften(
        self, search: PatternSearch, sources: NDArray[np.float64], tolerance: float, pixel: float
    ) -> PatternMatch | None:
        """Search with the tolerance doubled until something is found; ``tolerance`` and ``pixel`` in rad."""
        config, memory = self._config, self._memory
        n_sources, n_references = len(sources), self._n_loaded
        smallest = config.min_match_dist_pixels * pixel
        tolerance = max(smallest, tolerance)
        max_shift = config.max_offset_pix * pixel if memory.shift is None else max(memory.shift, smallest)
        for step in range(config.matcher_iterations):
            remembered = step == 0 and memory.pattern is not None
            limits = PatternLimits(
                distance=tolerance * 2.0**step,
                shift=max_shift,
                rotation=float(np.radians(config.max_rotation_deg)),
                n_check=max(config.num_points_for_shape_attempt, config.num_points_for_shape),
                n_match=config.num_points_for_shape,
                n_agree=1 if remembered else self._n_agree(n_sources),
                n_patterns=config.num_bright_stars,
                min_matches=min(
                    config.min_matched_pairs, int(config.min_frac_matched_pairs * min(n_references, n_sources))
                ),
                continue_after_failed_verify=config.continue_after_failed_verify,
            )
            found = search.find(sources, limits, memory.skip)
            if found is not None:
                memory.shift, memory.pattern = found.shift, found.pattern
                return found
            if remembered and memory.pattern is not None:
                # what matched before and does not any more was probably false
                memory.skip.append(memory.pattern)
                memory.pattern = None
                max_shift = config.max_offset_pix * pixel
        return None

    def _n_agree(self, n_sources: int) -> int:
        config = self._config
        few = config.num_bright_stars + config.num_points_for_shape_attempt
        sparse = min(self._n_loaded, n_sources) < few
        return 1 if self._n_loaded < config.num_ref_require_consensus and sparse else config.num_pattern_consensus


def _magnitude(flux: NDArray[np.float64]) -> NDArray[np.float64]:
    """Magnitudes to sort by; what has no positive flux is faintest."""
    positive = np.greater(flux, 0)
    return np.where(positive, -2.5 * np.log10(np.where(positive, flux, 1.0)), _FAINT)


def _pattern_separation(points: NDArray[np.float64], n_points: int) -> float:
    """Smallest distance of two patterns of a catalogue (brightest first) per spoke, rad; inf with one pattern."""
    n_spokes = n_points - 1
    starts = np.arange(len(points) - n_points)
    spokes = points[starts[:, None] + np.arange(1, n_points)] - points[starts][:, None]
    lengths = np.sort(np.sqrt((spokes**2).sum(axis=2)), axis=1)
    nearest = np.asarray(KDTree(lengths).query(lengths, k=2)[0])
    return float(nearest[:, 1].min() / n_spokes)
