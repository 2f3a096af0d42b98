"""Clipped statistics of arrays and of image planes; pixels that are not finite never count."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from service.calibration.kernels.image_statistics import moments_within, order_statistics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "IQR_TO_STDEV",
    "ClippedStatistics",
    "clipped_statistics",
    "plane_median",
    "plane_quantiles",
    "plane_statistics",
]

_NO_MASK = np.empty((1, 0), np.int32)

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
    lower, median, upper = (float(q) for q in np.quantile(data, (0.25, 0.5, 0.75)))
    center, limit = median, num_sigma * IQR_TO_STDEV * (upper - lower) if num_sigma < np.inf else np.inf
    kept = data
    for _ in range(num_iter):
        kept = data[np.abs(data - center) <= limit]
        if not kept.size:
            return ClippedStatistics(np.nan, np.nan, median, 0)
        center = float(kept.mean())
        stdev = float(kept.std(ddof=1)) if kept.size > 1 else np.nan
        limit = num_sigma * stdev if num_sigma < np.inf else np.inf
        if kept.size == 1:
            break
    return ClippedStatistics(center, stdev, median, kept.size)


def plane_statistics(
    image: NDArray[np.float32],
    mask: NDArray[np.int32] | None = None,
    bad: int = 0,
    *,
    num_sigma: float = 3.0,
    num_iter: int = 3,
) -> ClippedStatistics:
    """Clipped statistics of an image plane; see `clipped_statistics`.

    The plane is neither copied nor sorted nor converted.

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
    used_mask = _NO_MASK if mask is None else mask
    clip = num_sigma < np.inf
    fractions = np.array([0.25, 0.5, 0.75] if clip else [0.5])
    found = order_statistics(_words(image), used_mask, np.int32(bad), fractions)
    median = float(found[found.size // 2])
    if not np.isfinite(median):
        return ClippedStatistics(np.nan, np.nan, np.nan, 0)
    largest = float(np.finfo(np.float64).max)  # keeps all but infinite pixels
    center, limit = median, num_sigma * IQR_TO_STDEV * float(found[-1] - found[0]) if clip else largest
    n, mean, variance = 0, np.nan, np.nan
    for _ in range(num_iter if clip else 1):
        n, mean, variance = moments_within(image, used_mask, np.int32(bad), center, limit)
        if n <= 1:  # no width to clip with
            break
        center, limit = mean, num_sigma * float(np.sqrt(variance))
    return ClippedStatistics(float(mean), float(np.sqrt(variance)), median, int(n))


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
        0 to 1, at most 60.

    Returns
    -------
    ndarray of float64
        One value a fraction; NaN where no pixel is left.
    """
    values = order_statistics(
        _words(image), _NO_MASK if mask is None else mask, np.int32(bad), np.asarray(fractions, dtype=np.float64)
    )
    return np.asarray(values)


def plane_median(image: NDArray[np.float32], mask: NDArray[np.int32] | None = None, bad: int = 0) -> float:
    """Median of an image plane; NaN where no pixel is left.

    Parameters
    ----------
    image, mask, bad
        As in `plane_statistics`.
    """
    return float(plane_quantiles(image, [0.5], mask, bad)[0])


def _words(image: NDArray[np.float32]) -> NDArray[np.uint32]:
    return np.ascontiguousarray(image, np.float32).view(np.uint32)
