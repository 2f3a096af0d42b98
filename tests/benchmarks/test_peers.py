"""The comparison with other programs: its judge against closed formulas, the programs where they are."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from benchmarks.peers import classic, judge, measured, programs, report
from benchmarks.peers.limits import point_source_limits
from benchmarks.peers.scenes import SCENES
from service.simulation import Simulation, SimulationConfig, simulate

README = Path(__file__).parents[2] / "README.md"
SIGMA = 2.0


class RoundGaussian:
    """A PSF whose bounds are known."""

    def stamp(self, x: float, y: float, half: int) -> tuple[NDArray[np.float64], int, int]:
        x0, y0 = int(np.floor(x + 0.5)) - half, int(np.floor(y + 0.5)) - half
        along_x, along_y = (
            np.exp(-0.5 * ((np.arange(o, o + 2 * half + 1) - c) / SIGMA) ** 2) for o, c in ((x0, x), (y0, y))
        )
        return along_y[:, None] * along_x / (2 * np.pi * SIGMA**2), x0, y0


@pytest.mark.parametrize("phase", [0.0, 0.3, 0.4999, 0.5])
def test_bounds_in_sky_noise(phase: float) -> None:
    """Flux: noise sqrt(4 pi) sigma; position: noise sqrt(8 pi) sigma^2 / flux."""
    at, flux, variance = np.array([50 + phase]), np.array([10.0]), np.array([100.0**2])
    limits = point_source_limits(RoundGaussian(), at, at + 0.2, flux, variance)
    assert limits.flux == pytest.approx(100 * np.sqrt(4 * np.pi) * SIGMA, rel=1e-4)
    assert limits.x == pytest.approx(100 * np.sqrt(8 * np.pi) * SIGMA**2 / 10, rel=1e-4)
    assert limits.y == pytest.approx(limits.x, rel=1e-4)


def test_bounds_of_photons() -> None:
    """Without a sky: flux sqrt(flux), position sigma / sqrt(flux)."""
    at, flux = np.array([50.3]), np.array([1e6])
    limits = point_source_limits(RoundGaussian(), at, at, flux, np.array([1e-12]))
    assert limits.flux == pytest.approx(1e3, rel=1e-3)
    assert limits.x == pytest.approx(SIGMA / 1e3, rel=1e-3)


def test_bounds_are_those_of_the_least_squares_fit() -> None:
    """Of many stars in noise, fitted with the true PSF, weights and a start at the truth, which reaches the bound."""
    rng, half, flux, variance = np.random.default_rng(7), 15, 3e4, 400.0
    limits = point_source_limits(RoundGaussian(), *(np.array([v]) for v in (20.2, 19.7, flux, variance)))
    unit, x0, _ = RoundGaussian().stamp(20.2, 19.7, half)
    column, row = np.meshgrid(np.arange(x0, x0 + 2 * half + 1), np.arange(x0, x0 + 2 * half + 1))
    slopes = [unit, flux * unit * (column - 20.2) / SIGMA**2, flux * unit * (row - 19.7) / SIGMA**2]
    design = np.stack([slope.ravel() for slope in slopes], axis=1)
    light = flux * unit.ravel()
    weight = 1 / (variance + light)
    noise = rng.normal(0, np.sqrt(variance + light), (4000, light.size))
    fitted = np.linalg.solve(design.T @ (weight[:, None] * design), design.T @ (weight * noise).T)
    wanted = [limits.flux[0], limits.x[0], limits.y[0]]
    assert fitted.std(axis=1) == pytest.approx(wanted, rel=0.05)


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return simulate(SimulationConfig(size=768, seed=4, n_stars=450, n_galaxies=60, mag_faint=24.5))


def exact(simulation: Simulation, *, shift: float = 0.0, brighter: float = 0.0) -> measured.Measured:
    """A program that knows every star, or is off by as much."""
    sources, config = simulation.sources, simulation.config
    known = sources.is_star
    return measured.Measured(
        x=sources.x[known] + shift,
        y=sources.y[known],
        mag=sources.mags[config.band][known] - brighter,
        centroid_good=np.ones(known.sum(), bool),
        pixel_to_sky=simulation.wcs.pixel_to_sky,
        psf_stamps=lambda x, y: np.stack([simulation.psf.stamp(*at, 20)[0] for at in zip(x, y, strict=True)]),
        zero_point=simulation.aperture_zero_point() - brighter,
        n_psf_stars=0,
        cpu={},
    )


def test_truth_has_no_error(simulation: Simulation) -> None:
    figures = judge.judge(judge.truth(simulation), exact(simulation))
    for name, value in figures.items():
        if name.startswith("complete"):
            assert value == 100 or np.isnan(value), name
        elif any(word in name for word in ("scatter", "bias", "rms", "error", "of nothing", "|")):
            assert np.isnan(value) or abs(value) < 1e-3, name


def test_errors_are_measured(simulation: Simulation) -> None:
    """A shift by 0.01 px of 0.2 arcsec, and magnitudes too bright by 5 mmag."""
    figures = judge.judge(judge.truth(simulation), exact(simulation, shift=0.01, brighter=0.005))
    assert figures["sky position bias, S/N > 50 (mas)"] == pytest.approx(2.0, rel=0.01)
    assert figures["magnitude bias, S/N > 50 (mmag)"] == pytest.approx(-5)
    assert figures["zero point error (mmag)"] == pytest.approx(-5)


def test_detections_of_nothing_are_counted(simulation: Simulation) -> None:
    known, truly = judge.truth(simulation), exact(simulation)
    grid = np.stack([g.ravel() for g in np.meshgrid(*[np.arange(40.0, 728.0, 4.0)] * 2)], axis=1)
    image = simulation.exposures[0].masked_image
    hurt = np.argwhere(image.is_set(["SAT", "BAD"]) | (simulation.cosmic_rays[0] > 0))[:, ::-1]
    busy = cKDTree(np.concatenate([hurt, known.scene.xy[known.snr > 2]]))
    empty = grid[busy.query(grid)[0] > 25][:3]
    assert len(empty) == 3
    names = ("x", "y", "mag", "centroid_good")
    more = zip(names, (*empty.T, np.full(3, 20.0), np.ones(3, bool)), strict=True)
    values = {name: getattr(truly, name) for name in truly.__slots__}
    worse = measured.Measured(**values | {name: np.append(values[name], added) for name, added in more})
    before, after = (judge.judge(known, one)["detections of nothing"] for one in (truly, worse))
    assert after - before == 3


def test_threshold_is_in_smoothed_noise() -> None:
    noise = np.random.default_rng(3).normal(0, 1, (400, 400))
    kernel = classic.smoothing(4.5)
    transform = np.fft.rfft2(noise) * np.fft.rfft2(kernel, noise.shape)
    assert classic.threshold(4.5, 7.0) == pytest.approx(7 * np.fft.irfft2(transform).std(), rel=0.05)


def test_zero_point_drops_outliers() -> None:
    rng = np.random.default_rng(5)
    mag, error = rng.uniform(-15, -8, 400), np.full(400, 0.01)
    reference = mag + 27 + rng.normal(0, 0.01, 400)
    reference[:20] += 1
    assert classic.zero_point(mag, reference, error) == pytest.approx(27, abs=0.002)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name in ("psfex", "apt-get") else f"/usr/bin/{name}")
    with pytest.raises(SystemExit, match=r"not installed: psfex.*apt-get install"):
        programs.require()
    with pytest.raises(SystemExit, match="no apt-get here"):
        programs.require(install=True)


def test_an_installation_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "scamp" else f"/usr/bin/{name}")
    asked = []

    def refused(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 100, "", "E: are you root?")

    monkeypatch.setattr(subprocess, "run", refused)
    with pytest.raises(SystemExit, match="are you root"):
        programs.require(install=True)
    assert asked == [["apt-get", "install", "--yes", "--no-install-recommends", "scamp"]]


def test_readme_has_the_table_of_the_command() -> None:
    """The numbers are of a run; the rows, and how they are written, are the command's."""
    page = README.read_text()
    figures = {name: 1.0 for _, names, _ in report.ROWS for name in names}
    one = {"cpu": {"SCAMP": 1.0}, "figures": figures}
    result = {report.OURS: one, report.CLASSIC: one, "variants": {report.QUICK: {"cpu": 1.0}}, "command_cpu": 1.0}
    made = report.markdown(dict.fromkeys(SCENES, result))
    assert report.form(report.block(page)) == report.form(made)


@pytest.mark.skipif(bool(programs.missing()), reason=f"not installed: {', '.join(programs.missing())}")
def test_the_classic_chain_comes_near_the_truth(tmp_path: Path) -> None:
    simulation = simulate(SimulationConfig(size=1024, seed=4, n_stars=800, n_galaxies=0, mag_faint=24.5))
    classic.write_inputs(simulation, tmp_path)
    figures = judge.judge(judge.truth(simulation), classic.calibrated(simulation, tmp_path, MATCH_RESOL=1))
    assert figures["complete, S/N 30-100 (%)"] > 95
    assert 0.8 < figures["centroid scatter / bound, S/N 30-100"] < 1.4
    assert 0.8 < figures["flux scatter / bound, S/N 30-100"] < 1.4
    assert figures["WCS at a grid, rms per axis (mas)"] < 5
    assert abs(figures["zero point error (mmag)"]) < 15
    assert figures["PSF size |dT|/T, median (%)"] < 2
