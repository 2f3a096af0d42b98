"""The plane in which every source is hidden behind noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.calibration.kernels.image_statistics import clipped_moments, order_statistics
from service.calibration.kernels.noise_replacement import NoiseReplacedPlane, draw_noise, hide_sources, ziggurat_tables

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.measurement import NoiseReplacerConfig
    from service.exposure.footprint import FootprintSet
    from service.exposure.masked_image import MaskedImage

__all__ = ["clipped_mean_std", "noise_replaced_plane", "plain_plane"]

_CLIP = 3.0
_PASSES = 3
_IQR_TO_SIGMA = 0.741301


def clipped_mean_std(image: NDArray[np.float32]) -> tuple[float, float]:
    """Clipped mean and standard deviation of the finite pixels of a plane.

    Method: Rubin MEANCLIP; the first pass clips at 3 sigma (from the quartiles) about the median, two more at 3
    standard deviations about the mean, each from all pixels.

    Parameters
    ----------
    image : ndarray of float32
        Any shape, contiguous.

    Returns
    -------
    mean, std : float
        NaN where there are no two finite pixels.
    """
    words = np.ascontiguousarray(image, np.float32).reshape(-1).view(np.uint32)
    q1, median, q3 = order_statistics(words, np.array([0.25, 0.5, 0.75]))
    center, sigma = float(median), _IQR_TO_SIGMA * float(q3 - q1)
    rows = np.atleast_2d(image)
    for _ in range(_PASSES):
        n, center, variance = clipped_moments(rows, center - _CLIP * sigma, center + _CLIP * sigma)
        if n < 2:
            return center, np.nan
        sigma = float(np.sqrt(variance))
    return center, sigma


def noise_replaced_plane(
    masked_image: MaskedImage, footprints: FootprintSet, config: NoiseReplacerConfig
) -> tuple[NoiseReplacedPlane, float, float]:
    """Copy of the image in which all footprints are noise, and the mean and sigma of that noise in counts.

    The noise is that of the whole image, masked pixels included. Deviates come from one stream in catalogue order, the
    same as upstream's for the same footprints.

    Method: Rubin NoiseReplacer with ``noiseSource = "measure"``.
    """
    mean, sigma = clipped_mean_std(masked_image.image)
    noise_offsets = np.concatenate([[0], np.cumsum(footprints.areas)]).astype(np.int64)
    state = np.random.RandomState(config.seed).get_state(legacy=False)["state"]["key"]
    plane = plain_plane(masked_image, footprints)
    noise = draw_noise(
        plane.spans,
        plane.span_offsets,
        noise_offsets,
        np.array(state, dtype=np.uint32),
        *ziggurat_tables(),
        np.float32(mean + config.noise_offset),
        np.float32(sigma if np.isfinite(sigma) else 0.0),
    )
    plane = plane._replace(work=masked_image.image.copy(), noise=noise, noise_offsets=noise_offsets, replaced=True)
    hide_sources(plane, np.arange(len(footprints)))
    return plane, mean, sigma


def plain_plane(masked_image: MaskedImage, footprints: FootprintSet) -> NoiseReplacedPlane:
    """The image as it is, with every source visible all the time."""
    origin = np.array([masked_image.y0, masked_image.x0, masked_image.x0], np.int32)
    return NoiseReplacedPlane(
        work=masked_image.image,
        image=masked_image.image,
        spans=footprints.spans - origin,
        span_offsets=footprints.span_offsets,
        pixels=footprints.pixels,
        pixel_offsets=footprints.pixel_offsets,
        noise=np.zeros(0, np.float32),
        noise_offsets=np.zeros(len(footprints) + 1, np.int64),
        replaced=False,
    )
