"""base_PixelFlags: mask planes over the footprint and at the centre."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.calibration.kernels.pixel_flags import collect_mask_bits
from service.exposure.star_schema import PIXEL_FLAG_PLANES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.measurement import PixelFlagsConfig
    from service.calibration.measurement.context import MeasurementContext

__all__ = ["measure_pixel_flags"]

_NAME = "base_PixelFlags_flag"


def measure_pixel_flags(context: MeasurementContext, config: PixelFlagsConfig) -> None:
    """Fill the ``base_PixelFlags`` flags.

    Off the image ``offimage``, ``edge``, ``edgeCenter`` and ``edgeCenterAll`` are set.

    Method: Rubin PixelFlags.
    """
    image = context.masked_image
    centers = context.centers()
    bits = np.zeros((len(centers), 3), np.int32)
    off_image = np.zeros(len(centers), bool)
    collect_mask_bits(
        image.mask, context.plane.spans, context.plane.span_offsets, centers - context.origin, bits, off_image
    )
    context.set_flag(_NAME, np.asarray(np.isnan(centers).any(axis=1)))
    context.set_flag(f"{_NAME}_offimage", off_image)
    anywhere = PIXEL_FLAG_PLANES | {plane.lower(): plane for plane in config.masks_fp_anywhere}
    central = PIXEL_FLAG_PLANES | {plane.lower(): plane for plane in config.masks_fp_center}
    for name, plane in anywhere.items():
        context.set_flag(f"{_NAME}_{name}", _has(bits[:, 0], image.planes.bitmask([plane])) | _edge(name, off_image))
    for name, plane in central.items():
        bit = image.planes.bitmask([plane])
        context.set_flag(f"{_NAME}_{name}Center", _has(bits[:, 1], bit) | _edge(name, off_image))
        context.set_flag(f"{_NAME}_{name}CenterAll", _has(bits[:, 2], bit) | _edge(name, off_image))


def _has(values: NDArray[np.int32], bit: int) -> NDArray[np.bool_]:
    return np.asarray((values & np.int32(bit)) != 0)


def _edge(name: str, off_image: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return off_image if name == "edge" else np.zeros_like(off_image)
