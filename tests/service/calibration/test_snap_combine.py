"""Combination of snaps against the formula, pixel by pixel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from service.calibration.config.snap_combine import SnapCombineConfig
from service.calibration.snap_combine import combine_snaps
from service.exposure.exposure import Exposure, FilterLabel, VisitInfo
from service.exposure.mask import MaskPlanes
from service.exposure.masked_image import MaskedImage


def snap(seed: int, planes: dict[str, int] | None = None, mjd: float = 60000.0, **origin: int) -> Exposure:
    rng = np.random.default_rng(seed)
    image, variance = rng.normal(100, 5, (2, 30, 40)).astype(np.float32)
    masked = MaskedImage(image, np.zeros((30, 40), np.int32), variance, MaskPlanes(planes), **origin)
    visit = VisitInfo(visit=seed, mjd_mid_tai=mjd, exposure_time=15.0, dark_time=15.5, airmass=1.2)
    return Exposure(masked, visit_info=visit, filter=FilterLabel("r"), exposure_id=seed, metadata={"SNAP": seed})


def test_one_snap_is_itself() -> None:
    only = snap(1)
    assert combine_snaps([only], SnapCombineConfig()) is only


def test_two_snaps_add_up_and_keep_the_first_ones_records() -> None:
    first, second = snap(1), snap(2, {"CROSSTALK": 12, "BAD": 3}, mjd=60000.25)
    first.masked_image.mask[2, 3] = first.masked_image.planes.bitmask(["BAD", "SAT"])
    second.masked_image.mask[2, 3] = second.masked_image.planes.bitmask(["CROSSTALK", "BAD"])
    both = combine_snaps([first, second], SnapCombineConfig())
    a, b, c = first.masked_image, second.masked_image, both.masked_image
    np.testing.assert_array_equal(c.image, a.image + b.image)
    np.testing.assert_array_equal(c.variance, a.variance + b.variance)
    assert c.mask[2, 3] == c.planes.bitmask(["BAD", "SAT", "CROSSTALK"], missing_ok=False)
    assert np.count_nonzero(c.mask) == 1
    assert both.visit_info == replace(first.visit_info, mjd_mid_tai=60000.125, exposure_time=30.0, dark_time=31.0)
    assert (both.exposure_id, both.metadata, both.filter) == (1, {"SNAP": 1}, FilterLabel("r"))
    both.metadata["SNAP"] = 0
    c.image[:] = 0
    assert first.metadata == {"SNAP": 1}
    assert a.image.min() > 0


def test_bad_pixels_are_left_out() -> None:
    first, second = snap(1), snap(2, {"SAT": 7})
    a, b = first.masked_image, second.masked_image
    a.mask[5, :10] = a.planes.bitmask(["SAT"])
    b.mask[5, 5:15] = b.planes.bitmask(["SAT", "SUSPECT"])
    a.image[5, 0] = np.nan
    c = combine_snaps([first, second], SnapCombineConfig(bad_mask_planes=("SAT", "NOT_A_PLANE"))).masked_image
    np.testing.assert_array_equal(c.image[5, :5], 2 * b.image[5, :5])
    np.testing.assert_array_equal(c.variance[5, :5], 4 * b.variance[5, :5])
    np.testing.assert_array_equal(c.image[5, 10:15], 2 * a.image[5, 10:15])
    np.testing.assert_array_equal(c.image[6], a.image[6] + b.image[6])
    assert np.isnan(c.image[5, 5:10]).all()
    assert (c.mask[5, 5:10] == c.planes.bitmask(["NO_DATA"])).all()
    assert not c.mask[5, :5].any()
    assert not c.mask[5, 10:].any()


def test_other_numbers_and_unlike_snaps_are_refused() -> None:
    config = SnapCombineConfig()
    for snaps in ([], [snap(1)] * 3):
        with pytest.raises(RuntimeError, match="1 or 2"):
            combine_snaps(snaps, config)
    with pytest.raises(RuntimeError, match="differ"):
        combine_snaps([snap(1), snap(2, x0=1)], config)
