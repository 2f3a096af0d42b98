"""How the figures look: sober, on paper of their own, so that they are read on a dark page too."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from PIL import Image

__all__ = ["BLUE", "GREEN", "GREY", "ORANGE", "figure", "limits", "picture", "save"]

BLUE, ORANGE, GREEN, GREY = "#1f6fb4", "#d9661f", "#2b8a3e", "#8a8f98"
_STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#6b7078",
    "axes.labelcolor": "#2b2f36",
    "text.color": "#2b2f36",
    "xtick.color": "#4a4f57",
    "ytick.color": "#4a4f57",
    "figure.facecolor": "#ffffff",
    "axes.facecolor": "#ffffff",
    "legend.frameon": False,
    "image.origin": "lower",
    "image.interpolation": "nearest",
}


def figure(columns: int, *, height: float, rows: int = 1) -> tuple[Figure, Sequence[Axes]]:
    """A figure of page width, and its axes in a row."""
    style.use(_STYLE)
    made = Figure(figsize=(9.0, height), layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.06))
    return made, np.ravel(made.subplots(rows, columns)).tolist()


def limits(image: NDArray[Any], low: float = 1.0, high: float = 99.0) -> tuple[float, float]:
    """Percentiles for a stretch."""
    first, last = np.nanpercentile(image, [low, high])
    return float(first), float(last)


def picture(
    axes: Axes,
    image: NDArray[Any],
    title: str,
    *,
    span: tuple[float, float] | None = None,
    unit: str = "",
    cmap: str = "gray_r",
) -> None:
    """An image without ticks, with a colour bar where it has a unit."""
    low, high = span or limits(image)
    shown = axes.imshow(image, cmap=cmap, vmin=low, vmax=high)
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    if unit:
        bar = axes.figure.colorbar(shown, ax=axes, shrink=0.8, pad=0.02)
        bar.outline.set_visible(False)
        bar.set_label(unit)


def save(made: Figure, path: Path) -> None:
    """Write a figure as a small PNG."""
    buffer = BytesIO()
    made.savefig(buffer, format="png", dpi=95)
    Image.open(buffer).convert("RGB").save(path, optimize=True)
