"""Background models: statistics of image cells and the smooth surfaces drawn from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.polynomial.chebyshev import chebvander

from service import threads
from service.exposure.geometry import Box
from service.exposure.grid_interpolation import INTERPOLATION_STYLES, PiecewiseCubic, lowered_style

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["BackgroundList", "BackgroundModel", "cell_centers", "cell_edges"]

_STYLE_NUMBERS = {"CONSTANT": 0, "LINEAR": 1, "NATURAL_SPLINE": 2, "AKIMA_SPLINE": 5}
_UNDERSAMPLE_NUMBERS = {"THROW_EXCEPTION": 0, "REDUCE_INTERP_ORDER": 1, "INCREASE_NXNYSAMPLE": 2}
_CHEBYSHEV, _NO_APPROXIMATION = 0, -1

_ROWS = 32  # rows drawn at once: the float64 buffer stays in cache
_ALL = slice(None)
_MAX_CONDITION = 1e3  # of the cells' design matrix: a hole of 3x3 in 8x8 cells has 3e2, half the side 1e3


def cell_edges(size: int, n: int) -> NDArray[np.int64]:
    """First pixel of each of ``n`` cells that divide ``size`` pixels evenly, and ``size``; shape (n + 1,)."""
    return np.minimum((np.arange(n + 1) * size + n // 2) // n, size)


def cell_centers(size: int, n: int) -> NDArray[np.float64]:
    """Centres of the cells of `cell_edges` in array pixels, shape (n,)."""
    edges = cell_edges(size, n)
    return np.asarray(0.5 * (edges[:-1] + edges[1:]) - 0.5)


class _Surface(Protocol):
    def rows(self, start: int, out: NDArray[np.float64]) -> None:
        """Write the rows from ``start`` on into ``out``."""


class _ChebyshevSurface:
    """Product of two bases and a coefficient matrix [order in y, order in x]."""

    def __init__(self, coefficients: NDArray[np.float64], bbox: Box) -> None:
        order = len(coefficients) - 1
        self._y = chebvander(_unit(np.arange(bbox.height), bbox.height), order)
        self._x = coefficients @ chebvander(_unit(np.arange(bbox.width), bbox.width), order).T

    def rows(self, start: int, out: NDArray[np.float64]) -> None:
        np.matmul(self._y[start : start + len(out)], self._x, out=out)

    def mean_and_variance(self) -> tuple[float, float]:
        """Mean and sample variance of the pixels, from the factors alone."""
        n = self._y.shape[0] * self._x.shape[1]
        mean = self._y.mean(axis=0) @ self._x.mean(axis=1)
        squares = np.sum((self._y.T @ self._y) * (self._x @ self._x.T))
        return float(mean), float(max(squares - n * mean**2, 0.0) / (n - 1))


class _SplineSurface:
    """Splines along y through the cells of each column, then along x through the columns at every pixel row."""

    def __init__(self, model: BackgroundModel) -> None:
        ny, nx = model.value.shape
        x, y = cell_centers(model.bbox.width, nx), cell_centers(model.bbox.height, ny)
        style = lowered_style(model.interp_style, min(nx, ny))
        finite = np.isfinite(model.value)
        filled = np.flatnonzero(finite.any(axis=0))
        if not filled.size:
            raise RuntimeError("no cell of the background has a finite value")
        rows = np.arange(model.bbox.height, dtype=np.float64)
        columns = np.empty((filled.size, rows.size))
        for ok in np.unique(finite[:, filled], axis=1).T:  # columns that lack the same cells go together
            alike = (finite[:, filled] == ok[:, None]).all(axis=0)
            values = model.value[np.ix_(ok, filled[alike])].astype(np.float64)
            columns[alike] = PiecewiseCubic.through(y[ok], values, lowered_style(style, len(values)))(rows).T
        along_x = PiecewiseCubic.through(x[filled], columns, lowered_style(style, filled.size))
        self._coefficients = np.ascontiguousarray(along_x.coefficients.transpose(1, 2, 0))  # piece, row, power
        pixels = np.arange(model.bbox.width, dtype=np.float64)
        stops = np.searchsorted(pixels, along_x.edges, side="left")
        self._limits = [0, *stops.tolist(), model.bbox.width]
        self._powers = [
            (pixels[start:stop] - reference) ** np.arange(4)[:, None]
            for start, stop, reference in zip(self._limits[:-1], self._limits[1:], along_x.references, strict=True)
        ]

    def rows(self, start: int, out: NDArray[np.float64]) -> None:
        for piece, powers in enumerate(self._powers):
            first, last = self._limits[piece : piece + 2]
            out[:, first:last] = self._coefficients[piece, start : start + len(out)] @ powers


@dataclass(frozen=True, eq=False)
class BackgroundModel:
    """Binned statistics of an image and how to draw the full image from them.

    The model is linear in ``value`` for a Chebyshev surface and scales with it for every style.

    Parameters
    ----------
    value : ndarray of float32, shape (ny, nx)
        Statistic of each cell, counts; NaN where a cell had no pixels.
    stderr : ndarray of float32, same shape
        Standard error (not variance) of ``value``, counts.
    mask : ndarray of int32, same shape
        Mask bits of the cells.
    bbox : Box
        Pixel box of the full image, which the cells divide evenly (`cell_edges`).
    interp_style : str
        Requested interpolation, one of `INTERPOLATION_STYLES`; lowered where there are too few cells.
    undersample_style : str
        ``"THROW_EXCEPTION"``, ``"REDUCE_INTERP_ORDER"`` or ``"INCREASE_NXNYSAMPLE"``: how the fit chose the grid.
    approx_order : int
        Order of the Chebyshev surface, or -1 to interpolate.
    weighting : bool
        Weight the cells in the Chebyshev fit.
    weight_power : int
        Weights are ``stderr**-weight_power``: 1 as upstream, 2 for inverse variances.

    Raises
    ------
    ValueError
        Shapes differ or a style is unknown.
    """

    value: NDArray[np.float32]
    stderr: NDArray[np.float32]
    mask: NDArray[np.int32]
    bbox: Box
    interp_style: str = "AKIMA_SPLINE"
    undersample_style: str = "REDUCE_INTERP_ORDER"
    approx_order: int = -1
    weighting: bool = True
    weight_power: int = 1

    def __post_init__(self) -> None:
        if self.value.ndim != 2 or not self.value.shape == self.stderr.shape == self.mask.shape:
            raise ValueError("value, standard error and mask of a background are not planes of one shape")
        if self.interp_style not in INTERPOLATION_STYLES or self.undersample_style not in _UNDERSAMPLE_NUMBERS:
            raise ValueError(f"unknown background style {self.interp_style} or {self.undersample_style}")

    @cached_property
    def coefficients(self) -> NDArray[np.float64]:
        """Chebyshev coefficients [order in y, order in x], counts, zero beyond the triangle.

        The order is lowered below ``approx_order`` while the cells with values are fewer than the terms or leave
        their system nearly singular (upstream solves it regardless).

        Raises
        ------
        RuntimeError
            No cell has a finite value and weight, which is also so for an image without noise.
        """
        value = self.value.astype(np.float64)
        with np.errstate(divide="ignore"):
            weight = self.stderr.astype(np.float64) ** -self.weight_power if self.weighting else np.ones_like(value)
        ok = np.isfinite(value) & np.isfinite(weight) & (weight > 0)
        if not ok.any():
            raise RuntimeError("no valid points in the background cells; the variance is likely zero")
        ny, nx = value.shape
        u = _unit(cell_centers(self.bbox.width, nx), self.bbox.width)
        v = _unit(cell_centers(self.bbox.height, ny), self.bbox.height)
        return _fit_triangle(u, v, value, np.where(ok, weight, 0), self.approx_order)

    def image(self) -> NDArray[np.float32]:
        """Draw the model on the full image, float32 of shape ``bbox.shape``, counts."""
        return _draw([self], self.bbox)

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Draw `image` block by block: rows and their values, which the next block overwrites."""
        return BackgroundList([self]).blocks()

    def subtract_from(self, image: NDArray[np.float32]) -> None:
        """Subtract exactly what `image` draws from a plane, in place and without making that plane."""
        BackgroundList([self]).subtract_from(image)

    def add_to(self, image: NDArray[np.float32]) -> None:
        """Add exactly what `image` draws to a plane, in place and without making that plane."""
        BackgroundList([self]).add_to(image)

    def scaled(self, factor: float) -> BackgroundModel:
        """Model in other units: values times ``factor``, standard errors left alone as upstream does."""
        return replace(self, value=(self.value * np.float32(factor)).astype(np.float32))

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Header cards and planes (``image``, ``mask``, ``variance``) under the names that Rubin's files use.

        The plane ``variance`` holds the standard error.
        """
        approximated = self.approx_order >= 0
        header = {
            "INTERPSTYLE": _STYLE_NUMBERS[self.interp_style],
            "UNDERSAMPLESTYLE": _UNDERSAMPLE_NUMBERS[self.undersample_style],
            "APPROXSTYLE": _CHEBYSHEV if approximated else _NO_APPROXIMATION,
            "APPROXORDERX": max(self.approx_order, 0),
            "APPROXORDERY": max(self.approx_order, 0),
            "APPROXWEIGHTING": self.weighting,
            "APPROXWEIGHTPOWER": self.weight_power,
            "BKGD_X0": self.bbox.x0,
            "BKGD_Y0": self.bbox.y0,
            "BKGD_WIDTH": self.bbox.width,
            "BKGD_HEIGHT": self.bbox.height,
        }
        return header, {"image": self.value, "mask": self.mask, "variance": self.stderr}

    @classmethod
    def from_state(cls, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> BackgroundModel:
        """Inverse of `state`.

        Raises
        ------
        KeyError
            A card or a plane is missing.
        ValueError
            A style number is unknown.
        """
        return cls(
            value=np.ascontiguousarray(arrays["image"], np.float32),
            stderr=np.ascontiguousarray(arrays["variance"], np.float32),
            mask=np.ascontiguousarray(arrays["mask"], np.int32),
            bbox=Box(*(int(header[f"BKGD_{name}"]) for name in ("X0", "Y0", "WIDTH", "HEIGHT"))),
            interp_style=_named(_STYLE_NUMBERS, int(header["INTERPSTYLE"])),
            undersample_style=_named(_UNDERSAMPLE_NUMBERS, int(header["UNDERSAMPLESTYLE"])),
            approx_order=int(header["APPROXORDERX"]) if int(header["APPROXSTYLE"]) == _CHEBYSHEV else -1,
            weighting=bool(header["APPROXWEIGHTING"]),
            weight_power=int(header.get("APPROXWEIGHTPOWER", 1)),
        )


class BackgroundList:
    """Ordered models whose sum is the total background of one image.

    Parameters
    ----------
    models : iterable of BackgroundModel, optional
        Models of one pixel box.
    """

    def __init__(self, models: Iterable[BackgroundModel] = ()) -> None:
        self._models: list[BackgroundModel] = []
        for model in models:
            self.append(model)

    def __len__(self) -> int:
        return len(self._models)

    def __iter__(self) -> Iterator[BackgroundModel]:
        return iter(self._models)

    def __getitem__(self, index: int) -> BackgroundModel:
        return self._models[index]

    def append(self, model: BackgroundModel) -> None:
        """Add a model at the end.

        Raises
        ------
        ValueError
            Its box is not the box of the models before it.
        """
        if self._models and model.bbox != self._models[0].bbox:
            raise ValueError(f"a background over {model.bbox} does not fit a list over {self._models[0].bbox}")
        self._models.append(model)

    def pop(self) -> BackgroundModel:
        """Remove and return the last model."""
        return self._models.pop()

    def clear(self) -> None:
        """Remove all models."""
        self._models.clear()

    def image(self) -> NDArray[np.float32]:
        """Sum of all models on the full image, float32, counts.

        Raises
        ------
        ValueError
            The list is empty, so that the size of the image is unknown.
        """
        return _draw(self._models, self._box())

    def scaled(self, factor: float) -> BackgroundList:
        """All models times ``factor``."""
        return BackgroundList(model.scaled(factor) for model in self._models)

    def add_to(self, image: NDArray[np.float32]) -> None:
        """Add the sum of all models to a plane in place; nothing for an empty list."""
        if self._models:
            _combine(image, self._models, self._box(), np.add)

    def subtract_from(self, image: NDArray[np.float32]) -> None:
        """Subtract the sum of all models from a plane in place; nothing for an empty list."""
        if self._models:
            _combine(image, self._models, self._box(), np.subtract)

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Draw `image` block by block: rows and their values, which the next block overwrites; none if empty."""
        return _blocks(_surfaces(self._models, self._box()), self._box()) if self._models else iter(())

    def mean_and_variance(self) -> tuple[float, float]:
        """Mean (counts) and sample variance (counts²) of the pixels of `image`."""
        bbox = self._box()
        surfaces = _surfaces(self._models, bbox)
        if len(surfaces) == 1 and isinstance(surfaces[0], _ChebyshevSurface):
            return surfaces[0].mean_and_variance()
        n = bbox.width * bbox.height
        pivot = float(np.nanmean(self._models[0].value))  # near the mean, for squares not to lose digits
        total = squares = 0.0
        for _, values in self.blocks():
            deviation = values.ravel().astype(np.float64) - pivot
            total += float(deviation.sum())
            squares += float(np.square(deviation).sum())
        return pivot + total / n, max(squares - total**2 / n, 0.0) / (n - 1) if n > 1 else float("nan")

    def _box(self) -> Box:
        if not self._models:
            raise ValueError("an empty background list has no image")
        return self._models[0].bbox


