"""The PSF fit by Piff: against the truth of a simulated field, Piff's own drawing, and its failures."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from service.calibration.calibrate_image import CalibrateImage
from service.calibration.config import CalibrateImageConfig
from service.calibration.config.psf import MeasurePsfConfig, PiffDeterminerConfig, PsfexDeterminerConfig
from service.calibration.errors import PiffTooFewGoodStarsError
from service.calibration.input_errors import MissingPackageError
from service.calibration.presets import resolve_config
from service.calibration.psf.measure_psf import measure_psf
from service.calibration.psf.piff import determine_psf, star_weights
from service.exposure.catalog import SourceCatalog
from service.exposure.exposure import Exposure
from service.exposure.footprint import FootprintSet
from service.exposure.masked_image import MaskedImage
from service.exposure.psf import PiffPsf, determinant_radii, psf_from_state
from service.exposure.star_schema import psf_star_schema
from service.simulation import SimulationConfig, simulate

SIZE, SKY = 600, 400.0
SMALL = PiffDeterminerConfig(spatial_order=1, model_size=17, stamp_size=19, interpolant_order=5)


@pytest.fixture(scope="module")
def piff():
    return pytest.importorskip("piff", reason="the optional package Piff is not installed")


def sigma(x):
    """Truth: the PSF grows to the right."""
    return 1.8 + 0.3 * (np.asarray(x) / SIZE - 0.5)


def field(n: int = 36, seed: int = 5) -> tuple[Exposure, SourceCatalog]:
    """Isolated Gaussian stars with their Poisson noise, and their true positions in the catalogue."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(n)))
    pitch = SIZE / side
    x, y = (np.stack(np.meshgrid(*[np.arange(side)] * 2)).reshape(2, -1)[:, :n] + 0.5) * pitch
    x, y = x + rng.uniform(-15, 15, n), y + rng.uniform(-15, 15, n)
    flux = 10 ** rng.uniform(4.3, 5.3, n)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    image = np.zeros((SIZE, SIZE))
    for cx, cy, f in zip(x, y, flux, strict=True):
        s2 = sigma(cx) ** 2
        image += f / (2 * np.pi * s2) * np.exp(-((columns - cx) ** 2 + (rows - cy) ** 2) / (2 * s2))
    variance = image + SKY
    image = rng.normal(image, np.sqrt(variance))
    masked = MaskedImage(image.astype(np.float32), np.zeros(image.shape, np.int32), variance.astype(np.float32))
    spans, offsets, peaks = [], [0], []
    for cx, cy in zip(np.rint(x).astype(int), np.rint(y).astype(int), strict=True):
        spans += [(row, cx - 8, cx + 8) for row in range(cy - 8, cy + 9)]
        offsets.append(len(spans))
        peaks.append((cx, cy))
    footprints = FootprintSet.build(
        np.array(spans, np.int32),
        np.array(offsets),
        peaks=np.array(peaks, np.int32),
        peak_offsets=np.arange(n + 1),
    )
    footprints.paint(masked.mask, 1 << masked.planes["DETECTED"])
    catalog = SourceCatalog.allocate(psf_star_schema(), n, footprints)
    catalog["id"] = np.arange(1, n + 1)
    catalog["slot_Centroid_x"], catalog["slot_Centroid_y"] = x, y
    catalog["slot_Shape_xx"] = catalog["slot_Shape_yy"] = sigma(x) ** 2 + rng.normal(0, 0.01, n)
    catalog["slot_Shape_xy"] = 0.0
    catalog["base_PsfFlux_instFlux"], catalog["base_PsfFlux_instFluxErr"] = flux, flux / 100
    return Exposure(masked), catalog


def test_fit_finds_the_psf_and_how_it_varies(piff):
    exposure, catalog = field()
    config = MeasurePsfConfig(determiner=SMALL)
    result = measure_psf(catalog, exposure, config)
    psf = result.psf
    assert isinstance(psf, PiffPsf)
    x, y = (value.ravel() for value in np.meshgrid([100.0, 300.0, 500.0], [100.0, 500.0]))
    np.testing.assert_allclose(determinant_radii(psf.shapes(x, y)), sigma(x), rtol=0.01)
    assert exposure.psf is psf
    assert result.num_good_stars == catalog["calib_psf_used"].sum() >= 30
    assert not (catalog["calib_psf_used"] & ~catalog["calib_psf_candidate"]).any()
    used = catalog["calib_psf_used"]
    assert psf.average_position[0] == pytest.approx(catalog["slot_Centroid_x"][used].mean())
    pixels = result.num_good_stars * SMALL.stamp_size**2
    assert 0.1 * pixels < result.spatial_fit_chi2 < 1.1 * pixels  # bright stars weigh less than their noise asks for


def test_psf_is_drawn_as_piff_draws_it(piff, monkeypatch):
    fitted = []
    process = piff.PSF.process

    def remembered(*arguments, **options):
        fitted.append(process(*arguments, **options))
        return fitted[-1]

    monkeypatch.setattr(piff.PSF, "process", remembered)
    exposure, catalog = field()
    psf, _, _ = determine_psf(exposure, catalog, np.arange(len(catalog)), SMALL)
    again = psf_from_state(*psf.state())
    for x, y in ((123.4, 456.7), (300.0, 300.0), (580.49, 20.5)):
        stamp, x0, y0 = again.image(x, y)
        u = (x - psf.context_offset[0]) / psf.context_scale[0]
        v = (y - psf.context_offset[1]) / psf.context_scale[1]
        drawn = fitted[0].draw(x, y, scaled_x=u, scaled_y=v, stamp_size=SMALL.stamp_size, center=None)
        # Piff centres its stamp by another rounding: compare where both have pixels
        left, low = max(x0, drawn.xmin), max(y0, drawn.ymin)
        right, high = min(x0 + stamp.shape[1] - 1, drawn.xmax), min(y0 + stamp.shape[0] - 1, drawn.ymax)
        assert right - left >= SMALL.stamp_size - 2
        ours = stamp[low - y0 : high - y0 + 1, left - x0 : right - x0 + 1]
        theirs = drawn.array[low - drawn.ymin : high - drawn.ymin + 1, left - drawn.xmin : right - drawn.xmin + 1]
        scale = ours.sum() / theirs.sum()
        assert scale == pytest.approx(1.0, abs=0.01)
        np.testing.assert_allclose(ours, theirs * scale, atol=2e-4 * stamp.max())


