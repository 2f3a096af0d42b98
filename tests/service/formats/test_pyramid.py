"""Pyramids, judged by block means of the whole image and by Deep Zoom's definition of levels and tiles."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from service import formats
from service.formats.pyramid import TILE, Pyramid, write_bit_pyramid, write_pyramid
from service.formats.sections import ImageFile
from service.storage.blobs import FileReader


def pyramid_of(image: np.ndarray[Any, Any], directory: Path) -> Pyramid:
    formats.write_image(directory / "x.fits", image.astype(np.float32))
    with (directory / "x.fits").open("rb") as file:
        write_pyramid(directory / "pyramid", ImageFile(FileReader(file)).plane(None))
    return Pyramid(io.BytesIO((directory / "pyramid").read_bytes()))


def assembled(pyramid: Pyramid, z: int, width: int, height: int) -> np.ndarray[Any, Any]:
    """A level as a viewer puts it together: row 0 at the top."""
    columns = range(-(-width // TILE))
    rows = [np.hstack([pyramid.tile(z, x, y)[::-1] for x in columns]) for y in range(-(-height // TILE))]
    return np.vstack(rows)


@pytest.mark.parametrize("shape", [(700, 1030), (256, 256), (257, 255), (1, 5), (1, 1), (513, 1)])
def test_levels_are_means_of_the_picture(shape: tuple[int, int], tmp_path: Path) -> None:
    image = np.random.default_rng(1).normal(100, 10, shape).astype(np.float32)
    pyramid = pyramid_of(image, tmp_path)
    assert pyramid.top == math.ceil(math.log2(max(shape)))
    np.testing.assert_array_equal(assembled(pyramid, pyramid.top, shape[1], shape[0]), image[::-1])
    for z in range(pyramid.top + 1):
        step = 2 ** (pyramid.top - z)
        height, width = -(-shape[0] // step), -(-shape[1] // step)
        level = assembled(pyramid, z, width, height)
        assert level.shape == (height, width)
        full = image[::-1][: shape[0] // step * step, : shape[1] // step * step].astype(np.float64)
        expected = full.reshape(shape[0] // step, step, shape[1] // step, step).mean(axis=(1, 3))
        np.testing.assert_allclose(level[: expected.shape[0], : expected.shape[1]], expected, rtol=3e-6)
        assert np.isfinite(level).all()


def test_undefined_pixels_do_not_spread(tmp_path: Path) -> None:
    image = np.ones((600, 600), np.float32)
    image[::3, ::3] = np.nan
    image[5, 5] = np.inf
    pyramid = pyramid_of(image, tmp_path)
    assert np.isnan(pyramid.tile(pyramid.top, 0, 0)).any()
    level = assembled(pyramid, pyramid.top - 1, 300, 300)
    np.testing.assert_array_equal(level, 1.0)


def test_bits_of_a_mask_are_kept_at_every_level(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    mask = np.where(rng.random((300, 530)) < 0.01, 1 << rng.integers(0, 31, (300, 530)), 0).astype(np.int32)
    hdu = fits.ImageHDU(mask, name="MASK")
    hdu.header["HIERARCH MP_SAT"] = 1
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "mask.fits")
    with (tmp_path / "mask.fits").open("rb") as file:
        write_bit_pyramid(tmp_path / "pyramid", ImageFile(FileReader(file)).plane("mask"))
    pyramid = Pyramid(io.BytesIO((tmp_path / "pyramid").read_bytes()))
    assert pyramid.planes == {"SAT": 1}
    top_down = mask[::-1]
    for z in range(pyramid.top + 1):
        step = 2 ** (pyramid.top - z)
        height, width = -(-mask.shape[0] // step), -(-mask.shape[1] // step)
        level = assembled(pyramid, z, width, height)
        for row, column in zip(rng.integers(0, height, 50), rng.integers(0, width, 50), strict=True):
            block = top_down[row * step : (row + 1) * step, column * step : (column + 1) * step]
            assert level[row, column] == np.bitwise_or.reduce(block, axis=None)


def test_overview_stands_for_the_whole(tmp_path: Path) -> None:
    image = np.random.default_rng(2).normal(100, 10, (1500, 2100)).astype(np.float32)
    image[1490:, :10] = 1e6
    overview = pyramid_of(image, tmp_path).overview()
    assert overview.shape == (375, 525)
    assert overview[-1, 0] > 9e5  # rows upwards
    assert overview.mean() == pytest.approx(image.mean(dtype=np.float64), rel=0.02)


@pytest.mark.parametrize("place", [(-1, 0, 0), (12, 0, 0), (11, 8, 0), (11, 0, 5), (11, -1, 0)])
def test_tiles_that_are_not_there(place: tuple[int, int, int], tmp_path: Path) -> None:
    pyramid = pyramid_of(np.zeros((1100, 2048)), tmp_path)
    with pytest.raises(LookupError, match="level"):
        pyramid.tile(*place)
