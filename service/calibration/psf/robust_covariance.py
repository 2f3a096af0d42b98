"""Robust mean and covariance of a few columns, insensitive to up to half of the rows being outliers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import chdtr, chdtri

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["robust_distances"]

_TRIALS, _TRIALS_OF_MANY = 30, 500  # random starts; in all subsets together
_KEPT = 10  # starts that are followed to the end, of each subset
_MANY, _SUBSET, _MERGED = 500, 300, 1500  # more rows than the first start in subsets, then go on with so many rows
_SHORT_STEPS, _LONG_STEPS = 2, 30
_OUTLIER_PROBABILITY = 0.025


class _Estimates(NamedTuple):
    """Several means and covariances of the same rows, and the distances from the ones before."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    log_determinant: NDArray[np.float64]
    distance2: NDArray[np.float64]

    def ranked(self, kept: int | None = None) -> _Estimates:
        """The best ones, first the one with the smallest determinant."""
        best = np.argsort(self.log_determinant)[:kept]
        return _Estimates(*(values[best] for values in self))


def robust_distances(data: NDArray[np.float64], seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre of the rows and their squared Mahalanobis distances from it.

    Method: minimum covariance determinant by FAST-MCD (Rousseeuw & Van Driessen 1999) with the random starts of
    scikit-learn's MinCovDet, which Rubin uses, made consistent and reweighted: the half of the rows with the smallest
    covariance determinant gives distances, and the rows within their 97.5 per cent point give the mean and covariance.
    Which of several local minima is found depends on the order of the rows.

    Parameters
    ----------
    data : ndarray of float64, shape (n, p)
        Finite, n > p.
    seed : int
        Of the random starts.

    Returns
    -------
    center : ndarray of float64, shape (p,)
        Robust mean.
    distance2 : ndarray of float64, shape (n,)
        Squared distances.
    """
    n, p = data.shape
    half = min(n, int(np.ceil(0.5 * (n + p + 1))))
    random = np.random.RandomState(seed)
    found = _best_of_many(data, half, random) if n > _MANY else _best_of_few(data, half, random)
    distance2 = found.distance2[0] / _consistency_factor(p, half / n)
    inliers = data[distance2 < float(chdtri(p, _OUTLIER_PROBABILITY))]
    if len(inliers) <= p:  # degenerate data: nothing to reweight
        return found.mean[0], distance2
    mean, covariance = _moments(inliers[None])
    return mean[0], _distances(data, mean, covariance * _consistency_factor(p, 1.0 - _OUTLIER_PROBABILITY))[0]


def _consistency_factor(p: int, fraction: float) -> float:
    """By how much the covariance of the innermost rows of a normal distribution is too small (Croux 1999)."""
    return float(fraction / chdtr(p + 2, chdtri(p, 1.0 - fraction)))


def _best_of_few(data: NDArray[np.float64], half: int, random: np.random.RandomState) -> _Estimates:
    started = _started(data, half, _TRIALS, random)
    return _followed(data, half, started.mean, started.covariance)


def _best_of_many(data: NDArray[np.float64], half: int, random: np.random.RandomState) -> _Estimates:
    """Starts in subsets, the best of them followed in the merged rows, and the best of those in all."""
    n = len(data)
    n_subsets = n // _SUBSET
    size = n // n_subsets
    shuffled = random.permutation(n)
    starts = []
    for k in range(n_subsets):
        subset = data[shuffled[k * size : (k + 1) * size]]
        trials = max(_KEPT, _TRIALS_OF_MANY // n_subsets)
        starts.append(_started(subset, int(np.ceil(size * (half / n))), trials, random))
    mean = np.concatenate([start.mean for start in starts])
    covariance = np.concatenate([start.covariance for start in starts])
    merged = data[random.permutation(n)[:_MERGED]] if n > _MERGED else data
    found = _followed(merged, int(np.ceil(len(merged) * (half / n))), mean, covariance)
    return found if n < _MERGED else _followed(data, half, found.mean[:_KEPT], found.covariance[:_KEPT])


def _started(data: NDArray[np.float64], half: int, trials: int, random: np.random.RandomState) -> _Estimates:
    """The best of some short runs from random halves."""
    chosen = np.stack([random.permutation(len(data))[:half] for _ in range(trials)])
    return _concentrated(data, *_moments(data[chosen]), half, _SHORT_STEPS).ranked(_KEPT)


def _followed(
    data: NDArray[np.float64], half: int, mean: NDArray[np.float64], covariance: NDArray[np.float64]
) -> _Estimates:
    """Long runs from estimates, the best one first."""
    nearest = _nearest(_distances(data, mean, covariance), half)
    return _concentrated(data, *_moments(data[nearest]), half, _LONG_STEPS).ranked()


def _concentrated(
    data: NDArray[np.float64], mean: NDArray[np.float64], covariance: NDArray[np.float64], half: int, steps: int
) -> _Estimates:
    """Take the nearest ``half`` rows and their moments, again and again while the determinant falls."""
    log_determinant = _log_determinants(covariance)
    distance2 = _distances(data, mean, covariance)
    runs = np.flatnonzero(np.isfinite(log_determinant))
    for step in range(steps):
        if not runs.size:
            break
        if step > 0:
            distance2[runs] = _distances(data, mean[runs], covariance[runs])
        mean[runs], covariance[runs] = _moments(data[_nearest(distance2[runs], half)])
        following = _log_determinants(covariance[runs])
        falls = following < log_determinant[runs]
        log_determinant[runs] = following
        runs = runs[falls & np.isfinite(following)]
    return _Estimates(mean, covariance, log_determinant, distance2)


def _nearest(distance2: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """The rows with the smallest distances, for each estimate."""
    return np.asarray(np.argpartition(distance2, count - 1, axis=1)[:, :count])


def _moments(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means and covariances of samples (k, n, p)."""
    count = rows.shape[1]
    mean = np.ones(count) @ rows / count
    centered = rows - mean[:, None]
    return mean, centered.transpose(0, 2, 1) @ centered / count


def _log_determinants(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    sign, value = np.linalg.slogdet(covariance)
    return np.where(sign > 0, value, -np.inf)


def _distances(
    data: NDArray[np.float64], mean: NDArray[np.float64], covariance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Squared distances of all rows by each estimate, shape (k, n)."""
    p = data.shape[1]
    inverse = np.linalg.pinv(covariance, rcond=p * np.finfo(np.float64).eps, hermitian=True)
    centered = data.T - mean[:, :, None]  # sums of few long rows are faster than of many short ones
    return np.asarray(np.sum((inverse @ centered) * centered, axis=1))
