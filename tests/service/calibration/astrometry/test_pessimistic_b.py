"""The pattern matcher on simulated fields whose true pairs are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from service.calibration.astrometry.pair_table import PairTable
from service.calibration.astrometry.pessimistic_b import PessimisticB, unit_vectors
from service.calibration.config.astrometry import MatchPessimisticBConfig
from service.calibration.errors import MatcherFailure
from service.exposure.wcs import Wcs

_SCALE = 0.2


@dataclass
class Field:
    """Sources by a wrong WCS and references; ``truth[i]`` is the reference of source i, -1 for none."""

    source: np.ndarray
    source_flux: np.ndarray
    reference: np.ndarray
    reference_flux: np.ndarray
    truth: np.ndarray

    def match(self, matcher=None, **options):
        if matcher is None:
            matcher = PessimisticB(*self.reference, self.reference_flux, MatchPessimisticBConfig(**options))
        return matcher.match(*self.source, self.source_flux, _SCALE), matcher


def _simulate(
    seed,
    *,
    n=150,
    offset=30.0,
    rotation=0.5,
    scale=1.0,
    spurious=0.1,
    missing=0.1,
    noise=0.1,
    mag_noise=0.05,
    size=2048,
):
    """Stars on a detector of ``size`` px; offset in arcsec, rotation in deg, noise in px."""
    rng = np.random.default_rng(seed)
    true = Wcs.tan((size / 2, size / 2), (150.0, 2.2), _SCALE / 3600 * np.array([[-1.0, 0.0], [0.0, 1.0]]))
    x, y = rng.uniform(-250, size + 250, (2, int(n * (1 + 500 / size) ** 2)))
    magnitude = rng.uniform(15, 21, x.size)
    reference = np.array(true.pixel_to_sky(x, y))
    inside = np.flatnonzero((np.minimum(x, y) > 0) & (np.maximum(x, y) < size) & (rng.random(x.size) > missing))
    extra = int(spurious * inside.size)
    sx = np.concatenate([x[inside], rng.uniform(0, size, extra)])
    sy = np.concatenate([y[inside], rng.uniform(0, size, extra)])
    smag = np.concatenate([magnitude[inside], rng.uniform(15, 21, extra)]) + rng.normal(0, mag_noise, sx.size)
    a, bearing = np.radians(rotation), rng.uniform(0, 2 * np.pi)
    matrix = scale * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    wrong = true.with_affine(matrix, offset / 3600 * np.array([np.cos(bearing), np.sin(bearing)]))
    source = np.array(wrong.pixel_to_sky(sx + rng.normal(0, noise, sx.size), sy + rng.normal(0, noise, sx.size)))
    truth = np.concatenate([inside, np.full(extra, -1)])
    keep = rng.random(x.size) > missing  # references that the catalogue lacks
    index = np.full(x.size + 1, -1)
    index[:-1][keep] = np.arange(keep.sum())
    flux = 10 ** (-0.4 * magnitude)
    return Field(source, 10 ** (-0.4 * smag), reference[:, keep], flux[keep], index[truth])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"offset": 0.0, "rotation": 0.0},
        {"offset": 45.0, "rotation": -0.9},
        {"spurious": 0.3, "missing": 0.2},
        {"n": 40},
        {"n": 900, "size": 4096},
        {"scale": 1.0005, "noise": 0.3},
        {"mag_noise": 1.0},
    ],
    ids=["typical", "none", "offset", "contaminated", "sparse", "many", "scale", "magnitudes"],
)
def test_true_pairs_are_found(seed, options):
    field = _simulate(seed, **options)
    pairs, _ = field.match()
    correct = field.truth[pairs[:, 0]] == pairs[:, 1]
    # Chance neighbours of spurious sources are pairs too; the magnitude cut that follows is not part of the matcher.
    assert correct.mean() > (0.85 if "spurious" in options else 0.95)
    assert correct.sum() > 0.9 * (field.truth >= 0).sum()


def test_wrong_field_is_refused():
    """References of another field: no match that has the pairs it needs within the lowest tolerances."""
    field, other = _simulate(1, n=60), _simulate(2, n=60)
    field.reference, field.reference_flux = other.reference, other.reference_flux
    with pytest.raises(MatcherFailure, match="No matches"):
        field.match(matcher_iterations=1)


def test_shift_and_rotation_limits_hold():
    with pytest.raises(MatcherFailure):
        _simulate(3, offset=80.0).match()
    assert len(_simulate(3, offset=80.0).match(max_offset_pix=450)[0]) > 50
    with pytest.raises(MatcherFailure):
        _simulate(3, rotation=2.0).match(matcher_iterations=1)
    assert len(_simulate(3, rotation=2.0).match(max_rotation_deg=3.0)[0]) > 50


def test_a_flipped_frame_never_matches():
    field = _simulate(4)
    field.source[0] = 2 * 150.0 - field.source[0]
    with pytest.raises(MatcherFailure):
        field.match(matcher_iterations=2)


@pytest.mark.parametrize("n", [0, 3, 6])
def test_too_few_points_are_a_failure(n):
    field = _simulate(5)
    few = Field(field.source[:, :n], field.source_flux[:n], field.reference, field.reference_flux, field.truth[:n])
    with pytest.raises(MatcherFailure):
        few.match()
    few = Field(field.source, field.source_flux, field.reference[:, :n], field.reference_flux[:n], field.truth)
    with pytest.raises(MatcherFailure, match="references"):
        few.match()


def test_only_the_brightest_references_are_searched():
    field = _simulate(6, n=300)
    field.reference_flux[::7] = np.nan  # unknown fluxes count as faintest
    pairs, _ = field.match(max_ref_objects=120)
    cut = np.sort(np.nan_to_num(field.reference_flux))[-120]
    assert np.all(field.reference_flux[pairs[:, 1]] >= cut)
    assert np.mean(field.truth[pairs[:, 0]] == pairs[:, 1]) > 0.95


def test_a_pattern_that_stops_matching_is_skipped():
    """The second round starts from the first one's shift; where that fails, its pattern is not tried again."""
    field = _simulate(7)
    pairs, matcher = field.match()
    first = matcher.pattern
    moved = Field(
        field.source + np.array([[0.0], [40 / 3600]]),
        field.source_flux,
        field.reference,
        field.reference_flux,
        field.truth,
    )
    matcher._memory.shift = 0.0  # as if the first round had found no shift
    again, _ = moved.match(matcher)
    assert matcher.pattern != first
    assert matcher._memory.skip == [first]
    assert np.array_equal(np.sort(again[:, 0]), np.sort(pairs[:, 0]))


