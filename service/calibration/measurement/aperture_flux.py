"""base_CircularApertureFlux: counts of whole pixels in circles, or of band-limited small circles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.calibration.kernels.fluxes import ApertureFluxes
from service.calibration.kernels.sinc_aperture import measure_sinc_fluxes
from service.calibration.measurement.columns import aperture_column
from service.calibration.measurement.walk import walk
from service.exposure.psf.aperture import sinc_aperture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.measurement import CircularApertureFluxConfig
    from service.calibration.kernels.noise_replacement import NoiseReplacedPlane
    from service.calibration.measurement.context import MeasurementContext

__all__ = ["allocate_apertures", "measure_sinc_apertures", "write_apertures"]

_LEAST_HALF = {True: 16, False: 8}  # width of the weights; the shift leaves a rim of 5 pixels as it is


def _radii(context: MeasurementContext, config: CircularApertureFluxConfig, *, sinc: bool) -> list[float]:
    """Radii that the catalogue has columns for."""
    radii = (radius for radius in config.radii if context.has(f"{aperture_column(radius)}_instFlux"))
    return [radius for radius in radii if (radius <= config.max_sinc_radius) == sinc]


def allocate_apertures(context: MeasurementContext, config: CircularApertureFluxConfig) -> ApertureFluxes:
    """Room for the fluxes in circles without fractional pixels.

    Method: Rubin CircularApertureFlux. Radii above ``max_sinc_radius`` are naive sums without fractional pixels, the
    others sums with band-limited weights. There is no value where the circle is cut by the image border.
    """
    radii = np.array(_radii(context, config, sinc=False), dtype=np.float64)
    return ApertureFluxes(radii, np.full((len(context.catalog), len(radii), 2), np.nan))


def write_apertures(context: MeasurementContext, apertures: ApertureFluxes) -> None:
    """Fill flux and error in counts for every radius."""
    for k, radius in enumerate(apertures.radii.tolist()):
        _write(context, radius, apertures.values[:, k])


def measure_sinc_apertures(context: MeasurementContext, config: CircularApertureFluxConfig) -> None:
    """Fill flux and error in counts for every radius with band-limited weights."""
    for radius in _radii(context, config, sinc=True):
        values, clipped = _sinc_fluxes(context, radius, sinc_aperture(radius, _LEAST_HALF[config.pad_small_circles]))
        _write(context, radius, values)
        context.set_flag(f"{aperture_column(radius)}_flag_sincCoeffsTruncated", clipped)


def _sinc_fluxes(
    context: MeasurementContext, radius: float, weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Fluxes and errors in a circle, and where weights lie off the image."""
    centers, variance = context.centers() - context.origin, context.masked_image.variance
    values, clipped = np.full((len(centers), 2), np.nan), np.zeros(len(centers), bool)

    def measure(plane: NoiseReplacedPlane, rows: NDArray[np.int64]) -> None:
        measure_sinc_fluxes(plane, variance, rows, centers, radius, weights, values, clipped)

    walk(context, centers, len(weights) / 2.0 + 1.0, measure)
    return values, clipped


def _write(context: MeasurementContext, radius: float, values: NDArray[np.float64]) -> None:
    name = aperture_column(radius)
    truncated = np.isnan(values[:, 1])
    failed = truncated | ~np.isfinite(values[:, 0])
    context.set_value(f"{name}_instFlux", values[:, 0])
    context.set_value(f"{name}_instFluxErr", values[:, 1])
    context.set_flag(f"{name}_flag", failed | context.catalog["slot_Centroid_flag"])
    context.set_flag(f"{name}_flag_apertureTruncated", truncated)
