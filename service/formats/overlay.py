"""What is drawn over a picture: masks as tints, sources as ellipses, references as crosses, residuals as vectors."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from service.formats.marks import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray
    from PIL import Image

    from service.exposure.geometry import Box
    from service.exposure.wcs import Wcs
    from service.formats.marks import Marks

__all__ = ["Frame", "draw_marks", "draw_residuals", "residuals", "tint", "tint_color", "tint_png"]

#: Tints of mask planes, those of Rubin's display; others are purple.
_TINTS = {
    "BAD": (255, 0, 0),
    "SAT": (0, 255, 0),
    "INTRP": (0, 160, 0),
    "CR": (255, 0, 255),
    "EDGE": (255, 255, 0),
    "DETECTED": (0, 0, 255),
    "DETECTED_NEGATIVE": (0, 255, 255),
    "SUSPECT": (255, 255, 0),
    "NO_DATA": (255, 165, 0),
}
_OTHER_TINT = (160, 32, 240)
_OPACITY = 0.5
_RGB = {
    "green": (0, 255, 0),
    "yellow": (255, 255, 0),
    "magenta": (255, 0, 255),
    "blue": (80, 120, 255),
    "red": (255, 64, 64),
    "cyan": (0, 255, 255),
    "orange": (255, 165, 0),
}
_VECTOR_COLOR = (255, 255, 255)
_LEAST_RADIUS = 3.0  # px of the picture
_CROSS = 4  # px of the picture, half
_CORNERS = 24  # of the polygon that is an ellipse
_VECTOR_LENGTH = 40.0  # px of the picture, of a long residual where no scale is asked for


@dataclass(frozen=True, slots=True)
class Frame:
    """Where the pixels of an image are in a picture of it, y upwards.

    Parameters
    ----------
    box : Box
        What the picture shows, parent pixels.
    step : int
        Side of the blocks that became pixels of the picture, from the lower left.
    """

    box: Box
    step: int

    def place(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Picture pixels, from the upper left, of parent pixels."""
        height = -(-self.box.height // self.step)
        across = (x - self.box.x0 + 0.5) / self.step - 0.5
        up = (y - self.box.y0 + 0.5) / self.step - 0.5
        return across, height - 1 - up

    def shows(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which positions are in the picture; NaN is not."""
        return self.box.contains(x, y)


def tint(picture: Image.Image, bits: NDArray[np.int32], planes: Mapping[str, int], names: Iterable[str]) -> Image.Image:
    """A picture with mask planes in colour over it, the last on top.

    Parameters
    ----------
    picture : PIL.Image.Image
        Of the size of ``bits``.
    bits : ndarray of int32, shape (height, width)
        Mask bits that any pixel of a block has, y upwards.
    planes : mapping of str to int
        Bits by name.
    names : iterable of str
        Planes to draw; they must be in ``planes``.

    Returns
    -------
    PIL.Image.Image
        RGB.
    """
    from PIL import Image

    result = picture.convert("RGB")
    for name in names:
        opacity = ((bits >> planes[name]) & 1).astype(np.uint8)[::-1] * np.uint8(255 * _OPACITY)
        color = Image.new("RGB", result.size, _TINTS.get(name, _OTHER_TINT))
        result.paste(color, mask=Image.fromarray(np.ascontiguousarray(opacity)))
    return result


def tint_color(name: str) -> tuple[int, int, int]:
    """Colour of a mask plane."""
    return _TINTS.get(name, _OTHER_TINT)


def tint_png(is_set: NDArray[np.bool_], name: str) -> bytes:
    """A picture to lay over another: the tint of a mask plane where it is set, nothing elsewhere.

    Parameters
    ----------
    is_set : ndarray of bool, shape (height, width)
        Of the pixels, y upwards.
    name : str
        The plane.

    Returns
    -------
    bytes
        PNG file.
    """
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(is_set[::-1]).astype(np.uint8), "P")
    picture.putpalette(bytes((0, 0, 0, *tint_color(name))))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", bits=1, transparency=bytes((0, round(255 * _OPACITY))))
    return buffer.getvalue()


def draw_marks(picture: Image.Image, frame: Frame, marks: Marks) -> None:
    """Draw sources as ellipses of their moments (circles where they have none), references as crosses.

    Parameters
    ----------
    picture : PIL.Image.Image
        RGB; drawn on.
    frame : Frame
        Where pixels are in it.
    marks : Marks
        What to draw; those outside are left out.
    """
    from PIL import ImageDraw

    draw = ImageDraw.Draw(picture)
    marks = marks.select(frame.shows(marks.x, marks.y))
    x, y = frame.place(marks.x, marks.y)
    outlines = _outlines(marks, frame.step)
    for i, kind in enumerate(marks.kind):
        color = _RGB[KINDS[kind]]
        if kind == "reference":
            column, row = round(x[i]), round(y[i])
            draw.line([(column - _CROSS, row), (column + _CROSS, row)], fill=color)
            draw.line([(column, row - _CROSS), (column, row + _CROSS)], fill=color)
        else:
            draw.polygon(list(zip(x[i] + outlines[i, 0], y[i] - outlines[i, 1], strict=True)), outline=color)


def _outlines(marks: Marks, step: int) -> NDArray[np.float64]:
    """Corners of the ellipses about their centres, picture pixels, of shape (n, (x, y), corners)."""
    axes = np.where(np.isfinite(marks.axes), marks.axes / step, 0.0)
    axes = np.maximum(axes, _LEAST_RADIUS)
    turn = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    along, across = axes[:, :1] * np.cos(turn), axes[:, 1:] * np.sin(turn)
    angle = np.where(np.isfinite(marks.angle), marks.angle, 0.0)[:, None]
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.stack([along * cosine - across * sine, along * sine + across * cosine], axis=1)


def residuals(references: Marks, sources: Marks, wcs: Wcs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where matched sources are from their references, parent pixels.

    Both go from the sky to pixels the same way, so that what the WCS of a file leaves out cancels.
    """
    source_x, source_y = wcs.sky_to_pixel(sources.ra, sources.dec)
    reference_x, reference_y = wcs.sky_to_pixel(references.ra, references.dec)
    return source_x - reference_x, source_y - reference_y


def _vector_scale(dx: NDArray[np.float64], dy: NDArray[np.float64], step: int) -> float:
    """Factor that makes long residuals, the 90th percentile, 40 px long in the picture."""
    length = np.hypot(dx, dy)
    length = length[np.isfinite(length)]
    long = float(np.percentile(length, 90)) if length.size else 0.0
    return _VECTOR_LENGTH * step / long if long > 0 else 1.0


def draw_residuals(
    picture: Image.Image, frame: Frame, references: Marks, sources: Marks, wcs: Wcs, scale: float | None
) -> None:
    """Draw vectors from sources along what they are from their references, and in the corner how long 0.1 arcsec is.

    Parameters
    ----------
    picture : PIL.Image.Image
        RGB; drawn on.
    frame : Frame
        Where pixels are in it.
    references, sources : Marks
        Pairs, row by row.
    wcs : Wcs
        Of the image.
    scale : float or None
        Times their length in the image; None makes long ones 40 px long.
    """
    from PIL import ImageDraw

    shown = frame.shows(sources.x, sources.y)
    references, sources = references.select(shown), sources.select(shown)
    dx, dy = residuals(references, sources, wcs)
    factor = _vector_scale(dx, dy, frame.step) if scale is None else scale
    draw = ImageDraw.Draw(picture)
    begin = np.stack(frame.place(sources.x, sources.y), axis=1)
    end = np.stack(frame.place(sources.x + factor * dx, sources.y + factor * dy), axis=1)
    length = np.hypot(*(end - begin).T)[:, None]
    # Lines are drawn pixel by pixel also where nobody sees them: what leaves the picture ends soon behind its rim.
    end = begin + (end - begin) * np.minimum(1.0, sum(picture.size) / np.maximum(length, 1.0))
    for i in np.flatnonzero(np.isfinite(end).all(axis=1)):
        draw.line([tuple(begin[i]), tuple(end[i])], fill=_VECTOR_COLOR)
        draw.ellipse([*(begin[i] - 1), *(begin[i] + 1)], fill=_VECTOR_COLOR)
    _draw_scale_bar(draw, picture.height, factor / (frame.step * wcs.pixel_scale(*frame.box.center)))


def _draw_scale_bar(draw: Any, height: int, pixels_per_arcsec: float) -> None:
    length = 0.1 * pixels_per_arcsec
    draw.line([(10, height - 12), (10 + length, height - 12)], fill=_VECTOR_COLOR, width=2)
    draw.text((10, height - 28), '0.1"', fill=_VECTOR_COLOR)
