"""Pyramids: an image at halved sizes, cut into tiles, so that a viewer of any zoom reads what it shows and no more.

The levels are those of Deep Zoom: level 0 has one pixel, each next one twice as many a side, the last is the image.
Rows run downwards, as a picture's do: a block that is cut short lies at the right or at the lower edge.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from service.exposure.geometry import Box
from service.formats.preview import block_bits, block_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from service.formats.sections import Plane

__all__ = ["TILE", "Pyramid", "write_bit_pyramid", "write_pyramid"]

#: Side of a tile, pixels.
TILE = 256
_TILE_BYTES = 4 * TILE * TILE
_HEAD_BYTES = 4096
_OVERVIEW = 1024


@dataclass(frozen=True, slots=True)
class _Level:
    """Size of a level, pixels, and the number of the tile that is its first in the file."""

    width: int
    height: int
    first: int

    @property
    def columns(self) -> int:
        return -(-self.width // TILE)

    @property
    def rows(self) -> int:
        return -(-self.height // TILE)


def _levels(width: int, height: int) -> list[_Level]:
    levels: list[_Level] = []
    first = 0
    for shift in reversed(range((max(width, height) - 1).bit_length() + 1)):
        found = _Level(-(-width // (1 << shift)), -(-height // (1 << shift)), first)
        levels.append(found)
        first += found.columns * found.rows
    return levels


def write_pyramid(path: Path, plane: Plane) -> None:
    """Write the pyramid of a stored plane: float32 means of defined pixels, NaN where there are none.

    The plane is read once, a row of tiles at a time, and every level is written as it becomes known: memory is that of
    some rows of tiles, whatever the size of the image.

    Parameters
    ----------
    path : Path
        Overwritten.
    plane : Plane
        Its values are those of `Plane.values`.
    """

    def defined(stripe: Box) -> NDArray[Any]:
        values = plane.values(stripe)
        return np.where(np.isfinite(values), values, np.float32(np.nan))

    _write(path, plane, defined, _Kind(np.dtype(np.float32), np.nan, block_mean))


def write_bit_pyramid(path: Path, plane: Plane) -> None:
    """Write the pyramid of a stored mask: int32, at every level the bits that any pixel of a block has.

    Parameters
    ----------
    path : Path
        Overwritten.
    plane : Plane
        A mask.
    """
    _write(path, plane, lambda stripe: plane.read(stripe).astype(np.int32), _Kind(np.dtype(np.int32), 0, block_bits))


@dataclass(frozen=True, slots=True)
class _Kind:
    """Type of the pixels of a pyramid, what stands beyond the image, and how a level becomes the one half as large."""

    dtype: np.dtype[Any]
    empty: float
    halve: Callable[[NDArray[Any], int], NDArray[Any]]


def _write(path: Path, plane: Plane, read: Callable[[Box], NDArray[Any]], kind: _Kind) -> None:
    box = plane.bbox
    levels = _levels(box.width, box.height)
    about = {"width": box.width, "height": box.height, "planes": plane.mask_planes, "dtype": kind.dtype.name}
    with path.open("wb") as file:
        file.write(json.dumps(about).encode().ljust(_HEAD_BYTES))
        writer = _Writer(file, levels, kind)
        for top in range(box.height, 0, -TILE):
            stripe = Box(box.x0, box.y0 + max(0, top - TILE), box.width, min(TILE, top))
            writer.add(len(levels) - 1, read(stripe)[::-1])


class _Writer:
    """Takes rows of tiles of the largest level, and makes those of the others of them."""

    def __init__(self, file: BinaryIO, levels: list[_Level], kind: _Kind) -> None:
        self._file = file
        self._levels = levels
        self._kind = kind
        self._done = [0] * len(levels)
        self._half: list[list[NDArray[Any]]] = [[] for _ in levels]

    def add(self, number: int, rows: NDArray[Any]) -> None:
        level = self._levels[number]
        self._file.seek(_HEAD_BYTES + (level.first + self._done[number] * level.columns) * _TILE_BYTES)
        tiles = np.full((TILE, level.columns * TILE), self._kind.empty, self._kind.dtype)
        tiles[: len(rows), : level.width] = rows
        for column in range(level.columns):
            self._file.write(np.ascontiguousarray(tiles[:, column * TILE : (column + 1) * TILE]).data)
        self._done[number] += 1
        if number > 0:
            waiting = self._half[number - 1]
            waiting.append(self._kind.halve(rows, 2))
            if len(waiting) == 2 or self._done[number] == level.rows:
                self._half[number - 1] = []
                self.add(number - 1, np.concatenate(waiting))


class Pyramid:
    """A file of `write_pyramid` or `write_bit_pyramid`, open for reading.

    Parameters
    ----------
    file : binary file
        Seekable; it must stay open.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        file.seek(0)
        head: dict[str, Any] = json.loads(file.read(_HEAD_BYTES))
        self.width: int = head["width"]
        self.height: int = head["height"]
        self.planes: dict[str, int] = head["planes"]
        self._dtype = np.dtype(head["dtype"])
        self._levels = _levels(self.width, self.height)

    @property
    def is_mask(self) -> bool:
        """Whether it is of a mask."""
        return bool(self.planes)

    @property
    def top(self) -> int:
        """Number of the level with all pixels."""
        return len(self._levels) - 1

    def tile(self, z: int, x: int, y: int) -> NDArray[Any]:
        """A tile, with rows upwards; those at the right and at the lower edge are smaller.

        Parameters
        ----------
        z : int
            Level.
        x, y : int
            Column from the left and row from the top, tiles.

        Raises
        ------
        LookupError
            There is no such tile.
        """
        if not 0 <= z <= self.top:
            raise LookupError(f"there is no level {z}; 0 to {self.top} are")
        level = self._levels[z]
        if not (0 <= x < level.columns and 0 <= y < level.rows):
            raise LookupError(f"level {z} has {level.columns} x {level.rows} tiles")
        self._file.seek(_HEAD_BYTES + (level.first + y * level.columns + x) * _TILE_BYTES)
        pixels = np.frombuffer(self._file.read(_TILE_BYTES), self._dtype).reshape(TILE, TILE)
        return pixels[: level.height - y * TILE, : level.width - x * TILE][::-1]

    def overview(self) -> NDArray[np.float32]:
        """The largest level of 1024 pixels a side at most, whose values stand for the whole where limits are found."""
        z = max(z for z, level in enumerate(self._levels) if max(level.width, level.height) <= _OVERVIEW)
        return np.concatenate(list(self._rows_of(z)))

    def _rows_of(self, z: int) -> Iterator[NDArray[np.float32]]:
        level = self._levels[z]
        for y in reversed(range(level.rows)):
            yield np.concatenate([self.tile(z, x, y) for x in range(level.columns)], axis=1)
