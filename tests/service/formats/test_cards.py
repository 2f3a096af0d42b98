"""Our own formatting of header cards against astropy's."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from astropy.io import fits

from service.formats.cards import card_texts, header_bytes, make_header, plain_card

KEYS = ("A", "NAXIS1", "DATE-OBS", "X_Y-Z0", "MP_BAD", "MP_DETECTED_NEGATIVE", "TELESCOPE")
TEXTS = ("", " ", "ab", "O'Neill", "''", "trailing  ", " leading", "a / b", "12345678", "x" * 66, "x" * 67, "x" * 68)
TEXTS += ("'" * 33, "'" * 35, "T", "AXIS.1: 2", "no: number", "x" * 180, "&")
NUMBERS = (0, -1, 7, 2**31, -(2**63), 10**19, 10**25, True, False)
FLOATS = (0.0, -0.0, 1.0, -1.5, 1e-5, 1 / 3, -1 / 3e7, 1e22, 1.7976931348623157e308, 5e-324, 123456789012345.6, 1e16)


def astropys(key: str, value: str | int | float | bool) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return str(fits.Card(key if len(key) <= 8 else f"HIERARCH {key}", value))


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", TEXTS + NUMBERS + FLOATS)
def test_a_card_is_what_astropy_writes(key, value) -> None:
    assert card_texts({key: value}) == [astropys(key, value)]
    assert plain_card(key, value) in (None, astropys(key, value))


def test_plain_cards_are_the_rule() -> None:
    assert all(plain_card(key, value) for key in KEYS for value in (1, 0.5, True, "text"))


def test_any_number_is_what_astropy_writes() -> None:
    rng = np.random.default_rng(5)
    values = np.concatenate([rng.normal(size=500) * 10.0 ** rng.integers(-300, 300, 500), rng.normal(size=200)])
    for value in (*values.tolist(), *np.float32(values[500:]).tolist()):
        assert plain_card("CD1_1", value) == astropys("CD1_1", value)


@pytest.mark.parametrize("key", ["COMMENT", "HISTORY"])
def test_what_is_no_plain_card_is_left_to_astropy(key: str) -> None:
    assert plain_card(key, "some words") is None
    assert card_texts({key: "some words"}) == [astropys(key, "some words")]


def test_what_fits_cannot_hold_is_left_out() -> None:
    cards = {"A": np.nan, "B": None, "C": np.inf, "D": "tab\there", "END": 1, "": "x", "é": 1, "E": [1], "K": 1}
    assert [text[:8].strip() for text in card_texts(cards)] == ["K"]


def test_headers_come_back() -> None:
    cards = {"OBSERVER": "O'Neill", "EXPTIME": 30.5, "MP_DETECTED": 5, "LONGTEXT": "words " * 40, "OK": True}
    header = make_header(cards)
    assert {key: header[key] for key in cards} == {**cards, "LONGTEXT": cards["LONGTEXT"].rstrip()}
    packed = header_bytes(card_texts(cards))
    assert len(packed) % 2880 == 0
    assert packed == header.tostring().encode()


def test_a_comment_stands_behind_the_value() -> None:
    assert plain_card("SIMPLE", True, "conforms to FITS") == str(fits.Card("SIMPLE", True, "conforms to FITS"))
    assert plain_card("A", "x" * 60, "much too long a comment for the rest") is None
