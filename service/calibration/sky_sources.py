"""Apertures on empty sky."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import qmc

from service.calibration.kernels.footprints import dilated
from service.calibration.kernels.sky_discs import accepted_discs
from service.exposure.footprint import FootprintSet

if TYPE_CHECKING:
    from service.calibration.config.sky_sources import SkySourcesConfig
    from service.exposure.masked_image import MaskedImage

__all__ = ["find_sky_footprints"]


def find_sky_footprints(masked_image: MaskedImage, config: SkySourcesConfig, seed: int) -> FootprintSet:
    """Discs of equal size that overlap neither masked pixels nor one another.

    Parameters
    ----------
    masked_image : MaskedImage
        Its mask tells what to avoid.
    config : SkySourcesConfig
        How many and how large.
    seed : int
        At least 0: seed of the quasi-random positions, upstream the catalogue id.

    Returns
    -------
    FootprintSet
        At most ``config.n_sources`` discs with one peak (value 0) at the centre, in the order of the positions tried.

    Notes
    -----
    Method: Rubin SkyObjectsTask: a scrambled Halton sequence over the box, thinned; accepted discs keep their radius
    apart from one another.
    """
    radius = int(config.source_radius)
    box = masked_image.bbox.grown(-(radius + 1))
    if config.n_sources == 0 or box.width < 1 or box.height < 1:
        return FootprintSet.empty()
    n_trials = config.n_trial_sources
    if n_trials is None:
        n_trials = config.n_trial_sources_multiplier * config.n_sources
    # with the keyword rng SciPy would spawn a child generator: another sequence than upstream's
    quantiles = qmc.Halton(d=2, scramble=True, seed=seed).random(n_trials)
    # truncated within the box: the same positions wherever its origin is
    x = box.x0 + (quantiles[:, 0] * (box.x1 - box.x0)).astype(np.int64)
    y = box.y0 + (quantiles[:, 1] * (box.y1 - box.y0)).astype(np.int64)
    size = 2 * radius + 1
    disc = dilated(np.array([[radius, radius, radius]], np.int32), size, size, radius)[:, :3]
    disc -= np.int32(radius)
    tried = np.stack([x - masked_image.x0, y - masked_image.y0], axis=1)
    avoid = np.int32(masked_image.planes.bitmask(config.avoid_mask))
    taken = np.zeros(masked_image.shape, np.bool_)
    accepted = accepted_discs(masked_image.mask, avoid, taken, disc, tried, radius, config.grow_mask, config.n_sources)
    centers = np.stack([x, y], axis=1)[accepted].astype(np.int32)
    spans = disc[None] + centers[:, None, [1, 0, 0]]
    n = len(centers)
    return FootprintSet.build(
        spans.reshape(-1, 3),
        np.arange(n + 1) * len(disc),
        peaks=centers,
        peak_values=np.zeros(n, np.float32),
        peak_significance=np.zeros(n, np.float32),
        peak_offsets=np.arange(n + 1),
    )
