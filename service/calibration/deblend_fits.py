"""Which peaks of blends are point sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from service.calibration.kernels.deblend import EXTENDED, POINT_SOURCE, SKIPPED
from service.calibration.kernels.deblend_fit import FITTED, fit_point_sources

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.deblend import DeblendConfig
    from service.exposure.masked_image import MaskedImage
    from service.exposure.psf import Psf

__all__ = ["Blends", "Stamps", "fitted_stamps"]


@dataclass(slots=True)
class Blends:
    """Some parents in array coordinates.

    Parameters
    ----------
    rows : ndarray of intp, shape (n,)
        Their rows in the catalogue.
    spans, offsets : ndarray
        Spans ``(y, x0, x1)`` of all, and the first of each.
    peaks, peak_offsets : ndarray
        Peaks ``(x, y)`` of all, and the first of each.
    peak_index : ndarray of int64, shape (peaks,)
        Number of each peak among the peaks of the whole catalogue.
    fwhm : ndarray of float64, shape (n,)
        Of the PSF at each parent, px.
    """

    rows: NDArray[np.intp]
    spans: NDArray[np.int32]
    offsets: NDArray[np.int64]
    peaks: NDArray[np.int32]
    peak_offsets: NDArray[np.int64]
    peak_index: NDArray[np.int64]
    fwhm: NDArray[np.float64]


@dataclass(slots=True)
class Stamps:
    """The PSF drawn at peaks, and what the fits make of them.

    Parameters
    ----------
    images : ndarray of float32, shape (peaks, h, w)
        PSF at the fitted position of a point source, else at the peak.
    origins : ndarray of int32, shape (peaks, 2)
        Lower-left pixels x, y of the stamps, array coordinates.
    centers : ndarray of float64, shape (peaks, 2)
        The positions x, y, array coordinates.
    flux : ndarray of float64, shape (peaks,)
        Fitted flux, counts.
    kind : ndarray of int64, shape (peaks,)
        `POINT_SOURCE`, `EXTENDED`, or `SKIPPED` where nothing could be fitted.
    """

    images: NDArray[np.float32]
    origins: NDArray[np.int32]
    centers: NDArray[np.float64]
    flux: NDArray[np.float64]
    kind: NDArray[np.int64]


def _drawn(
    masked: MaskedImage, psf: Psf, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """PSF stamps at array positions and their lower-left array pixels."""
    images, x0, y0 = psf.images(x + masked.x0, y + masked.y0)
    return images, np.stack([x0 - masked.x0, y0 - masked.y0], axis=1).astype(np.int32)


def fitted_stamps(blends: Blends, masked: MaskedImage, psf: Psf, config: DeblendConfig) -> Stamps:
    """Decide which peaks are point sources.

    A PSF at the peak is fitted together with a sloping background and the PSFs of the neighbours; again with its
    derivatives; and where these move it by less than a pixel, again at that position. The better of the first and the
    third is taken if it is good.
    """
    x, y = blends.peaks.T.astype(np.float64)
    images, origins = _drawn(masked, psf, x, y)
    n = len(x)
    inner, outer = np.ceil(blends.fwhm), np.ceil(1.5 * blends.fwhm)
    radii = np.stack([inner, np.maximum(outer, inner + 1)], axis=1).astype(np.int64)
    tiny = max(config.tiny_footprint_size, 2)

    def fit(
        own: NDArray[np.float32], at: NDArray[np.int32], index: NDArray[np.int64], derivatives: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        fitted: tuple[NDArray[np.float64], NDArray[np.int64]] = fit_point_sources(
            masked.image, masked.variance, blends.spans, blends.offsets, blends.peaks, blends.peak_offsets,
            images, origins, own, at, index, radii, tiny, derivatives,
            not config.fail_on_unseen_neighbors,
        )  # fmt: skip
        return fitted

    first, status = fit(images, origins, np.arange(n), True)
    with np.errstate(divide="ignore", invalid="ignore"):
        free = (status == FITTED) & (first[:, 1] > 0) & (first[:, 3] > 0)
        quality, shifted_quality = first[:, 0] / first[:, 1], first[:, 2] / first[:, 3]
        shift = first[:, 6:8] / first[:, 5:6]
    plain = free & (quality < config.psf_chisq_1)
    # the column of a derivative is that of moving the pixels, not the source: the source moves the other way
    shift = shift if config.invert_psf_shift else -shift
    movable = free & (shifted_quality < config.psf_chisq_2) & (np.abs(shift) < 1).all(axis=1)
    centers, flux = np.stack([x, y], axis=1), first[:, 4].copy()
    moved = np.flatnonzero(movable)
    index = np.full(n, -1)
    index[moved] = np.arange(len(moved))
    moved_images, moved_origins = _drawn(masked, psf, *(centers + shift)[moved].T)
    again, _ = fit(moved_images, moved_origins, index, False)
    with np.errstate(divide="ignore", invalid="ignore"):
        moved_quality = again[:, 0] / again[:, 1]
    beside = movable & (moved_quality < config.psf_chisq_2b) & (~plain | (moved_quality < quality))
    centers[beside] += shift[beside]
    flux[beside] = again[beside, 4]
    images[beside], origins[beside] = moved_images[index[beside]], moved_origins[index[beside]]
    kind = np.where(status == FITTED, np.where(plain | beside, POINT_SOURCE, EXTENDED), SKIPPED)
    return Stamps(images, origins, centers, flux, kind.astype(np.int64))
