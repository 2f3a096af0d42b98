"""Taking blends apart: one child for each peak of a footprint."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from service import threads
from service.calibration.deblend_fits import Blends, fitted_stamps
from service.calibration.kernels.deblend import POINT_SOURCE, split_blends
from service.calibration.kernels.footprints import counted_bits, painted_bits
from service.calibration.statistics import plane_median
from service.exposure.catalog import SourceCatalog
from service.exposure.footprint import FootprintSet
from service.exposure.psf import determinant_radii

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.deblend import DeblendConfig
    from service.exposure.exposure import Exposure
    from service.exposure.ids import IdGenerator
    from service.exposure.masked_image import MaskedImage
    from service.exposure.psf import Psf

__all__ = ["FWHM_OF_RADIUS", "deblend"]

_logger = logging.getLogger(__name__)

FWHM_OF_RADIUS = 2.35
_NOISE_PLANES = ("SAT", "INTRP", "NO_DATA")
_PEAKS_AT_ONCE = 256  # PSF stamps that a thread holds in memory; few, so that there is enough to share among threads


@dataclass(slots=True)
class _Split:
    """Children of some parents and the parents' new footprints, parent frame."""

    rows: NDArray[np.intp]
    unions: FootprintSet
    children: FootprintSet
    parent_row: NDArray[np.intp]  # of each child, as are the following
    peak_index: NDArray[np.int64]
    is_point_source: NDArray[np.bool_]
    psf_center: NDArray[np.float64]
    psf_flux: NDArray[np.float64]
    ramped: NDArray[np.bool_]
    last_peak_failed: NDArray[np.bool_]  # of each parent


@dataclass(slots=True)
class _Scene:
    """What the deblending of any parent needs."""

    footprints: FootprintSet
    masked: MaskedImage
    psf: Psf
    config: DeblendConfig
    bright: float  # counts that an edge of a template must not reach


def deblend(catalog: SourceCatalog, exposure: Exposure, config: DeblendConfig, ids: IdGenerator) -> SourceCatalog:
    """Split footprints with several peaks into one child a peak.

    Parents keep their rows, with the union of their children as their new footprint; children follow behind all
    parents, with footprints that own their share of the pixels. A parent that is too large, masked, or fails is
    flagged and stays as one source.

    Parameters
    ----------
    catalog : SourceCatalog
        Detected sources with footprints and ids.
    exposure : Exposure
        Background-subtracted counts with a PSF; the plane of skipped parents is added to its mask.
    config : DeblendConfig
        Settings.
    ids : IdGenerator
        Gives the children's ids.

    Returns
    -------
    SourceCatalog
        Parents, then children, by id.

    Raises
    ------
    ValueError
        The catalogue has no footprints or the exposure no PSF; or, without ``config.catch_failures``, a parent has no
        usable PSF.

    Notes
    -----
    Method: the deblender of the SDSS pipeline as Rubin's SourceDeblendTask runs it. Children of one parent share its
    pixels without loss. ``deblend_peakId`` numbers the peaks of all footprints of ``catalog`` from 1 on.
    """
    footprints = catalog.footprints
    if footprints is None or exposure.psf is None:
        raise ValueError("deblending needs footprints and a PSF")
    result = catalog.copy()
    n_peaks = footprints.n_peaks
    rows = np.flatnonzero(n_peaks > 1)
    rows = rows[~_skip_parents(result, footprints, exposure, config, rows)]
    radius = _psf_radii(exposure.psf, footprints, rows)
    usable = np.isfinite(radius) & (radius > 0)
    if not usable.all() and not config.catch_failures:
        raise ValueError("the PSF has no width at a blended source")
    result["deblend_failed"][rows[~usable]] = True
    limit = config.max_number_of_peaks
    if limit > 0 or config.flag_any_number_of_peaks:
        result["deblend_tooManyPeaks"][rows] = n_peaks[rows] > limit
    scene = _Scene(footprints, exposure.masked_image, exposure.psf, config, np.inf)
    if config.edge_handling == "ramp":
        scene.bright = 3 * _noise_level(exposure.masked_image)
    parts = _in_parts(np.flatnonzero(usable), n_peaks[rows])
    splits = threads.each(lambda part: _split(result, scene, rows[part], FWHM_OF_RADIUS * radius[part]), parts)
    return _assembled(result, footprints, list(chain.from_iterable(splits)), ids)


