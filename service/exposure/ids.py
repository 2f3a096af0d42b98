"""Source identifiers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

import numpy as np
from numpy.typing import NDArray

__all__ = ["IdGenerator", "packed_catalog_id"]

_ID_BITS = 63
# Method: Rubin's packing of its visit numbers (days since 2010 in 14 bits, the number within the night in 15).
_EPOCH = date(2010, 1, 1)
_FIRST_DAY, _LAST_DAY = 2010_01_01, 2054_11_09
_SEQUENCES = 1 << 15


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

    A visit of thirteen digits that are a day and a number within the night, as Rubin has them, is packed as Rubin does.

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
    number = _within_days(visit)
    if not (0 <= number < n_visits and 0 <= detector < n_detectors and 0 <= release_id < n_releases):
        raise ValueError(f"visit {visit}, detector {detector} or release {release_id} is outside the id packing")
    max_bits = (n_visits * n_detectors - 1).bit_length()
    packed = number * n_detectors + detector
    counter_bits = _ID_BITS - (max_bits + (n_releases - 1).bit_length())
    return packed + (release_id << max_bits), counter_bits


def _within_days(visit: int) -> int:
    """Visits numbered ``yyyymmdd`` and five digits of the night as a number below 2**29; all others as they are."""
    day, sequence = divmod(visit, 100_000)
    if not _FIRST_DAY <= day <= _LAST_DAY or sequence >= _SEQUENCES:
        return visit
    try:
        night = date(day // 10_000, day // 100 % 100, day % 100)
    except ValueError:
        return visit
    return sequence + _SEQUENCES * (night - _EPOCH).days


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
