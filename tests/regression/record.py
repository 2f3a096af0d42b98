"""Record anew what the five exposures of ``test_unchanged.py`` give: ``python -m tests.regression.record``.

This is legitimate in one case: a change that was meant to change results, whose effect has been looked at (the failing
test lists it) and is told in CHANGELOG.md. A change that was to be faster, shorter or clearer is wrong if it needs it.

The first record is of commit adb4a18, before the work on speed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.regression.comparison import TOLERANCE, Values, deviation
from tests.regression.exposures import CASES, calibrate, values

RECORDED = Path(__file__).parent / "recorded"


def load(name: str) -> Values:
    """What was recorded of an exposure."""
    with np.load(RECORDED / f"{name}.npz") as data:
        return dict(data)


def narrowed(found: Values) -> Values:
    """The same in float32 where rounding is a small part of what is tolerated."""
    kept = {}
    for name, value in found.items():
        rounded = value.astype(np.float32) if value.dtype == np.float64 else value
        fits = rounded is value or np.all(deviation(name, found, rounded) < TOLERANCE / 100)
        kept[name] = rounded if fits else value
    return kept


def main() -> None:
    RECORDED.mkdir(exist_ok=True)
    for name, case in CASES.items():
        np.savez_compressed(RECORDED / f"{name}.npz", **narrowed(values(calibrate(case))))


if __name__ == "__main__":
    main()
