"""The image in which every source is hidden behind noise, for a while."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from service.calibration.kernels.noise_replacement import (
    NoiseReplacedPlane,
    footprint_pixels,
    hide_sources,
    restore_sources,
)
from service.calibration.kernels.normal_noise import draw_noise, ziggurat_tables
from service.calibration.statistics import plane_statistics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.calibration.config.measurement import NoiseReplacerConfig
    from service.calibration.statistics import ClippedStatistics
    from service.exposure.footprint import FootprintSet
    from service.exposure.masked_image import MaskedImage

__all__ = ["noise_replaced_plane", "plain_plane"]


@contextmanager
def noise_replaced_plane(
    masked_image: MaskedImage, footprints: FootprintSet, config: NoiseReplacerConfig
) -> Iterator[tuple[NoiseReplacedPlane, ClippedStatistics]]:
    """Make all footprints of the image noise, for a while: the plane, and the statistics of the image in counts.

    The image itself is changed, as a second one would take much memory, and is afterwards what it was.

    The noise is that of the whole image, masked pixels included. Deviates come from one stream in catalogue order, the
    same as upstream's for the same footprints.

    Method: Rubin NoiseReplacer with ``noiseSource = "measure"``.
    """
    pixels = plane_statistics(masked_image.image)
    noise_offsets = np.concatenate([[0], np.cumsum(footprints.areas)]).astype(np.int64)
    state = np.random.RandomState(config.seed).get_state(legacy=False)["state"]["key"]
    plane = plain_plane(masked_image, footprints)
    noise = draw_noise(
        plane.spans,
        plane.span_offsets,
        noise_offsets,
        np.array(state, dtype=np.uint32),
        *ziggurat_tables(),
        np.float32(pixels.mean + config.noise_offset),
        np.float32(pixels.stdev if np.isfinite(pixels.stdev) else 0.0),
    )
    originals = footprint_pixels(masked_image.image, plane.spans, len(noise))
    plane = plane._replace(noise=noise, originals=originals, noise_offsets=noise_offsets, replaced=True)
    try:
        hide_sources(plane, np.arange(len(footprints)))
        yield plane, pixels
    finally:
        restore_sources(plane)


def plain_plane(masked_image: MaskedImage, footprints: FootprintSet) -> NoiseReplacedPlane:
    """The image as it is, with every source visible all the time."""
    origin = np.array([masked_image.y0, masked_image.x0, masked_image.x0], np.int32)
    return NoiseReplacedPlane(
        work=masked_image.image,
        spans=footprints.spans - origin,
        span_offsets=footprints.span_offsets,
        pixels=footprints.pixels,
        pixel_offsets=footprints.pixel_offsets,
        noise=np.zeros(0, np.float32),
        originals=np.zeros(0, np.float32),
        noise_offsets=np.zeros(len(footprints) + 1, np.int64),
        replaced=False,
    )
