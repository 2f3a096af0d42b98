"""Clipped statistics of arrays and of image planes; pixels that are not finite never count."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from service.calibration.plane_survey import PlaneSurvey, good_values

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    _Moments = Callable[[float, float], tuple[int, float, float]]

__all__ = [
    "IQR_TO_STDEV",
    "ClippedStatistics",
    "clipped_statistics",
    "plane_median",
    "plane_quantiles",
    "plane_statistics",
]

_SAMPLE = 1 << 15  # pixels that guide the pass over a plane; smaller planes are treated as arrays

_QUARTILES = (0.25, 0.5, 0.75)

#: Standard deviation of a normal distribution over its interquartile range.
IQR_TO_STDEV = 0.741301109252801


class ClippedStatistics(NamedTuple):
    """Statistics after clipping.

    Parameters
    ----------
    mean : float
        Mean of the values kept; NaN where none is.
    stdev : float
        Sample standard deviation (n - 1) of the values kept; NaN where fewer than two are.
    median : float
        Median of all finite values.
    n_kept : int
        Number of values kept.
    """

    mean: float
    stdev: float
    median: float
    n_kept: int

    @property
    def stderr(self) -> float:
        """Standard error of the mean."""
        return self.stdev / float(np.sqrt(self.n_kept)) if self.n_kept else float("nan")


def clipped_statistics(values: ArrayLike, *, num_sigma: float = 3.0, num_iter: int = 3) -> ClippedStatistics:
    """Clipped mean and standard deviation of an array, in float64.

    Pass 1 keeps values within ``num_sigma`` × 0.7413 × IQR of the median, later passes those within ``num_sigma``
    standard deviations of the previous pass's mean. Each pass starts from all values again.

    Parameters
    ----------
    values : array_like
        Any shape; values that are not finite are left out.
    num_sigma : float
        Clipping limit; infinity for no clipping.
    num_iter : int
        Number of passes, at least 1.

    Notes
    -----
    Method: Rubin ``afw.math`` MEANCLIP and STDEVCLIP.
    """
    data = np.asarray(values, dtype=np.float64).ravel()
    data = data[np.isfinite(data)]
    if not data.size:
        return ClippedStatistics(np.nan, np.nan, np.nan, 0)
    return _clipped(_moments_of(data), np.quantile(data, _QUARTILES), num_sigma, num_iter)


def _moments_of(data: NDArray[np.float64]) -> _Moments:
    def moments(center: float, limit: float) -> tuple[int, float, float]:
        kept = data[np.abs(data - center) <= limit]
        mean = float(kept.mean()) if kept.size else np.nan
        return kept.size, mean, float(kept.std(ddof=1)) if kept.size > 1 else np.nan

    return moments


def _clipped(moments: _Moments, quartiles: NDArray[np.float64], num_sigma: float, num_iter: int) -> ClippedStatistics:
    """Clip by means of a function that has number, mean and standard deviation within a limit of a centre."""
    lower, median, upper = (float(quartile) for quartile in quartiles)
    # without a limit nothing is cut, not even where the quartiles are equal
    center, limit = median, num_sigma * IQR_TO_STDEV * (upper - lower) if num_sigma < np.inf else np.inf
    n, mean, stdev = 0, np.nan, np.nan
    for _ in range(num_iter):
        n, mean, stdev = moments(center, limit)
        if n <= 1:  # no width to clip with
            break
        center, limit = mean, num_sigma * stdev if num_sigma < np.inf else np.inf
    return ClippedStatistics(mean, stdev, median, n)


def plane_statistics(
    image: NDArray[np.float32],
    mask: NDArray[np.int32] | None = None,
    bad: int = 0,
    *,
    num_sigma: float = 3.0,
    num_iter: int = 3,
) -> ClippedStatistics:
    """Clipped statistics of an image plane; see `clipped_statistics`.

    A large plane is neither copied nor sorted nor converted.

    Parameters
    ----------
    image : ndarray of float32, shape (height, width)
        Pixels.
    mask : ndarray of int32, same shape, optional
        Mask bits.
    bad : int
        Pixels with any of these bits are left out.
    num_sigma, num_iter : float, int
        As in `clipped_statistics`.
    """
    sample = good_values(image, mask, bad, _stride(image))
    if image.size <= _SAMPLE:
        return clipped_statistics(sample, num_sigma=num_sigma, num_iter=num_iter)
    limits = _clipping_limits(sample.astype(np.float64), num_sigma, num_iter)
    survey = PlaneSurvey(image, mask, bad, fractions=_QUARTILES, limits=limits, sample=sample)
    quartiles = survey.quantiles()
    if np.isnan(quartiles[1]):
        return ClippedStatistics(np.nan, np.nan, np.nan, 0)
    return _clipped(survey.moments, quartiles, num_sigma, num_iter)


def _stride(image: NDArray[np.float32]) -> int:
    """Odd, for the sample not to keep to some columns."""
    return image.size // _SAMPLE | 1


def _clipping_limits(sample: NDArray[np.float64], num_sigma: float, num_iter: int) -> list[tuple[float, float]]:
    """Centre and limit of each pass that clips a sample; none for none."""
    limits: list[tuple[float, float]] = []
    moments = _moments_of(sample)

    def noted(center: float, limit: float) -> tuple[int, float, float]:
        limits.append((center, limit))
        return moments(center, limit)

    if sample.size:
        _clipped(noted, np.quantile(sample, _QUARTILES), num_sigma, num_iter)
    return limits


def plane_quantiles(
    image: NDArray[np.float32],
    fractions: Sequence[float],
    mask: NDArray[np.int32] | None = None,
    bad: int = 0,
) -> NDArray[np.float64]:
    """Quantiles of an image plane, interpolated linearly at index ``fraction × (n - 1)``.

    Parameters
    ----------
    image, mask, bad
        As in `plane_statistics`.
    fractions : sequence of float
        0 to 1.

    Returns
    -------
    ndarray of float64
        One value a fraction; NaN where no pixel is left.
    """
    sample = good_values(image, mask, bad, _stride(image))
    if image.size > _SAMPLE:
        return PlaneSurvey(image, mask, bad, fractions=fractions, sample=sample).quantiles()
    return np.quantile(sample.astype(np.float64), fractions) if sample.size else np.full(len(fractions), np.nan)


def plane_median(image: NDArray[np.float32], mask: NDArray[np.int32] | None = None, bad: int = 0) -> float:
    """Median of an image plane; NaN where no pixel is left.

    Parameters
    ----------
    image, mask, bad
        As in `plane_statistics`.
    """
    return float(plane_quantiles(image, [0.5], mask, bad)[0])
