"""Cards of FITS headers as text.

Nearly all cards are a plain word and a number or a short text: these are formatted here. What is not goes through
astropy, which takes some hundred times as long for a card.
"""

from __future__ import annotations

import math
import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from service.formats.headers import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["card_texts", "header_bytes", "make_header", "plain_card"]

_CARD = 80
_VALUE = 20  # characters of a number
_KEY = re.compile(r"[A-Z0-9_-]{1,8}")
_LONG_KEY = re.compile(r"[A-Z0-9_-]{9,}")
#: Keywords that have no value in the usual place.
_SPECIAL = {"COMMENT", "HISTORY", "CONTINUE", "END"}


def plain_card(key: str, value: str | int | float | bool, comment: str = "") -> str | None:
    """The 80 characters of a card as astropy writes it; None where they are not enough, or something is special.

    Parameters
    ----------
    key : str
        Keyword.
    value : str, int, float or bool
        Printable ASCII, or a finite number.
    comment : str
        Behind the value.
    """
    long = len(key) > 8
    if not (_LONG_KEY if long else _KEY).fullmatch(key) or key in _SPECIAL:
        return None
    if isinstance(value, str):
        if ": " in value:
            return None  # may be a record-valued keyword
        quoted = value.replace("'", "''")
        shown = f"'{quoted:8}'".ljust(_VALUE) if value else "''"
    elif isinstance(value, bool):
        shown = f"{'T' if value else 'F':>{_VALUE}}"
    else:
        shown = f"{str(value) if isinstance(value, int) else _number(value):>{_VALUE}}"
    card = f"HIERARCH {key} = {shown.strip()}" if long else f"{key:8}= {shown}"
    card += f" / {comment}" if comment else ""
    return card.ljust(_CARD) if len(card) <= _CARD else None


def _number(value: float) -> str:
    """At most 20 characters of a number; digits of the mantissa go first."""
    text = str(value).replace("e", "E")
    if len(text) <= _VALUE:
        return text
    mantissa, mark, exponent = text.partition("E")
    return mantissa[: _VALUE - len(mark + exponent)] + mark + exponent


def card_texts(cards: Mapping[str, Any]) -> list[str]:
    """The cards that FITS can hold as text; undefined, endless and unprintable values are left out."""
    texts = []
    for key, given in cards.items():
        value = _plain(given)
        if value is None or not key.isascii() or not key.strip():
            continue
        text = plain_card(key, value) or _astropy_card(key, value)
        if text is not None:
            texts.append(text)
    return texts


def _astropy_card(key: str, value: str | int | float | bool) -> str | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)  # long keywords become HIERARCH
        try:
            return str(fits.Card(key if len(key) <= 8 and " " not in key else f"HIERARCH {key}", value))
        except (ValueError, fits.VerifyError):
            return None  # it does not fit


def _plain(value: Any) -> str | int | float | bool | None:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        text = value.encode("ascii", "replace").decode().replace("\n", " ")
        return text if text.isprintable() else None
    return value if isinstance(value, bool | int) else None


def make_header(cards: Mapping[str, Any]) -> fits.Header:
    """Header of the cards that FITS can hold."""
    return fits.Header.fromstring("".join(card_texts(cards)))


def header_bytes(texts: Iterable[str]) -> bytes:
    """A header of some cards, with its end and padding."""
    text = "".join(texts) + "END".ljust(_CARD)
    return text.ljust(-(-len(text) // BLOCK) * BLOCK).encode("ascii")
