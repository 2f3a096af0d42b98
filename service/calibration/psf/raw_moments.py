"""Unweighted moments over footprints, of sources that look whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from service.calibration.kernels.raw_moments import SUMS, footprint_sums

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.psf import ShapeletsConfig
    from service.exposure.footprint import FootprintSet
    from service.exposure.masked_image import MaskedImage

__all__ = ["FootprintPixels", "RawMoments", "footprint_pixels", "raw_moments"]


@dataclass(frozen=True, slots=True)
class FootprintPixels:
    """The pixels of some footprints, one after the other.

    Parameters
    ----------
    owner : ndarray of int, shape (m,)
        Position of the footprint among the chosen ones; ascending.
    x, y : ndarray of int, shape (m,)
        Parent pixels.
    value, variance : ndarray of float64, shape (m,)
        Counts, and counts squared.
    bad : ndarray of bool, shape (m,)
        A bad mask plane is set, or the value is not finite.
    """

    owner: NDArray[np.int64]
    x: NDArray[np.int64]
    y: NDArray[np.int64]
    value: NDArray[np.float64]
    variance: NDArray[np.float64]
    bad: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class RawMoments:
    """Moments of each row; NaN where not measured, and all flagged rows are not to be used.

    Parameters
    ----------
    flux, flux_err : ndarray of float64, shape (n,)
        Counts.
    center : ndarray of float64, shape (n, 2)
        (x, y) in px, parent frame.
    shape : ndarray of float64, shape (n, 3)
        xx, yy, xy in px^2.
    flag : ndarray of bool, shape (n,)
        No usable moments.
    """

    flux: NDArray[np.float64]
    flux_err: NDArray[np.float64]
    center: NDArray[np.float64]
    shape: NDArray[np.float64]
    flag: NDArray[np.bool_]


def footprint_pixels(
    planes: MaskedImage, footprints: FootprintSet, rows: NDArray[np.intp], bad_planes: tuple[str, ...]
) -> FootprintPixels:
    """Pixels of some footprints, clipped to the image."""
    chosen = footprints.select(rows)
    y0, x0, x1 = chosen.spans.astype(np.int64).T
    length = x1 - x0 + 1
    span_owner = np.repeat(np.arange(len(rows)), np.diff(chosen.span_offsets))
    first = np.cumsum(length) - length
    x = np.arange(length.sum()) - np.repeat(first - x0, length)
    y, owner = np.repeat(y0, length), np.repeat(span_owner, length)
    box = planes.bbox
    inside = box.contains(x, y)
    x, y, owner = x[inside], y[inside], owner[inside]
    at = (y - box.y0, x - box.x0)
    value = planes.image[at].astype(np.float64)
    bad = (planes.mask[at] & np.int32(planes.planes.bitmask(bad_planes))) != 0
    return FootprintPixels(owner, x, y, value, planes.variance[at].astype(np.float64), bad | ~np.isfinite(value))


def raw_moments(
    planes: MaskedImage, footprints: FootprintSet, parent: NDArray[np.int64], config: ShapeletsConfig
) -> RawMoments:
    """Unweighted moments of the good pixels of every footprint.

    Flagged are children, footprints above the area limit or with too many bad pixels, sources with a bad pixel near
    the centre or a centre outside the footprint, and moments that are no ellipse.

    Parameters
    ----------
    planes : MaskedImage
        Background-subtracted.
    footprints : FootprintSet
        n footprints.
    parent : ndarray of int64, shape (n,)
        Parent id, 0 for none.
    config : ShapeletsConfig
        Limits.

    Returns
    -------
    RawMoments
        One row a footprint.
    """
    n = len(footprints)
    rows = np.flatnonzero((parent == 0) & (footprints.areas <= config.max_footprint_area) & (footprints.areas > 0))
    corners = footprints.boxes[rows, :2].astype(np.int64)
    origin = np.array([planes.y0, planes.x0, planes.x0], np.int32)
    sums = footprint_sums(
        planes.image,
        planes.mask,
        planes.variance,
        planes.planes.bitmask(config.bad_mask_planes),
        footprints.spans - origin,
        footprints.span_offsets,
        rows,
        corners - origin[[1, 0]],
        config.bad_pixel_exclusion_radius,
    )
    total = dict(zip(SUMS, sums.T, strict=True))
    flux = np.where(total["flux"] == 0, np.nan, total["flux"])
    shape = np.stack([total[axes] for axes in ("xx", "yy", "xy")], axis=1)
    with np.errstate(invalid="ignore"):  # no error without a variance
        flux_err = np.sqrt(total["variance"])
    center = np.stack([total["x"] + corners[:, 0], total["y"] + corners[:, 1]], axis=1)
    flag = total["bad"] > config.bad_pixel_max_fraction * total["pixels"]
    flag |= (total["near"] > 0) | (total["center"] == 0)
    flag |= ~(shape[:, 0] * shape[:, 1] - shape[:, 2] ** 2 > 0) | ~(shape[:, 0] + shape[:, 1] > 0)
    return RawMoments(
        _spread(flux, rows, n),
        _spread(flux_err, rows, n),
        _spread(center, rows, n),
        _spread(shape, rows, n),
        np.isin(np.arange(n), rows[~flag], invert=True),
    )


def _spread(values: NDArray[np.float64], rows: NDArray[np.intp], n: int) -> NDArray[np.float64]:
    """Values of some rows in an array of all rows, NaN elsewhere."""
    result = np.full((n, *values.shape[1:]), np.nan)
    result[rows] = values
    return result
