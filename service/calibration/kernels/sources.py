"""What is measured of a source at its centroid, while it alone is visible."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from service.calibration.kernels.adaptive_moments import SourceMoments, measure_source_moments, moments_work
from service.calibration.kernels.fluxes import (
    ApertureFluxes,
    PsfFluxes,
    PsfStamps,
    TophatFluxes,
    measure_aperture_fluxes,
    measure_gaussian_flux,
    measure_psf_flux,
    measure_tophat_fluxes,
)
from service.calibration.kernels.noise_replacement import NoiseReplacedPlane, hide_source, show_source

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["measure_sources"]


@njit(cache=True, nogil=True, error_model="numpy")
def measure_sources(
    plane: NoiseReplacedPlane,
    variance: NDArray[np.float32],
    mask: NDArray[np.int32],
    rows: NDArray[np.int64],
    stamps: PsfStamps,
    centers: NDArray[np.float64],
    moments: SourceMoments,
    apertures: ApertureFluxes,
    tophats: TophatFluxes,
    shapes: NDArray[np.float64],
    gaussians: NDArray[np.float64],
    psf_fluxes: PsfFluxes,
) -> None:
    """Measure some sources, each with its neighbours hidden: its pixels come into the cache once.

    Parameters
    ----------
    plane : NoiseReplacedPlane
        Image and footprints, array coordinates.
    variance : ndarray of float32, shape (h, w)
        Counts squared.
    mask : ndarray of int32, shape (h, w)
        Mask plane.
    rows : ndarray of int64, shape (m,)
        Sources in the order in which they are measured; ``stamps`` belong to them, what follows covers the catalogue.
    stamps : PsfStamps
        The PSF at the sources.
    centers : ndarray of float64, shape (n, 2)
        Positions, array coordinates.
    moments, apertures, tophats, psf_fluxes
        Filled.
    shapes : ndarray of float64, shape (n, 3)
        Second moments for those sources that have no new ones, else overwritten; px^2.
    gaussians : ndarray of float64, shape (n, 2)
        Filled by `measure_gaussian_flux`.
    """
    image, work = plane.work, moments_work()
    for k in range(len(rows)):
        i = rows[k]
        x, y = centers[i, 0], centers[i, 1]
        show_source(plane, i)
        measure_source_moments(image, mask, moments, i, x, y, work)
        if np.isfinite(moments.values[i, 2]):
            shapes[i] = moments.values[i, 2:]
        measure_aperture_fluxes(image, variance, apertures, i, x, y)
        measure_tophat_fluxes(image, variance, mask, tophats, i, x, y)
        measure_gaussian_flux(image, variance, shapes[i], x, y, gaussians[i])
        measure_psf_flux(image, variance, mask, psf_fluxes, i, stamps.images[k], stamps.x0[k], stamps.y0[k])
        hide_source(plane, i)
