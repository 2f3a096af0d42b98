"""The zero point of matched magnitudes: a clip that starts from the mode, then a weighted mean.

Method: Rubin PhotoCalTask, with a guard against a first clip that rejects the core of the distribution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from service.calibration.errors import ZeroPointError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.photometry import PhotometryConfig

__all__ = ["ClipPass", "ZeroPoint", "fit_zero_point"]

_N_BINS = 20
_SMALLEST_RANGE = 1e-9  # mag; numpy cannot divide less into bins
_FWHM_TO_SIGMA = 1 / 2.3
_IQR_TO_SIGMA = 0.741301109252802


@dataclass(frozen=True, slots=True)
class ClipPass:
    """One pass of the clip.

    Parameters
    ----------
    center, sigma : float
        About which and by which was clipped, mag.
    n_good : int
        Pairs that stayed.
    """

    center: float
    sigma: float
    n_good: int


@dataclass(frozen=True, slots=True)
class ZeroPoint:
    """A fitted zero point.

    Parameters
    ----------
    value : float
        AB magnitude of one count.
    sigma : float
        Its error from the errors of the magnitudes, mag.
    n_good : int
        Pairs in the mean.
    passes : tuple of ClipPass
        How it came about.
    good : ndarray of bool, shape (n,)
        Pairs in the mean, in the order in which they were given.
    """

    value: float
    sigma: float
    n_good: int
    passes: tuple[ClipPass, ...]
    good: NDArray[np.bool_]


def fit_zero_point(difference: NDArray[np.float64], error: NDArray[np.float64], config: PhotometryConfig) -> ZeroPoint:
    """Zero point of pairs of magnitudes.

    Parameters
    ----------
    difference : ndarray of float64, shape (n,)
        Reference magnitude less instrumental magnitude, mag; NaN pairs are left out.
    error : ndarray of float64, shape (n,)
        Error of the instrumental magnitude, mag; pairs without a positive one are left out.
    config : PhotometryConfig
        Options of the clip.

    Returns
    -------
    ZeroPoint

    Raises
    ------
    ZeroPointError
        There is no pair; or the first clip rejects all of them and ``fail_without_good_stars`` is set.
    """
    known = ~np.isnan(difference) & np.greater(error, 0)
    rows = np.flatnonzero(known)[np.argsort(difference[known], kind="stable")]
    d, e = difference[rows], error[rows]
    if not d.size:
        raise ZeroPointError("No pair of magnitudes to fit a zero point to", nPairs=0)
    good = np.ones(d.size, dtype=bool)
    passes: list[ClipPass] = []
    for i in range(config.n_iter):
        center, sigma = _first_guess(d, config) if i == 0 else _guess(d[good], e[good], config)
        kept = np.abs(d - center) < config.n_sigma * min(sigma, config.sigma_max)
        n_kept = int(kept.sum())
        passes.append(ClipPass(center, sigma, n_kept))
        if n_kept == 0:
            if not config.fail_without_good_stars:
                return _all_rejected(d, e, passes, config, known)
            if i == 0:
                raise ZeroPointError("The first clip rejects every star", nPairs=d.size, center=center, sigma=sigma)
            break  # a width of zero: the pairs of the pass before agree exactly
        unchanged = n_kept == good.sum()
        good = kept
        if unchanged:
            break
    weight = 1.0 / e[good] ** 2
    value, total = float(np.average(d[good], weights=weight)), float(weight.sum())
    used = np.zeros(difference.size, dtype=bool)
    used[rows[good]] = True
    return ZeroPoint(value, float(np.sqrt(1.0 / total)), int(good.sum()), tuple(passes), used)


def _first_guess(d: NDArray[np.float64], config: PhotometryConfig) -> tuple[float, float]:
    """Centre and sigma from the mode of a histogram, or from the quartiles where there are several modes."""
    n = d.size
    margin = 0.5 if d[-1] - d[0] < _SMALLEST_RANGE else 0.0  # as numpy widens a range of zero
    heights, edges = np.histogram(d, _N_BINS, range=(d[0] - margin, d[-1] + margin))
    modes = np.flatnonzero(heights == heights.max())
    first, last = int(modes[0]), int(modes[-1])
    quartiles = float(d[n // 4]), float(d[3 * n // 4])
    if last - first + 1 != modes.size:
        return float(np.median(d)), (quartiles[1] - quartiles[0]) * _FWHM_TO_SIGMA
    low, high = _half_height(d, heights, first, last)
    if low == high:
        low, high = quartiles
    sigma = (high - low) * _FWHM_TO_SIGMA
    if config.guard_first_clip:
        # The centre is known to half a bin only. A core much narrower than its bin would be clipped away.
        sigma = max(sigma, 0.5 * float(edges[last + 1] - edges[first]))
    return 0.5 * float(edges[first] + edges[last + 1]), sigma


def _half_height(d: NDArray[np.float64], heights: NDArray[np.int64], first: int, last: int) -> tuple[float, float]:
    """Values where the histogram has fallen to half the height of its modal run ``first`` to ``last``."""
    half = 0.5 * float(heights[first])
    left, right = first, last
    while left >= 0 and heights[left] > half:
        left -= 1
    while right < heights.size and heights[right] > half:
        right += 1
    below = int(heights[: max(left, 0)].sum())
    up_to = int(heights[: min(right, heights.size - 1)].sum())
    return float(d[below]), float(d[min(up_to, d.size - 1)])


def _guess(d: NDArray[np.float64], e: NDArray[np.float64], config: PhotometryConfig) -> tuple[float, float]:
    """Centre and sigma of the pairs that the pass before has left."""
    n = d.size
    center = float(np.median(d)) if config.use_median else _weighted_mean(d, e, config)
    low, high = d[min(int(0.25 * n + 0.5), n - 1)], d[min(int(0.75 * n + 0.5), n - 1)]
    return center, _IQR_TO_SIGMA * float(high - low)


def _weighted_mean(d: NDArray[np.float64], e: NDArray[np.float64], config: PhotometryConfig) -> float:
    return float(np.average(d, weights=1.0 / e**2 if config.inverse_variance_weights else e))


def _all_rejected(
    d: NDArray[np.float64],
    e: NDArray[np.float64],
    passes: list[ClipPass],
    config: PhotometryConfig,
    known: NDArray[np.bool_],
) -> ZeroPoint:
    """What upstream makes of a clip that rejects everything: the mean of all, outliers included, or the last centre."""
    value = _weighted_mean(d, e, config) if len(passes) == 1 else passes[-1].center
    return ZeroPoint(value, passes[-1].sigma, d.size, tuple(passes), known)