def _skip_parents(
    catalog: SourceCatalog,
    footprints: FootprintSet,
    exposure: Exposure,
    config: DeblendConfig,
    rows: NDArray[np.intp],
) -> NDArray[np.bool_]:
    """Which parents are too large or masked to be deblended; they are flagged here."""
    masked = exposure.masked_image
    parents = footprints.select(rows)
    too_big, box = _too_big(parents, config), parents.boxes
    hidden = np.zeros(len(rows), bool)
    for plane, limit in config.mask_limits.items():
        if plane in masked.planes:
            spans = parents.spans - np.array([masked.y0, masked.x0, masked.x0], np.int32)
            bad = counted_bits(masked.mask, spans, parents.span_offsets, np.int32(1 << masked.planes[plane]))
            hidden |= bad > limit * parents.areas
    hidden &= ~too_big
    skipped = too_big | hidden
    catalog["deblend_parentTooBig"][rows[too_big]] = True
    catalog["deblend_masked"][rows[hidden]] = True
    catalog["deblend_skipped"][rows[skipped]] = True
    catalog["deblend_nPeaks"][rows[skipped]] = parents.n_peaks[skipped]
    width, height = box[:, 2] - box[:, 0] + 1, box[:, 3] - box[:, 1] + 1
    catalog["deblend_peak_center_x"][rows[skipped]] = (box[:, 0] + width // 2)[skipped]
    catalog["deblend_peak_center_y"][rows[skipped]] = (box[:, 1] + height // 2)[skipped]
    if config.not_deblended_mask:
        _mark_skipped(masked, parents.select(skipped), config.not_deblended_mask)
    return skipped


def _mark_skipped(masked: MaskedImage, parents: FootprintSet, plane: str) -> None:
    try:
        bit = np.int32(1 << masked.planes.add(plane))
    except ValueError:
        _logger.warning("the mask has no bit left for %s: skipped parents are not marked", plane)
        return
    painted_bits(masked.mask, parents.spans - np.array([masked.y0, masked.x0, masked.x0], np.int32), bit)


def _too_big(parents: FootprintSet, config: DeblendConfig) -> NDArray[np.bool_]:
    result = np.zeros(len(parents), bool)
    if config.max_footprint_area > 0:
        result |= parents.areas > config.max_footprint_area
    if config.max_footprint_size > 0:
        box = parents.boxes
        result |= np.maximum(box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]) >= config.max_footprint_size
    if config.min_footprint_axis_ratio > 0:
        _, (xx, yy, xy) = _moments(parents)
        mean, spread = 0.5 * (xx + yy), np.hypot(0.5 * (xx - yy), xy)
        result |= (mean - spread) < config.min_footprint_axis_ratio**2 * (mean + spread)
    return result


def _moments(footprints: FootprintSet) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centroids (n, 2) and second moments (3, n) of the pixels of footprints."""
    y, x0, x1 = footprints.spans.T.astype(np.float64)
    length, middle = x1 - x0 + 1, 0.5 * (x0 + x1)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        total = np.add.reduceat(values * length, footprints.span_offsets[:-1]) if len(footprints) else values[:0]
        return np.asarray(total / footprints.areas)

    x_mean, y_mean = mean(middle), mean(y)
    xx = mean(middle**2 + (length**2 - 1) / 12) - x_mean**2
    return np.stack([x_mean, y_mean], axis=1), np.stack(
        [xx, mean(y**2) - y_mean**2, mean(middle * y) - x_mean * y_mean]
    )


def _psf_radii(psf: Psf, footprints: FootprintSet, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Determinant radius of the PSF at the centroids of footprints, px."""
    center, _ = _moments(footprints.select(rows))
    radii: NDArray[np.float64] = determinant_radii(psf.shapes(center[:, 0], center[:, 1]))
    return radii


def _in_parts(parents: NDArray[np.intp], n_peaks: NDArray[np.int64]) -> list[NDArray[np.intp]]:
    """Consecutive parents, so many that their PSF stamps fit into memory."""
    before = np.cumsum(n_peaks[parents]) - n_peaks[parents]
    return np.split(parents, np.flatnonzero(np.diff(before // _PEAKS_AT_ONCE)) + 1) if len(parents) else []


def _split(catalog: SourceCatalog, scene: _Scene, rows: NDArray[np.intp], fwhm: NDArray[np.float64]) -> list[_Split]:
    """Deblend some parents; those that raise are flagged and left out."""
    try:
        return [_split_blends(_blends(scene, rows, fwhm), scene)]
    except Exception:
        if not scene.config.catch_failures:
            raise
        if len(rows) > 1:  # one bad parent must not stop the rest
            single = [_split(catalog, scene, rows[[i]], fwhm[[i]]) for i in range(len(rows))]
            return [part for parts in single for part in parts]
        _logger.warning("source %d could not be deblended", catalog["id"][rows[0]], exc_info=True)
        catalog["deblend_failed"][rows] = True
        return []


def _blends(scene: _Scene, rows: NDArray[np.intp], fwhm: NDArray[np.float64]) -> Blends:
    footprints, masked, config = scene.footprints, scene.masked, scene.config
    parents = footprints.select(rows)
    counts = parents.n_peaks
    number = np.arange(len(parents.peaks)) - np.repeat(parents.peak_offsets[:-1], counts)
    used = number < (config.max_number_of_peaks or number.size)
    if config.max_number_of_peaks:
        counts = np.minimum(counts, config.max_number_of_peaks)
    return Blends(
        rows=rows,
        spans=parents.spans - np.array([masked.y0, masked.x0, masked.x0], np.int32),
        offsets=parents.span_offsets,
        peaks=(parents.peaks - np.array([masked.x0, masked.y0], np.int32))[used],
        peak_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        peak_index=(np.repeat(footprints.peak_offsets[rows], parents.n_peaks) + number)[used],
        fwhm=fwhm,
    )


def _split_blends(blends: Blends, scene: _Scene) -> _Split:
    footprints, masked = scene.footprints, scene.masked
    stamps = fitted_stamps(blends, masked, scene.psf, scene.config)
    margins = 2 * ((1.5 * blends.fwhm + 0.5) / 2).astype(np.int64) + 1
    edge_psfs, edge_index = _psfs_at_the_border(blends, scene, margins)
    spans, offsets, pixels, pixel_offsets, union_spans, union_offsets, ramped = split_blends(
        masked.image, blends.spans, blends.offsets, blends.peaks, blends.peak_offsets, stamps.kind, stamps.images,
        stamps.origins, stamps.flux, margins, edge_psfs, edge_index, scene.bright,
        scene.config.median_smooth_template,
    )  # fmt: skip
    origin = np.array([masked.y0, masked.x0, masked.x0], np.int32)
    made = np.diff(offsets) > 0
    peak = blends.peak_index
    all_children = FootprintSet.build(
        spans + origin,
        offsets,
        peaks=footprints.peaks[peak],
        peak_values=footprints.peak_values[peak],
        peak_significance=footprints.peak_significance[peak],
        peak_offsets=np.arange(len(peak) + 1),
        pixels=pixels,
        pixel_offsets=pixel_offsets,
    )
    return _Split(
        rows=blends.rows,
        unions=FootprintSet.build(union_spans + origin, union_offsets),
        children=all_children.select(made),
        parent_row=np.repeat(blends.rows, np.diff(blends.peak_offsets))[made],
        peak_index=peak[made],
        is_point_source=(stamps.kind == POINT_SOURCE)[made],
        psf_center=(stamps.centers + np.array([masked.x0, masked.y0]))[made],
        psf_flux=stamps.flux[made],
        ramped=ramped[made],
        last_peak_failed=~made[blends.peak_offsets[1:] - 1],
    )


def _noise_level(masked: MaskedImage) -> float:
    """Square root of the median variance of good pixels, counts."""
    return float(np.sqrt(plane_median(masked.variance, masked.mask, masked.planes.bitmask(_NOISE_PLANES))))


def _psfs_at_the_border(
    blends: Blends, scene: _Scene, margins: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Centred PSFs of the parents whose templates may reach beyond the image, and which parent has which."""
    masked = scene.masked
    height, width = masked.shape
    box = FootprintSet.build(blends.spans, blends.offsets).boxes.astype(np.int64)
    far = 2 * margins  # the region grows once with the parent and once with the template's box
    low = (box[:, :2] < far[:, None]).any(axis=1)
    high = (box[:, 2] >= width - far) | (box[:, 3] >= height - far)
    near = np.flatnonzero(low | high)
    index = np.full(len(blends.rows), -1, np.int64)
    index[near] = np.arange(len(near))
    middle = (box[near, :2] + box[near, 2:]) // 2 + np.array([masked.x0, masked.y0])
    return scene.psf.kernel_images(middle[:, 0], middle[:, 1]), index


def _assembled(
    catalog: SourceCatalog, footprints: FootprintSet, splits: list[_Split], ids: IdGenerator
) -> SourceCatalog:
    """Parents with what deblending found out, and their children behind them."""
    catalog["deblend_nChild"] = 0
    children = [_child_rows(catalog, footprints, part, ids) for part in splits]
    for part in splits:
        np.add.at(catalog["deblend_nChild"], part.parent_row, 1)
        catalog["deblend_skipped"][part.rows] = part.last_peak_failed
    catalog.footprints = _with_unions(footprints, splits)
    return SourceCatalog.concatenate([catalog, *children])


def _child_rows(catalog: SourceCatalog, footprints: FootprintSet, part: _Split, ids: IdGenerator) -> SourceCatalog:
    rows = SourceCatalog.allocate(catalog.schema, len(part.children), part.children)
    rows["id"] = ids.take(len(rows))
    rows["parent"] = catalog["id"][part.parent_row]
    rows["deblend_deblendedAsPsf"] = part.is_point_source
    rows["deblend_rampedTemplate"] = part.ramped
    rows["deblend_psfCenter_x"], rows["deblend_psfCenter_y"] = np.where(part.is_point_source, part.psf_center.T, np.nan)
    rows["deblend_psf_instFlux"] = np.where(part.is_point_source, part.psf_flux, np.nan)
    rows["deblend_peak_center_x"], rows["deblend_peak_center_y"] = footprints.peaks[part.peak_index].T
    rows["deblend_peakId"] = part.peak_index + 1
    rows["deblend_nPeaks"] = 1
    rows["deblend_parentNPeaks"] = footprints.n_peaks[part.parent_row]
    return rows


def _with_unions(footprints: FootprintSet, splits: list[_Split]) -> FootprintSet:
    """Footprints in which parents cover the union of their children; one without children stays as it is."""
    shapes, source = [footprints], np.arange(len(footprints))
    for part in splits:
        has_children = np.diff(part.unions.span_offsets) > 0
        source[part.rows[has_children]] = sum(len(s) for s in shapes) + np.flatnonzero(has_children)
        shapes.append(part.unions)
    shape = FootprintSet.concatenate(shapes).select(source)
    return FootprintSet.build(
        shape.spans,
        shape.span_offsets,
        peaks=footprints.peaks,
        peak_values=footprints.peak_values,
        peak_significance=footprints.peak_significance,
        peak_offsets=footprints.peak_offsets,
    )
