"""Robust mean and covariance of a few columns, insensitive to up to half of the rows being outliers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import chdtri

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["robust_distances"]

_TRIALS = 100
_KEPT_TRIALS = 10
_TRIAL_ROWS = 500  # more rows than this do not make the start any better
_SHORT_STEPS = 2
_LONG_STEPS = 100
_OUTLIER_PROBABILITY = 0.025


def robust_distances(data: NDArray[np.float64], seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre of the rows and their squared Mahalanobis distances from it.

    Method: minimum covariance determinant by FAST-MCD (Rousseeuw & Van Driessen 1999), consistency-corrected and
    reweighted as in scikit-learn: the half of the rows with the smallest covariance determinant gives distances, and
    the rows within their 97.5 per cent point give the mean and covariance.

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
    half = int(np.ceil(0.5 * (n + p + 1)))
    rng = np.random.default_rng(seed)
    sample = data if n <= _TRIAL_ROWS else data[rng.choice(n, _TRIAL_ROWS, replace=False)]
    half_sample = int(np.ceil(0.5 * (len(sample) + p + 1)))
    trials = []
    for _ in range(_TRIALS):
        start = sample[rng.permutation(len(sample))[: p + 1]]
        trials.append(_concentrate(sample, *_moments(start), half_sample, _SHORT_STEPS))
    trials.sort(key=lambda trial: trial[2])
    finals = [_concentrate(data, mean, cov, half, _LONG_STEPS) for mean, cov, _ in trials[:_KEPT_TRIALS]]
    mean, covariance, _ = min(finals, key=lambda final: final[2])
    distance2 = _distances(data, mean, covariance)
    middle = float(np.median(distance2))
    if middle > 0:
        distance2 *= float(chdtri(p, 0.5)) / middle
    inliers = data[distance2 < float(chdtri(p, _OUTLIER_PROBABILITY))]
    if len(inliers) <= p:  # degenerate data: nothing to reweight
        return mean, distance2
    mean, covariance = _moments(inliers)
    return mean, _distances(data, mean, covariance)


def _moments(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean = rows.mean(axis=0)
    centered = rows - mean
    return mean, centered.T @ centered / len(rows)


def _distances(
    data: NDArray[np.float64], mean: NDArray[np.float64], covariance: NDArray[np.float64]
) -> NDArray[np.float64]:
    centered = data - mean
    return np.asarray(np.einsum("ij,jk,ik->i", centered, np.linalg.pinv(covariance, hermitian=True), centered))


def _concentrate(
    data: NDArray[np.float64], mean: NDArray[np.float64], covariance: NDArray[np.float64], half: int, steps: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Take the nearest ``half`` rows and their moments, again and again while the determinant falls."""
    determinant = np.inf
    for _ in range(steps):
        nearest = np.argpartition(_distances(data, mean, covariance), half - 1)[:half]
        mean, covariance = _moments(data[nearest])
        smaller = float(np.linalg.det(covariance))
        if smaller >= determinant:
            break
        determinant = smaller
    return mean, covariance, determinant
