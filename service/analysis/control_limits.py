"""What is usual: robust centre and control limits of earlier values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["LEAST_VALUES", "SIGMAS", "Limits", "control_limits"]

#: Standard deviations of a normal distribution between the centre and a limit.
SIGMAS = 3.0
#: Fewer earlier values tell no limits.
LEAST_VALUES = 8
_SIGMA_PER_MAD = 1.4826


@dataclass(frozen=True, slots=True)
class Limits:
    """Centre and control limits.

    Parameters
    ----------
    center : float
        Median.
    low, high : float
        Limits.
    n : int
        Values behind them.
    """

    center: float
    low: float
    high: float
    n: int

    def excess(self, value: float) -> float:
        """Distance from the centre in units of that of the limits, negative below; beyond +-1 is outside."""
        return (value - self.center) / (self.high - self.center)


def control_limits(values: ArrayLike) -> Limits | None:
    """Median, and three robust standard deviations (1.4826 MAD) to either side.

    Parameters
    ----------
    values : array_like of float
        Earlier values; those that are not finite do not count.

    Returns
    -------
    Limits or None
        None where fewer than `LEAST_VALUES` are there, or where more than half of them are equal.
    """
    given = np.asarray(values, np.float64)
    known = given[np.isfinite(given)]
    if known.size < LEAST_VALUES:
        return None
    center = float(np.median(known))
    half = SIGMAS * _SIGMA_PER_MAD * float(np.median(np.abs(known - center)))
    return Limits(center, center - half, center + half, int(known.size)) if half > 0 else None
