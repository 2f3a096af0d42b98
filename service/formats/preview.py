"""Small pictures of large images."""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from service.formats.stretch import Limits, Style, shade

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from service.exposure.background import BackgroundList
    from service.exposure.geometry import Box
    from service.formats.sections import Plane

__all__ = [
    "PICTURE_TYPES",
    "background_png",
    "binned_bits",
    "binned_plane",
    "block_bits",
    "block_mean",
    "block_side",
    "encode_picture",
    "preview_png",
]

#: Media types of pictures by the suffix of their addresses.
PICTURE_TYPES = {"png": "image/png", "jpg": "image/jpeg"}
_JPEG_QUALITY = 90
_PREVIEW_SIDE = 1024


def preview_png(
    image: NDArray[Any], *, size: int = _PREVIEW_SIDE, stretch: str = "asinh", limits: Limits = "zscale"
) -> bytes:
    """Greyscale PNG of an image, y upwards.

    Parameters
    ----------
    image : ndarray, shape (height, width)
        Pixels.
    size : int
        Pixels of the longer side at most.
    stretch : {"asinh", "linear", "log", "sqrt"}
        Transfer function between the limits.
    limits : str or tuple of float
        ``"zscale"``, ``"minmax"``, a central percentage such as ``"99.5%"``, or (low, high) in image units.

    Returns
    -------
    bytes
        PNG file. Undefined pixels are black.

    Raises
    ------
    ValueError
        Unknown stretch or limits.
    """
    style = Style(stretch, limits)
    return encode_picture(shade(block_mean(image, block_side(image.shape, size)), style), "png", noisy=True)


def background_png(backgrounds: BackgroundList) -> bytes:
    """Greyscale PNG of what was subtracted, from its least value to its largest, y upwards.

    Parameters
    ----------
    backgrounds : BackgroundList
        At least one; drawn some rows at a time.
    """
    height, width = backgrounds[0].bbox.shape
    step = block_side((height, width), _PREVIEW_SIDE)
    binned = np.empty((-(-height // step), -(-width // step)), np.float32)
    stripe = np.empty((0, width), np.float32)
    for rows, values in backgrounds.blocks():
        if not len(stripe):
            stripe = np.empty((len(values) * step, width), np.float32)  # whole blocks of the picture
        first = rows.start % len(stripe)
        filled = first + len(values)
        stripe[first:filled] = values
        if filled == len(stripe) or rows.stop == height:
            means = block_mean(stripe[:filled], step)
            first = (rows.stop - filled) // step
            binned[first : first + len(means)] = means
    return encode_picture(shade(binned, Style("linear", "minmax")), "png")


def encode_picture(picture: Image.Image, kind: str, *, noisy: bool = False) -> bytes:
    """A picture as a file.

    Parameters
    ----------
    picture : PIL.Image.Image
        What to write.
    kind : {"png", "jpg"}
        Of `PICTURE_TYPES`.
    noisy : bool
        Nothing but runs repeats in it: a search for more takes longer and finds nothing.
    """
    buffer = io.BytesIO()
    if kind == "png":
        strategy = {"compress_type": zlib.Z_RLE} if noisy else {}
        picture.save(buffer, "PNG", compress_level=3, **strategy)
    else:
        picture = picture.convert("RGB") if picture.mode == "P" else picture
        picture.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def block_side(shape: tuple[int, ...], size: int) -> int:
    """Side of the square blocks that bring the longer side of an image to ``size`` at most."""
    return -(-max(shape) // max(size, 1))


def binned_plane(plane: Plane, box: Box, step: int) -> NDArray[np.float32]:
    """Block means of a box of a stored plane, read some rows at a time.

    Parameters
    ----------
    plane : Plane
        Of its pixels a mask has 1 where a bit is set, else 0.
    box : Box
        Inside the plane.
    step : int
        Side of the blocks, which begin at the box's lower left pixel.
    """
    binned = np.empty((-(-box.height // step), -(-box.width // step)), np.float32)
    for stripe in plane.stripes(box, step):
        means = block_mean(plane.values(stripe), step)
        first = (stripe.y0 - box.y0) // step
        binned[first : first + len(means)] = means
    return binned


def binned_bits(plane: Plane, box: Box, step: int) -> NDArray[np.int32]:
    """The bits that any pixel of a block has, of a box of a stored mask; parameters as of `binned_plane`."""
    return np.concatenate([block_bits(plane.read(stripe), step) for stripe in plane.stripes(box, step)])


def block_bits(mask: NDArray[Any], step: int) -> NDArray[np.int32]:
    """The bits that any pixel of a square block has; parameters as of `block_mean`."""
    rows = np.bitwise_or.reduceat(mask.astype(np.int32), np.arange(0, mask.shape[0], step), axis=0)
    return np.bitwise_or.reduceat(rows, np.arange(0, mask.shape[1], step), axis=1)


def block_mean(plane: NDArray[Any], step: int) -> NDArray[np.float32]:
    """Mean of square blocks; incomplete blocks at the upper edges average what they have.

    Parameters
    ----------
    plane : ndarray, shape (height, width)
        Pixels; a block with an undefined pixel is undefined unless other pixels of it are defined.
    step : int
        Side of the blocks.
    """
    if step == 1:
        return np.asarray(plane, dtype=np.float32)
    pixels = np.outer(*(_block_lengths(length, step) for length in plane.shape))
    result = _block_sums(plane, step) / pixels
    undefined = ~np.isfinite(result)
    if undefined.any():
        defined = np.isfinite(plane)
        sums = _block_sums(np.where(defined, plane, 0), step)
        with np.errstate(divide="ignore", invalid="ignore"):
            result = np.where(undefined, sums / _block_sums(defined, step), result)
    return result


def _block_lengths(length: int, step: int) -> NDArray[np.float32]:
    return np.diff(np.append(np.arange(0, length, step), length)).astype(np.float32)


def _block_sums(plane: NDArray[Any], step: int) -> NDArray[np.float32]:
    with np.errstate(invalid="ignore", over="ignore"):
        return np.ascontiguousarray(_sums_of_rows(_sums_of_rows(plane, step).T, step).T)


def _sums_of_rows(plane: NDArray[Any], step: int) -> NDArray[np.float32]:
    """Every ``step`` rows added up: whole rows at a time, several times as fast as `numpy.add.reduceat`."""
    total = plane[::step].astype(np.float32)
    for first in range(1, step):
        rows = plane[first::step]
        total[: len(rows)] += rows
    return total
