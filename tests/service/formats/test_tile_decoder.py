"""Compressed tiles, bit for bit against astropy."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from service import threads
from service.formats.container import open_fits
from service.formats.errors import FormatError
from service.formats.headers import ReadLimits
from service.formats.tile_decoder import decode_tiles
from service.formats.tile_kernels import dither

SHAPE = (75, 130)
TILES = [None, (1, 130), (10, 32), (75, 130), (7, 130), (1, 50)]


def sky(dtype: str, *, scale: float = 1.0) -> NDArray[Any]:
    rng = np.random.default_rng(3)
    image = rng.normal(100, 8 * scale, SHAPE) + 1e4 * scale * (rng.random(SHAPE) > 0.995)
    return image.clip(0, 60_000 if "u" in dtype else 30_000).astype(dtype)


def compressed(path: Path, image: NDArray[Any], algorithm: str, tile: Any = None, **options: Any) -> Path:
    options = {"quantize_level": 0, "quantize_method": -1} | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hdu = fits.CompImageHDU(image, compression_type=algorithm, tile_shape=tile, **options)
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)
    return path


def decoded(path: Path, count: int = 1) -> NDArray[Any] | None:
    with open_fits(path, ReadLimits()) as source, threads.at_most(count):
        return decode_tiles(source.stream, source.hdus[1])


def astropys(path: Path) -> NDArray[Any]:
    with fits.open(path) as hdus:
        data = np.asarray(hdus[1].data)
    return data.astype(data.dtype.newbyteorder("="))


def check(path: Path) -> NDArray[Any]:
    """Ours, which is what astropy makes of the file, with any number of threads."""
    wanted = astropys(path)
    for count in (1, 3):
        found = decoded(path, count)
        assert found is not None
        assert found.dtype == wanted.dtype
        assert found.tobytes() == wanted.tobytes()
    return wanted


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("algorithm", ["RICE_1", "GZIP_1", "GZIP_2"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "u2", "u4"])
def test_integers(tmp_path: Path, dtype: str, algorithm: str, tile: Any) -> None:
    image = sky(dtype) if dtype != "u1" else (sky("i4") % 256).astype("u1")
    np.testing.assert_array_equal(check(compressed(tmp_path / "x.fits", image, algorithm, tile)), image)


@pytest.mark.parametrize("kind", ["constant", "noise", "outliers", "steps", "extremes"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4"])
def test_rice_codes_of_every_kind(tmp_path: Path, dtype: str, kind: str) -> None:
    rng, limits = np.random.default_rng(1), np.iinfo(dtype)
    image = np.full(SHAPE, 7, dtype)
    if kind == "noise":
        image = rng.integers(limits.min, limits.max, SHAPE, dtype, endpoint=True)
    elif kind == "outliers":  # long rows of zeros
        image[rng.random(SHAPE) > 0.97] = limits.max // 2
    elif kind == "steps":
        image = (np.arange(image.size).reshape(SHAPE) * 37 // 1000).astype(dtype)
    elif kind == "extremes":
        image = np.where(rng.random(SHAPE) > 0.5, limits.min, limits.max).astype(dtype)
    np.testing.assert_array_equal(check(compressed(tmp_path / "x.fits", image, "RICE_1")), image)


@pytest.mark.parametrize("scale", [1e-3, 1, 1e3, 1e5])
def test_rice_codes_of_every_width(tmp_path: Path, scale: float) -> None:
    image = np.random.default_rng(2).normal(0, scale * np.linspace(0.1, 3, SHAPE[0])[:, None], SHAPE).astype("i4")
    np.testing.assert_array_equal(check(compressed(tmp_path / "x.fits", image, "RICE_1")), image)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("method", [-1, 1, 2])
@pytest.mark.parametrize("algorithm", ["RICE_1", "GZIP_1", "GZIP_2"])
def test_quantised_floats(tmp_path: Path, algorithm: str, method: int, tile: Any) -> None:
    image = sky("f4")
    image[5:9, 20:60] = 0.0  # what the second dither keeps
    image[40] = 3.25  # no noise: a tile of it is not quantised
    path = compressed(
        tmp_path / "x.fits", image, algorithm, tile, quantize_level=16, quantize_method=method, dither_seed=9_990
    )
    assert np.abs(check(path) - image).max() < 2


def test_quantised_with_undefined_pixels(tmp_path: Path) -> None:
    codes = np.random.default_rng(4).integers(-500, 500, SHAPE).astype("i4")
    codes[::7, ::5] = -2147483648
    codes[3] = -2147483646
    path = compressed(tmp_path / "x.fits", codes, "RICE_1")
    with fits.open(path, disable_image_compression=True) as hdus:
        columns = [fits.Column("COMPRESSED_DATA", "1PB()", array=list(hdus[1].data["COMPRESSED_DATA"]))]
        columns += [fits.Column(name, "D", array=np.linspace(1, 2, SHAPE[0])) for name in ("ZSCALE", "ZZERO")]
        header = hdus[1].header.copy()
        header.update({"ZBITPIX": -32, "ZQUANTIZ": "SUBTRACTIVE_DITHER_2", "ZDITHER0": 5, "ZBLANK": -2147483648})
        fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns, header)]).writeto(tmp_path / "y.fits")
    image = check(tmp_path / "y.fits")
    assert np.isnan(image[::7, ::5]).all()
    assert (image[3, 1:5] == 0).all()


@pytest.mark.parametrize("algorithm", ["GZIP_1", "GZIP_2"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("tile", TILES)
def test_floats_as_they_are(tmp_path: Path, dtype: str, algorithm: str, tile: Any) -> None:
    image = sky(dtype)
    image[3, 4], image[5, 6] = np.nan, np.inf
    np.testing.assert_array_equal(check(compressed(tmp_path / "x.fits", image, algorithm, tile)), image)


def test_the_dither_ends_as_the_standard_says() -> None:
    assert dither().size == 10_000
    assert round(float(dither()[-1]) * 2147483647) == pytest.approx(1043618065, rel=1e-6)


@pytest.mark.parametrize(
    ("algorithm", "image", "options"),
    [
        ("HCOMPRESS_1", sky("i4"), {"tile": (25, 130)}),
        ("PLIO_1", sky("i4"), {}),
        ("RICE_1", sky("f8"), {"quantize_level": 16, "quantize_method": 1, "dither_seed": 1}),
        ("RICE_1", np.stack([sky("i4")] * 2), {}),
    ],
)
def test_what_is_unusual_is_left_to_astropy(
    tmp_path: Path, algorithm: str, image: NDArray[Any], options: dict[str, Any]
) -> None:
    path = compressed(tmp_path / "x.fits", image, algorithm, **options)
    assert decoded(path) is None
    with open_fits(path, ReadLimits()) as source:
        assert source.read_cube(source.hdus[1]).tobytes() == astropys(path).tobytes()


@pytest.mark.parametrize("card", [("BLANK", 5), ("BSCALE", 2.0), ("BZERO", 10), ("ZQUANTIZ", "NEW")])
def test_cards_that_we_do_not_know_are_astropys(tmp_path: Path, card: tuple[str, Any]) -> None:
    path = compressed(tmp_path / "x.fits", sky("i4"), "RICE_1")
    with fits.open(path, disable_image_compression=True) as hdus:
        hdus[1].header[card[0]] = card[1]
        hdus.writeto(tmp_path / "y.fits")
    unknown = card[0] != "ZQUANTIZ"  # which says nothing about integers
    assert (decoded(tmp_path / "y.fits") is None) == unknown


@pytest.mark.parametrize("algorithm", ["RICE_1", "GZIP_1", "GZIP_2"])
def test_damaged_tiles_are_never_decoded(tmp_path: Path, algorithm: str) -> None:
    """Whatever happens to its bytes, an image is what astropy makes of it, or is refused."""
    path = compressed(tmp_path / "x.fits", sky("i4"), algorithm)
    content = bytearray(path.read_bytes())
    with open_fits(path, ReadLimits()) as source:
        hdu = source.hdus[1]
    heap = hdu.offset + hdu.header["NAXIS1"] * hdu.header["NAXIS2"]
    rng = np.random.default_rng(6)
    for _ in range(60):
        damaged = bytearray(content)
        for at in rng.integers(heap, hdu.offset + hdu.size, 3):
            damaged[at] = rng.integers(256)
        found = decode_tiles(io.BytesIO(damaged), hdu)
        if found is not None:
            path.write_bytes(damaged)
            assert found.tobytes() == astropys(path).tobytes()


def test_a_tile_that_unpacks_to_more_is_not_unpacked(tmp_path: Path) -> None:
    path = compressed(tmp_path / "x.fits", np.zeros((4, 1_000_000), "i4"), "GZIP_1", (1, 1_000_000))
    with fits.open(path, disable_image_compression=True) as hdus:
        hdus[1].header["ZNAXIS1"] = hdus[1].header["ZTILE1"] = 1000
        hdus.writeto(tmp_path / "y.fits")
    assert decoded(tmp_path / "y.fits") is None
    with open_fits(tmp_path / "y.fits", ReadLimits()) as source, pytest.raises(FormatError):
        source.read_integers(source.hdus[1])
