"""Blends too large for the deblender, cut along their valleys into parts that it can take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.calibration.detection import smoothing_kernel
from service.calibration.kernels.blend_parts import brightest_first, flooded_parts
from service.calibration.kernels.smoothing import correlate_separable
from service.exposure.footprint import FootprintSet

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.deblend import DeblendConfig
    from service.exposure.exposure import Exposure

__all__ = ["split_big_blends"]

_KERNEL_SIGMAS = 5.0  # width of the smoothing stamp
_ROUNDS = 4  # in each, parts that came out too large are cut with half the limit


def split_big_blends(footprints: FootprintSet, exposure: Exposure, config: DeblendConfig) -> FootprintSet:
    """Cut footprints with several peaks that are larger than the deblender takes.

    The image, smoothed by the PSF, is flooded from its brightest pixels down: the parts around two peaks grow together
    where they meet, unless they are too large then, and what lies between goes to the part that reaches it first. So
    the cuts follow the faintest valleys. Each part is a footprint of its own, in the place of the one it was cut from.

    Parameters
    ----------
    footprints : FootprintSet
        Detections, without pixel values.
    exposure : Exposure
        Background-subtracted counts with a PSF.
    config : DeblendConfig
        ``max_footprint_area`` and ``split_big_parents``.

    Returns
    -------
    FootprintSet
        The same set where nothing is to be cut.

    Notes
    -----
    Has no counterpart upstream, where such a blend is skipped and stays one source.
    """
    limit = config.max_footprint_area
    if not config.split_big_parents or limit == 0 or exposure.psf is None:
        return footprints
    big = np.flatnonzero((footprints.areas > limit) & (footprints.n_peaks > 1))
    sigma = exposure.psf.determinant_radius()
    if not big.size or not (np.isfinite(sigma) and sigma > 0):
        return footprints
    pieces, after = [], 0
    for row in big.tolist():
        pieces += [
            footprints.select(np.arange(after, row)),
            _cut(footprints.select(np.array([row])), exposure, sigma, limit),
        ]
        after = row + 1
    return FootprintSet.concatenate([*pieces, footprints.select(np.arange(after, len(footprints)))])


def _cut(blend: FootprintSet, exposure: Exposure, sigma: float, limit: int) -> FootprintSet:
    """Parts of one blend, from bottom to top."""
    x0, y0, x1, y1 = (int(value) for value in blend.boxes[0])
    masked = exposure.masked_image
    part = np.s_[y0 - masked.y0 : y1 + 1 - masked.y0, x0 - masked.x0 : x1 + 1 - masked.x0]
    image = np.pad(masked.image[part], 1)
    smooth = np.empty_like(image)
    correlate_separable(image, smoothing_kernel(sigma, _KERNEL_SIGMAS).astype(np.float32), 0, smooth)
    np.copyto(smooth, image, where=np.isnan(smooth))  # the rim that the kernel cannot reach
    origin = np.array([x0 - 1, y0 - 1], np.int32)
    parts = blend
    for step in range(_ROUNDS):
        too_big = (parts.areas > limit) & (parts.n_peaks > 1)
        if not too_big.any():
            break
        cut = [
            _flooded(parts.select(np.array([i])), smooth, origin, limit >> (step + 1)) for i in np.flatnonzero(too_big)
        ]
        parts = FootprintSet.concatenate([parts.select(~too_big), *cut])
    return parts.select(np.argsort(parts.spans[parts.span_offsets[:-1], 0], kind="stable"))


def _flooded(blend: FootprintSet, smooth: NDArray[np.float32], origin: NDArray[np.int32], limit: int) -> FootprintSet:
    """Parts of one blend; none reaches the border of the smoothed image."""
    x0, y0, x1, y1 = (int(value) for value in blend.boxes[0] - np.tile(origin, 2))
    smooth, origin = (
        np.ascontiguousarray(smooth[y0 - 1 : y1 + 2, x0 - 1 : x1 + 2]),
        origin + np.array([x0 - 1, y0 - 1], np.int32),
    )
    x, y = (blend.peaks - origin).T
    is_peak = np.zeros(smooth.shape, bool)
    is_peak[y, x] = True
    labels = flooded_parts(brightest_first(smooth, blend.spans - origin[[1, 0, 0]]), is_peak, limit)
    owner = labels[y, x]
    wanted = np.unique(owner[owner >= 0])
    part_spans, span_offsets = _runs(labels, wanted, origin)
    peak_order = np.argsort(owner, kind="stable")
    peak_order = peak_order[owner[peak_order] >= 0]
    return FootprintSet.build(
        part_spans,
        span_offsets,
        peaks=blend.peaks[peak_order],
        peak_values=blend.peak_values[peak_order],
        peak_significance=blend.peak_significance[peak_order],
        peak_offsets=np.searchsorted(owner[peak_order], np.append(wanted, np.iinfo(np.int32).max)),
    )


def _runs(
    labels: NDArray[np.int32], wanted: NDArray[np.int32], origin: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Runs ``y, x0, x1`` of equal labels, label by label, in the parent frame, and where each label's begin."""
    change = labels[:, 1:] != labels[:, :-1]  # the border has no label
    y, x0 = np.nonzero(change & (labels[:, 1:] >= 0))
    x1 = np.nonzero(change & (labels[:, :-1] >= 0))[1]
    label = labels[y, x0 + 1]
    order = np.argsort(label, kind="stable")
    order = order[np.isin(label[order], wanted)]
    spans = np.stack([y + origin[1], x0 + 1 + origin[0], x1 + origin[0]], axis=1)[order].astype(np.int32)
    return spans, np.searchsorted(label[order], np.append(wanted, np.iinfo(np.int32).max))
