"""Cut-outs of image files: a box of every plane as FITS, written row by row as it is read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from service.exposure.geometry import Box
from service.exposure.wcs import gnomonic
from service.formats.errors import FormatError
from service.formats.headers import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from astropy.io import fits

    from service.formats.sections import ImageFile, Plane

__all__ = ["cutout_length", "cutout_pieces", "pixel_box", "sky_box"]

#: Cards of the first pixel's place, by axis, and which way they move with it.
_MOVES = {"CRPIX{}": -1, "LTV{}": -1, "CRVAL{}A": 1}


def pixel_box(plane: Plane, x: float, y: float, width: int, height: int) -> Box:
    """The part of a plane in a box around a position.

    Parameters
    ----------
    plane : Plane
        What is cut.
    x, y : float
        Centre, parent pixels.
    width, height : int
        Size of the box, pixels.

    Raises
    ------
    FormatError
        ``cutout.outside``: they have no pixel in common.
    """
    # Far away is as good as outside, and integers of any size cost nothing.
    wanted = Box(math.ceil(x - width / 2), math.ceil(y - height / 2), width, height)
    own = plane.bbox
    found = wanted.intersection(own)
    if not found.width or not found.height:
        raise FormatError(
            "cutout.outside",
            f"the box around x = {x:.2f}, y = {y:.2f} lies outside the image, which has x = {own.x0} to {own.x1} and "
            f"y = {own.y0} to {own.y1}",
        )
    return found


def no_wcs() -> FormatError:
    """What a place on the sky is answered with where the image has none."""
    return FormatError("image.no_wcs", "The image has no astrometric solution: give x and y in pixels.")


def sky_box(plane: Plane, ra: float, dec: float, width: float, height: float) -> Box:
    """The part of a plane in a box around a position on the sky, with sides along the pixel axes.

    Parameters
    ----------
    plane : Plane
        What is cut.
    ra, dec : float
        Centre, ICRS, deg.
    width, height : float
        Size of the box, arcsec, by the pixel scale at its centre.

    Raises
    ------
    FormatError
        ``image.no_wcs``, ``cutout.outside``.
    """
    wcs = plane.wcs()
    if wcs is None:
        raise no_wcs()
    # Far from the image its distortion means nothing, and its inverse may lead anywhere.
    own = plane.bbox
    center = wcs.pixel_to_sky(*own.center)
    reach = (math.hypot(own.width, own.height) * wcs.pixel_scale(*own.center) + math.hypot(width, height)) / 3600
    if not np.hypot(*gnomonic(ra, dec, *(float(value) for value in center))) < reach:
        raise FormatError("cutout.outside", f"ra = {ra:.5f}, dec = {dec:.5f} is not near the image")
    x, y = (float(value) for value in wcs.sky_to_pixel(ra, dec))
    scale = float(wcs.pixel_scale(x, y))
    if not (math.isfinite(x + y) and 0 < scale < math.inf):
        raise FormatError("cutout.outside", f"ra = {ra:.5f}, dec = {dec:.5f} is not in the image")
    return pixel_box(plane, x, y, max(1, round(width / scale)), max(1, round(height / scale)))


def _header_bytes(header: fits.Header) -> bytes:
    text: str = header.tostring(sep="", endcard=True, padding=True)
    return text.encode("ascii", "replace")


def _cut_header(plane: Plane, box: Box) -> fits.Header:
    header = plane.header.copy()
    header["NAXIS1"], header["NAXIS2"] = box.width, box.height
    shifts = (box.x0 - plane.bbox.x0, box.y0 - plane.bbox.y0)
    for axis, shift in enumerate(shifts, start=1):
        for pattern, sign in _MOVES.items():
            key = pattern.format(axis)
            if key in header:
                header[key] += sign * shift
    return header


def cutout_length(image: ImageFile, planes: Sequence[Plane], box: Box) -> int:
    """Bytes of `cutout_pieces`."""
    headers = [image.primary, *(_cut_header(plane, box) for plane in planes)]
    pixels = (box.width * box.height * plane.dtype.itemsize for plane in planes)
    return sum(len(_header_bytes(header)) for header in headers) + sum(-(-size // BLOCK) * BLOCK for size in pixels)


def cutout_pieces(image: ImageFile, planes: Sequence[Plane], box: Box) -> Iterator[bytes]:
    """A FITS file with a box of some planes, in pieces that are read as they are asked for.

    The extensions keep their names and cards; ``CRPIX``, ``LTV`` and the "A" WCS tell the new first pixel, so that
    parent pixels and the sky stay where they are.

    Parameters
    ----------
    image : ImageFile
        What is cut; its first header, without pixels, begins the file.
    planes : sequence of Plane
        Of the image, all of one size.
    box : Box
        Inside them, parent pixels.
    """
    yield _header_bytes(image.primary)
    for plane in planes:
        yield _header_bytes(_cut_header(plane, box))
        written = 0
        for stripe in plane.stripes(box):
            data = plane.read(stripe).tobytes()
            written += len(data)
            yield data
        yield bytes(-written % BLOCK)