def _unit(position: NDArray[Any], size: int) -> NDArray[np.float64]:
    """Array pixels [-0.5, size - 0.5] onto [-1, 1]."""
    return np.asarray((2.0 * position + 1.0) / size - 1.0, dtype=np.float64)


def _named(numbers: Mapping[str, int], number: int) -> str:
    for name, value in numbers.items():
        if value == number:
            return name
    raise ValueError(f"background style number {number} is none of {dict(numbers)}")


def _fit_triangle(
    u: NDArray[np.float64],
    v: NDArray[np.float64],
    value: NDArray[np.float64],
    weight: NDArray[np.float64],
    order: int,
) -> NDArray[np.float64]:
    """Weighted least squares of products T_j(v) T_i(u), i + j <= order, over cells with weight > 0."""
    used = weight > 0
    weights = weight[used] / weight.max()
    along_x, along_y = chebvander(u, order), chebvander(v, order)
    for n in range(order, -1, -1):
        terms = [(j, i) for j in range(n + 1) for i in range(n + 1 - j)]
        if used.sum() < len(terms):
            continue
        design = np.stack([np.outer(along_y[:, j], along_x[:, i])[used] for j, i in terms])
        # einsum, because BLAS would start threads for these small products, which costs far more than the products
        if np.linalg.cond(np.einsum("ik,jk->ij", design, design)) > _MAX_CONDITION**2:
            continue
        normal = np.einsum("ik,jk->ij", design * weights, design)
        solution = np.linalg.solve(normal, np.einsum("ik,k->i", design, weights * value[used]))
        coefficients = np.zeros((n + 1, n + 1))
        coefficients[tuple(np.transpose(terms))] = solution
        return coefficients
    raise RuntimeError("no valid points in the background cells")  # pragma: no cover - order 0 always has a point


