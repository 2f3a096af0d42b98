"""What every measurement plugin is handed: the catalogue, the pixels without neighbours, and where to write."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from service.calibration.kernels.noise_replacement import NoiseReplacedPlane
    from service.calibration.measurement.walk import Part
    from service.exposure.catalog import SourceCatalog
    from service.exposure.masked_image import MaskedImage
    from service.exposure.psf import Psf

__all__ = ["MeasurementContext"]


@dataclass(slots=True)
class MeasurementContext:
    """One measurement of one catalogue.

    Parameters
    ----------
    catalog : SourceCatalog
        Filled in place.
    masked_image : MaskedImage
        Its mask and variance count; its image is ``plane``.
    psf : Psf
        In force.
    plane : NoiseReplacedPlane
        Pixels in which all sources are hidden when it is handed over, array coordinates.
    keep_stale : bool
        Earlier flags stay set, and earlier values where there is no new one.

    Attributes
    ----------
    chunk_size : int
        Sources whose PSF stamps are made together.
    order : ndarray of int64, shape (n,)
        Rows in the order in which they are measured: parents and isolated sources, then children.
    psf_shapes : ndarray of float64, shape (n, 3)
        Ixx, Iyy, Ixy of the PSF in px^2 at the pixels where the centroids were looked for.
    invalid_psf : ndarray of bool, shape (n,)
        Where the PSF could not be evaluated.
    parts : list of Part
        Those in which `walk` measures.
    """

    chunk_size: ClassVar[int] = 256

    catalog: SourceCatalog
    masked_image: MaskedImage
    psf: Psf
    plane: NoiseReplacedPlane
    keep_stale: bool = False
    order: NDArray[np.int64] = field(init=False)
    psf_shapes: NDArray[np.float64] = field(init=False)
    invalid_psf: NDArray[np.bool_] = field(init=False)
    parts: list[Part] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        # it decides whose noise lies on top where footprints overlap
        self.order = np.argsort(self.catalog["parent"] != 0, kind="stable").astype(np.int64)
        self.psf_shapes = np.full((len(self.catalog), 3), np.nan)
        self.invalid_psf = np.zeros(len(self.catalog), bool)

    @property
    def origin(self) -> NDArray[np.float64]:
        """Parent coordinates (x, y) of the first pixel."""
        return np.array([self.masked_image.x0, self.masked_image.y0], dtype=np.float64)

    def has(self, name: str) -> bool:
        """Whether the catalogue has a column of this true name."""
        return name in self.catalog.schema

    def chunks(self) -> Iterator[NDArray[np.int64]]:
        """Rows in the order of measurement, in pieces for which the PSF stamps are made together."""
        for start in range(0, len(self.order), self.chunk_size):
            yield self.order[start : start + self.chunk_size]

    def first_peaks(self) -> NDArray[np.float64]:
        """First peaks (x, y), parent frame, NaN where there is none, shape (n, 2)."""
        if self.catalog.footprints is None:
            return np.full((len(self.catalog), 2), np.nan)
        return self.catalog.footprints.first_peaks

    def centers(self) -> NDArray[np.float64]:
        """Positions (x, y) of the centroid slot, or of the first peak where that is NaN, parent frame, shape (n, 2)."""
        centers = np.column_stack([self.catalog["slot_Centroid_x"], self.catalog["slot_Centroid_y"]])
        return np.where(np.isfinite(centers).all(axis=1, keepdims=True), centers, self.first_peaks())

    def psf_positions(self, positions: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Positions (n, 2) at which the PSF can be evaluated, and which are real ones.

        Positions that are not finite, or so far off the image that no stamp reaches it, become the average position.
        """
        reach = self.masked_image.bbox.grown(max(self.psf.width, self.psf.height))
        real = reach.contains(positions[:, 0], positions[:, 1])
        return np.where(real[:, None], positions, self.psf.average_position), real

    def set_value(self, name: str, values: NDArray[Any]) -> None:
        """Write a measured column; NaN is "not measured"."""
        if not self.has(name):
            return
        if self.keep_stale and values.dtype.kind == "f":
            values = np.where(np.isnan(values), self.catalog[name], values)
        self.catalog[name] = values

    def set_flag(self, name: str, values: NDArray[np.bool_]) -> None:
        """Write a flag column."""
        if self.has(name):
            self.catalog[name] = values | self.catalog[name] if self.keep_stale else values
