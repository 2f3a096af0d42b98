"""Fit and subtract the background."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import median_filter

from service import threads
from service.calibration.background_structure import separated_structure
from service.calibration.errors import ConstantBackgroundError, TooManyMaskedPixelsError
from service.calibration.kernels.background import CLIPPED_MEAN, MEAN, MEDIAN, cell_statistics
from service.exposure.background import BackgroundList, BackgroundModel, cell_edges
from service.exposure.grid_interpolation import INTERPOLATION_STYLES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.background import SubtractBackgroundConfig
    from service.exposure.exposure import Exposure
    from service.exposure.masked_image import MaskedImage

__all__ = ["fit_background", "subtract_background"]

_LOG = logging.getLogger(__name__)
_STATISTICS = {"MEAN": MEAN, "MEDIAN": MEDIAN, "MEANCLIP": CLIPPED_MEAN}


def fit_background(
    masked_image: MaskedImage, config: SubtractBackgroundConfig, *, ratio: NDArray[np.float32] | None = None
) -> BackgroundModel:
    """Fit a background model; the image is left alone.

    Method: Rubin SubtractBackgroundTask, with pixels that are not finite always ignored.

    Parameters
    ----------
    masked_image : MaskedImage
        Image in counts.
    config : SubtractBackgroundConfig
        Cells, statistic and model.
    ratio : ndarray of float32, shape of the image, optional
        The model is fitted to the image times this.

    Returns
    -------
    BackgroundModel
        Over the box of the image.

    Raises
    ------
    TooManyMaskedPixelsError
        No pixel is free of the ignored planes and finite.
    ValueError
        The two orders differ; the grid is too small for the model and the style is THROW_EXCEPTION.
    ConstantBackgroundError
        No cell has a finite weight, as in an image without noise.
    """
    ny, nx, order = _grid(masked_image, config)
    bad = np.int32(masked_image.planes.bitmask(config.ignored_pixel_mask))
    height, width = masked_image.shape
    value, stderr, count = _cells(masked_image, config, bad, ratio, (ny, nx))
    if not count.any():
        n_masked = int(np.count_nonzero(masked_image.mask & bad))
        raise TooManyMaskedPixelsError(
            "no pixel is left to fit a background to", pixels=height * width, masked=n_masked
        )
    if order >= 0 and config.weighting and not np.any(np.isfinite(value) & np.isfinite(stderr) & (stderr > 0)):
        raise ConstantBackgroundError(
            "no cell of the background has pixels that scatter",
            cells=nx * ny,
            cells_with_pixels=int(np.count_nonzero(count)),
        )
    model = BackgroundModel(
        value=_filtered(value) if config.do_filter_super_pixels else value,
        stderr=stderr,
        mask=np.zeros(value.shape, np.int32),
        bbox=masked_image.bbox,
        interp_style=config.algorithm,
        undersample_style=config.undersample_style,
        approx_order=order,
        weighting=config.weighting,
        weight_power=config.weight_power,
    )
    if order >= 0 and (used := len(model.coefficients) - 1) < order:
        _LOG.warning(
            "background order %d lowered to %d: %d of %d cells have values",
            order,
            used,
            np.count_nonzero(count),
            nx * ny,
        )
    return model


def subtract_background(
    exposure: Exposure,
    backgrounds: BackgroundList,
    config: SubtractBackgroundConfig,
    *,
    ratio: NDArray[np.float32] | None = None,
    record: bool = True,
) -> BackgroundModel:
    """Fit a background, subtract exactly its image from the exposure in place and append it to the list.

    Parameters
    ----------
    exposure : Exposure
        Gains the mean and variance of the cumulative background in its metadata lists ``BGMEAN`` and ``BGVAR``.
    backgrounds : BackgroundList
        Receives the model, which is in background-flattened units where the ratio is in use.
    config : SubtractBackgroundConfig
        How to fit.
    ratio : ndarray of float32, shape of the image, optional
        Background-to-photometric ratio, required and used only with ``config.do_apply_flat_background_ratio``.
    record : bool
        Write the metadata; upstream does so where a background is subtracted for its own sake, not in detections.

    Returns
    -------
    BackgroundModel
        The model appended.

    Raises
    ------
    RuntimeError
        The ratio is in use and missing.
    ValueError
        The ratio is not an image of the exposure's shape, or see `fit_background`.
    TooManyMaskedPixelsError, ConstantBackgroundError
        See `fit_background`.
    """
    image = exposure.masked_image.image
    used_ratio = _checked_ratio(ratio, image.shape) if config.do_apply_flat_background_ratio else None
    model = fit_background(exposure.masked_image, config, ratio=used_ratio)
    fitted = BackgroundList([model])
    if model.approx_order >= 0 and config.structure_limit > 0:
        fitted = BackgroundList(separated_structure(model, config.structure_limit, backgrounds))
    if used_ratio is None:
        fitted.subtract_from(image)
    else:
        for rows, background in fitted.blocks():
            image[rows] -= background / used_ratio[rows]
    for part in fitted:
        backgrounds.append(part)
    if record:
        mean, variance = backgrounds.mean_and_variance()
        for key, number in (("BGMEAN", mean), ("BGVAR", variance)):
            before = exposure.metadata.get(key, [])  # a header that was read may hold one number
            exposure.metadata[key] = [*(before if isinstance(before, list) else [before]), number]
    return model


def _grid(masked_image: MaskedImage, config: SubtractBackgroundConfig) -> tuple[int, int, int]:
    """Cells in y and x and the order of the Chebyshev surface (-1 for none)."""
    height, width = masked_image.shape
    ny = -(-height // (config.bin_size_y or config.bin_size))
    nx = -(-width // (config.bin_size_x or config.bin_size))
    order = config.approx_order_x if config.use_approx else -1
    if config.use_approx and config.approx_order_y not in (-1, order):
        raise ValueError(f"background orders {order} in x and {config.approx_order_y} in y differ")
    needed = order + 1 if config.use_approx else INTERPOLATION_STYLES[config.algorithm]
    if min(nx, ny) >= needed:
        return ny, nx, order
    if config.undersample_style == "THROW_EXCEPTION":
        raise ValueError(f"a background with {nx} x {ny} cells needs at least {needed} each way")
    if config.undersample_style == "INCREASE_NXNYSAMPLE":
        return min(max(ny, needed), height), min(max(nx, needed), width), order
    if config.use_approx:
        _LOG.warning("background order %d lowered to %d for %d x %d cells", order, min(nx, ny) - 1, nx, ny)
        order = min(nx, ny) - 1
    return ny, nx, order


def _cells(
    masked_image: MaskedImage,
    config: SubtractBackgroundConfig,
    bad: np.int32,
    ratio: NDArray[np.float32] | None,
    grid: tuple[int, int],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Value, standard error and number of pixels of every cell."""
    y_edges, x_edges = (cell_edges(size, n) for size, n in zip(masked_image.shape, grid, strict=True))
    used_ratio = np.empty((0, 0), np.float32) if ratio is None else ratio

    def strip(cells: slice) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        edges = y_edges[cells.start : cells.stop + 1]
        rows = slice(edges[0], edges[-1])
        return cell_statistics(
            masked_image.image[rows],
            masked_image.mask[rows],
            bad,
            used_ratio[rows],
            edges - edges[0],
            x_edges,
            _STATISTICS[config.statistics_property],
            config.num_sigma_clip,
            config.num_iter,
        )

    value, stderr, count = zip(*threads.each(strip, threads.bands(grid[0])), strict=True)
    return np.concatenate(value), np.concatenate(stderr), np.concatenate(count)


def _filtered(value: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cells without a value get the median cell, then a 3x3 median filter with reflected edges."""
    filled = np.where(np.isnan(value), np.nanmedian(value), value)
    return np.asarray(median_filter(filled, size=3, mode="reflect"), dtype=np.float32)


def _checked_ratio(ratio: NDArray[np.float32] | None, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if ratio is None:
        raise RuntimeError("do_apply_flat_background_ratio needs the background-to-photometric ratio")
    if ratio.shape != shape:
        raise ValueError(f"the background-to-photometric ratio has shape {ratio.shape}, the image {shape}")
    return np.ascontiguousarray(ratio, dtype=np.float32)
