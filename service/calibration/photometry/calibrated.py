"""Fluxes and magnitudes in physical units beside the instrumental ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.exposure.photo_calib import nanojansky_to_abmag

if TYPE_CHECKING:
    from service.exposure.catalog import SourceCatalog
    from service.exposure.photo_calib import PhotoCalib

__all__ = ["add_calibrated_columns"]

_MAG_PER_RATIO = 2.5 / np.log(10.0)


def add_calibrated_columns(stars: SourceCatalog, photo_calib: PhotoCalib) -> None:
    """Fill ``X_flux`` (nJy), ``X_mag`` and their errors from every ``X_instFlux`` that has them in the schema.

    The error of the calibration itself is not included. A flux that is not positive has no magnitude; the error of the
    magnitude of a negative flux is negative, as upstream's is.

    Parameters
    ----------
    stars : SourceCatalog
        Changed in place.
    photo_calib : PhotoCalib
        nJy per count.
    """
    for name in stars.schema.names:
        base = name.removesuffix("_instFlux")
        if base == name or f"{base}_flux" not in stars.schema:
            continue
        counts = stars[name]
        stars[f"{base}_flux"] = photo_calib.mean * counts
        stars[f"{base}_mag"] = nanojansky_to_abmag(stars[f"{base}_flux"])
        if f"{base}_fluxErr" in stars.schema:
            error = stars[f"{name}Err"]
            stars[f"{base}_fluxErr"] = photo_calib.mean * error
            with np.errstate(divide="ignore", invalid="ignore"):
                stars[f"{base}_magErr"] = _MAG_PER_RATIO * error / counts
