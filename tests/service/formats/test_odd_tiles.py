"""Tile-compressed images no sane program writes: they are read as astropy reads them, or refused."""

from __future__ import annotations

import gzip
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from service.formats.container import open_fits
from service.formats.errors import FormatError
from service.formats.headers import ReadLimits
from service.formats.tile_decoder import decode_tiles

SHAPE = (12, 40)
INTEGERS = np.random.default_rng(0).normal(100, 8, SHAPE).astype("i4")


class Table:
    """A compressed image as the table it is, every part of which can be changed."""

    def __init__(self, path: Path, image: NDArray[Any] = INTEGERS, algorithm: str = "RICE_1", **options: Any) -> None:
        self.path = path
        fits.CompImageHDU(image, compression_type=algorithm, **options).writeto(path)
        with fits.open(path, disable_image_compression=True) as hdus:
            self.header = hdus[1].header.copy()
            start = hdus[1].fileinfo()["datLoc"]
        size = self.header["NAXIS1"] * self.header["NAXIS2"]
        content = path.read_bytes()[start : start + size + self.header["PCOUNT"]]
        self.rows = np.frombuffer(content[:size], np.uint8).reshape(self.header["NAXIS2"], -1)
        self.heap = content[size:]

    def add_column(self, name: str, cells: NDArray[Any], form: str) -> None:
        self.rows = np.hstack([self.rows, cells.view(np.uint8).reshape(len(self.rows), -1)])
        number = self.header["TFIELDS"] + 1
        self.header.update({"NAXIS1": self.rows.shape[1], "TFIELDS": number})
        self.header.update({f"TTYPE{number}": name, f"TFORM{number}": form})

    def set_tiles(self, places: list[tuple[int, int]], heap: bytes, number: str = ">i4") -> None:
        """Length and offset of each, in what they point to."""
        self.rows, self.heap = np.array(places, number).view(np.uint8), heap
        self.header.update({"NAXIS1": self.rows.shape[1], "NAXIS2": len(places), "PCOUNT": len(heap)})

    def write(self, **cards: Any) -> Path:
        self.header.update(cards)
        data = self.rows.tobytes() + self.heap
        text = fits.PrimaryHDU().header.tostring() + self.header.tostring()
        self.path.write_bytes(text.encode() + data + bytes(-len(data) % 2880))
        return self.path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.fits"


def decoded(path: Path) -> NDArray[Any] | None:
    with open_fits(path, ReadLimits()) as source:
        return decode_tiles(source.stream, source.hdus[1])


def whole(path: Path) -> NDArray[Any]:
    with open_fits(path, ReadLimits()) as source:
        return source.read_cube(source.hdus[1])


def astropys(path: Path) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(path) as hdus:
            data = np.asarray(hdus[1].data)
    return data.astype(data.dtype.newbyteorder("="))


def refused(path: Path, code: str = "format.corrupt") -> None:
    with pytest.raises(FormatError) as error:
        whole(path)
    assert error.value.code == code


def rice_tile(*parts: str) -> bytes:
    """The first pixel, 10, and bits."""
    bits = format(10, "032b") + "".join(parts)
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


@pytest.mark.parametrize("card", [("TSCAL3", 2.0), ("TZERO4", 5.0)])
def test_columns_that_are_scaled_are_left_to_astropy(path: Path, card: tuple[str, float]) -> None:
    table = Table(path, INTEGERS.astype("f4"), quantize_level=16, quantize_method=1, dither_seed=5)
    plain = astropys(table.write())
    scaled = astropys(table.write(**dict([card])))
    assert not np.array_equal(plain, scaled)
    assert decoded(path) is None
    np.testing.assert_array_equal(whole(path), scaled)


def test_blanks_of_integers_that_a_column_tells_are_left_to_astropy(path: Path) -> None:
    table = Table(path)
    table.add_column("ZBLANK", np.full(len(INTEGERS), INTEGERS[0, 0], ">i4"), "J")
    table.write()
    assert np.isnan(astropys(path)[0, 0])
    np.testing.assert_array_equal(whole(path), astropys(path))


