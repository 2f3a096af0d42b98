"""From a measured catalogue to the PSF of the exposure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from service.calibration.errors import NonfinitePsfShapeError
from service.calibration.psf import piff
from service.calibration.psf.candidates import make_psf_candidates
from service.calibration.psf.psfex import determine_psf
from service.calibration.psf.star_selector import select_stars

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.psf import (
        MeasurePsfConfig,
        PiffDeterminerConfig,
        PsfexDeterminerConfig,
        ReserveSourcesConfig,
    )
    from service.exposure.catalog import SourceCatalog
    from service.exposure.exposure import Exposure
    from service.exposure.psf import Psf

__all__ = ["MeasurePsfResult", "measure_psf", "reserve_sources"]


@dataclass(frozen=True, slots=True)
class MeasurePsfResult:
    """The fitted PSF and the numbers of its fit.

    Parameters
    ----------
    psf : Psf
        Also attached to the exposure.
    num_avail_stars, num_good_stars : int
        Candidates given to the determiner, and stars left after cleaning.
    avg_x, avg_y : float
        Average position of the PSF in px.
    spatial_fit_chi2 : float
        Chi2 of the determiner's fit; NaN from psfex, which has none.
    """

    psf: Psf
    num_avail_stars: int
    num_good_stars: int
    avg_x: float
    avg_y: float
    spatial_fit_chi2: float = float("nan")


def measure_psf(
    catalog: SourceCatalog, exposure: Exposure, config: MeasurePsfConfig, *, sky_sigma: float | None = None
) -> MeasurePsfResult:
    """Select stars, fit the PSF and attach it to the exposure.

    Method: Rubin MeasurePsfTask.

    Parameters
    ----------
    catalog : SourceCatalog
        Measured sources with footprints; ``calib_psf_candidate``, ``calib_psf_used``, ``calib_psf_reserved`` and
        ``psf_max_value`` are set in place.
    exposure : Exposure
        Background-subtracted; its ``psf`` is replaced.
    config : MeasurePsfConfig
        Selection and model.
    sky_sigma : float, optional
        Clipped standard deviation of the image, counts; found by a pass over it where it is not known.

    Returns
    -------
    MeasurePsfResult
        The PSF and its numbers.

    Raises
    ------
    ObjectSizeNoSourcesError, ObjectSizeNoGoodSourcesError
        Nothing to select stars from.
    PsfexNoStarsError, PsfexNoGoodStarsError, PsfexTooFewGoodStarsError
        Too few stars for the model.
    PiffTooFewGoodStarsError
        The same for Piff.
    MissingPackageError
        The determiner is piff and the package is not installed.
    NonfinitePsfShapeError
        The model has no finite size.
    """
    stars = select_stars(catalog, config.star_selector)
    candidates = make_psf_candidates(exposure, catalog, stars, config.make_psf_candidates)
    reserved = reserve_sources(len(candidates), config.reserve)
    catalog["calib_psf_candidate"] = False
    catalog["calib_psf_candidate"][candidates] = True
    catalog["calib_psf_reserved"] = False
    catalog["calib_psf_reserved"][candidates[reserved]] = True
    catalog["calib_psf_used"] = False
    available = candidates[~reserved]
    psf, used, chi2 = _determined(exposure, catalog, available, config.determiner, sky_sigma)
    catalog["calib_psf_used"][used] = True
    size = psf.determinant_radius()
    if not np.isfinite(size):
        raise NonfinitePsfShapeError("the fitted PSF has no finite size", psf_size=size)
    exposure.psf = psf
    x, y = psf.average_position
    return MeasurePsfResult(psf, len(available), len(used), x, y, chi2)


def _determined(
    exposure: Exposure,
    catalog: SourceCatalog,
    stars: NDArray[np.intp],
    config: PsfexDeterminerConfig | PiffDeterminerConfig,
    sky_sigma: float | None,
) -> tuple[Psf, NDArray[np.intp], float]:
    if config.name == "piff":
        return piff.determine_psf(exposure, catalog, stars, config)
    psf, used = determine_psf(exposure, catalog, stars, config, sky_sigma=sky_sigma)
    return psf, used, float("nan")


def reserve_sources(n: int, config: ReserveSourcesConfig) -> NDArray[np.bool_]:
    """Random choice of the configured fraction of ``n`` stars."""
    reserved = np.zeros(n, np.bool_)
    reserved[: round(n * config.fraction)] = True
    np.random.RandomState(config.seed & 0xFFFFFFFF).shuffle(reserved)
    return reserved
