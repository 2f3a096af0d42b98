"""PSF determination by Piff, an optional package: weights, the fit, and the fitted PSF in our own form."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from service.calibration.errors import PiffTooFewGoodStarsError
from service.calibration.input_errors import MissingPackageError
from service.calibration.psf.candidates import downsample_candidates, extract_stamps, position_context
from service.exposure.psf import PiffPsf

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.psf import PiffDeterminerConfig
    from service.exposure.catalog import SourceCatalog
    from service.exposure.exposure import Exposure

__all__ = ["determine_psf", "star_weights"]

_log = logging.getLogger(__name__)

_X, _Y, _ROW = "scaled_x", "scaled_y", "row"  # properties of Piff's stars


def determine_psf(
    exposure: Exposure, catalog: SourceCatalog, candidates: NDArray[np.intp], config: PiffDeterminerConfig
) -> tuple[PiffPsf, NDArray[np.intp], float]:
    """Fit a spatially varying PSF to the stamps of some stars with Piff.

    Method: Rubin PiffPsfDeterminerTask in pixel coordinates, which are scaled to order 1 before they go into the
    polynomial: the same space of functions, better conditioned.

    Parameters
    ----------
    exposure : Exposure
        Background-subtracted.
    catalog : SourceCatalog
        Centroids and footprints.
    candidates : ndarray of int
        Catalogue rows of the stars.
    config : PiffDeterminerConfig
        The model.

    Returns
    -------
    psf : PiffPsf
        Its average position is the mean of the stars used.
    used : ndarray of int
        Catalogue rows of the stars left after clipping.
    chi2 : float
        Of the fit.

    Raises
    ------
    MissingPackageError
        Piff is not installed.
    PiffTooFewGoodStarsError
        Fewer stars than polynomial terms, before or after clipping.
    """
    piff = _piff()
    candidates = downsample_candidates(candidates, config.max_candidates)
    offset, scale = position_context(catalog, candidates)
    sample = _sample(exposure, catalog, candidates, config)
    stars = _stars(piff, sample, offset, scale)
    order, max_iter = config.spatial_order, config.piff_max_iter
    fit = None
    if len(stars) >= _terms(order):
        fit = _fit(piff, stars, order, max_iter, config)
    if fit is None or fit.n_used < _terms(order):
        n_used = len(stars) if fit is None else fit.n_used
        if not (config.zeroth_order_interp_not_enough_stars and stars):
            raise PiffTooFewGoodStarsError(
                "too few stars for the spatial polynomial",
                num_good_stars=n_used,
                minimum_dof=_terms(order),
                poly_ndim=order,
            )
        _log.warning("%d PSF stars for %d polynomial terms: the PSF does not vary", n_used, _terms(order))
        fit = _fit(piff, stars, 0, 1, config)
    rows = np.array([star.data.properties[_ROW] for star in fit.stars if not star.is_flagged], np.intp)
    x, y = catalog["slot_Centroid_x"][rows], catalog["slot_Centroid_y"][rows]
    components = fit.coefficients.T.reshape(-1, config.model_size, config.model_size)
    psf = PiffPsf(
        components.astype(np.float32),
        offset,
        scale,
        (float(x.mean()), float(y.mean())),
        size=config.stamp_size,
        sampling=config.sampling_size,
        order=config.interpolant_order,
    )
    return psf, np.sort(rows), fit.chi2


def star_weights(
    image: NDArray[np.float32], variance: NDArray[np.float32], good: NDArray[np.bool_], max_snr: float
) -> NDArray[np.float64]:
    """One weight a stamp: the inverse of the variance where there is no signal, lower for very bright stars.

    Parameters
    ----------
    image, variance : ndarray of float32, shape (n, size, size)
        Counts, counts squared.
    good : ndarray of bool, same shape
        Pixels that count; some in every stamp.
    max_snr : float
        Stars above this signal-to-noise ratio get the weight that brings them to it.

    Returns
    -------
    ndarray of float64, same shape
        0 where pixels do not count.
    """
    signal = np.where(good, image, 0).astype(np.float64)
    spread = np.where(good, variance, 0).astype(np.float64)
    n = good.sum(axis=(1, 2))
    mean_signal, mean_spread = signal.sum(axis=(1, 2)) / n, spread.sum(axis=(1, 2)) / n
    from_mean = np.where(good, signal - mean_signal[:, None, None], 0.0)
    square = (from_mean**2).sum(axis=(1, 2))
    slope = (from_mean * spread).sum(axis=(1, 2)) / np.where(square > 0, square, 1.0)
    intercept = mean_spread - slope * mean_signal
    least = np.where(good, variance, np.inf).min(axis=(1, 2))
    # a line through noisy variances may miss 0: the faintest pixels know the sky too
    sky = np.where(intercept > 0, intercept, least)
    total = (signal**2).sum(axis=(1, 2)) / sky
    snr = np.where(total < n, 0.0, (total - n) / np.sqrt(np.maximum(total, 1.0)))
    weight = np.minimum(1.0, max_snr / np.maximum(snr, max_snr)) ** 2 / sky
    return np.where(good, weight[:, None, None], 0.0)


@dataclass(frozen=True, slots=True)
class _Sample:
    """Stamps that go to Piff: rows of the catalogue, positions, pixels, weights, lower-left corners."""

    rows: NDArray[np.intp]
    centers: NDArray[np.float64]
    image: NDArray[np.float32]
    weight: NDArray[np.float64]
    corners: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Fit:
    """What a fit left: Piff's stars, and the coefficients of every grid point, shape (points, terms)."""

    stars: list[Any]
    coefficients: NDArray[np.float64]
    chi2: float

    @property
    def n_used(self) -> int:
        return sum(not star.is_flagged for star in self.stars)


