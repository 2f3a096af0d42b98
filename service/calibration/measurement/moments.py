"""ext_shapeHSM: adaptive moments of the sources and of the PSF."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service import threads
from service.calibration.kernels.adaptive_moments import MOMENTS_FLAGS, SourceMoments, measure_psf_moments
from service.exposure.psf import trace_radii

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.measurement import HsmMomentsConfig
    from service.calibration.measurement.context import MeasurementContext

__all__ = ["allocate_source_moments", "measure_hsm_psf_moments", "write_source_moments"]

_COLUMNS = ("x", "y", "xx", "yy", "xy")


def allocate_source_moments(context: MeasurementContext, config: HsmMomentsConfig) -> SourceMoments:
    """Room for the moments of the sources; the stamp is the bounding box of the footprint.

    Method: Hirata and Seljak (2003) adaptive moments.
    """
    n = len(context.catalog)
    offset = np.tile(context.origin.astype(np.int32), 2)
    boxes = np.tile(np.array([0, 0, -1, -1], np.int32), (n, 1))
    if context.catalog.footprints is not None:
        boxes = context.catalog.footprints.boxes
    return SourceMoments(
        bad_bits=context.masked_image.planes.bitmask(config.bad_mask_planes),
        boxes=np.where((boxes[:, 2:] < boxes[:, :2]).any(axis=1, keepdims=True), boxes, boxes - offset),
        sigmas=config.start_factor * trace_radii(context.psf_shapes),
        precision=config.precision,
        values=np.full((n, len(_COLUMNS)), np.nan),
        flags=np.zeros((n, len(MOMENTS_FLAGS)), bool),
    )


def write_source_moments(context: MeasurementContext, moments: SourceMoments, config: HsmMomentsConfig) -> None:
    """Fill the ``ext_shapeHSM_HsmSourceMoments`` columns."""
    moments.values[:, :2] += context.origin
    _write(context, "ext_shapeHSM_HsmSourceMoments", moments.values, moments.flags, config)


def measure_hsm_psf_moments(context: MeasurementContext, config: HsmMomentsConfig) -> None:
    """Fill the ``ext_shapeHSM_HsmPsfMoments`` columns: moments of the PSF's centred image at each source."""
    centers, _ = context.psf_positions(context.centers())
    sigmas = trace_radii(context.psf_shapes)
    values = np.full((len(centers), len(_COLUMNS)), np.nan)
    flags = np.zeros((len(centers), len(MOMENTS_FLAGS)), bool)

    def measure(rows: NDArray[np.int64]) -> None:
        stamps = context.psf.kernel_images(centers[rows, 0], centers[rows, 1])
        measure_psf_moments(rows, stamps, sigmas, config.precision, values, flags)

    threads.each(measure, context.chunks())
    _write(context, "ext_shapeHSM_HsmPsfMoments", values, flags, config)


def _write(
    context: MeasurementContext,
    name: str,
    values: NDArray[np.float64],
    flags: NDArray[np.bool_],
    config: HsmMomentsConfig,
) -> None:
    flags[:, 0] |= context.catalog["slot_Centroid_flag"]
    for k, column in enumerate(_COLUMNS):
        context.set_value(f"{name}_{column}", values[:, k])
    for k, column in enumerate(MOMENTS_FLAGS):
        context.set_flag(f"{name}_{column}", flags[:, k] & (config.flag_galsim or column != "flag_galsim"))
