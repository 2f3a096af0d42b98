"""Stamps of stars for the PSF fit, with neighbours masked."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from service.calibration.kernels.psf_stamps import cut_stamps, largest_pixels
from service.exposure.geometry import Box, pixel_index

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.psf import MakePsfCandidatesConfig
    from service.exposure.catalog import SourceCatalog
    from service.exposure.exposure import Exposure

__all__ = ["Stamps", "downsample_candidates", "extract_stamps", "make_psf_candidates", "position_context"]

_log = logging.getLogger(__name__)

_SEED = 98765


@dataclass(frozen=True, slots=True)
class Stamps:
    """Square cut-outs around some sources.

    Parameters
    ----------
    rows : ndarray of int, shape (n,)
        Catalogue row of each.
    image : ndarray of float32, shape (n, size, size)
        Counts.
    mask : ndarray of int32, same shape
        Mask in which DETECTED pixels of neighbours have become INTRP.
    corners : ndarray of int64, shape (n, 2)
        Lower-left pixel (x, y), parent frame.
    """

    rows: NDArray[np.intp]
    image: NDArray[np.float32]
    mask: NDArray[np.int32]
    corners: NDArray[np.int64]


def extract_stamps(exposure: Exposure, catalog: SourceCatalog, rows: NDArray[np.intp], size: int) -> Stamps:
    """Cut stamps around the rounded centroids; sources whose stamp leaves the image are left out.

    Pixels of the source's own footprint that are closer to another of its peaks, and every other detected region in
    the stamp grown by 3 px, lose DETECTED and get INTRP: INTRP in a stamp means "ignore".

    Method: Rubin PsfCandidate.

    Parameters
    ----------
    exposure : Exposure
        Image and mask.
    catalog : SourceCatalog
        Centroids and footprints.
    rows : ndarray of int
        Catalogue rows with finite centroids.
    size : int
        Odd stamp size in px.

    Returns
    -------
    Stamps
        In the order of ``rows``.

    Raises
    ------
    ValueError
        The catalogue has no footprints.
    """
    footprints = catalog.footprints
    if footprints is None:
        raise ValueError("PSF candidates need footprints")
    planes = exposure.masked_image
    box = planes.bbox
    rows, centers, corners = _inside(box, catalog, rows, size)
    image, mask = cut_stamps(
        planes.image,
        planes.mask,
        corners,
        size,
        rows.astype(np.int64),
        centers,
        footprints.spans,
        footprints.span_offsets,
        footprints.peaks,
        footprints.peak_offsets,
        np.array([box.x0, box.y0]),
        planes.planes.bitmask(["DETECTED"]),
        planes.planes.bitmask(["INTRP"]),
    )
    return Stamps(rows, image, mask, corners)


def _inside(
    box: Box, catalog: SourceCatalog, rows: NDArray[np.intp], size: int
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.int64]]:
    """The sources whose stamp lies inside a box: rows, centroids and lower-left pixels of the stamps."""
    centers = np.stack([catalog["slot_Centroid_x"][rows], catalog["slot_Centroid_y"][rows]], axis=1)
    corners = pixel_index(centers) - size // 2
    room = Box(box.x0, box.y0, max(0, box.width - size + 1), max(0, box.height - size + 1))
    inside = room.contains(corners[:, 0], corners[:, 1])
    return rows[inside], centers[inside], corners[inside]


def downsample_candidates(candidates: NDArray[np.intp], largest: int) -> NDArray[np.intp]:
    """A random choice of so many candidates, in their order; all of them where there are no more.

    Method: Rubin BasePsfDeterminerTask, whose choice does not depend on the exposure.
    """
    if len(candidates) <= largest:
        return candidates
    chosen = np.random.RandomState(_SEED).choice(len(candidates), size=largest, replace=False)
    return candidates[np.sort(chosen)]


def position_context(
    catalog: SourceCatalog, candidates: NDArray[np.intp]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Centre and extent (x, y) of positions in px, by which a polynomial's variables are scaled."""
    ends = []
    for axis in "xy":
        position = catalog[f"slot_Centroid_{axis}"][candidates]
        ends.append((float(position.min()), float(position.max())) if len(position) else (0.0, 1.0))
    offset = [0.5 * (low + high) for low, high in ends]
    scale = [high - low if high > low else 1.0 for low, high in ends]
    return (offset[0], offset[1]), (scale[0], scale[1])


def make_psf_candidates(
    exposure: Exposure, catalog: SourceCatalog, stars: NDArray[np.bool_], config: MakePsfCandidatesConfig
) -> NDArray[np.intp]:
    """Keep the stars whose stamp lies inside the image and record the stamp's largest pixel in ``psf_max_value``.

    Parameters
    ----------
    exposure : Exposure
        Image and mask.
    catalog : SourceCatalog
        ``psf_max_value`` (counts) is set on the candidates, NaN on the others.
    stars : ndarray of bool, shape (n,)
        Selected stars.
    config : MakePsfCandidatesConfig
        Stamp size.

    Returns
    -------
    ndarray of int
        Catalogue rows of the candidates.
    """
    selected = np.flatnonzero(stars)
    centered = np.isfinite(catalog["slot_Centroid_x"][selected]) & np.isfinite(catalog["slot_Centroid_y"][selected])
    size = config.kernel_size + 2 * config.border_width
    box = exposure.masked_image.bbox
    rows, _, corners = _inside(box, catalog, selected[centered], size)
    largest = largest_pixels(exposure.masked_image.image, corners - np.array([box.x0, box.y0]), size)
    finite = np.isfinite(largest)
    rows = rows[finite]
    if len(rows) < len(selected):
        _log.warning("%d of %d stars have no usable stamp", len(selected) - len(rows), len(selected))
    catalog["psf_max_value"] = np.nan
    catalog["psf_max_value"][rows] = largest[finite]
    return rows