def test_a_table_that_is_no_binary_table_is_not_decoded(path: Path) -> None:
    Table(path).write(XTENSION="IMAGE")
    assert astropys(path).shape == (12, 8)  # the descriptors
    assert decoded(path) is None
    refused(path)


def test_of_several_rice_options_the_first_counts(path: Path) -> None:
    table = Table(path, INTEGERS[:1, :4])
    tile = rice_tile("00001", "1", "1", "00001", "01", "1")  # where the second block begins may be a code as well
    table.set_tiles([(len(tile), 0)], tile)
    table.write(ZVAL1=2, ZNAME3="BLOCKSIZE", ZVAL3=4)
    assert astropys(path).tolist() == [[10, 10, 9, 9]]
    np.testing.assert_array_equal(whole(path), astropys(path))


def test_rice_options_behind_a_gap_do_not_count(path: Path) -> None:
    table = Table(path, INTEGERS[:1, :4])
    tile = rice_tile("00001", "1", "1", "00001", "01", "1")
    table.set_tiles([(len(tile), 0)], tile)
    del table.header["ZNAME1"], table.header["ZVAL1"]
    table.write(ZNAME4="BLOCKSIZE", ZVAL4=2)
    assert astropys(path).tolist() == [[10, 10, 12, 11]]  # blocks of 32
    np.testing.assert_array_equal(whole(path), astropys(path))


@pytest.mark.parametrize("cards", [{"ZVAL1": 32.7}, {"ZVAL2": 8}])
def test_rice_options_that_cannot_be_are_refused(path: Path, cards: dict[str, Any]) -> None:
    """Of 8 bytes: astropy gives what is in its memory behind half of the pixels."""
    refused(Table(path).write(**cards))


def test_names_with_blanks_before_them_are_other_names(path: Path) -> None:
    table = Table(path, INTEGERS.astype("f4"), quantize_level=16, quantize_method=-1)
    plain = astropys(table.write())
    assert not np.array_equal(plain, astropys(table.write(TTYPE3=" ZSCALE")))
    np.testing.assert_array_equal(whole(path), astropys(path))


def test_rice_codes_beyond_32_bits_are_cut_as_astropy_cuts_them(path: Path) -> None:
    table = Table(path, INTEGERS[:1, :4])
    low = format(77, "024b")
    tile = rice_tile(format(25, "05b"), "1" + low, "0" * 300 + "1" + low, "001" + low, "1" + low)
    table.set_tiles([(len(tile), 0)], tile)
    table.write()
    found = decoded(path)
    assert found is not None
    np.testing.assert_array_equal(found, astropys(path))


@pytest.mark.parametrize(
    "cards",
    [
        {"TFORM1": "1" * 5000 + "PB"},
        {"TFORM1": "1QB"},
        {"NAXIS": 1, "NAXIS2": 10**30, "THEAP": 8},
        {"NAXIS": 0, "NAXIS1": -8, "NAXIS2": -12, "THEAP": 0},
        {"TFORM1": "2PB"},
    ],
    ids=["a number of 5000 digits", "descriptors longer than rows", "endless table", "negative table", "two"],
)
def test_tables_that_cannot_be_are_refused(path: Path, cards: dict[str, Any]) -> None:
    refused(Table(path).write(**cards))


def test_columns_of_one_name_are_refused(path: Path) -> None:
    """Astropy refuses them as well: nobody knows which is meant."""
    table = Table(path)
    table.add_column("COMPRESSED_DATA", table.rows[::-1].copy(), "1PB")
    table.write()
    with pytest.raises(ValueError, match="name already used"):
        astropys(path)
    refused(path)
    with pytest.raises(FormatError):
        decoded(path)


