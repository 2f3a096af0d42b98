"""Taking blends apart: one child for each peak of a footprint."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from service.calibration.kernels.deblend import EXTENDED, POINT_SOURCE, SKIPPED, split_blends
from service.calibration.kernels.deblend_fit import FITTED, fit_point_sources
from service.calibration.kernels.footprints import counted_bits, painted_bits
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
_PEAKS_AT_ONCE = 1024  # PSF stamps held in memory


@dataclass(slots=True)
class _Blends:
    """Some parents in array coordinates."""

    rows: NDArray[np.intp]  # in the catalogue
    spans: NDArray[np.int32]
    offsets: NDArray[np.int64]
    peaks: NDArray[np.int32]
    peak_offsets: NDArray[np.int64]
    peak_index: NDArray[np.int64]  # of each peak in the footprints of the catalogue
    fwhm: NDArray[np.float64]


@dataclass(slots=True)
class _Stamps:
    """The PSF drawn at peaks, and what the fits make of them."""

    images: NDArray[np.float32]
    origins: NDArray[np.int32]
    centers: NDArray[np.float64]
    flux: NDArray[np.float64]
    kind: NDArray[np.int64]


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
    splits = []
    for part in _in_parts(rows[usable], n_peaks):
        fwhm = FWHM_OF_RADIUS * radius[np.isin(rows, part)]
        splits += _split(result, footprints, exposure, config, part, fwhm)
    return _assembled(result, footprints, splits, ids)


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
        bit = np.int32(1 << masked.planes.add(config.not_deblended_mask))
        spans = parents.select(skipped).spans - np.array([masked.y0, masked.x0, masked.x0], np.int32)
        painted_bits(masked.mask, spans, bit)
    return skipped


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


def _in_parts(rows: NDArray[np.intp], n_peaks: NDArray[np.int64]) -> list[NDArray[np.intp]]:
    """Consecutive rows, so many that their PSF stamps fit into memory."""
    before = np.cumsum(n_peaks[rows]) - n_peaks[rows]
    return np.split(rows, np.flatnonzero(np.diff(before // _PEAKS_AT_ONCE)) + 1) if len(rows) else []


def _split(
    catalog: SourceCatalog,
    footprints: FootprintSet,
    exposure: Exposure,
    config: DeblendConfig,
    rows: NDArray[np.intp],
    fwhm: NDArray[np.float64],
) -> list[_Split]:
    """Deblend some parents; those that raise are flagged and left out."""
    try:
        return [_split_blends(_blends(footprints, exposure, config, rows, fwhm), footprints, exposure, config)]
    except Exception:
        if not config.catch_failures:
            raise
        if len(rows) > 1:  # one bad parent must not stop the rest
            single = [_split(catalog, footprints, exposure, config, rows[[i]], fwhm[[i]]) for i in range(len(rows))]
            return [part for parts in single for part in parts]
        _logger.warning("source %d could not be deblended", catalog["id"][rows[0]], exc_info=True)
        catalog["deblend_failed"][rows] = True
        return []


def _blends(
    footprints: FootprintSet,
    exposure: Exposure,
    config: DeblendConfig,
    rows: NDArray[np.intp],
    fwhm: NDArray[np.float64],
) -> _Blends:
    masked = exposure.masked_image
    parents = footprints.select(rows)
    counts = parents.n_peaks
    number = np.arange(len(parents.peaks)) - np.repeat(parents.peak_offsets[:-1], counts)
    used = number < (config.max_number_of_peaks or number.size)
    if config.max_number_of_peaks:
        counts = np.minimum(counts, config.max_number_of_peaks)
    return _Blends(
        rows=rows,
        spans=parents.spans - np.array([masked.y0, masked.x0, masked.x0], np.int32),
        offsets=parents.span_offsets,
        peaks=(parents.peaks - np.array([masked.x0, masked.y0], np.int32))[used],
        peak_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        peak_index=(np.repeat(footprints.peak_offsets[rows], parents.n_peaks) + number)[used],
        fwhm=fwhm,
    )


def _drawn(
    exposure: Exposure, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """PSF stamps at array positions and their lower-left array pixels."""
    psf, masked = exposure.psf, exposure.masked_image
    assert psf is not None  # noqa: S101 -- deblend refuses an exposure without one
    images, x0, y0 = psf.images(x + masked.x0, y + masked.y0)
    return images, np.stack([x0 - masked.x0, y0 - masked.y0], axis=1).astype(np.int32)


def _fitted_stamps(blends: _Blends, exposure: Exposure, config: DeblendConfig) -> _Stamps:
    """Decide which peaks are point sources: of the PSF at the peak and the PSF beside it the better fit, if good."""
    masked = exposure.masked_image
    x, y = blends.peaks.T.astype(np.float64)
    images, origins = _drawn(exposure, x, y)
    n = len(x)
    inner, outer = np.ceil(blends.fwhm), np.ceil(1.5 * blends.fwhm)
    radii = np.stack([inner, np.maximum(outer, inner + 1)], axis=1).astype(np.int64)
    tiny = max(config.tiny_footprint_size, 2)

    def fit(
        own: NDArray[np.float32], at: NDArray[np.int32], index: NDArray[np.int64], derivatives: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        fitted: tuple[NDArray[np.float64], NDArray[np.int64]] = fit_point_sources(
            masked.image, masked.variance, blends.spans, blends.offsets, blends.peaks, blends.peak_offsets,
            images, origins, own, at, index, radii, tiny, derivatives,
            not config.fail_on_unseen_neighbors,
        )  # fmt: skip
        return fitted

    first, status = fit(images, origins, np.arange(n), True)
    with np.errstate(divide="ignore", invalid="ignore"):
        free = (status == FITTED) & (first[:, 1] > 0) & (first[:, 3] > 0)
        quality, shifted_quality = first[:, 0] / first[:, 1], first[:, 2] / first[:, 3]
        shift = first[:, 6:8] / first[:, 5:6]
    plain = free & (quality < config.psf_chisq_1)
    # the column of a derivative is that of moving the pixels, not the source: the source moves the other way
    shift = shift if config.invert_psf_shift else -shift
    movable = free & (shifted_quality < config.psf_chisq_2) & (np.abs(shift) < 1).all(axis=1)
    centers, flux = np.stack([x, y], axis=1), first[:, 4].copy()
    moved = np.flatnonzero(movable)
    index = np.full(n, -1)
    index[moved] = np.arange(len(moved))
    moved_images, moved_origins = _drawn(exposure, *(centers + shift)[moved].T)
    again, _ = fit(moved_images, moved_origins, index, False)
    with np.errstate(divide="ignore", invalid="ignore"):
        moved_quality = again[:, 0] / again[:, 1]
    beside = movable & (moved_quality < config.psf_chisq_2b) & (~plain | (moved_quality < quality))
    centers[beside] += shift[beside]
    flux[beside] = again[beside, 4]
    images[beside], origins[beside] = moved_images[index[beside]], moved_origins[index[beside]]
    kind = np.where(status == FITTED, np.where(plain | beside, POINT_SOURCE, EXTENDED), SKIPPED)
    return _Stamps(images, origins, centers, flux, kind.astype(np.int64))


def _split_blends(blends: _Blends, footprints: FootprintSet, exposure: Exposure, config: DeblendConfig) -> _Split:
    masked = exposure.masked_image
    stamps = _fitted_stamps(blends, exposure, config)
    margins = 2 * ((1.5 * blends.fwhm + 0.5) / 2).astype(np.int64) + 1
    bright = 3 * _noise_level(masked) if config.edge_handling == "ramp" else np.inf
    edge_psfs, edge_index = _psfs_at_the_border(blends, exposure, margins)
    spans, offsets, pixels, pixel_offsets, union_spans, union_offsets, ramped = split_blends(
        masked.image, blends.spans, blends.offsets, blends.peaks, blends.peak_offsets, stamps.kind, stamps.images,
        stamps.origins, stamps.flux, margins, edge_psfs, edge_index, bright, config.median_smooth_template,
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
    good = ~masked.is_set(_NOISE_PLANES)
    return float(np.sqrt(np.median(masked.variance[good]))) if good.any() else np.nan


def _psfs_at_the_border(
    blends: _Blends, exposure: Exposure, margins: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Centred PSFs of the parents whose templates may reach beyond the image, and which parent has which."""
    height, width = exposure.masked_image.shape
    box = FootprintSet.build(blends.spans, blends.offsets).boxes.astype(np.int64)
    far = 2 * margins  # the region grows twice: the parent, then its mirror image
    low = (box[:, :2] < far[:, None]).any(axis=1)
    high = (box[:, 2] >= width - far) | (box[:, 3] >= height - far)
    near = np.flatnonzero(low | high)
    index = np.full(len(blends.rows), -1, np.int64)
    index[near] = np.arange(len(near))
    middle = ((box[near, :2] + box[near, 2:]) // 2 + [exposure.masked_image.x0, exposure.masked_image.y0]).astype(float)
    psf = exposure.psf
    assert psf is not None  # noqa: S101 -- deblend refuses an exposure without one
    return psf.kernel_images(middle[:, 0], middle[:, 1]), index


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
