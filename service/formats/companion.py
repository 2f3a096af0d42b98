"""An image that belongs to an exposure and is no plane of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.formats.container import open_fits, plane_shape
from service.formats.errors import FormatError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from service.formats.headers import ReadLimits

__all__ = ["read_companion_image"]


def read_companion_image(path: Path, role: str, shape: tuple[int, int], limits: ReadLimits) -> NDArray[np.float32]:
    """Read the first image of a FITS file.

    Parameters
    ----------
    path : Path
        The file, also compressed.
    role : str
        What it is for, named in errors.
    shape : tuple of int
        Height and width that it has to have.
    limits : ReadLimits
        What the file may ask for.

    Returns
    -------
    ndarray of float32
        Undefined pixels as NaN.

    Raises
    ------
    FormatError
        No FITS file, no image in it, or another shape.
    """
    with open_fits(path, limits) as source:
        hdu = next((hdu for hdu in source.hdus if hdu.is_image), None)
        if hdu is None:
            raise FormatError("format.no_image", f"the {role} file has no image", role=role)
        found = plane_shape(hdu)
        if found != shape:
            raise FormatError(
                "format.shape_mismatch",
                f"the {role} file has {found[::-1]} pixels, the image {shape[::-1]}",
                role=role,
            )
        return source.read_float(hdu)