def test_rows_longer_than_their_columns_are_refused(path: Path) -> None:
    """Astropy takes the columns' length, and finds something else in the second row."""
    table = Table(path, algorithm="GZIP_1")
    table.rows = np.hstack([table.rows, np.zeros((len(INTEGERS), 4), np.uint8)])
    refused(table.write(NAXIS1=12))


def test_descriptors_whose_sum_has_no_room_in_64_bits_are_refused(path: Path) -> None:
    table = Table(path, algorithm="GZIP_1")
    table.set_tiles([((1 << 62) + (1 << 40), 1 << 62)] * len(INTEGERS), table.heap, ">i8")
    refused(table.write(TFORM1="1QB"))


def test_bombs_are_found_under_names_in_any_case(path: Path) -> None:
    table = Table(path, algorithm="GZIP_1")
    bomb = gzip.compress(bytes(200 << 20))
    table.set_tiles([(len(bomb), 0)], bomb)
    refused(table.write(TTYPE1="compressed_data"), "format.decompression_limit")


def test_bombs_are_found_behind_another_member(path: Path) -> None:
    table = Table(path, algorithm="GZIP_1")
    bomb = gzip.compress(bytes(160)) + gzip.compress(bytes(200 << 20))
    table.set_tiles([(len(bomb), 0)], bomb)
    refused(table.write(), "format.decompression_limit")


def test_bombs_are_found_whose_length_is_counted_in_longer_integers(path: Path) -> None:
    table = Table(path, algorithm="GZIP_1")
    bomb = gzip.compress(bytes(200 << 20))
    bomb = bomb[:10] + bytes.fromhex("000000ffff") * len(bomb) + bomb[10:]  # empty blocks, then it
    bomb += bytes(-len(bomb) % 4)
    table.set_tiles([(len(bomb) // 4, 0)], bomb)
    refused(table.write(TFORM1="1PJ"), "format.decompression_limit")


def test_tiles_that_share_their_bytes_without_end_are_refused(path: Path) -> None:
    """Each of 3,000 pixels costs a megabyte of nothing."""
    table = Table(path, np.zeros((3_000, 1), "i4"), "GZIP_1")
    tile = gzip.compress(bytes(4))
    tile = tile[:10] + bytes.fromhex("000000ffff") * 200_000 + tile[10:]
    table.set_tiles([(len(tile), 0)] * 3_000, tile)
    refused(table.write())


_READ_ALL = """
import sys, warnings
from pathlib import Path
from service.formats import FormatError, ReadLimits
from service.formats.container import open_fits
warnings.simplefilter("ignore")
for name in sys.argv[1:]:
    with open_fits(Path(name), ReadLimits()) as source:
        try:
            source.read_cube(source.hdus[1])
        except FormatError as error:
            print(error.code, flush=True)
"""


def test_codes_that_lead_astropy_out_of_its_memory_are_refused(tmp_path: Path) -> None:
    """In a process of its own, which would die of each."""
    endless = rice_tile("00001", "0" * (64 << 20))
    options = Table(tmp_path / "options.fits").write(ZVAL2=10**6)
    image = Table(tmp_path / "image.fits")
    image.set_tiles([(len(endless), 0)] + [(0, 0)] * 11, endless)
    cube = Table(tmp_path / "cube.fits", np.stack([INTEGERS] * 2))
    cube.set_tiles([(len(endless), 0)] + [(0, 0)] * 23, endless)
    wavelets = Table(tmp_path / "wavelets.fits", INTEGERS, "HCOMPRESS_1", tile_shape=SHAPE)
    wavelets.heap = wavelets.heap[:6] + bytes(4) + wavelets.heap[10:]  # without a second side
    paths = [options, image.write(), cube.write(), wavelets.write()]
    command = [sys.executable, "-c", _READ_ALL, *map(str, paths)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (found.returncode, found.stdout.split()) == (0, ["format.corrupt"] * 4)
