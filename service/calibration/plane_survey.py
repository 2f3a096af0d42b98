"""Exact quantiles and clipped moments of a plane from one pass, guided by a sample of its pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service import threads
from service.calibration.kernels.image_statistics import BINS, moments_within, survey_plane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["PlaneSurvey", "good_values"]

_NO_MASK = np.empty((1, 0), np.int32)
_ERRORS = 2.5  # of the sample's quantiles, within which those of the plane are sought: it costs more to pick more
_MARGIN = 0.03  # by which clipping limits of the plane may differ from those of the sample


def good_values(
    image: NDArray[np.float32], mask: NDArray[np.int32] | None, bad: int, stride: int = 1
) -> NDArray[np.float32]:
    """Every so many pixels, those of them that are finite and without a bad bit."""
    values = image.reshape(-1)[::stride]
    good = np.isfinite(values)
    if mask is not None:
        good &= (mask.reshape(-1)[::stride] & np.int32(bad)) == 0
    return values[good]


class PlaneSurvey:
    """What is known of the good pixels of a plane after one pass.

    A sample tells roughly where quantiles and clipping limits are. The pass counts all pixels in a histogram, picks the
    values near those places, and sums those in the middle, which no limit excludes. The answers follow from the counts,
    the picked values and the sums; they are exact, and where the sample misled, a further pass finds what is missing.

    Parameters
    ----------
    image : ndarray of float32, shape (height, width)
        Pixels.
    mask : ndarray of int32, same shape, or None
        Mask bits.
    bad : int
        Pixels with any of these bits are left out, as are those that are not finite.
    fractions : sequence of float
        Of the quantiles to be asked for.
    limits : sequence of (float, float)
        Centre and limit of the moments to be asked for, as the sample has them.
    sample : ndarray of float32
        Some of the good pixels.
    """

    def __init__(
        self,
        image: NDArray[np.float32],
        mask: NDArray[np.int32] | None,
        bad: int,
        *,
        fractions: Sequence[float],
        limits: Sequence[tuple[float, float]] = (),
        sample: NDArray[np.float32],
    ) -> None:
        used_mask = _NO_MASK if mask is None else np.ascontiguousarray(mask)
        self._plane = np.ascontiguousarray(image), used_mask, np.int32(bad)
        self._fractions = np.asarray(fractions, np.float64)
        sample = np.sort(sample)
        self._center = float(sample[sample.size // 2]) if sample.size else 0.0
        reaches = [(limit - abs(c - self._center), limit + abs(c - self._center)) for c, limit in limits]
        self._inner = (1 - _MARGIN) * min((inner for inner, _ in reaches), default=-1.0)
        self._outer = (1 + _MARGIN) * max((outer for _, outer in reaches), default=-1.0)
        self._set_bins(sample)
        wanted = self._predicted(sample)
        expected = float(wanted[self._bins(sample)].mean()) if sample.size else 0.0
        self._pass(wanted, int((1.2 * expected + 0.002) * image.size))

    def _set_bins(self, sample: NDArray[np.float32]) -> None:
        """Bins over the middle half of the sample, as much on either side, and the limits."""
        lower, upper = (float(sample[k]) for k in (sample.size // 4, -1 - sample.size // 4)) if sample.size else (0, 1)
        reach = 1.5 * (upper - lower)
        if 0 < self._outer < np.inf:
            reach = max(reach, 1.1 * self._outer)
        largest = float(np.finfo(np.float32).max)
        self._low = np.float32(max(self._center - reach, -largest))
        self._scale = np.float32(min((BINS - 2) / (2 * reach), 1e30) if reach > 0 else 1.0)

    def _bins(self, values: NDArray[np.float32]) -> NDArray[np.int64]:
        """Bins as the pass counts them."""
        with np.errstate(over="ignore"):
            place = (values.astype(np.float32) - self._low) * self._scale
        return np.asarray((np.clip(place, 0, BINS - 2) + np.float32(1)).astype(np.int64))  # the sum is rounded, too

    def _predicted(self, sample: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Bins that hold the quantiles, most likely, and those between the inner and the outer limit."""
        wanted = np.zeros(BINS, np.uint8)
        ranges = []
        if sample.size:
            error = _ERRORS * np.sqrt(self._fractions * (1 - self._fractions) / sample.size) + 1 / sample.size
            places = np.rint(np.array([self._fractions - error, self._fractions + error]) * sample.size)
            ranges += list(sample[np.clip(places, 0, sample.size - 1).astype(int)].T)
        if 0 <= self._outer < np.inf:
            border = np.array([self._inner, self._outer])
            ranges += [self._center - border[::-1], self._center + border]
        for first, last in map(self._bins, ranges):
            wanted[first : last + 1] = 1
        return wanted

    def _pass(self, wanted: NDArray[np.uint8], room: int) -> None:
        """Pass over the plane, and over again if bins were not picked that hold quantiles."""
        image, mask, bad = self._plane
        bands = threads.bands(len(image))
        # each has room for all that is wanted, wherever it is: memory costs nothing until it is written
        picked = np.empty((len(bands), room + image.shape[1] + 1), np.float32)

        def survey(band: int) -> tuple[NDArray[np.int64], int, NDArray[np.float64]]:
            part, part_mask = image[bands[band]], mask[bands[band]]
            return survey_plane(
                part, part_mask, bad, self._low, self._scale, wanted, self._center, self._inner, picked[band]
            )

        counts_of, n_of, middle_of = zip(*threads.each(survey, range(len(bands))), strict=True)
        counts, n_picked = np.sum(counts_of, axis=0), sum(n_of)
        self._n = int(counts.sum())
        floors = np.floor(self._fractions * (self._n - 1)).astype(np.int64)
        self._ranks = np.stack([floors, np.minimum(floors + 1, self._n - 1)])
        self._bin_of_rank = np.searchsorted(np.cumsum(counts), self._ranks, side="right") if self._n else floors
        needed = int(counts @ wanted)
        if self._n and not (wanted[self._bin_of_rank].all() and n_picked == needed):
            wanted[self._bin_of_rank] = 1
            self._pass(wanted, int(counts @ wanted))
            return
        self._left_out = np.cumsum(counts * (1 - wanted))
        self._picked = np.concatenate([values[:n] for values, n in zip(picked, n_of, strict=True)])
        self._picked.sort()
        self._middle = np.concatenate(middle_of).sum(axis=0)
        distance = abs(self._picked.astype(np.float64) - self._center)
        self._border = self._picked[(distance > self._inner) & (distance <= self._outer)].astype(np.float64)

    def quantiles(self) -> NDArray[np.float64]:
        """Quantiles at index ``fraction * (n - 1)``, interpolated linearly; NaN without good pixels."""
        if not self._n:
            return np.full(self._fractions.size, np.nan)
        places = self._ranks - self._left_out[self._bin_of_rank]
        below, above = self._picked[places].astype(np.float64)
        weight = self._fractions * (self._n - 1) - self._ranks[0]
        return np.asarray((1 - weight) * below + weight * above)

    def moments(self, center: float, limit: float) -> tuple[int, float, float]:
        """Number, mean and sample standard deviation of the good pixels within ``limit`` of ``center``."""
        offset = abs(center - self._center)
        if self._inner <= limit - offset and limit + offset <= self._outer:
            d = self._border[abs(self._border - center) <= limit] - self._center
            base, sums = self._center, self._middle + np.array([d.size, d.sum(), np.square(d).sum()])
        else:
            base, sums = center, moments_within(*self._plane, center, limit)
        n, total, squares = (float(value) for value in sums)
        if not n:
            return 0, np.nan, np.nan
        variance = max(squares - total * total / n, 0.0) / (n - 1) if n > 1 else np.nan
        return int(n), base + total / n, float(np.sqrt(variance))
