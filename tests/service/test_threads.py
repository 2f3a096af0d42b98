"""Parts of a job in threads: in order, as without, and with the caller's context."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from service import threads


@pytest.mark.parametrize("count", [1, 3])
def test_results_are_in_order_and_numpy_treats_errors_as_outside(count: int) -> None:
    with threads.at_most(count), np.errstate(divide="ignore"):
        found = threads.each(lambda part: float(np.float32(part) / np.float32(0)), [1, -2, 3])
    assert found == [np.inf, -np.inf, np.inf]


def test_parts_are_done_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=20)
    with threads.at_most(3):
        threads.each(lambda _: meeting.wait(), range(3))


def test_parts_of_parts_are_done_where_they_are() -> None:
    """Else the two threads would wait for each other for ever."""
    with threads.at_most(2):
        found = threads.each(lambda part: threads.each(lambda inner: (part, inner, threads.in_use()), "ab"), range(4))
    assert found == [[(part, inner, 1) for inner in "ab"] for part in range(4)]


def test_the_first_error_is_raised_when_no_part_runs_any_more() -> None:
    ended: list[int] = []

    def work(part: int) -> None:
        if part in (1, 2):
            raise ValueError(part)
        time.sleep(0.05)
        ended.append(part)

    with threads.at_most(2):
        with pytest.raises(ValueError, match="1"):
            threads.each(work, range(40))
        n_ended = len(ended)
        time.sleep(0.15)
        assert len(ended) == n_ended < 39


def test_outside_there_is_one_thread() -> None:
    with threads.at_most(4):
        assert threads.in_use() == 4
    assert threads.in_use() == 1
    assert threads.each(lambda _: threading.current_thread(), [0]) == [threading.current_thread()]


@pytest.mark.parametrize("length", [0, 1, 7, 4096])
@pytest.mark.parametrize("size", [None, 1, 512])
@pytest.mark.parametrize("count", [1, 4])
def test_bands_cover_an_axis_once(length: int, size: int | None, count: int) -> None:
    with threads.at_most(count):
        bands = threads.bands(length, size)
    assert [k for band in bands for k in range(length)[band]] == list(range(length))
    assert all(band.stop - band.start <= (size or length) for band in bands)
    assert size is not None or len(bands) <= count


@pytest.mark.parametrize("jobs", [1, 2, 1000])
def test_a_sensible_number_is_1_to_4(jobs: int) -> None:
    assert 1 <= threads.sensible(jobs) <= 4
