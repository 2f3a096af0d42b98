"""base_SdssCentroid: positions from the peak of the PSF-smoothed image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.calibration.kernels.centroid import CENTROID_FLAGS, NARROW_SIZE, measure_centroids
from service.calibration.measurement.walk import walk
from service.exposure.psf import determinant_radii

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.measurement import SdssCentroidConfig
    from service.calibration.kernels.noise_replacement import NoiseReplacedPlane
    from service.calibration.measurement.context import MeasurementContext
    from service.exposure.psf import Psf

__all__ = ["measure_sdss_centroid"]

_LARGEST = float(np.finfo(np.float32).max)  # an error beyond it says nothing
_NAME = "base_SdssCentroid"


def measure_sdss_centroid(context: MeasurementContext, config: SdssCentroidConfig) -> None:
    """Fill the ``base_SdssCentroid`` columns.

    Each source is looked for at the centroid that its row already holds, or at its first peak. A failed measurement
    leaves that position with flags set. Errors are float32, 1 sigma, px.

    Method: Rubin SdssCentroid; errors by linear propagation of the variances, or as there.
    """
    peaks = context.first_peaks()
    start = _start_positions(context, peaks)
    values = np.full((len(start), 4), np.nan)
    flags = np.zeros((len(start), len(CENTROID_FLAGS)), bool)
    pixels = np.floor(context.psf_positions(start)[0] + 0.5)

    def measure(plane: NoiseReplacedPlane, rows: NDArray[np.int64]) -> None:
        pixel = pixels[rows]
        context.psf_shapes[rows] = context.psf.shapes(pixel[:, 0], pixel[:, 1])
        sigmas = determinant_radii(context.psf_shapes[rows])
        kernels = context.psf.kernel_images(pixel[:, 0], pixel[:, 1])
        context.invalid_psf[rows] |= ~np.isfinite(sigmas)
        measure_centroids(
            plane,
            context.masked_image.variance,
            rows,
            kernels,
            sigmas,
            start - context.origin,
            peaks - context.origin,
            config.binmax,
            config.wfac,
            config.peak_min,
            config.max_dist_to_peak if config.max_dist_to_peak >= 0.0 else np.inf,
            config.do_footprint_check,
            config.errors == "upstream",
            values,
            flags,
        )

    walk(context, start - context.origin, _reach(context.psf, config), measure)
    context.set_value(f"{_NAME}_x", values[:, 0] + context.origin[0])
    context.set_value(f"{_NAME}_y", values[:, 1] + context.origin[1])
    endless = values[:, 2:] > _LARGEST
    values[:, 2:][endless] = np.nan
    for name in ("flag", "flag_badError"):
        flags[:, CENTROID_FLAGS.index(name)] |= endless.any(axis=1)
    context.catalog[f"{_NAME}_xErr"] = values[:, 2]  # never an earlier pass's
    context.catalog[f"{_NAME}_yErr"] = values[:, 3]
    for k, name in enumerate(CENTROID_FLAGS):
        context.set_flag(f"{_NAME}_{name}", flags[:, k])


def _start_positions(context: MeasurementContext, peaks: NDArray[np.float64]) -> NDArray[np.float64]:
    previous = np.column_stack([context.catalog[f"{_NAME}_x"], context.catalog[f"{_NAME}_y"]])
    return np.where(np.isfinite(previous).all(axis=1, keepdims=True), previous, peaks)


def _reach(psf: Psf, config: SdssCentroidConfig) -> float:
    """Rows above and below a pixel that the largest bins of a correlation with the PSF cover."""
    return config.binmax * (max(psf.height, NARROW_SIZE) // 2 + 3.0)
