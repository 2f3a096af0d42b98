"""Exposures and catalogues as they stood when Rubin's own code measured them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from service.exposure.catalog import SourceCatalog
from service.exposure.exposure import Exposure
from service.exposure.footprint import FootprintSet
from service.exposure.mask import MaskPlanes
from service.exposure.masked_image import MaskedImage
from service.exposure.psf import GaussianPsf, PsfexPsf
from service.exposure.star_schema import psf_star_schema, star_schema

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass
class Stage:
    """One measurement of the parity set."""

    catalog: SourceCatalog
    exposure: Exposure
    expected: dict[str, np.ndarray]
    numbers: dict[str, Any]
    noise: dict[str, np.ndarray]
    complete: np.ndarray  # rows whose footprint and noise are known


class _Run:
    def __init__(self, folder: Path, name: str) -> None:
        self.root = folder / name
        self.stages = self.root / "rubin_classic" / "stages"
        if not self.stages.is_dir():
            pytest.skip(f"no stages of {name}")

    def path(self, pattern: str) -> Path:
        return next(self.stages.glob(pattern))

    def arrays(self, pattern: str) -> dict[str, np.ndarray]:
        with np.load(self.path(pattern)) as z:
            return {key: z[key] for key in z}

    def values(self, pattern: str) -> dict[str, Any]:
        return json.loads(self.path(pattern).read_text())

    def table(self, pattern: str) -> dict[str, np.ndarray]:
        table = pq.read_table(self.path(pattern))
        return {name: table[name].to_numpy() for name in table.schema.names}

    def image_before(self, number: int) -> MaskedImage:
        """The input less the backgrounds that were subtracted before a stage, with the masks set until then."""
        with fits.open(self.root / "exposure.fits") as hdus:
            header = hdus["MASK"].header
            planes = MaskPlanes({k[3:]: v for k, v in header.items() if k.startswith("MP_")})
            image, mask, variance = (np.asarray(hdus[n].data) for n in ("IMAGE", "MASK", "VARIANCE"))
        image, mask, variance = image.astype(np.float32), mask.astype(np.int32), variance.astype(np.float32)
        edge, cr = 1 << planes["EDGE"], 1 << planes["CR"]
        for path in sorted(self.stages.glob("*.npz")):
            if int(path.name[:3]) >= number:
                break
            with np.load(path) as z:
                if "_background_" in path.name:
                    image -= np.cumsum(np.cumsum(z["model_d2_milli"], axis=1, dtype=np.int64), axis=1) * 1e-3
                elif "_repair_" in path.name:
                    mask &= ~cr
                    _, y, x = z["pixels"].T
                    mask[y, x] |= cr
                    image[y, x] += z["value_after"] - z["value_before"]
                    if "repair_3" in path.name:
                        mask[y, x] |= 1 << planes["INTRP"]
                elif "_detection_" in path.name:
                    x0, y0, x1, y1 = json.loads(path.with_suffix(".json").read_text())["searched_bbox"]
                    inner = np.zeros(mask.shape, bool)
                    inner[y0 : y1 + 1, x0 : x1 + 1] = True
                    mask[~inner] |= edge
                    self._paint_detected(mask, planes, z)
        return MaskedImage(image, mask, variance, planes)

    @staticmethod
    def _paint_detected(mask: np.ndarray, planes: MaskPlanes, z: Any) -> None:
        mask &= ~np.int32(planes.bitmask(["DETECTED", "DETECTED_NEGATIVE"]))
        footprints(z["positive_spans"], z["positive_peaks"]).paint(mask, 1 << planes["DETECTED"])


def footprints(spans: np.ndarray, peaks: np.ndarray, n: int | None = None) -> FootprintSet:
    """Footprints from recorded rows (footprint, y, x0, x1) and (footprint, x, y)."""
    n = int(spans[:, 0].max()) + 1 if n is None else n
    spans = spans[np.lexsort((spans[:, 2], spans[:, 1], spans[:, 0]))]
    return FootprintSet.build(
        spans[:, 1:],
        np.searchsorted(spans[:, 0], np.arange(n + 1)),
        peaks[:, 1:].astype(np.int32),
        peak_offsets=np.searchsorted(peaks[:, 0], np.arange(n + 1)),
    )


def _psfex(run: _Run, pattern: str) -> PsfexPsf:
    z = run.arrays(pattern)
    return PsfexPsf(
        z["components"],
        tuple(z["context_offset"].astype(float)),
        tuple(z["context_scale"].astype(float)),
        average_position=tuple(z["average_position"]),
    )


def _stage(run: _Run, kind: str, psf: Any, catalog: SourceCatalog, complete: np.ndarray) -> Stage:
    number = int(run.path(f"*_{kind}.parquet").name[:3])
    exposure = Exposure(run.image_before(number), psf=psf)
    return Stage(
        catalog,
        exposure,
        run.table(f"*_{kind}.parquet"),
        run.values(f"*_{kind}.json"),
        run.arrays(f"*_{kind}_noise.npz"),
        complete,
    )


@pytest.fixture(scope="session")
def psf_stage(parity_dir: Path) -> Callable[[str, int], Stage]:
    """The k-th measurement of the PSF stars of a folder, k = 1, 2 or 3."""

    def load(name: str, k: int) -> Stage:
        run = _Run(parity_dir, name)
        detection = run.arrays(f"*_detection_psf_{min(k, 2)}.npz")
        if k == 3:
            psf: Any = _psfex(run, "*_psf_determiner_2.npz")
        elif k == 2:
            psf = GaussianPsf(run.values("*_psf_determiner_1.json")["determinant_radius"], 41, 41)
        else:
            psf = GaussianPsf(4.0 / 2.354820045, 11, 11)
        found = footprints(detection["positive_spans"], detection["positive_peaks"])
        catalog = SourceCatalog.allocate(psf_star_schema(), len(found), found)
        catalog["id"] = detection["source_ids"]
        if k == 3:
            earlier = run.table("*_psf_source_measurement_2.parquet")
            for column in catalog.schema.names:
                catalog[column] = earlier[column]
        return _stage(run, f"psf_source_measurement_{k}", psf, catalog, np.ones(len(found), bool))

    return load


@pytest.fixture(scope="session")
def star_stage(parity_dir: Path) -> Callable[[str], Stage]:
    """The measurement of the stars of a folder; the pixels of blends are not recorded, nor therefore all the noise."""

    def load(name: str) -> Stage:
        run = _Run(parity_dir, name)
        detection = run.arrays("*_detection_star_1.npz")
        sky = run.arrays("*_sky_sources_1.npz")
        deblended = run.table("*_deblend_1_catalog.parquet")
        detected = footprints(detection["positive_spans"], detection["positive_peaks"])
        discs = _discs(sky["xy"])
        everything = FootprintSet.concatenate([detected, discs])
        n = len(everything)
        catalog = SourceCatalog.allocate(star_schema(), n, everything)
        catalog["id"] = deblended["id"][:n]
        catalog["sky_source"] = deblended["sky_source"][:n]
        complete = _isolated(everything) & (deblended["deblend_nChild"][:n] == 0)
        stage = _stage(run, "star_measurement_1", _psfex(run, "*_psf_determiner_2.npz"), catalog, complete)
        assert not deblended["parent"][:n].any()
        return stage

    return load


def _discs(xy: np.ndarray, radius: float = 8.0) -> FootprintSet:
    dy = np.arange(-int(radius), int(radius) + 1)
    half = np.sqrt(radius**2 - dy**2).astype(int)
    spans = [(i, y + d, x - h, x + h) for i, (x, y) in enumerate(xy.tolist()) for d, h in zip(dy, half, strict=True)]
    peaks = [(i, x, y) for i, (x, y) in enumerate(xy.tolist())]
    return footprints(np.array(spans), np.array(peaks))


def _isolated(everything: FootprintSet, margin: int = 23) -> np.ndarray:
    """Footprints whose measurements see no other: noise there depends on the deblended footprints."""
    x0, y0, x1, y1 = everything.boxes.T
    apart = (x0[:, None] > x1 + margin) | (x1[:, None] < x0 - margin)
    apart |= (y0[:, None] > y1 + margin) | (y1[:, None] < y0 - margin)
    return apart.sum(axis=1) == len(everything) - 1


def boxes(centers: np.ndarray, half: int, shape: tuple[int, int]) -> FootprintSet:
    """Square footprints around rounded positions, cut at the border, with that pixel as peak."""
    rows, peaks = [], []
    for i, (x, y) in enumerate(np.floor(np.asarray(centers) + 0.5).astype(int).tolist()):
        low, high = max(x - half, 0), min(x + half, shape[1] - 1)
        rows += [(i, row, low, high) for row in range(max(y - half, 0), min(y + half, shape[0] - 1) + 1)]
        peaks.append((i, x, y))
    return footprints(np.array(rows), np.array(peaks), len(peaks))


def stars(
    shape: tuple[int, int], centers: np.ndarray, fluxes: Any, sigma: float | np.ndarray, noise: float, seed: int = 1
) -> MaskedImage:
    """Gaussian stars sampled at pixel centres, with white noise and its variance; sigma may be a 2x2 matrix."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = rng.normal(0.0, noise, shape) if noise else np.zeros(shape)
    matrix = np.eye(2) * sigma**2 if np.isscalar(sigma) else np.asarray(sigma)
    inverse, norm = np.linalg.inv(matrix), 2 * np.pi * np.sqrt(np.linalg.det(matrix))
    for (xc, yc), flux in zip(centers, np.broadcast_to(fluxes, len(centers)), strict=True):
        cut = np.s_[max(int(yc) - 40, 0) : int(yc) + 41, max(int(xc) - 40, 0) : int(xc) + 41]
        dx, dy = x[cut] - xc, y[cut] - yc
        r2 = inverse[0, 0] * dx**2 + inverse[1, 1] * dy**2 + 2 * inverse[0, 1] * dx * dy
        image[cut] += flux / norm * np.exp(-0.5 * r2)
    variance = np.full(shape, (noise or 1.0) ** 2, np.float32)
    return MaskedImage(image.astype(np.float32), np.zeros(shape, np.int32), variance)


