"""How well the PSF model fits the stars, and how much it varies over the detector.

Method: Rubin ComputeExposureSummaryStatsTask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import KDTree
from scipy.stats import median_abs_deviation

from service.calibration.astrometry.source_selector import select_sources
from service.exposure.psf import trace_radii

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.summary_stats import SummaryStatsConfig
    from service.exposure.catalog import SourceCatalog
    from service.exposure.exposure import Exposure
    from service.exposure.masked_image import MaskedImage
    from service.exposure.psf import Psf
    from service.exposure.summary import ExposureSummaryStats

__all__ = ["fill_psf", "fill_psf_variation", "fill_stars"]

_CELL = 128.0  # px

_Pair = tuple["NDArray[np.float64]", "NDArray[np.float64]"]


def fill_psf(summary: ExposureSummaryStats, psf: Psf, center: tuple[float, float]) -> None:
    """Set size, shape and effective area of the PSF at a position."""
    kernel = psf.kernel_image(*center).astype(np.float64)
    summary.psfSigma = psf.determinant_radius(*center)
    summary.psfIxx, summary.psfIyy, summary.psfIxy = psf.shape(*center)
    power = float((kernel**2).sum())
    summary.psfArea = float(kernel.sum()) ** 2 / power if power > 0 else np.nan


def fill_psf_variation(summary: ExposureSummaryStats, exposure: Exposure, psf: Psf, config: SummaryStatsConfig) -> None:
    """Set the ranges of trace radius, aperture flux and aperture correction over the grid; ``psfSigma`` is needed."""
    x, y = _good_nodes(exposure.masked_image, config.psf_grid_sampling, config)
    if not x.size:
        return
    radii = trace_radii(psf.shapes(x, y))
    fluxes = psf.aperture_fluxes(max(config.min_psf_ap_radius_pix, 3.0 * summary.psfSigma), x, y)
    if not np.any(~np.isfinite(radii) & ~np.isfinite(fluxes)):
        summary.psfTraceRadiusDelta = float(np.ptp(radii))
        summary.psfApFluxDelta = float(np.ptp(fluxes)) if not np.any(fluxes < 0) else np.nan
    name = config.psf_ap_corr_field_name
    if exposure.ap_corr_map is not None and name in exposure.ap_corr_map and summary.psfSigma > 0:
        corrections = exposure.ap_corr_map[name].evaluate(x, y)
        if np.isfinite(corrections).all():
            summary.psfApCorrSigmaScaledDelta = float(np.ptp(corrections)) / summary.psfSigma


def fill_stars(
    summary: ExposureSummaryStats, stars: SourceCatalog, masked_image: MaskedImage, config: SummaryStatsConfig
) -> None:
    """Set the number of PSF stars and how their shapes compare with the PSF model."""
    summary.nPsfStar = int(stars[config.star_selection].sum())
    selected = select_sources(stars, config.star_selector)
    if not selected.any():
        return
    chosen = stars.select(selected)
    star, model = _moments(chosen, config.star_shape), _moments(chosen, config.psf_shape)
    e1, e2, size = _shape(star)
    model_e1, model_e2, model_size = _shape(model)
    for name, difference in (("E1", e1 - model_e1), ("E2", e2 - model_e2), ("Size", size - model_size)):
        setattr(summary, f"psfStarDelta{name}Median", float(np.median(difference)))
        setattr(summary, f"psfStarDelta{name}Scatter", float(median_abs_deviation(difference, scale="normal")))
    summary.psfStarScaledDeltaSizeScatter = summary.psfStarDeltaSizeScatter / float(np.median(size))
    summary.starEMedian = float(np.median(np.hypot(e1, e2)))
    xx, yy, xy = star
    summary.starUnNormalizedEMedian = float(np.median(np.hypot(xx - yy, 2.0 * xy)))
    _fill_higher_moments(summary, chosen, config.star_higher_order_moment_base)
    _fill_distance(summary, chosen, masked_image, config)


def _moments(stars: SourceCatalog, base: str) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    return stars[f"{base}_xx"], stars[f"{base}_yy"], stars[f"{base}_xy"]


def _shape(
    moments: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Ellipticities e1, e2 and trace radius."""
    xx, yy, xy = moments
    with np.errstate(divide="ignore", invalid="ignore"):
        trace = xx + yy
        return (xx - yy) / trace, 2.0 * xy / trace, np.sqrt(0.5 * trace)


def _fill_higher_moments(summary: ExposureSummaryStats, stars: SourceCatalog, base: str) -> None:
    if f"{base}_30" not in stars:
        return
    m = {pq: stars[f"{base}_{pq}"] for pq in ("30", "21", "12", "03", "40", "31", "22", "13", "04")}
    summary.starComa1Median = _nanmedian(m["30"] + m["12"])
    summary.starComa2Median = _nanmedian(m["21"] + m["03"])
    summary.starTrefoil1Median = _nanmedian(m["30"] - 3.0 * m["12"])
    summary.starTrefoil2Median = _nanmedian(3.0 * m["21"] - m["03"])
    summary.starKurtosisMedian = _nanmedian(m["40"] + 2.0 * m["22"] + m["04"])
    summary.starE41Median = _nanmedian(m["40"] - m["04"])
    summary.starE42Median = _nanmedian(2.0 * (m["31"] + m["13"]))


def _nanmedian(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else np.nan


def _fill_distance(
    summary: ExposureSummaryStats, stars: SourceCatalog, masked_image: MaskedImage, config: SummaryStatsConfig
) -> None:
    positions = np.column_stack([stars["slot_Centroid_x"], stars["slot_Centroid_y"]])
    positions = positions[np.isfinite(positions).all(axis=1)]
    x, y = _good_nodes(masked_image, config.psf_sampling, config)
    if x.size and positions.size:
        summary.maxDistToNearestPsf = _largest_distance(positions, np.column_stack([x, y]))


def _largest_distance(stars: NDArray[np.float64], nodes: NDArray[np.float64]) -> float:
    """Largest distance of a node to its nearest star; only cells that can hold it are searched node by node."""
    tree = KDTree(stars)
    origin = nodes.min(axis=0)
    column, row = ((nodes - origin) / _CELL).astype(np.int64).T
    n_columns = int(column.max()) + 1
    cell_of = row * n_columns + column
    cells = np.flatnonzero(np.bincount(cell_of))
    centers = origin + (np.column_stack([cells % n_columns, cells // n_columns]) + 0.5) * _CELL
    bound = np.zeros(int(cells[-1]) + 1)
    bound[cells] = np.asarray(tree.query(centers)[0]) + _CELL / np.sqrt(2.0)
    reached = float(np.max(tree.query(nodes[cell_of == np.argmax(bound)])[0]))
    open_nodes = nodes[bound[cell_of] > reached]
    return max(reached, float(np.max(tree.query(open_nodes)[0], initial=0.0)))


def _good_nodes(masked_image: MaskedImage, step: int, config: SummaryStatsConfig) -> _Pair:
    """Nodes x, y of a grid from the first pixel on whose pixel has none of the bad planes."""
    bad = np.int32(masked_image.planes.bitmask(config.psf_bad_mask_planes))
    row, column = np.nonzero((masked_image.mask[::step, ::step] & bad) == 0)
    x, y = (column * step).astype(np.float64), (row * step).astype(np.float64)
    if config.use_parent_coordinates:
        x, y = x + masked_image.x0, y + masked_image.y0
    return x, y
