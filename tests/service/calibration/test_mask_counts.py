"""Bits of a mask are counted as NumPy counts them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.calibration.kernels.mask_counts import counts_by_bit


@given(
    hnp.arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 12)), elements=st.integers(-(2**31), 2**31 - 1))
)
def test_counts_of_any_mask(mask: np.ndarray) -> None:
    expected = [int(((mask.view(np.uint32) >> np.uint32(bit)) & 1).sum()) for bit in range(32)]
    assert counts_by_bit(mask).tolist() == expected


def test_runs_of_equal_pixels_and_an_empty_mask() -> None:
    mask = np.zeros((3, 40), np.int32)
    mask[0], mask[1, 5:9], mask[2, ::2] = 6, 1, 4
    assert counts_by_bit(mask)[:4].tolist() == [4, 40, 60, 0]
    assert counts_by_bit(np.zeros((0, 5), np.int32)).sum() == 0
