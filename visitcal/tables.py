"""Catalogues as astropy tables: apart, so that the client itself needs only httpx."""

from __future__ import annotations

import warnings
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["votable_to_table"]


def votable_to_table(content: bytes) -> Table:
    """First table of a VOTable, units and descriptions kept.

    Parameters
    ----------
    content : bytes
        The whole document.
    """
    from astropy.io.votable import parse_single_table

    with warnings.catch_warnings():
        # Upstream units such as "pixel" and "nJy" are no VOUnits; astropy reads them and says so.
        warnings.simplefilter("ignore")
        return parse_single_table(BytesIO(content)).to_table(use_names_over_ids=True)
