"""Hiding the neighbours of a source behind noise, one source at a time, and putting all back at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "NoiseReplacedPlane",
    "footprint_pixels",
    "hide_source",
    "hide_sources",
    "restore_sources",
    "show_source",
]


class NoiseReplacedPlane(NamedTuple):
    """An image in which all footprints are noise, and what is needed to put single sources back.

    Attributes
    ----------
    work : ndarray of float32, shape (h, w)
        The image, which is changed.
    spans, span_offsets : ndarray
        Footprints as in `service.exposure.footprint.FootprintSet`, but with array coordinates.
    pixels, pixel_offsets : ndarray
        Own pixels of heavy footprints; the others show ``originals``.
    noise, originals, noise_offsets : ndarray
        Noise of each footprint and the true pixels of the image, in span order.
    replaced : bool
        False: sources are neither hidden nor shown.
    """

    work: NDArray[np.float32]
    spans: NDArray[np.int32]
    span_offsets: NDArray[np.int64]
    pixels: NDArray[np.float32]
    pixel_offsets: NDArray[np.int64]
    noise: NDArray[np.float32]
    originals: NDArray[np.float32]
    noise_offsets: NDArray[np.int64]
    replaced: bool


@njit(cache=True, nogil=True, error_model="numpy")
def footprint_pixels(image: NDArray[np.float32], spans: NDArray[np.int32], n: int) -> NDArray[np.float32]:
    """The ``n`` pixels of an image in spans, in their order; 0 outside the image."""
    height, width = image.shape
    pixels = np.zeros(n, np.float32)
    k = 0
    for s in range(spans.shape[0]):
        y, x0, x1 = spans[s, 0], spans[s, 1], spans[s, 2]
        if 0 <= y < height:
            for x in range(max(x0, 0), min(x1 + 1, width)):
                pixels[k + x - x0] = image[y, x]
        k += x1 - x0 + 1
    return pixels


@njit(cache=True, nogil=True, error_model="numpy")
def _write(plane: NoiseReplacedPlane, source: int, values: NDArray[np.float32], first: int) -> None:
    height, width = plane.work.shape
    k = first
    for s in range(plane.span_offsets[source], plane.span_offsets[source + 1]):
        y, x0, x1 = plane.spans[s, 0], plane.spans[s, 1], plane.spans[s, 2]
        if 0 <= y < height:
            for x in range(max(x0, 0), min(x1 + 1, width)):
                plane.work[y, x] = values[k + x - x0]
        k += x1 - x0 + 1


@njit(cache=True, nogil=True, error_model="numpy")
def show_source(plane: NoiseReplacedPlane, source: int) -> None:
    """Put the pixels of one source back."""
    if not plane.replaced:
        return
    first = plane.pixel_offsets[source]
    if plane.pixel_offsets[source + 1] > first:
        _write(plane, source, plane.pixels, first)
    else:
        _write(plane, source, plane.originals, plane.noise_offsets[source])


@njit(cache=True, nogil=True, error_model="numpy")
def hide_source(plane: NoiseReplacedPlane, source: int) -> None:
    """Replace the pixels of one source by its noise."""
    if plane.replaced:
        _write(plane, source, plane.noise, plane.noise_offsets[source])


@njit(cache=True, nogil=True, error_model="numpy")
def hide_sources(plane: NoiseReplacedPlane, rows: NDArray[np.int64]) -> None:
    """Replace sources by their noise, one after the other."""
    for source in rows:
        hide_source(plane, source)


@njit(cache=True, nogil=True, error_model="numpy")
def restore_sources(plane: NoiseReplacedPlane) -> None:
    """Make the image what it was."""
    if plane.replaced:
        for source in range(plane.span_offsets.size - 1):
            _write(plane, source, plane.originals, plane.noise_offsets[source])
