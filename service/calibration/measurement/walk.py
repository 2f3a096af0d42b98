"""A walk through a catalogue, source by source, in parts that see what they would see in a single one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from service import threads
from service.calibration.kernels.noise_replacement import hide_sources

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from service.calibration.kernels.noise_replacement import NoiseReplacedPlane
    from service.calibration.measurement.context import MeasurementContext

__all__ = ["Part", "walk"]


@dataclass(slots=True)
class Part:
    """Chunks of a catalogue that lie together on the image, and the plane in which they are measured.

    Parameters
    ----------
    starts : list of int
        Where the chunks begin in the order of measurement, ascending.
    plane : NoiseReplacedPlane
        The image's own, or one of this part, of which only some rows hold anything.
    hidden : bool
        Whether all sources are hidden in it as before the first measurement.
    first, end : int
        Rows of its own plane that it holds.
    """

    starts: list[int]
    plane: NoiseReplacedPlane
    hidden: bool = True
    first: int = 0
    end: int = 0

    def copy_rows(self, work: NDArray[np.float32], first: int, end: int) -> None:
        """Take over those rows of the image that this part does not hold yet.

        What is shown and hidden there meanwhile does not matter: it lies in footprints, which are to be hidden.
        """
        if self.end == 0:
            self.first = self.end = first
        for rows in (slice(first, self.first), slice(self.end, end)):
            self.plane.work[rows] = work[rows]
            self.hidden &= rows.stop <= rows.start
        self.first, self.end = min(first, self.first), max(end, self.end)


def walk(
    context: MeasurementContext,
    centers: NDArray[np.float64],
    reach: float,
    measure: Callable[[NoiseReplacedPlane, NDArray[np.int64]], None],
) -> None:
    """Measure all sources in their order, chunk by chunk, beginning with all of them hidden.

    A source that has been measured leaves its noise on top where footprints overlap, and neighbours see it. A part
    therefore hides the sources of others when it would be their turn, before it measures those that come next.

    Parameters
    ----------
    context : MeasurementContext
        Its parts are made by the first walk: the chunks by rows of the image, as many parts as there are threads.
    centers : ndarray of float64, shape (n, 2)
        Positions of the sources, array coordinates; NaN where only the footprint counts.
    reach : float
        Rows above and below the centre that may be looked at, beside those of the footprint.
    measure : callable
        Measures some sources in a plane, which has all of them hidden before and after.
    """
    if not context.order.size:
        return
    footprints = _footprint_rows(context.plane)
    seen = _seen_rows(footprints, centers[:, 1], reach, len(context.plane.work))
    if not context.parts:
        context.parts = _parts(context, seen[context.order, 0])
    threads.each(lambda part: _walk_through(part, context, footprints, seen, measure), context.parts)


def _footprint_rows(plane: NoiseReplacedPlane) -> NDArray[np.int64]:
    """First row and the one after the last of each footprint, array coordinates; (0, 0) of one without pixels."""
    rows = np.zeros((len(plane.span_offsets) - 1, 2), np.int64)
    filled = np.flatnonzero(np.diff(plane.span_offsets))
    rows[filled, 0] = plane.spans[plane.span_offsets[filled], 0]
    rows[filled, 1] = plane.spans[plane.span_offsets[filled + 1] - 1, 0] + 1
    return rows


def _seen_rows(footprints: NDArray[np.int64], y: NDArray[np.float64], reach: float, height: int) -> NDArray[np.int64]:
    """First row of the image, and the one after the last, that the measurement of each source looks at."""
    seen = np.column_stack(
        [np.fmin(footprints[:, 0], np.floor(y - reach)), np.fmax(footprints[:, 1], np.ceil(y + reach) + 1)]
    )
    return np.asarray(np.clip(seen, 0, height), np.int64)


def _parts(context: MeasurementContext, first: NDArray[np.int64]) -> list[Part]:
    """Chunks that begin at similar rows together, so that a part needs few rows; given the first of each source.

    Those that are spread over the image, as sky sources are, come to the first part, which copies nothing.
    """
    starts = np.arange(0, len(first), context.chunk_size)
    by_row = starts[np.argsort(np.minimum.reduceat(first, starts), kind="stable")]
    parts = [Part(np.sort(some).tolist(), context.plane) for some in np.array_split(by_row, threads.in_use())]
    if context.plane.replaced:
        for part in parts[1:]:
            part.plane, part.hidden = context.plane._replace(work=np.empty_like(context.plane.work)), False
    return [part for part in parts if part.starts]


def _walk_through(
    part: Part,
    context: MeasurementContext,
    footprints: NDArray[np.int64],
    seen: NDArray[np.int64],
    measure: Callable[[NoiseReplacedPlane, NDArray[np.int64]], None],
) -> None:
    """Measure the chunks of one part, and hide what others measure before each of them."""
    order, size = context.order, context.chunk_size
    own = np.concatenate([order[start : start + size] for start in part.starts])
    first, end = int(seen[own, 0].min()), int(seen[own, 1].max())
    if part.plane.work is not context.plane.work:
        part.copy_rows(context.plane.work, first, end)
    near = (footprints[:, 0] < end) & (footprints[:, 1] > first)
    if not part.hidden:
        hide_sources(part.plane, np.flatnonzero(near))
    part.hidden = False
    done = 0
    for start in part.starts:
        if done < start:
            others = order[done:start]
            hide_sources(part.plane, others[near[others]])
        rows = order[start : start + size]
        measure(part.plane, rows)
        done = start + len(rows)
