"""Unweighted moments over footprints, of sources that look whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from service.exposure.geometry import pixel_index

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
    pixels = footprint_pixels(planes, footprints, rows, config.bad_mask_planes)
    good = ~pixels.bad
    weight = np.where(good, pixels.value, 0.0)

    def total(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(pixels.owner, weights=values, minlength=len(rows)).astype(np.float64)

    flux = total(weight)
    flux[flux == 0] = np.nan
    boxes = footprints.boxes[rows]
    x, y = pixels.x - boxes[pixels.owner, 0], pixels.y - boxes[pixels.owner, 1]  # small numbers keep the precision
    cx, cy = total(weight * x) / flux, total(weight * y) / flux
    dx, dy = x - cx[pixels.owner], y - cy[pixels.owner]
    shape = np.stack([total(weight * product) / flux for product in (dx * dx, dy * dy, dx * dy)], axis=1)
    with np.errstate(invalid="ignore"):  # no error without a variance
        flux_err = np.sqrt(total(np.where(good, pixels.variance, 0.0)))
    center = np.stack([cx + boxes[:, 0], cy + boxes[:, 1]], axis=1)
    near = pixels.bad & (dx**2 + dy**2 <= config.bad_pixel_exclusion_radius**2)
    flag = total(pixels.bad) > config.bad_pixel_max_fraction * total(np.ones(len(good)))
    flag |= total(near) > 0
    flag |= ~_holds_center(pixels, center)
    flag |= ~(shape[:, 0] * shape[:, 1] - shape[:, 2] ** 2 > 0) | ~(shape[:, 0] + shape[:, 1] > 0)
    return RawMoments(
        _spread(flux, rows, n),
        _spread(flux_err, rows, n),
        _spread(center, rows, n),
        _spread(shape, rows, n),
        np.isin(np.arange(n), rows[~flag], invert=True),
    )


def _holds_center(pixels: FootprintPixels, center: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the pixel of the centre belongs to the footprint."""
    finite = np.isfinite(center).all(axis=1)
    nearest = np.zeros(center.shape, np.int64)
    nearest[finite] = pixel_index(center[finite])
    at = (pixels.x == nearest[pixels.owner, 0]) & (pixels.y == nearest[pixels.owner, 1])
    found: NDArray[np.bool_] = np.bincount(pixels.owner[at], minlength=len(center)) > 0
    return found & finite


def _spread(values: NDArray[np.float64], rows: NDArray[np.intp], n: int) -> NDArray[np.float64]:
    """Values of some rows in an array of all rows, NaN elsewhere."""
    result = np.full((n, *values.shape[1:]), np.nan)
    result[rows] = values
    return result