def _surfaces(models: Iterable[BackgroundModel], bbox: Box) -> list[_Surface]:
    """One surface for each spline model and one for all Chebyshev models together."""
    surfaces: list[_Surface] = []
    total = np.zeros((0, 0))
    for model in models:
        if model.approx_order < 0:
            surfaces.append(_SplineSurface(model))
            continue
        coefficients = model.coefficients
        size = max(len(total), len(coefficients))
        total = _padded(total, size) + _padded(coefficients, size)
    return [*surfaces, _ChebyshevSurface(total, bbox)] if len(total) else surfaces


def _padded(coefficients: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    return np.pad(coefficients, (0, size - len(coefficients)))


def _blocks(
    surfaces: Sequence[_Surface], bbox: Box, wanted: slice = _ALL
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Blocks of rows of the sum of surfaces, in float32, those wanted; each is overwritten by the next."""
    total = np.empty((_ROWS, bbox.width))
    part = np.empty_like(total)
    result = np.empty((_ROWS, bbox.width), np.float32)
    for start in range(0, bbox.height, _ROWS)[wanted]:
        n = min(_ROWS, bbox.height - start)
        surfaces[0].rows(start, total[:n])
        for surface in surfaces[1:]:
            surface.rows(start, part[:n])
            total[:n] += part[:n]
        result[:n] = total[:n]
        yield slice(start, start + n), result[:n]


def _draw(models: Iterable[BackgroundModel], bbox: Box) -> NDArray[np.float32]:
    plane = np.empty(bbox.shape, np.float32)
    for rows, model in _blocks(_surfaces(models, bbox), bbox):
        plane[rows] = model
    return plane


def _combine(plane: NDArray[np.float32], models: Iterable[BackgroundModel], bbox: Box, operation: np.ufunc) -> None:
    """Add the sum of models to a plane, or subtract it. Blocks are the same however many threads there are."""
    surfaces = _surfaces(models, bbox)

    def draw(blocks: slice) -> None:
        for rows, model in _blocks(surfaces, bbox, blocks):
            operation(plane[rows], model, out=plane[rows])

    threads.each(draw, threads.bands(-(-bbox.height // _ROWS)))