def _piff() -> Any:
    try:
        import piff
    except ImportError as error:
        raise MissingPackageError(
            "the PSF determiner 'piff' needs the package Piff: pip install 'visitcal[piff]'", package="piff"
        ) from error
    return piff


def _terms(order: int) -> int:
    return (order + 1) * (order + 2) // 2


def _sample(
    exposure: Exposure, catalog: SourceCatalog, candidates: NDArray[np.intp], config: PiffDeterminerConfig
) -> _Sample:
    planes = exposure.masked_image
    stamps = extract_stamps(exposure, catalog, candidates, config.stamp_size)
    inside = np.arange(config.stamp_size)
    column = (stamps.corners[:, 0] - planes.x0)[:, None, None] + inside
    row = (stamps.corners[:, 1] - planes.y0)[:, None, None] + inside[:, None]
    variance = planes.variance[row, column]
    good = (variance > 0) & np.isfinite(variance) & np.isfinite(stamps.image)
    good &= (stamps.mask & np.int32(planes.planes.bitmask(config.zero_weight_mask_bits))) == 0
    keep = good.mean(axis=(1, 2)) >= config.minimum_unmasked_fraction
    if keep.sum() < len(candidates):
        _log.warning("%d of %d PSF candidates are not usable", len(candidates) - keep.sum(), len(candidates))
    image = np.where(good, stamps.image, np.float32(0))[keep]
    weight = star_weights(image, variance[keep], good[keep], config.max_snr)
    rows = stamps.rows[keep]
    centers = np.stack([catalog["slot_Centroid_x"][rows], catalog["slot_Centroid_y"][rows]], axis=1)
    return _Sample(rows, centers, image, weight, stamps.corners[keep])


def _stars(piff: Any, sample: _Sample, offset: tuple[float, float], scale: tuple[float, float]) -> list[Any]:
    import galsim

    unit, stars = galsim.PixelScale(1.0), []
    for k, (x, y) in enumerate(sample.centers.tolist()):
        corner_x, corner_y = sample.corners[k].tolist()
        pixels, weight = (
            galsim.Image(plane[k].astype(np.float64), xmin=corner_x, ymin=corner_y, wcs=unit)
            for plane in (sample.image, sample.weight)
        )
        properties = {
            _X: (x - offset[0]) / scale[0],
            _Y: (y - offset[1]) / scale[1],
            _ROW: int(sample.rows[k]),
        }
        data = piff.StarData(pixels, galsim.PositionD(x, y), weight=weight, properties=properties)
        stars.append(piff.Star(data, None))
    return stars


def _fit(piff: Any, stars: list[Any], order: int, max_iter: int, config: PiffDeterminerConfig) -> _Fit:
    import galsim

    # the powers of the second key run fastest in Piff: with y first they come in the order of PiffPsf
    psf = piff.PSF.process(
        {
            "type": "Simple",
            "model": {
                "type": "PixelGrid",
                "scale": config.sampling_size,
                "size": config.model_size,
                "interp": f"Lanczos({config.interpolant_order})",
                "centered": config.piff_pixel_grid_fit_center,
            },
            "interp": {
                "type": "BasisPolynomial",
                "order": order,
                "keys": [_Y, _X],
                "solver": config.piff_basis_polynomial_solver,
            },
            "outliers": {
                "type": "Chisq",
                "nsigma": config.outlier_n_sigma,
                "max_remove": config.outlier_max_remove,
            },
            "max_iter": max_iter,
        }
    )
    try:
        psf.fit(list(stars), {0: galsim.PixelScale(1.0)}, None)
    except RuntimeError as error:  # Piff's word for "no star is left"
        raise PiffTooFewGoodStarsError(
            f"Piff cannot fit: {error}", num_good_stars=0, minimum_dof=_terms(order), poly_ndim=order
        ) from error
    return _Fit(list(psf.stars), np.asarray(psf.interp.q, np.float64), float(psf.chisq))
