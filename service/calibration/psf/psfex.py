"""PSF determination by the method of PSFEx: the sample, the degree of its polynomial, and the fitted PSF."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from service.calibration.errors import PsfexNoGoodStarsError, PsfexNoStarsError, PsfexTooFewGoodStarsError
from service.calibration.psf.candidates import downsample_candidates, extract_stamps, position_context
from service.calibration.psf.compiled import CompiledPsfexPsf
from service.calibration.psf.gaussian import FWHM_PER_SIGMA
from service.calibration.psf.psfex_fit import PsfexFit
from service.calibration.psf.star_selector import widths
from service.calibration.psf.star_stamps import StarStamps
from service.calibration.statistics import plane_statistics
from service.exposure.psf.psfex import monomials

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.psf import PsfexDeterminerConfig
    from service.calibration.psf.candidates import Stamps
    from service.exposure.catalog import SourceCatalog
    from service.exposure.exposure import Exposure
    from service.exposure.psf import PsfexPsf

__all__ = ["determine_psf", "polynomial_degree", "stamp_size"]

_log = logging.getLogger(__name__)

_WEIGHT_ACCURACY = 0.01
_LARGEST_STAMP = 101  # px
_LARGEST = 1e15  # larger pixels are as good as infinite: their squares leave float32


def determine_psf(
    exposure: Exposure,
    catalog: SourceCatalog,
    candidates: NDArray[np.intp],
    config: PsfexDeterminerConfig,
    *,
    sky_sigma: float | None = None,
) -> tuple[PsfexPsf, NDArray[np.intp]]:
    """Fit a spatially varying PSF to the stamps of some stars.

    Parameters
    ----------
    exposure : Exposure
        Background-subtracted.
    catalog : SourceCatalog
        Centroids, shapes, fluxes, flags and footprints.
    candidates : ndarray of int
        Catalogue rows of the stars.
    config : PsfexDeterminerConfig
        The model.
    sky_sigma : float, optional
        Clipped standard deviation of the image, counts; found by a pass over it where it is not known.

    Returns
    -------
    psf : PsfexPsf
        Its average position is the mean of all stars of the sample, including those cleaned away.
    used : ndarray of int
        Catalogue rows of the stars left after cleaning.

    Raises
    ------
    PsfexNoStarsError
        There is no candidate.
    PsfexNoGoodStarsError
        No candidate is usable, or cleaning removed all.
    PsfexTooFewGoodStarsError
        Too few for a PSF that varies with position.
    """
    if len(candidates) == 0:
        raise PsfexNoStarsError("no PSF candidate", num_candidates=0)
    candidates = downsample_candidates(candidates, config.max_candidates)
    offset, scale = position_context(catalog, candidates)
    fwhm = float(FWHM_PER_SIGMA * np.median(widths(catalog)[candidates]))
    usable = candidates[_usable(catalog, candidates, config)]
    stamps = extract_stamps(exposure, catalog, usable, stamp_size(fwhm, config))
    if polynomial_degree(config.spatial_order, len(stamps.rows)) < config.spatial_order:
        stamps = extract_stamps(exposure, catalog, usable, config.stamp_size)  # every star counts
    if len(stamps.rows) < len(candidates):
        _log.warning("%d of %d PSF candidates are not usable", len(candidates) - len(stamps.rows), len(candidates))
    if len(stamps.rows) == 0:
        raise PsfexNoGoodStarsError("no PSF candidate is usable", num_candidates=len(candidates))
    degree = polynomial_degree(config.spatial_order, len(stamps.rows))
    if degree == 0 < config.spatial_order and not config.allow_constant_psf:
        raise PsfexTooFewGoodStarsError(
            "too few stars for a PSF that varies with position",
            num_available_stars=len(candidates),
            num_good_stars=len(stamps.rows),
            poly_ndim_initial=2,
            poly_ndim_final=0,
        )
    x, y = catalog["slot_Centroid_x"][stamps.rows], catalog["slot_Centroid_y"][stamps.rows]
    basis = monomials((x - offset[0]) / scale[0], (y - offset[1]) / scale[1], degree)
    if sky_sigma is None:
        sky_sigma = plane_statistics(exposure.masked_image.image).stdev
    fit = PsfexFit(_sample(exposure, catalog, stamps, config, sky_sigma), basis, fwhm, config)
    fit.run()
    average = float(x.mean()), float(y.mean())
    psf = CompiledPsfexPsf(fit.components.astype(np.float32), offset, scale, average, round(1.0 / config.sampling_size))
    return psf, stamps.rows[fit.used]


def stamp_size(fwhm: float, config: PsfexDeterminerConfig) -> int:
    """Odd stamp size for a full width at half maximum in px."""
    grown = 2 * int(0.5 * config.stamp_size_per_fwhm * fwhm) + 1 if np.isfinite(fwhm) else 0
    return max(config.stamp_size, min(grown, _LARGEST_STAMP))


def polynomial_degree(degree: int, n_stars: int) -> int:
    """Largest degree up to ``degree`` whose number of terms the stars support."""
    while degree > 0 and 1.1 * ((degree + 1) * (degree + 2) // 2) + 0.499 > n_stars:
        degree -= 1
    return degree


def _usable(catalog: SourceCatalog, candidates: NDArray[np.intp], config: PsfexDeterminerConfig) -> NDArray[np.bool_]:
    """Candidates with an unflagged positive flux and, if asked for, an unflagged centroid."""
    flux = catalog[config.photometric_flux_field][candidates]
    good = np.isfinite(flux) & (flux > 0)
    good &= ~catalog[config.photometric_flux_field.removesuffix("_instFlux") + "_flag"][candidates]
    if config.reject_flagged_centroids:
        good &= ~catalog["slot_Centroid_flag"][candidates]
    return np.asarray(good)


def _sample(
    exposure: Exposure, catalog: SourceCatalog, stamps: Stamps, config: PsfexDeterminerConfig, sky_sigma: float
) -> StarStamps:
    """Stamps with weights: masked pixels are 0 in both."""
    planes = exposure.masked_image
    gain = exposure.detector.gain if exposure.detector is not None else np.nan
    gain = gain if np.isfinite(gain) and gain > 0 else 1.0
    bad = (stamps.mask & np.int32(planes.planes.bitmask(config.bad_mask_bits))) != 0
    bad |= ~(np.abs(stamps.image) < _LARGEST)
    image = np.where(bad, np.float32(0), stamps.image)
    variance = np.float32(sky_sigma**2) + np.float32(_WEIGHT_ACCURACY**2) * image**2
    variance += np.maximum(image, 0) / np.float32(gain)
    weight = np.where(bad, np.float32(0), 1 / variance)
    centers = np.stack([catalog["slot_Centroid_x"][stamps.rows], catalog["slot_Centroid_y"][stamps.rows]], axis=1)
    shift = (centers - (stamps.corners + stamps.image.shape[1] // 2)).astype(np.float64)
    flux = np.asarray(catalog[config.photometric_flux_field][stamps.rows], np.float64)
    return StarStamps(image, weight, flux, shift, sky_sigma**2, gain)
