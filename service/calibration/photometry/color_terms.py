"""Colour terms: reference magnitudes in the camera's own filter.

Method: Rubin Colorterm.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np

from service.calibration.errors import ColortermNotFoundError
from service.exposure.photo_calib import nanojansky_to_abmag

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.calibration.config.photometry import ColortermConfig, ColortermLibraryConfig
    from service.exposure.catalog import SourceCatalog

__all__ = ["corrected_magnitudes", "find_colorterm"]

_MAG_PER_RATIO = 2.5 / np.log(10.0)


def find_colorterm(library: ColortermLibraryConfig, catalog: str, physical_filter: str | None) -> ColortermConfig:
    """Colour term of a reference catalogue and a physical filter.

    Raises
    ------
    ColortermNotFoundError
        No catalogue of that name and not exactly one pattern that fits it, or it has no such filter.
    """
    if catalog in library.data:
        terms = library.data[catalog]
    else:
        fitting = [pattern for pattern in library.data if fnmatchcase(catalog, pattern)]
        if len(fitting) != 1:
            raise ColortermNotFoundError(
                "Not one entry of the colour-term library fits the reference catalogue",
                catalog=catalog,
                n_fitting=len(fitting),
            )
        terms = library.data[fitting[0]]
    if physical_filter is None or physical_filter not in terms:
        raise ColortermNotFoundError(
            "There is no colour term for the filter", filter=physical_filter or "unknown", catalog=catalog
        )
    return terms[physical_filter]


def corrected_magnitudes(
    references: SourceCatalog, term: ColortermConfig
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """AB magnitudes in the filter of a colour term, and their errors.

    Parameters
    ----------
    references : SourceCatalog
        With fluxes and errors of both bands, nJy.
    term : ColortermConfig
        Colour term.

    Returns
    -------
    magnitude, error : ndarray of float64, shape (n,)
        NaN where a flux is not positive. The error leaves the slope of the quadratic term out.

    Raises
    ------
    KeyError
        A flux or a flux error is missing.
    """
    primary, secondary = references[f"{term.primary}_flux"], references[f"{term.secondary}_flux"]
    magnitude = nanojansky_to_abmag(primary)
    color = magnitude - nanojansky_to_abmag(secondary)
    noise = np.hypot(
        (1 + term.c1) * references[f"{term.primary}_fluxErr"], term.c1 * references[f"{term.secondary}_fluxErr"]
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        error = _MAG_PER_RATIO * noise / np.abs(primary)
    return magnitude + term.c0 + color * (term.c1 + color * term.c2), error