def test_outliers_and_masked_stamps_are_left_out(piff):
    exposure, catalog = field()
    x, y = (np.rint(catalog[f"slot_Centroid_{axis}"]).astype(int) for axis in "xy")
    image, planes = exposure.masked_image, exposure.masked_image.planes
    image.image[y[3] - 2 : y[3] + 3, x[3] + 4 : x[3] + 6] += 5000  # a companion that nothing marks
    image.mask[y[7] - 9 : y[7] + 10, x[7] - 9 : x[7] + 2] |= 1 << planes["SUSPECT"]
    image.image[y[9] + 3, x[9]], image.mask[y[9] + 3, x[9]] = 1e6, 1 << planes["CR"]
    psf, used, _ = determine_psf(exposure, catalog, np.arange(len(catalog)), SMALL)
    assert 3 not in used
    assert 7 not in used
    assert 9 in used
    assert psf.determinant_radius(300.0, 300.0) == pytest.approx(1.8, rel=0.01)


def test_too_few_stars_is_the_named_failure_or_a_constant_psf(piff):
    exposure, catalog = field(4)
    config = PiffDeterminerConfig(model_size=17, stamp_size=19, interpolant_order=5)
    with pytest.raises(PiffTooFewGoodStarsError) as failure:
        determine_psf(exposure, catalog, np.arange(4), config)
    assert failure.value.numbers == {"num_good_stars": 4, "minimum_dof": 6, "poly_ndim": 2}
    constant = config.model_copy(update={"zeroth_order_interp_not_enough_stars": True})
    psf, used, _ = determine_psf(exposure, catalog, np.arange(4), constant)
    assert psf.degree == 0
    assert used.tolist() == [0, 1, 2, 3]
    assert psf.determinant_radius() == pytest.approx(1.8, rel=0.03)
    with pytest.raises(PiffTooFewGoodStarsError, match="num_good_stars"):
        determine_psf(exposure, catalog, np.arange(0), constant)


def test_weights_have_neither_source_noise_nor_too_bright_stars():
    rng = np.random.default_rng(3)
    image = rng.uniform(0, 50, (3, 11, 11)).astype(np.float32)
    image[1] *= 400
    variance = (SKY + image / 2).astype(np.float32)
    good = np.ones(image.shape, bool)
    good[0, 2, 3] = good[2] = False
    good[2, :6] = True
    variance[~good] = np.nan
    image[~good] = np.inf
    weight = star_weights(image, variance, good, 200.0)
    assert np.all(weight[~good] == 0)
    np.testing.assert_allclose(weight[0][good[0]], 1 / SKY, rtol=1e-4)
    np.testing.assert_allclose(weight[2][good[2]], 1 / SKY, rtol=1e-4)
    total = np.sum(image[1].astype(float) ** 2) / SKY
    snr = (total - 121) / np.sqrt(total)
    assert snr > 500
    np.testing.assert_allclose(weight[1], (200 / snr) ** 2 / SKY, rtol=1e-3)
    flat = star_weights(
        np.ones((1, 5, 5), np.float32), np.full((1, 5, 5), 9, np.float32), np.ones((1, 5, 5), bool), 200
    )
    np.testing.assert_allclose(flat, 1 / 9)


def test_missing_package_is_a_refusal_that_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "piff", None)
    exposure, catalog = field(4)
    with pytest.raises(MissingPackageError, match=r"visitcal\[piff\]"):
        determine_psf(exposure, catalog, np.arange(4), SMALL)
    scene = simulate(SimulationConfig(size=512, seed=3, n_stars=200, n_galaxies=0))
    config = resolve_config("generic", {"psf_measure_psf": {"determiner": {"name": "piff"}}})
    with pytest.raises(MissingPackageError):
        CalibrateImage(config).run(scene.exposures)


def test_determiner_is_chosen_by_its_name():
    assert isinstance(CalibrateImageConfig().psf_measure_psf.determiner, PsfexDeterminerConfig)
    config = resolve_config("parity", {"psf_measure_psf": {"determiner": {"spatial_order": 1}}})
    assert config.psf_measure_psf.determiner.spatial_order == 1
    assert config.psf_measure_psf.determiner.name == "psfex"
    config = resolve_config("parity", {"psf_measure_psf": {"determiner": {"name": "piff", "max_snr": 100}}})
    assert config.psf_measure_psf.determiner == PiffDeterminerConfig(max_snr=100)
    again = CalibrateImageConfig.model_validate(config.model_dump(mode="json"))
    assert again == config
    with pytest.raises(ValueError, match="allow_constant_psf"):
        resolve_config("generic", {"psf_measure_psf": {"determiner": {"name": "piff", "allow_constant_psf": True}}})
    with pytest.raises(ValueError, match="union_tag_invalid"):
        resolve_config("generic", {"psf_measure_psf": {"determiner": {"name": "pca"}}})
    with pytest.raises(ValueError, match="kernel_size"):
        MeasurePsfConfig(determiner=PiffDeterminerConfig(stamp_size=41))
    with pytest.raises(ValueError, match="model_size"):
        PiffDeterminerConfig(model_size=41)