def test_order_of_the_rows_does_not_matter():
    field = _simulate(8)
    pairs, _ = field.match()
    rng = np.random.default_rng(8)
    s, r = rng.permutation(field.source.shape[1]), rng.permutation(field.reference.shape[1])
    shuffled = Field(
        field.source[:, s], field.source_flux[s], field.reference[:, r], field.reference_flux[r], field.truth
    )
    found, _ = shuffled.match()
    assert {(s[a], r[b]) for a, b in found} == {(a, b) for a, b in pairs}


@pytest.mark.parametrize("n", [2, 40, 300])
def test_pair_table_is_the_sorted_list_of_pairs(n):
    rng = np.random.default_rng(n)
    points = unit_vectors(150 + rng.uniform(0, 0.1, n), rng.uniform(0, 0.1, n))
    i, j = np.triu_indices(n, 1)
    lengths = np.sqrt(((points[i] - points[j]) ** 2).sum(axis=1)).astype(np.float32)
    table = PairTable(points)
    for length, tolerance in [*rng.uniform(0, 2e-3, (30, 2)), (lengths[0], 0.0), (1.0, 1e-6), (5e-4, 1.0)]:
        inside = np.abs(lengths.astype(float) - np.float64(np.float32(length))) <= tolerance + 1e-16
        packed = table.within(length, tolerance)
        assert set(packed.tolist()) == set(((i << 16) | j)[inside].tolist())
        found = np.sqrt(((points[packed >> 16] - points[packed & 0xFFFF]) ** 2).sum(axis=1)).astype(np.float32)
        assert np.all(np.diff(found) >= 0)


def test_too_many_points_for_the_pair_table():
    with pytest.raises(ValueError, match="16 bits"):
        PairTable(np.zeros((65537, 3)))


def test_patterns_of_nine_points_survive_false_ones():
    """With six of nine points to match, a pattern that holds false sources still matches; with six of six it cannot."""
    field = _simulate(9, spurious=0.0)
    order = np.argsort(-field.source_flux)
    rng = np.random.default_rng(9)
    false = order[3::5]  # one source in every run of five is somewhere else
    field.source[:, false] += rng.uniform(0.005, 0.01, (2, false.size))
    field.truth[false] = -1
    with pytest.raises(MatcherFailure):
        field.match(matcher_iterations=1)
    pairs, _ = field.match(matcher_iterations=1, num_points_for_shape_attempt=9)
    assert np.mean(field.truth[pairs[:, 0]] == pairs[:, 1]) > 0.95
    assert len(pairs) > 0.9 * (field.truth >= 0).sum()
