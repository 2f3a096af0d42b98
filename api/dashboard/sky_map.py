"""A map of the whole sky, as paths of SVG: Mollweide's equal areas, east to the left, RA 180° in the middle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hpgeom
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

__all__ = ["GRID", "HEIGHT", "VIEW_BOX", "area", "cell_path", "middle", "project"]

_MIDDLE = 180.0
_SCALE = 100.0  # half the height is sqrt(2) of it
WIDTH, HEIGHT = 2 * np.sqrt(8) * _SCALE, 2 * np.sqrt(2) * _SCALE
#: Room around the ellipse included.
VIEW_BOX = f"{-WIDTH / 2 - 2:.0f} {-HEIGHT / 2 - 2:.0f} {WIDTH + 4:.0f} {HEIGHT + 4:.0f}"
_MAX_CELLS = 2000
_SKY_DEG2 = 360.0**2 / np.pi
_NEWTON_STEPS = 30  # near the poles it halves the error only


def project(ra: Array, dec: Array) -> tuple[Array, Array]:
    """Places on the map, x to the right and y down.

    Parameters
    ----------
    ra : (...) float64 array
        Degrees, counted from the left or right rim: what lies beyond it is put on it.
    dec : (...) float64 array
        Degrees.

    Returns
    -------
    x, y : (...) float64 arrays
        In units of `VIEW_BOX`.
    """
    longitude = np.radians(np.clip(ra - _MIDDLE, -180.0, 180.0))
    latitude = np.radians(dec)
    theta = np.array(latitude)
    for _ in range(_NEWTON_STEPS):
        slope = 2 + 2 * np.cos(2 * theta)
        error = 2 * theta + np.sin(2 * theta) - np.pi * np.sin(latitude)
        theta = np.clip(theta - error / np.maximum(slope, 1e-9), -np.pi / 2, np.pi / 2)
    return -_SCALE * np.sqrt(8) / np.pi * longitude * np.cos(theta), -_SCALE * np.sqrt(2) * np.sin(theta)


def cell_path(cells: Sequence[tuple[int, int]]) -> str:
    """Outlines of HEALPix cells (order, nested number) as one path.

    Many small cells are drawn as fewer large ones that hold them.
    """
    drawn = set(cells)
    while len(drawn) > _MAX_CELLS:
        finest = max(order for order, _ in drawn)
        drawn = {(order - 1, pixel >> 2) if order == finest else (order, pixel) for order, pixel in drawn}
    parts = []
    for order in sorted({order for order, _ in drawn}):
        pixels = np.array(sorted(pixel for level, pixel in drawn if level == order))
        parts += _outlines(order, pixels)
    return "".join(parts)


def _outlines(order: int, pixels: npt.NDArray[np.int64]) -> list[str]:
    nside, step = 1 << order, max(1, 16 >> order)
    ra, dec = hpgeom.boundaries(nside, pixels, step=step)
    centre = hpgeom.pixel_to_angle(nside, pixels)[0][:, None]
    ra = centre + (ra - centre + 180.0) % 360.0 - 180.0  # beside its centre, beyond the rim if need be
    across = ra.min(axis=1) < 0.0, ra.max(axis=1) > 360.0
    # What hangs over a rim shows at the other one.
    ra = np.concatenate([ra, ra[across[0]] + 360.0, ra[across[1]] - 360.0])
    dec = np.concatenate([dec, dec[across[0]], dec[across[1]]])
    x, y = project(ra, dec)
    return [_closed(xs, ys) for xs, ys in zip(x, y, strict=True)]


def _closed(x: Array, y: Array) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True)) + "Z"


def _open(ra: Array, dec: Array) -> str:
    x, y = project(ra, dec)
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))


def area(cells: Sequence[tuple[int, int]]) -> float:
    """Area of HEALPix cells that do not overlap, deg2."""
    return float(sum(_SKY_DEG2 / (12 * 4**order) for order, _ in cells))


def middle(cells: Sequence[tuple[int, int]]) -> tuple[float, float] | None:
    """Place on the map of the middle of some cells; None where they are all around the sky."""
    total = np.zeros(3)
    for order, pixel in cells:
        ra, dec = np.radians(hpgeom.pixel_to_angle(1 << order, pixel))
        total += np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)]) / 4**order
    weight = sum(1 / 4**order for order, _ in cells)
    if weight == 0 or np.linalg.norm(total) < 0.5 * weight:
        return None
    ra = np.degrees(np.arctan2(total[1], total[0])) % 360.0
    x, y = project(np.array(ra), np.degrees(np.arcsin(total[2] / np.linalg.norm(total))))
    return float(x), float(y)


def _grid() -> str:
    along = np.linspace(-90.0, 90.0, 61)
    lines = [_open(np.full_like(along, ra), along) for ra in range(0, 361, 60)]
    around = np.array([0.0, 360.0])
    return "".join([*lines, *(_open(around, np.full_like(around, float(dec))) for dec in (-60, -30, 0, 30, 60))])


#: Meridians every 60 degrees, the rim, and parallels every 30 degrees.
GRID = _grid()
