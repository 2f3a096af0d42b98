"""Sets of footprints as flat arrays: row spans, peaks and, for deblended sources, pixel values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from service.exposure.geometry import Box

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Footprint", "FootprintSet"]


def _offsets(counts: NDArray[Any]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)


def _gather(offsets: NDArray[np.int64], rows: NDArray[np.intp]) -> NDArray[np.int64]:
    """Flat indices of the elements of ``rows`` of a ragged array."""
    counts = offsets[rows + 1] - offsets[rows]
    starts = np.repeat(offsets[rows] - _offsets(counts)[:-1], counts)
    return np.asarray(starts + np.arange(counts.sum()), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Footprint:
    """One footprint: a view into a `FootprintSet`.

    Parameters
    ----------
    spans : ndarray of int32, shape (n, 3)
        Rows ``(y, x0, x1)`` in the parent frame, ``x1`` inclusive.
    peaks : ndarray of int32, shape (p, 2)
        Peak pixels ``(x, y)``; position 0 is "the first peak".
    peak_values : ndarray of float32, shape (p,)
        Value in the smoothed image, counts.
    pixels : ndarray of float32 or None
        Pixel values in span order, of a heavy footprint.
    """

    spans: NDArray[np.int32]
    peaks: NDArray[np.int32]
    peak_values: NDArray[np.float32]
    pixels: NDArray[np.float32] | None = None

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int((self.spans[:, 2] - self.spans[:, 1] + 1).sum())

    @property
    def bbox(self) -> Box:
        """Smallest enclosing box."""
        y, x0, x1 = self.spans.T
        return Box(int(x0.min()), int(y.min()), int(x1.max() - x0.min()) + 1, int(y.max() - y.min()) + 1)


@dataclass(slots=True)
class FootprintSet:
    """Many footprints in compressed-row form, ready for compiled loops.

    Parameters
    ----------
    spans : ndarray of int32, shape (S, 3)
        ``(y, x0, x1)`` of all footprints, parent frame, ``x1`` inclusive; sorted by y, then x0 within a footprint.
    span_offsets : ndarray of int64, shape (N + 1,)
        Footprint ``i`` owns ``spans[span_offsets[i]:span_offsets[i + 1]]``.
    peaks : ndarray of int32, shape (P, 2)
        Peak pixels ``(x, y)``.
    peak_values, peak_significance : ndarray of float32, shape (P,)
        Value in the smoothed image in counts, and that value over its standard deviation.
    peak_offsets : ndarray of int64, shape (N + 1,)
        As ``span_offsets``, for the peaks.
    pixels : ndarray of float32
        Values of heavy footprints in span order; footprints that are not heavy own none.
    pixel_offsets : ndarray of int64, shape (N + 1,)
        As ``span_offsets``, for the pixels.
    """

    spans: NDArray[np.int32]
    span_offsets: NDArray[np.int64]
    peaks: NDArray[np.int32]
    peak_values: NDArray[np.float32]
    peak_significance: NDArray[np.float32]
    peak_offsets: NDArray[np.int64]
    pixels: NDArray[np.float32]
    pixel_offsets: NDArray[np.int64]

    @classmethod
    def empty(cls) -> FootprintSet:
        """A set without footprints."""
        return cls.build(np.zeros((0, 3), np.int32), np.zeros(1, np.int64))

    @classmethod
    def build(
        cls,
        spans: NDArray[np.int32],
        span_offsets: NDArray[np.int64],
        peaks: NDArray[np.int32] | None = None,
        peak_values: NDArray[np.float32] | None = None,
        peak_significance: NDArray[np.float32] | None = None,
        peak_offsets: NDArray[np.int64] | None = None,
        pixels: NDArray[np.float32] | None = None,
        pixel_offsets: NDArray[np.int64] | None = None,
    ) -> FootprintSet:
        """Make a set; what is left out is empty (peaks, pixels) or NaN (peak values)."""
        n = len(span_offsets) - 1
        peaks = np.zeros((0, 2), np.int32) if peaks is None else np.asarray(peaks, np.int32)
        unknown = np.full(len(peaks), np.nan, np.float32)
        return cls(
            spans=np.ascontiguousarray(spans, np.int32).reshape(-1, 3),
            span_offsets=np.asarray(span_offsets, np.int64),
            peaks=np.ascontiguousarray(peaks),
            peak_values=unknown if peak_values is None else np.asarray(peak_values, np.float32),
            peak_significance=unknown.copy()
            if peak_significance is None
            else np.asarray(peak_significance, np.float32),
            peak_offsets=np.zeros(n + 1, np.int64) if peak_offsets is None else np.asarray(peak_offsets, np.int64),
            pixels=np.zeros(0, np.float32) if pixels is None else np.asarray(pixels, np.float32),
            pixel_offsets=np.zeros(n + 1, np.int64) if pixel_offsets is None else np.asarray(pixel_offsets, np.int64),
        )

    @classmethod
    def concatenate(cls, sets: Sequence[FootprintSet]) -> FootprintSet:
        """The footprints of several sets, in order."""
        if not sets:
            return cls.empty()

        def joined(name: str) -> NDArray[np.int64]:
            return _offsets(np.concatenate([np.diff(getattr(s, name)) for s in sets]))

        return cls(
            spans=np.concatenate([s.spans for s in sets]),
            span_offsets=joined("span_offsets"),
            peaks=np.concatenate([s.peaks for s in sets]),
            peak_values=np.concatenate([s.peak_values for s in sets]),
            peak_significance=np.concatenate([s.peak_significance for s in sets]),
            peak_offsets=joined("peak_offsets"),
            pixels=np.concatenate([s.pixels for s in sets]),
            pixel_offsets=joined("pixel_offsets"),
        )

    def __len__(self) -> int:
        return len(self.span_offsets) - 1

    def __getitem__(self, index: int) -> Footprint:
        span = slice(self.span_offsets[index], self.span_offsets[index + 1])
        peak = slice(self.peak_offsets[index], self.peak_offsets[index + 1])
        pixel = slice(self.pixel_offsets[index], self.pixel_offsets[index + 1])
        pixels = self.pixels[pixel] if pixel.stop > pixel.start else None
        return Footprint(self.spans[span], self.peaks[peak], self.peak_values[peak], pixels)

    def select(self, rows: NDArray[Any]) -> FootprintSet:
        """The footprints at some indices, or where a boolean array is True."""
        index = np.flatnonzero(rows) if rows.dtype == bool else np.asarray(rows, dtype=np.intp)
        span = _gather(self.span_offsets, index)
        peak = _gather(self.peak_offsets, index)
        pixel = _gather(self.pixel_offsets, index)
        return FootprintSet(
            spans=self.spans[span],
            span_offsets=_offsets(np.diff(self.span_offsets)[index]),
            peaks=self.peaks[peak],
            peak_values=self.peak_values[peak],
            peak_significance=self.peak_significance[peak],
            peak_offsets=_offsets(np.diff(self.peak_offsets)[index]),
            pixels=self.pixels[pixel],
            pixel_offsets=_offsets(np.diff(self.pixel_offsets)[index]),
        )

    @property
    def n_peaks(self) -> NDArray[np.int64]:
        """Number of peaks of each footprint, shape (N,)."""
        return np.diff(self.peak_offsets)

    @property
    def areas(self) -> NDArray[np.int64]:
        """Number of pixels of each footprint, shape (N,)."""
        length = (self.spans[:, 2] - self.spans[:, 1] + 1).astype(np.int64)
        total = _offsets(length)
        return np.asarray(total[self.span_offsets[1:]] - total[self.span_offsets[:-1]])

    @property
    def boxes(self) -> NDArray[np.int32]:
        """Bounding boxes ``(x0, y0, x1, y1)``, inclusive, shape (N, 4); an empty footprint has (0, 0, -1, -1)."""
        result = np.tile(np.array([0, 0, -1, -1], np.int32), (len(self), 1))
        filled = np.flatnonzero(np.diff(self.span_offsets))
        if filled.size:
            starts = self.span_offsets[filled]
            y, x0, x1 = self.spans[: self.span_offsets[-1]].T
            result[filled, 0] = np.minimum.reduceat(x0, starts)
            result[filled, 1] = np.minimum.reduceat(y, starts)
            result[filled, 2] = np.maximum.reduceat(x1, starts)
            result[filled, 3] = np.maximum.reduceat(y, starts)
        return result

    @property
    def first_peaks(self) -> NDArray[np.float64]:
        """First peak ``(x, y)`` of each footprint, NaN where there is none, shape (N, 2)."""
        result = np.full((len(self), 2), np.nan)
        filled = np.flatnonzero(self.n_peaks)
        result[filled] = self.peaks[self.peak_offsets[filled]]
        return result

    def paint(self, mask: NDArray[np.int32], bits: int, x0: int = 0, y0: int = 0) -> None:
        """OR ``bits`` into ``mask`` over all spans, clipped to the array whose origin is (x0, y0)."""
        height, width = mask.shape
        for y, start, stop in self.spans.tolist():
            if 0 <= y - y0 < height:
                mask[y - y0, max(start - x0, 0) : max(min(stop - x0 + 1, width), 0)] |= np.int32(bits)
