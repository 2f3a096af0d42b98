"""Boxes, masks, masked images, footprints, ids and the photometric calibration."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service import threads
from service.exposure.footprint import FootprintSet
from service.exposure.geometry import Box, pixel_index
from service.exposure.ids import IdGenerator, packed_catalog_id
from service.exposure.mask import DEFAULT_PLANES, MaskPlanes
from service.exposure.masked_image import MaskedImage
from service.exposure.photo_calib import PhotoCalib, nanojansky_to_abmag


def test_pixel_index_rounds_half_up() -> None:
    assert pixel_index([-0.5, 0.49, 0.5, -0.51]).tolist() == [0, 0, 1, -1]


def test_box_edges() -> None:
    box = Box(-3, 5, 10, 4)
    assert (box.x1, box.y1, box.center) == (6, 8, (1.5, 6.5))
    assert box.contains([-3.5, -3.51, 6.49, 6.5, np.nan], [5, 5, 5, 5, 5]).tolist() == [True, False, True, False, False]
    assert box.intersection(Box(6, 8, 5, 5)) == Box(6, 8, 1, 1)
    assert box.intersection(Box(7, 0, 5, 5)).width == 0
    rows, columns = Box(0, 6, 2, 2).slices(box)
    assert (rows, columns) == (slice(1, 3), slice(3, 5))


def test_default_planes_keep_their_bits() -> None:
    assert dict(MaskPlanes().items()) == {name: bit for bit, name in enumerate(DEFAULT_PLANES)}


@given(
    st.permutations(list(DEFAULT_PLANES)),
    arrays(np.int32, (4, 5), elements=st.integers(0, 2 ** len(DEFAULT_PLANES) - 1)),
)
def test_remapping_keeps_the_meaning(order: list[str], mask: np.ndarray) -> None:
    source = MaskPlanes()
    target = MaskPlanes({name: bit for bit, name in enumerate(order)})
    remapped = source.remap(mask, target)
    for name in DEFAULT_PLANES:
        assert np.array_equal((mask >> source[name]) & 1, (remapped >> target[name]) & 1)


def test_planes_that_collide_or_overflow_are_refused() -> None:
    with pytest.raises(ValueError, match="shares bit"):
        MaskPlanes({"BAD": 0, "SAT": 0})
    with pytest.raises(ValueError, match="outside"):
        MaskPlanes({"BAD": 31})
    planes = MaskPlanes()
    for i in range(31 - len(DEFAULT_PLANES)):
        planes.add(f"P{i}")
    with pytest.raises(ValueError, match="no bit left"):
        planes.add("ONE_MORE")


def test_scaling_scales_the_variance_by_the_square() -> None:
    image = MaskedImage(np.full((2, 3), 2.0, "f4"), np.zeros((2, 3), "i4"), np.full((2, 3), 5.0, "f4"))
    image.scale(3.0)
    assert (image.image[0, 0], image.variance[0, 0]) == (6.0, 45.0)
    with pytest.raises(ValueError, match="one shape"):
        MaskedImage(np.zeros((2, 3), "f4"), np.zeros((3, 2), "i4"), np.zeros((2, 3), "f4"))


@pytest.mark.parametrize("count", [1, 3])
def test_planes_are_cleared_and_no_others(count: int) -> None:
    mask = np.random.default_rng(1).integers(0, 1 << 12, (10, 7), np.int32)
    image = MaskedImage(np.zeros(mask.shape, "f4"), mask.copy(), np.zeros(mask.shape, "f4"))
    with threads.at_most(count):
        image.clear_planes(["CR", "DETECTED"])
    np.testing.assert_array_equal(image.mask, mask & ~image.planes.bitmask(["CR", "DETECTED"]))
    assert (image.count("CR"), image.count("DETECTED")) == (0, 0)


def footprints() -> FootprintSet:
    spans = np.array([[4, 1, 3], [5, 2, 2], [9, -2, 0], [7, 10, 10]], np.int32)
    peaks = np.array([[2, 4], [3, 4], [-1, 9]], np.int32)
    return FootprintSet.build(
        spans,
        np.array([0, 2, 3, 4]),
        peaks,
        np.array([5.0, 3.0, 2.0], np.float32),
        peak_offsets=np.array([0, 2, 3, 3]),
        pixels=np.array([1, 2, 3, 4, 7], np.float32),
        pixel_offsets=np.array([0, 4, 4, 5]),
    )


def test_footprint_set_queries() -> None:
    sources = footprints()
    assert sources.areas.tolist() == [4, 3, 1]
    assert sources.boxes.tolist() == [[1, 4, 3, 5], [-2, 9, 0, 9], [10, 7, 10, 7]]
    assert sources.n_peaks.tolist() == [2, 1, 0]
    assert sources.first_peaks[:2].tolist() == [[2.0, 4.0], [-1.0, 9.0]]
    assert np.isnan(sources.first_peaks[2]).all()
    assert sources[0].area == 4
    assert sources[0].bbox == Box(1, 4, 3, 2)
    assert sources[1].pixels is None
    assert sources[2].pixels is not None


@given(st.lists(st.integers(0, 2), max_size=6))
def test_selecting_is_taking_one_by_one(rows: list[int]) -> None:
    sources = footprints()
    chosen = sources.select(np.array(rows, dtype=np.intp))
    assert len(chosen) == len(rows)
    for new, old in enumerate(rows):
        assert np.array_equal(chosen[new].spans, sources[old].spans)
        assert np.array_equal(chosen[new].peaks, sources[old].peaks)
        a, b = chosen[new].pixels, sources[old].pixels
        assert (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b))


def test_concatenating_undoes_a_split() -> None:
    sources = footprints()
    joined = FootprintSet.concatenate([sources.select(np.array([0])), sources.select(np.array([1, 2]))])
    for name in ("spans", "span_offsets", "peaks", "peak_offsets", "pixels", "pixel_offsets"):
        assert np.array_equal(getattr(joined, name), getattr(sources, name)), name


def test_painting_clips_to_the_image() -> None:
    mask = np.zeros((6, 5), np.int32)
    footprints().paint(mask, 4, x0=-1, y0=4)
    expected = np.zeros((6, 5), np.int32)
    expected[0, 2:5] = expected[1, 3] = expected[5, 0:2] = 4
    assert np.array_equal(mask, expected)


def test_visits_named_by_day_are_packed_as_rubin_does() -> None:
    days = (date(2025, 5, 1) - date(2010, 1, 1)).days
    catalog_id, bits = packed_catalog_id(2025_05_01_00123, 94)
    assert bits == 19
    assert catalog_id == 94 + 256 * (123 + 32768 * days)
    assert packed_catalog_id(2010_01_01_00000, 0) == (0, 19)
    for no_day in (2025_13_01_00123, 2025_05_01_32768, 2060_01_01_00001):
        with pytest.raises(ValueError, match="outside the id packing"):
            packed_catalog_id(no_day, 94)


def test_ids_ascend_from_one_and_carry_the_catalog_id() -> None:
    catalog_id, bits = packed_catalog_id(7, 3)
    ids = IdGenerator(catalog_id, bits)
    assert ids.take(2).tolist() == [(catalog_id << bits) | 1, (catalog_id << bits) | 2]
    assert ids.take(1).tolist() == [(catalog_id << bits) | 3]
    assert catalog_id == 7 * 256 + 3
    assert IdGenerator().take(3).tolist() == [1, 2, 3]
    with pytest.raises(OverflowError):
        IdGenerator(1, 2).take(4)
    with pytest.raises(ValueError, match="outside the id packing"):
        packed_catalog_id(7, 256)


def test_zero_point_and_calibration_are_inverse() -> None:
    calib = PhotoCalib.from_zero_point(27.5, 0.01)
    assert calib.zero_point == pytest.approx(27.5, abs=1e-12)
    assert calib.zero_point_error == pytest.approx(0.01, rel=1e-12)
    assert calib.mean == pytest.approx(10 ** (0.4 * 3.9))
    assert nanojansky_to_abmag([1.0, 0.0, -1.0])[0] == pytest.approx(31.4)
    assert np.isnan(nanojansky_to_abmag([0.0, -1.0])).all()
