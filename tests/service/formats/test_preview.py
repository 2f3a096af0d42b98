"""Previews, judged by the picture and by astropy.visualization."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.visualization import AsinhStretch, LogStretch, ManualInterval, SqrtStretch, ZScaleInterval
from PIL import Image

from service import formats
from service.exposure.background import BackgroundList, BackgroundModel
from service.exposure.geometry import Box
from service.formats.preview import binned_plane, block_mean
from service.formats.sections import ImageFile
from service.formats.stretch import Style, shade
from service.storage.blobs import FileReader


def pixels(png: bytes) -> np.ndarray[Any, Any]:
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    return np.asarray(image)[::-1]


@pytest.fixture(scope="module")
def sky() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(100, 5, (300, 500)).astype("f4")


@pytest.mark.parametrize(
    ("stretch", "oracle"),
    [("asinh", AsinhStretch(0.1)), ("sqrt", SqrtStretch()), ("log", LogStretch(1000)), ("linear", lambda x: x)],
)
def test_stretch_is_that_of_astropy(sky: Any, stretch: str, oracle: Any) -> None:
    grey = pixels(formats.preview_png(sky, size=500, stretch=stretch, limits=(90.0, 120.0)))
    expected = oracle(ManualInterval(90, 120)(sky)) * 255
    assert grey.shape == sky.shape
    assert np.abs(grey - expected).max() <= 1


@pytest.mark.parametrize("shape", [(100, 80), (1030, 900), (2500, 3100)])
def test_a_background_drawn_in_stripes_is_that_of_its_whole_plane(shape: tuple[int, int]) -> None:
    cells = np.random.default_rng(1).normal(500, 20, (9, 8)).astype(np.float32)
    box = Box(3, -5, shape[1], shape[0])
    backgrounds = BackgroundList([BackgroundModel(cells, cells / 100, np.zeros(cells.shape, np.int32), box)])
    whole = formats.preview_png(backgrounds.image(), stretch="linear", limits="minmax")
    np.testing.assert_array_equal(pixels(formats.background_png(backgrounds)), pixels(whole))


def test_zscale_is_that_of_astropy(sky: Any) -> None:
    grey = pixels(formats.preview_png(sky, size=500, stretch="linear"))
    expected = ManualInterval(*ZScaleInterval().get_limits(sky))(sky) * 255
    assert np.abs(grey - expected).max() <= 1


def test_limits(sky: Any) -> None:
    grey = pixels(formats.preview_png(sky, size=500, stretch="linear", limits="minmax"))
    assert (grey.flat[np.argmin(sky)], grey.flat[np.argmax(sky)]) == (0, 255)
    grey = pixels(formats.preview_png(sky, size=500, stretch="linear", limits="90%"))
    assert (grey == 255).mean() == pytest.approx(0.05, abs=0.005)
    for wrong in ({"stretch": "cubic"}, {"limits": "narrow"}, {"limits": "101%"}):
        with pytest.raises(ValueError, match="is no"):
            formats.preview_png(sky, **wrong)


def test_binning_keeps_orientation_and_means() -> None:
    image = np.zeros((1000, 1500), "f4")
    image[900:, :300] = 1.0
    grey = pixels(formats.preview_png(image, size=150, stretch="linear", limits=(0.0, 1.0)))
    assert grey.shape == (100, 150)
    assert grey[95, 10] == 255
    assert grey[5, 140] == 0
    assert grey[:, 31:].max() == 0


def test_undefined_pixels_do_not_spread() -> None:
    image = np.ones((400, 400), "f4")
    image[::4, ::4] = np.nan
    image[200:, 200:] = np.nan
    grey = pixels(formats.preview_png(image, size=100, stretch="linear", limits=(0.0, 2.0)))
    assert np.unique(grey[:50, :50]).tolist() == [127]
    assert np.unique(grey[50:, 50:]).tolist() == [0]
    assert pixels(formats.preview_png(np.full((9, 9), np.nan, "f4"))).max() == 0


def test_a_large_image_takes_half_a_second_at_most() -> None:
    image = np.random.default_rng(0).normal(100, 5, (4096, 4096)).astype("f4")
    formats.preview_png(image[:64, :64])
    start = time.process_time()
    formats.preview_png(image)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(("name", "oracle"), [("heat", "hot"), ("viridis", "viridis"), ("magma", "magma")])
def test_colour_maps_are_those_of_matplotlib(name: str, oracle: str) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    picture = shade(np.arange(256, dtype="f4")[None], Style("linear", (0.0, 255.0), name))
    expected = np.rint(matplotlib.colormaps[oracle](np.arange(256))[:, :3] * 255)
    assert np.abs(np.asarray(picture.convert("RGB"), dtype=float)[0] - expected).max() <= 2


def test_inversion_and_unknown_maps() -> None:
    values = np.array([[0.0, 1.0, np.nan]], "f4")
    assert np.asarray(shade(values, Style("linear", (0.0, 1.0), invert=True)))[0].tolist() == [255, 0, 255]
    with pytest.raises(ValueError, match="no colour map"):
        Style(color_map="jet")


def test_stored_planes_are_binned_as_arrays_are(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(100, 5, (1500, 1031)).astype("f4")
    image[700:720, 3:9] = np.nan
    formats.write_image(tmp_path / "x.fits", image, x0=5, y0=-7)
    with (tmp_path / "x.fits").open("rb") as file:
        plane = ImageFile(FileReader(file)).plane(None)
        for box in (plane.bbox, Box(25, 600, 411, 777)):
            cut = image[box.slices(plane.bbox)]
            for step in (1, 2, 7):
                np.testing.assert_array_equal(binned_plane(plane, box, step), block_mean(cut, step))
