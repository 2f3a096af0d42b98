"""Aperture corrections: smooth fields over the detector, one or two for each flux."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.polynomial import chebyshev

from service.exposure.geometry import Box

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import ArrayLike, NDArray

__all__ = ["ApCorrMap", "ChebyshevField"]


@dataclass(frozen=True, slots=True)
class ChebyshevField:
    """A polynomial in Chebyshev form over a pixel box.

    The domain [-1, 1] spans the outer pixel edges of the box, ``[x0 - 0.5, x1 + 0.5]``.

    Parameters
    ----------
    bbox : Box
        Domain in the parent frame.
    coefficients : ndarray of float64, shape (order_y + 1, order_x + 1)
        ``coefficients[j, i]`` multiplies ``T_i(x) T_j(y)``.
    """

    bbox: Box
    coefficients: NDArray[np.float64]

    @classmethod
    def constant(cls, bbox: Box, value: float) -> ChebyshevField:
        """The same value everywhere."""
        return cls(bbox, np.array([[value]], dtype=np.float64))

    def evaluate(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """Values at parent positions in px, in their broadcast shape; NaN where a position is NaN."""
        u, v = np.broadcast_arrays(*self.scaled(x, y))
        return np.asarray(chebyshev.chebval2d(v, u, self.coefficients), dtype=np.float64)

    def scaled(self, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Positions mapped onto the domain [-1, 1]."""
        (cx, cy), box = self.bbox.center, self.bbox
        u = (np.asarray(x, dtype=np.float64) - cx) * (2.0 / box.width)
        v = (np.asarray(y, dtype=np.float64) - cy) * (2.0 / box.height)
        return u, v


class ApCorrMap:
    """Named fields by which fluxes are multiplied, and their errors.

    ``<flux>_instFlux`` is the correction, ``<flux>_instFluxErr`` its standard error.

    Parameters
    ----------
    fields : mapping of str to ChebyshevField, optional
        The entries.
    """

    def __init__(self, fields: Mapping[str, ChebyshevField] | None = None) -> None:
        self._fields = dict(fields or {})

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __contains__(self, name: object) -> bool:
        return name in self._fields

    def __getitem__(self, name: str) -> ChebyshevField:
        return self._fields[name]

    def __setitem__(self, name: str, field: ChebyshevField) -> None:
        self._fields[name] = field

    def update(self, other: ApCorrMap) -> None:
        """Take over all entries of another map."""
        self._fields.update({name: other[name] for name in other})

    def copy(self) -> ApCorrMap:
        """A map with the same entries."""
        return ApCorrMap(self._fields)

    def scaled(self, factor: float) -> ApCorrMap:
        """A map with every field multiplied by a number."""
        return ApCorrMap({n: ChebyshevField(f.bbox, f.coefficients * factor) for n, f in self._fields.items()})

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """What `from_state` needs.

        Returns
        -------
        header : dict
            Empty; the arrays say everything.
        arrays : dict of str to ndarray
            ``name`` (n,) text, ``bbox`` (n, 4) int64 as x0, y0, width, height, ``order`` (n, 2) int64 as orders in
            y and x, and ``coefficients`` (n, ny, nx) float64 padded with zeros.
        """
        fields = list(self._fields.values())
        ny = max((f.coefficients.shape[0] for f in fields), default=0)
        nx = max((f.coefficients.shape[1] for f in fields), default=0)
        coefficients = np.zeros((len(fields), ny, nx))
        for row, f in zip(coefficients, fields, strict=True):
            row[: f.coefficients.shape[0], : f.coefficients.shape[1]] = f.coefficients
        boxes = [(f.bbox.x0, f.bbox.y0, f.bbox.width, f.bbox.height) for f in fields]
        orders = [(f.coefficients.shape[0] - 1, f.coefficients.shape[1] - 1) for f in fields]
        return {}, {
            "name": np.array(list(self._fields), dtype=np.str_),
            "bbox": np.array(boxes, dtype=np.int64).reshape(-1, 4),
            "order": np.array(orders, dtype=np.int64).reshape(-1, 2),
            "coefficients": coefficients,
        }

    @classmethod
    def from_state(cls, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> ApCorrMap:
        """Rebuild from `state`.

        Raises
        ------
        KeyError
            An array is missing.
        """
        fields = {}
        rows = zip(arrays["name"], arrays["bbox"], arrays["order"], arrays["coefficients"], strict=True)
        for name, bbox, (order_y, order_x), coefficients in rows:
            used = np.array(coefficients[: int(order_y) + 1, : int(order_x) + 1], dtype=np.float64)
            fields[str(name).strip()] = ChebyshevField(Box(*(int(v) for v in bbox)), used)
        return cls(fields)