def catalog_of(found: FootprintSet, *, stars_schema: bool = True) -> SourceCatalog:
    """An unmeasured catalogue of isolated sources."""
    catalog = SourceCatalog.allocate(star_schema() if stars_schema else psf_star_schema(), len(found), found)
    catalog["id"] = np.arange(1, len(found) + 1)
    return catalog


@pytest.fixture(scope="session")
def scene() -> Any:
    """Builders of small scenes: ``stars``, ``boxes``, ``catalog_of``, ``footprints`` and ``grid``."""

    class Scene:
        pass

    Scene.stars, Scene.boxes, Scene.catalog_of = staticmethod(stars), staticmethod(boxes), staticmethod(catalog_of)
    Scene.footprints, Scene.grid = staticmethod(footprints), staticmethod(grid)
    return Scene


def grid(n: int, spacing: int, seed: int = 5) -> tuple[tuple[int, int], np.ndarray]:
    """Image shape and n x n positions ``spacing`` apart, each off its pixel's centre by up to half a pixel."""
    rng = np.random.default_rng(seed)
    ticks = spacing * (np.arange(n) + 1)
    x, y = np.meshgrid(ticks, ticks)
    return (spacing * (n + 1),) * 2, np.column_stack([x.ravel(), y.ravel()]) + rng.uniform(-0.49, 0.49, (n * n, 2))
