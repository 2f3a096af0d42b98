"""Source identifiers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["IdGenerator", "packed_catalog_id"]

_ID_BITS = 63


def packed_catalog_id(
    visit: int,
    detector: int,
    *,
    n_visits: int = 1 << 30,
    n_detectors: int = 256,
    release_id: int = 0,
    n_releases: int = 64,
) -> tuple[int, int]:
    """Catalogue id and width of the row counter of one visit and detector.

    Parameters
    ----------
    visit, detector : int
        Data id; each below its bound.
    n_visits, n_detectors, release_id, n_releases : int
        Bounds of the packing.

    Returns
    -------
    catalog_id, counter_bits : int
        Row ids are ``(catalog_id << counter_bits) | counter``.

    Raises
    ------
    ValueError
        A part of the data id is outside its bounds.
    """
    if not (0 <= visit < n_visits and 0 <= detector < n_detectors and 0 <= release_id < n_releases):
        raise ValueError(f"visit {visit}, detector {detector} or release {release_id} is outside the id packing")
    max_bits = (n_visits * n_detectors - 1).bit_length()
    packed = visit * n_detectors + detector
    counter_bits = _ID_BITS - (max_bits + (n_releases - 1).bit_length())
    return packed + (release_id << max_bits), counter_bits


@dataclass(slots=True)
class IdGenerator:
    """Ascending source ids that start at counter 1.

    Parameters
    ----------
    catalog_id : int
        Upper bits, shared by the catalogues of one detector; 0 gives ids 1, 2, 3...
    counter_bits : int
        Width of the counter.
    """

    catalog_id: int = 0
    counter_bits: int = 32
    _next: int = field(default=1, init=False)

    def take(self, n: int) -> NDArray[np.int64]:
        """The next ``n`` ids, int64.

        Raises
        ------
        OverflowError
            The counter has no room for them.
        """
        if self._next + n > 1 << self.counter_bits:
            raise OverflowError(f"more than {(1 << self.counter_bits) - 1} sources in one catalogue")
        start = (self.catalog_id << self.counter_bits) | self._next
        self._next += n
        return np.arange(start, start + n, dtype=np.int64)
