"""Every measured column against what Rubin's own code made of the same pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from service.calibration.config.measurement import HsmMomentsConfig, MeasurementConfig, SdssCentroidConfig
from service.calibration.measurement.measure import measure
from service.calibration.measurement.noise_replacement import noise_replaced_plane

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDERS = ["typical1k", "crowded1k", "sharp1k", "undersampled1k"]
AS_UPSTREAM = MeasurementConfig(
    keep_stale_flags=True,
    centroid=SdssCentroidConfig(errors="upstream"),
    moments=HsmMomentsConfig(flag_galsim=False),
)
HSM = "ext_shapeHSM_HsmSourceMoments"
MEASURED = ("base_", "ext_")
ELSEWHERE = ("base_Normalized", "base_FootprintArea", "base_ClassificationExtendedness")
TEMPORARY_BITS = 0b11 << 11  # planes that upstream sets and removes for the noise replacement


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("name", FOLDERS)
def test_psf_stage_equals_upstream(psf_stage: Callable[[str, int], Any], name: str, k: int) -> None:
    stage = psf_stage(name, k)
    numbers = measure(stage.catalog, stage.exposure, AS_UPSTREAM)
    assert numbers.mean == pytest.approx(stage.numbers["noise_mean"], abs=2e-4)
    assert numbers.stdev == pytest.approx(stage.numbers["noise_std"], rel=1e-5)
    compare(stage)


@pytest.mark.parametrize("name", ["typical1k", "sharp1k", "undersampled1k"])
def test_isolated_stars_equal_upstream(star_stage: Callable[[str], Any], name: str) -> None:
    stage = star_stage(name)
    assert stage.complete.sum() >= 20
    measure(stage.catalog, stage.exposure, AS_UPSTREAM)
    compare(stage, centroid=3e-3)  # noise in the footprints of blends, which are not recorded, moves faint centroids


@pytest.mark.parametrize("name", FOLDERS)
def test_noise_is_upstreams_own(psf_stage: Callable[[str, int], Any], name: str) -> None:
    stage = psf_stage(name, 1)
    image, footprints = stage.exposure.masked_image, stage.catalog.footprints
    with noise_replaced_plane(image, footprints, AS_UPSTREAM.noise_replacer) as (plane, _):
        pass
    recorded = stage.noise["pixels"]
    assert len(recorded) == plane.noise_offsets[20]
    # the recorded background is rounded, which shifts mean and sigma of the noise by 1e-4
    np.testing.assert_allclose(plane.noise[: len(recorded)], recorded, atol=2e-3)


def compare(stage: Any, centroid: float = 1e-3) -> None:
    """All columns of the plugins; the measured values where both have one."""
    rows = stage.complete
    ours = {name: stage.catalog[name][rows] for name in stage.catalog.schema.names}
    theirs = {name: stage.expected[name][: len(rows)][rows] for name in ours}
    names = [n for n in ours if n.startswith(MEASURED) and not n.startswith(ELSEWHERE)]
    measured = [n for n in names if ours[n].dtype.kind == "f" and np.isfinite(theirs[n]).any()]
    assert len(measured) >= 18
    for name in names:
        if ours[name].dtype == bool:
            assert np.count_nonzero(ours[name] != theirs[name]) <= max(1, 0.01 * len(ours[name])), name
    for name in measured:
        a, b = ours[name], theirs[name]
        assert np.count_nonzero(np.isnan(a) != np.isnan(b)) <= max(1, 0.01 * len(a)), name
        good = np.isfinite(a) & np.isfinite(b)
        difference = np.abs(a - b)[good]
        if name.startswith("base_SdssCentroid"):
            assert difference.max() < centroid * (np.inf if name.endswith("Err") else 1.0), name
            assert np.median(difference) < 1e-5, name
        elif name.startswith("ext_shapeHSM"):
            bright = theirs["base_PsfFlux_instFlux"][good] > 50 * theirs["base_PsfFlux_instFluxErr"][good]
            size = (theirs[f"{HSM}_xx"] + theirs[f"{HSM}_yy"])[good][bright]
            limit = 1e-4 * np.where(np.isfinite(size), size, 1.0)
            assert (difference[bright] < limit).all(), name
        elif name.endswith("_instFlux"):
            error = theirs[f"{name}Err"][good]
            assert np.median(difference / error) < 1e-4, name
            assert np.quantile(difference / error, 0.98) < 0.02, name
        elif name.endswith("_instFluxErr"):
            np.testing.assert_allclose(a[good], b[good], rtol=3e-3, err_msg=name)
    np.testing.assert_array_equal(ours["base_PsfFlux_npixels"], theirs["base_PsfFlux_npixels"])
    bits = "base_CompensatedTophatFlux_12_mask_bits"
    np.testing.assert_array_equal(ours[bits], theirs[bits].astype(np.int32) & ~TEMPORARY_BITS)
