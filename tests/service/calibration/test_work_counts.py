"""How much work one calibration does by what it finds: what is measured and drawn for each source, and how often.

How often kernels are called and planes allocated in all is held by ``tests/regression/test_work.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from service.calibration import deblend
from service.calibration.calibrate_image import CalibrateImage
from service.calibration.measurement import centroid, sources
from service.calibration.result import CalibrationResult
from service.exposure.masked_image import MaskedImage
from service.exposure.psf.psfex import PsfexPsf
from service.simulation import SimulationConfig, simulate

SIZE = 700


class Counted:
    """Calls of some functions, and the sizes of their arguments."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: Counter[str] = Counter()
        self.sizes: Counter[str] = Counter()
        self._patch = monkeypatch

    def watch(self, owner: ModuleType | type, name: str, size: Callable[..., int] | None = None) -> None:
        """Count the calls of an attribute, and what ``size`` makes of their arguments."""
        original = getattr(owner, name)

        def counting(*arguments: Any, **options: Any) -> Any:
            self.calls[name] += 1
            if size is not None:
                self.sizes[name] += size(*arguments, **options)
            return original(*arguments, **options)

        self._patch.setattr(owner, name, counting)


@pytest.fixture(scope="module")
def counted_run() -> Any:
    """One calibration without references, and the work it took."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        counted = Counted(monkeypatch)
        counted.watch(centroid, "measure_centroids", lambda plane, variance, rows, *_: len(rows))
        counted.watch(sources, "measure_sources", lambda plane, variance, mask, rows, *_: len(rows))
        counted.watch(PsfexPsf, "images", lambda psf, x, y: np.size(x))
        counted.watch(deblend, "split_blends")
        counted.watch(MaskedImage, "copy")
        counted.watch(MaskedImage, "count")
        scene = simulate(SimulationConfig(size=SIZE, seed=23, n_stars=260, n_galaxies=60))
        result = CalibrateImage().run(scene.exposures)
        assert result.failure is None
        yield counted, result


Run = tuple[Counted, CalibrationResult]


def test_planes_are_not_copied_or_counted_one_by_one(counted_run: Run) -> None:
    calls = counted_run[0].calls
    assert calls["copy"] == 0
    assert calls["count"] == 0


def test_each_source_is_measured_once_a_pass(counted_run: Run) -> None:
    counted, result = counted_run
    assert result.psf_stars is not None
    first = result.metadata["initial_psf_positive_footprint_count"]
    psf_sources = 2 * len(result.psf_stars) + first
    stars = result.metadata["post_deblend_source_count"] + result.metadata["star_sky_sources.sky_footprint_count"]
    assert counted.sizes["measure_centroids"] == counted.sizes["measure_sources"] == psf_sources + stars


def test_stamps_are_drawn_once_a_measurement_and_twice_a_blended_peak(counted_run: Run) -> None:
    counted, result = counted_run
    assert result.psf_stars is not None
    stars = result.metadata["post_deblend_source_count"] + result.metadata["star_sky_sources.sky_footprint_count"]
    blended = int(result.metadata["post_deblend_source_count"])  # at most: every source a child
    measured = 2 * len(result.psf_stars) + stars
    assert counted.sizes["images"] <= measured + 2 * blended


def test_blends_are_split_in_batches(counted_run: Run) -> None:
    counted, result = counted_run
    assert counted.calls["split_blends"] <= 1 + result.metadata["post_deblend_source_count"] // 256
    assert counted.calls["measure_centroids"] <= 4 + counted.sizes["measure_centroids"] // 256
