"""Writing FITS front to back: planes go out in blocks of rows, converted on the way."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from service.formats.cards import card_texts, header_bytes, make_header, plain_card
from service.formats.headers import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["Cell", "FitsStream"]

_CHUNK_BYTES = 1 << 18  # stays in the cache while it is converted, hashed and written
_BITPIX = {"f4": -32, "f8": -64, "i4": 32, "i2": 16, "u1": 8, "i8": 64}
#: Of the structure of a file or a table; what the cards of others say of it is left out.
_STRUCTURE = {"SIMPLE", "XTENSION", "BITPIX", "NAXIS", "EXTEND", "PCOUNT", "GCOUNT", "GROUPS", "BSCALE", "BZERO"}
_STRUCTURE |= {"TFIELDS"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A column of a table that has one row.

    Parameters
    ----------
    name : str
        Of the column.
    format : str
        As FITS writes it: ``"12D"``.
    data : bytes
        Big-endian.
    dimensions : str
        As FITS writes them, ``"(4,3)"``; empty for none.
    unit : str
        Of the values; may be empty.
    """

    name: str
    format: str
    data: bytes
    dimensions: str = ""
    unit: str = ""

    def cards(self, number: int) -> dict[str, str]:
        """Description of the column, as the table's ``number``-th."""
        about = {"TTYPE": self.name, "TFORM": self.format, "TUNIT": self.unit, "TDIM": self.dimensions}
        return {f"{key}{number}": value for key, value in about.items() if value}


class FitsStream:
    """FITS extensions written one after the other.

    Parameters
    ----------
    stream : binary file
        Written at its current position.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def primary(self, cards: Mapping[str, Any]) -> None:
        """The first header, without pixels."""
        structure = [("SIMPLE", True, "conforms to FITS"), ("BITPIX", 8, ""), ("NAXIS", 0, ""), ("EXTEND", True, "")]
        self._header(structure, cards)

    def image(
        self, name: str, plane: NDArray[Any], cards: Mapping[str, Any] | None = None, *, as_primary: bool = False
    ) -> None:
        """An image extension of the plane's own type; without a name where ``name`` is empty."""
        kind = plane.dtype.str[1:]
        structure: list[tuple[str, Any, str]] = [("SIMPLE", True, "") if as_primary else ("XTENSION", "IMAGE", "")]
        structure += [("BITPIX", _BITPIX[kind], ""), ("NAXIS", plane.ndim, "")]
        structure += [(f"NAXIS{i + 1}", n, "") for i, n in enumerate(plane.shape[::-1])]
        structure += [("EXTEND", True, "")] if as_primary else [("PCOUNT", 0, ""), ("GCOUNT", 1, "")]
        if name:
            structure.append(("EXTNAME", name, ""))
        self._header(structure, cards or {})
        rows = max(1, _CHUNK_BYTES // max(1, plane[:1].nbytes))
        block = np.empty((min(rows, len(plane)), *plane.shape[1:]), f">{kind}")
        for start in range(0, len(plane), rows):
            piece = block[: len(plane) - start]
            piece[...] = plane[start : start + rows]
            self._stream.write(piece.data)
        self._pad(plane.nbytes)

    def image_blocks(self, header: fits.Header, blocks: Iterable[NDArray[np.float32]]) -> None:
        """An image extension with a header as it stands, of float32 rows as they come."""
        self._stream.write(header.tostring(sep="", endcard=True, padding=True).encode("ascii"))
        self._pad(sum(self._stream.write(block.astype(">f4").data) for block in blocks))

    def row(self, name: str, cells: Sequence[Cell], cards: Mapping[str, Any] | None = None) -> None:
        """A binary table of one row."""
        width = sum(len(cell.data) for cell in cells)
        structure = [
            ("XTENSION", "BINTABLE", "binary table extension"),
            ("BITPIX", 8, "array data type"),
            ("NAXIS", 2, "number of array dimensions"),
            ("NAXIS1", width, "length of dimension 1"),
            ("NAXIS2", 1, "length of dimension 2"),
            ("PCOUNT", 0, "number of group parameters"),
            ("GCOUNT", 1, "number of groups"),
            ("TFIELDS", len(cells), "number of table fields"),
        ]
        columns = [
            (key, value, "") for number, cell in enumerate(cells, 1) for key, value in cell.cards(number).items()
        ]
        self._header([*structure, *columns], cards or {}, [("EXTNAME", name, "extension name")])
        for cell in cells:
            self._stream.write(cell.data)
        self._pad(width)

    def table_rows(
        self,
        name: str,
        columns: list[fits.Column],
        cards: Mapping[str, Any],
        n_rows: int,
        rows: Iterable[NDArray[Any]],
    ) -> None:
        """A binary table whose rows come some at a time, as structured big-endian arrays.

        Raises
        ------
        ValueError
            They were not ``n_rows``.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            hdu = fits.BinTableHDU.from_columns(columns, header=make_header(cards), name=name, nrows=0)
        hdu.header["NAXIS2"] = n_rows
        self._stream.write(hdu.header.tostring(sep="", endcard=True, padding=True).encode("ascii"))
        width, written = int(hdu.header["NAXIS1"]), 0
        for batch in rows:
            written += self._stream.write(batch.tobytes())
        if written != n_rows * width:
            raise ValueError(f"{written} bytes for {n_rows} rows of {width}")
        self._pad(written)

    def _header(
        self,
        structure: Sequence[tuple[str, Any, str]],
        cards: Mapping[str, Any],
        end: Sequence[tuple[str, Any, str]] = (),
    ) -> None:
        """Keyword, value and comment of the cards that make the structure, and others between them."""
        texts = [plain_card(*card) for card in (*structure, *end)]
        if None in texts:
            raise ValueError(f"no plain cards: {structure}")
        kept = card_texts({key: value for key, value in cards.items() if key not in _STRUCTURE})
        given = [text for text in texts if text is not None]
        self._stream.write(header_bytes([*given[: len(structure)], *kept, *given[len(structure) :]]))

    def _pad(self, written: int) -> None:
        self._stream.write(bytes(-written % BLOCK))
