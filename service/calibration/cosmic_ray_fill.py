"""Values that replace cosmic-ray pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.calibration.kernels.cosmic_ray_fill import predict_pixels
from service.calibration.kernels.normal_noise import draw_noise, ziggurat_tables

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.cosmic_rays import CosmicRayConfig
    from service.exposure.masked_image import MaskedImage

__all__ = ["fill_pixels"]


def fill_pixels(
    masked: MaskedImage,
    pixels: NDArray[np.int64],
    offsets: NDArray[np.int64],
    background: float,
    bad: np.int32,
    config: CosmicRayConfig,
) -> None:
    """Replace pixels of the image in place; mask and variance stay.

    ``fill="noise"``: the background plus normal noise of the pixel's own variance, groups in reverse order, as
    upstream does. ``fill="lpc"``: see `predict_pixels`; noise only where nothing good is in reach.

    Parameters
    ----------
    masked : MaskedImage
        The pixels have the plane CR.
    pixels, offsets : ndarray of int64
        Flat indices of the pixels of each group.
    background : float
        Counts.
    bad : int32
        Bits of pixels that are no good neighbours, besides CR.
    config : CosmicRayConfig
        Kind of fill and seed.
    """
    sizes = np.diff(offsets)
    order = np.argsort(np.repeat(-np.arange(len(sizes)), sizes), kind="stable")
    pixels = pixels[order]
    variance = np.maximum(masked.variance.ravel()[pixels], 0)
    noise = (background + np.sqrt(variance) * _deviates(pixels.size, config.seed)).astype(np.float32)
    if config.fill == "lpc":
        unusable = np.int32(bad | masked.planes.bitmask(["CR"]))
        predicted = predict_pixels(masked.image, masked.mask, masked.variance, pixels, background, unusable)
        noise = np.where(np.isnan(predicted), noise, predicted)
    masked.image.ravel()[pixels] = noise


def _deviates(n: int, seed: int) -> NDArray[np.float32]:
    """Unit normal deviates in the order of upstream's generator, which draws them one by one."""
    spans = np.array([[0, 0, n - 1]], np.int32)
    offsets = np.array([0, 1], np.int64)
    state = np.random.RandomState(seed).get_state(legacy=False)["state"]["key"]
    return draw_noise(
        spans, offsets, n * offsets, np.array(state, dtype=np.uint32), *ziggurat_tables(), np.float32(0), np.float32(1)
    )
