"""The search beyond the matcher's limits: finds what is there, and nothing where there is nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import parity_report
import pytest
from scipy.stats import poisson

from service.calibration.astrometry import astrometry
from service.calibration.astrometry.recovery import chance_of_match, wide_margin
from service.calibration.astrometry.wide_search import chance_of_pairs
from service.calibration.config.astrometry import (
    AstrometryConfig,
    FitTanSipWcsConfig,
    MatchPessimisticBConfig,
    WideSearchConfig,
)
from service.calibration.errors import AstrometryError, BadAstrometryFit, MatcherFailure
from service.exposure.catalog import SourceCatalog
from service.exposure.exposure import Exposure, FilterLabel
from service.exposure.geometry import Box
from service.exposure.masked_image import MaskedImage
from service.exposure.reference import ReferenceCatalog
from service.exposure.star_schema import psf_star_schema
from service.exposure.wcs import Wcs

_WIDTH, _HEIGHT, _SCALE = 1024, 1400, 0.2


@dataclass
class Trial:
    """Sources of an exposure whose header is wrong by a similarity, and references all around."""

    exposure: Exposure
    stars: SourceCatalog
    references: ReferenceCatalog
    true: Wcs

    def solve(self, **options):
        margins = []

        def load_wider(margin):
            margins.append(margin)
            return self._within(margin)

        result = astrometry.solve(
            self.exposure, self.stars, self._within(250), AstrometryConfig(**options), load_wider=load_wider
        )
        return result, margins

    def _within(self, margin):
        table = self.references.table
        x, y = self.exposure.wcs.sky_to_pixel(np.degrees(table["coord_ra"]), np.degrees(table["coord_dec"]))
        near = self.exposure.bbox.grown(margin).contains(x, y)
        return ReferenceCatalog(table.select(near), self.references.bands)

    def error_arcsec(self, wcs):
        x, y = np.array([0, _WIDTH, 0, _WIDTH, 500.0]), np.array([0, 0, _HEIGHT, _HEIGHT, 700.0])
        ra, dec = self.true.pixel_to_sky(x, y)
        found_ra, found_dec = wcs.pixel_to_sky(x, y)
        return 3600 * np.hypot((found_ra - ra) * np.cos(np.radians(dec)), found_dec - dec).max()


def _trial(
    references_of, seed, *, shift=None, rotation=None, scale=None, flip=None, contamination=0.2, n=90, false=False
):
    """``n`` stars on the exposure; what is not given is drawn from the limits of the search. ``false``: unrelated."""
    rng = np.random.default_rng(seed)
    shift = rng.uniform(0, 0.7) * _HEIGHT if shift is None else shift
    rotation = rng.uniform(-180, 180) if rotation is None else rotation
    scale = rng.uniform(0.96, 1.04) if scale is None else scale
    sign = (rng.choice([-1, 1]) if flip is None else 1 - 2 * flip) * 1.0
    true = Wcs.tan((511.5, 699.5), (150.0, 40.0), _SCALE / 3600 * np.array([[-1.0, 0.0], [0.0, 1.0]]))
    a, bearing = np.radians(rotation), rng.uniform(0, 2 * np.pi)
    matrix = scale * np.array([[np.cos(a), -sign * np.sin(a)], [np.sin(a), sign * np.cos(a)]])
    wrong = true.with_affine(matrix, shift * _SCALE / 3600 * np.array([np.cos(bearing), np.sin(bearing)]))
    half = 2600
    m = rng.poisson(n * (2 * half) ** 2 / (_WIDTH * _HEIGHT))
    x, y = 512 + rng.uniform(-half, half, m), 700 + rng.uniform(-half, half, m)
    magnitude = 20 - np.minimum(rng.exponential(1.4, m), 7.0)
    inside = (x > 0) & (x < _WIDTH) & (y > 0) & (y < _HEIGHT) & (rng.random(m) > contamination)
    extra = int(contamination / (1 - contamination) * inside.sum())
    sx = np.concatenate([x[inside], rng.uniform(0, _WIDTH, extra)])
    sy = np.concatenate([y[inside], rng.uniform(0, _HEIGHT, extra)])
    if false:
        sx, sy = rng.uniform(0, _WIDTH, sx.size), rng.uniform(0, _HEIGHT, sx.size)
    smag = np.concatenate([magnitude[inside], 20 - rng.exponential(1.4, extra)]) + rng.normal(0, 0.2, sx.size)
    keep = rng.random(m) > contamination
    references = references_of(
        np.column_stack(true.pixel_to_sky(x[keep], y[keep])), {"phot_g_mean": 10 ** (0.4 * (31.4 - magnitude[keep]))}
    )
    stars = SourceCatalog.allocate(psf_star_schema(), sx.size)
    stars["id"] = np.arange(1, sx.size + 1)
    stars["slot_Centroid_x"] = sx + rng.normal(0, 0.1, sx.size)
    stars["slot_Centroid_y"] = sy + rng.normal(0, 0.1, sx.size)
    stars["slot_Centroid_xErr"] = stars["slot_Centroid_yErr"] = 0.1
    stars["slot_PsfFlux_instFlux"] = 10 ** (0.4 * (30 - smag))
    stars["slot_PsfFlux_instFluxErr"] = stars["slot_PsfFlux_instFlux"] / 100
    planes = [np.zeros((_HEIGHT, _WIDTH), dtype) for dtype in ("f4", "i4", "f4")]
    return Trial(Exposure(MaskedImage(*planes), wcs=wrong, filter=FilterLabel("r")), stars, references, true)


_CASES = {
    "shift": {"shift": 900.0, "rotation": 0.0, "scale": 1.0, "flip": False},
    "upside down": {"shift": 0.0, "rotation": 180.0, "scale": 1.0, "flip": False},
    "mirrored": {"shift": 100.0, "rotation": 0.0, "scale": 1.0, "flip": True},
    "scale": {"shift": 0.0, "rotation": 0.0, "scale": 1.045, "flip": False},
    "all": {},
    "sparse": {"n": 25},
    "crowded": {"n": 500},
    "contaminated": {"contamination": 0.35},
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("case", _CASES.values(), ids=_CASES)
def test_far_off_pointings_are_found(references_of, case, seed):
    trial = _trial(references_of, seed, **case)
    start = trial.exposure.wcs
    result, margins = trial.solve()
    assert trial.error_arcsec(result.wcs) < 0.15
    assert trial.exposure.wcs is result.wcs
    assert margins == [wide_margin(trial.exposure.bbox, WideSearchConfig())]
    assert result.wide_search["wideLogChance"] < -4
    before, after = (np.array(wcs.pixel_to_sky(511.5, 699.5)) for wcs in (start, result.wcs))
    moved = 3600 * np.hypot((before[0] - after[0]) * np.cos(np.radians(40)), before[1] - after[1])
    assert result.initial_to_final == pytest.approx(moved, rel=1e-3)


@pytest.mark.parametrize("n", [10, 25, 90])
@pytest.mark.parametrize("seed", range(2))
def test_no_solution_of_unrelated_lists_passes(references_of, n, seed):
    trial = _trial(references_of, 100 + seed, n=n, false=True, shift=0.0, rotation=0.0, scale=1.0, flip=False)
    with pytest.raises(AstrometryError) as failure:
        astrometry.check(trial.solve()[0], AstrometryConfig())
    assert isinstance(failure.value, MatcherFailure | BadAstrometryFit)
    if trial.stars["id"].size >= 7:
        assert failure.value.numbers["wideLogChance"] > -4


def test_match_within_the_limits_searches_no_further(references_of):
    trial = _trial(references_of, 1, shift=100.0, rotation=0.4, scale=1.0, flip=False)
    result, margins = trial.solve()
    assert margins == []
    assert result.wide_search == {}
    assert trial.error_arcsec(result.wcs) < 0.15


@pytest.mark.parametrize(
    ("case", "limit"),
    [("mirrored", {"allow_flip": False}), ("upside down", {"max_rotation_deg": 90.0, "allow_flip": False})],
)
def test_limits_are_kept(references_of, case, limit):
    """The true field is outside them: the search ends, and what the matcher alone makes of it does not pass."""
    trial = _trial(references_of, 2, **_CASES[case])
    with pytest.raises(AstrometryError) as failure:
        astrometry.check(trial.solve(wide_search=WideSearchConfig(**limit))[0], AstrometryConfig())
    assert failure.value.numbers["wideLogChance"] > -4


def test_found_field_is_fitted_with_tan_sip(references_of):
    trial = _trial(references_of, 5, **_CASES["mirrored"])
    result, _ = trial.solve(wcs_fitter=FitTanSipWcsConfig())
    assert trial.error_arcsec(result.wcs) < 0.3


def test_chance_is_poissons():
    """Measured on random fields: pairs of one place follow the stated mean, and few reach the stated tail."""
    rng = np.random.default_rng(8)
    box, radius, n_sources, n_references = Box(0, 0, 1000, 1000), 5.0, 300, 400
    counts = []
    for _ in range(300):
        a, b = rng.uniform(0, 1000, (n_sources, 1, 2)), rng.uniform(0, 1000, (1, n_references, 2))
        counts.append(int(((a - b) ** 2).sum(axis=2).min(axis=1).__lt__(radius**2).sum()))
    limits = MatchPessimisticBConfig()
    chance, expected, _ = chance_of_match(np.full(40, radius / 2 * 0.999), n_sources, n_references, box, limits)
    assert np.mean(counts) == pytest.approx(expected, rel=0.1)
    assert chance == pytest.approx(
        np.log10(poisson.sf(36, expected)) + np.log10(np.pi * 50**2 * 2 * np.radians(1) * 707.1 / 5), abs=0.1
    )
    tail = np.mean(np.array(counts) >= 15)
    assert 10 ** chance_of_pairs(18, expected, 0.0) == pytest.approx(tail, abs=0.06)
    assert chance_of_match(np.full(80, 0.4), n_sources, n_references, box, limits)[0] < -30


@pytest.mark.parametrize("preset", ["generic", "parity"])
def test_recorded_field_that_is_750_pixels_off(parity_dir, preset):
    result = parity_report.calibrate(parity_dir / "fail_offset", preset=preset)
    if preset == "parity":
        assert result.failure.type_name == "MatcherFailure"
        assert not any(name.startswith("wide") for name in result.failure.numbers)
        return
    assert result.failure is None
    assert any("wide search" in warning for warning in result.warnings)
    assert result.metadata["initial_to_final_wcs"] == pytest.approx(150, abs=8)
    assert result.metadata["astrom_offset_mean"] < 0.1


def test_wrong_references_say_what_the_search_saw(parity_dir):
    result = parity_report.calibrate(parity_dir / "fail_wrongrefs", preset="generic")
    assert isinstance(result.failure, MatcherFailure | BadAstrometryFit)
    assert result.failure.numbers["wideLogChance"] > -4
    assert result.failure.numbers["wideTriangles"] > 0


def test_few_stars_cannot_tell_chance_from_truth():
    """Four stars in a small box: even four pairs are no proof, so that the match stands; eight stars can tell."""
    box, limits = Box(0, 0, 201, 181), MatchPessimisticBConfig()
    assert chance_of_match(np.full(4, 0.1), 4, 6, box, limits)[2] > -4
    chance, _, best = chance_of_match(np.full(4, 0.1), 8, 8, Box(0, 0, 1024, 1024), limits)
    assert best < -4 < chance
