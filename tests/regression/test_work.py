"""Work does not grow unseen: kernels called, planes allocated, memory at its height, statements, requests.

Counts, no seconds: the same on a busy machine. `tests.regression.work` counts anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from service.calibration.kernels.mask_counts import counts_by_bit
from tests.regression.counted import PlaneTracer, kernel_calls
from tests.regression.work import TABLE, Table, counted_in_a_process

PEAK_TOLERANCE = 0.25  # planes


def changes(table: Mapping[str, float], found: Mapping[str, float], tolerance: float = 0) -> list[str]:
    """What is more or less than in the table, a line each."""
    return [
        f"{name}: {now:g}, {table.get(name, 0):g} in the table: {'less' if now < table.get(name, 0) else 'MORE'}"
        for name in sorted({*table, *found})
        if abs((now := found.get(name, 0)) - table.get(name, 0)) > tolerance
    ]


@pytest.fixture(scope="module")
def table() -> Table:
    read: Table = json.loads(TABLE.read_text())
    return read


@pytest.fixture(scope="module")
def found() -> Table:
    return counted_in_a_process()


def test_kernels_are_called_as_often(table: Table, found: Table) -> None:
    assert changes(table["kernel_calls"], found["kernel_calls"]) == []


def test_as_many_planes_are_allocated(table: Table, found: Table) -> None:
    assert changes(table["bytes_per_pixel_allocated"], found["bytes_per_pixel_allocated"]) == []


def test_memory_at_its_height(table: Table, found: Table) -> None:
    """Beyond the exposure that was given, which is changed in place."""
    assert changes(table["peak_planes"], found["peak_planes"], PEAK_TOLERANCE) == []


def test_a_job_needs_as_many_statements(table: Table, found: Table) -> None:
    assert changes(table["statements"], found["statements"]) == []


def test_a_client_that_waits_asks_as_often(table: Table, found: Table) -> None:
    assert changes(table["requests"], found["requests"]) == []


def test_more_and_less_are_told() -> None:
    table = {"same": 2, "more": 2, "less": 2, "gone": 1}
    found = {"same": 2, "more": 3, "less": 1, "new": 1}
    kinds = {line.split(":")[0]: line.rpartition(" ")[2] for line in changes(table, found)}
    assert kinds == {"more": "MORE", "less": "less", "gone": "less", "new": "MORE"}
    assert changes({"peak": 2.0}, {"peak": 2.2}, PEAK_TOLERANCE) == []


def test_kernels_are_counted_and_still_work() -> None:
    mask = np.full((3, 4), 5, np.int32)
    with kernel_calls() as calls:
        inside = [counts_by_bit(mask) for _ in range(2)]
    after = counts_by_bit(mask)
    assert calls == {"mask_counts.counts_by_bit": 2}
    assert all(np.array_equal(found, after) for found in inside)
    assert after[0] == after[2] == 12


def test_planes_are_counted_with_temporary_ones_and_those_of_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a name that is ours; numpy's, which are not, count with the line that calls them."""
    monkeypatch.setattr("tests.regression.counted._OURS", str(Path(__file__).parent))
    pixels = 1 << 20
    plane = np.ones(pixels, np.float32)
    with PlaneTracer(pixels) as tracer:
        tracer("one", 0.0, {})
        kept = allocate_one(plane)
        tracer("one", 1.0, {})
        tracer("three", 0.0, {})
        total = allocate_three(plane)
        tracer("three", 1.0, {})
    assert kept.sum() + total > 0
    assert tracer.allocated == {"one: test_work.allocate_one": 4, "three: test_work.allocate_three": 8 + 1}
    assert tracer.peaks["one"] == pytest.approx(1, abs=0.01)
    assert tracer.peaks["three"] == pytest.approx(1 + 2, abs=0.01)


def allocate_one(plane: np.ndarray) -> np.ndarray:
    return plane.copy()


def allocate_three(plane: np.ndarray) -> float:
    total = np.sum(plane.astype(np.float64))
    bright = plane > 2
    return float(total + bright.sum())
