"""Star selection by size on made-up catalogues."""

from __future__ import annotations

import numpy as np
import pytest

from service.calibration.config.psf import ObjectSizeStarSelectorConfig
from service.calibration.errors import ObjectSizeNoGoodSourcesError, ObjectSizeNoSourcesError
from service.calibration.psf.star_selector import cluster_widths, select_stars, usable_sources
from service.exposure.catalog import SourceCatalog
from service.exposure.star_schema import psf_star_schema


def catalog_of(width: np.ndarray) -> SourceCatalog:
    """Sources of S/N 100 with given trace radii."""
    catalog = SourceCatalog.allocate(psf_star_schema(), len(width))
    catalog["slot_Shape_xx"] = 1.1 * width**2
    catalog["slot_Shape_yy"] = 0.9 * width**2
    catalog["base_PsfFlux_instFlux"] = 1e4
    catalog["base_PsfFlux_instFluxErr"] = 1e2
    return catalog


def test_stars_are_told_from_galaxies():
    rng = np.random.default_rng(1)
    stars, galaxies = rng.normal(2.0, 0.02, 100), rng.uniform(2.6, 5.0, 60)
    selected = select_stars(catalog_of(np.concatenate([galaxies, stars])), ObjectSizeStarSelectorConfig())
    assert not selected[:60].any()
    inside = np.abs(stars - np.median(stars)) < 2 * stars.std()
    assert np.mean(selected[60:] == inside) > 0.95
    assert 85 <= selected.sum() <= 98  # one 2-sigma clip loses about 5 per cent


def test_four_sources_are_not_clipped():
    selected = select_stars(catalog_of(np.array([2.0, 2.0, 2.05, 2.3])), ObjectSizeStarSelectorConfig())
    np.testing.assert_array_equal(selected, [True, True, True, True])


def test_cuts_are_applied_one_by_one():
    catalog = catalog_of(np.full(10, 2.0))
    catalog["base_PsfFlux_instFluxErr"][0] = 201.0  # S/N below 50
    catalog["base_PixelFlags_flag_saturatedCenter"][1] = True
    catalog["base_SdssCentroid_flag"][2] = True
    catalog["slot_Shape_xx"][3] = np.nan
    catalog["base_PsfFlux_instFlux"][4] = np.nan
    catalog["slot_Shape_xx"][5] = catalog["slot_Shape_yy"][5] = 0.7  # below 0.9
    catalog["slot_Shape_xx"][6] = catalog["slot_Shape_yy"][6] = 101.0  # above 10
    catalog["base_PsfFlux_instFluxErr"][7] = 0.0
    good = usable_sources(catalog, ObjectSizeStarSelectorConfig())
    np.testing.assert_array_equal(np.flatnonzero(good), [8, 9])


def test_optional_limits():
    catalog = catalog_of(np.full(3, 2.0))
    catalog["base_PsfFlux_instFlux"] = np.array([1e3, 1e4, 1e5])
    limited = ObjectSizeStarSelectorConfig(
        do_flux_limit=True, flux_min=5e3, flux_max=5e4, do_signal_to_noise_limit=False
    )
    np.testing.assert_array_equal(usable_sources(catalog, limited), [False, True, False])
    bright = ObjectSizeStarSelectorConfig(signal_to_noise_max=500)
    np.testing.assert_array_equal(usable_sources(catalog, bright), [False, True, False])


def test_clusters_are_medians_and_emptied_ones_stay_empty():
    width = np.array([1.0, 1.02, 0.98, 1.0, 1.0, 1.0, 1.0, 1.0, 1.3, 1.31, 8.0])
    clusters = cluster_widths(width, 0.15)  # initial centres 1.0, 1.3, 1.6, 1.9
    np.testing.assert_array_equal(clusters, [0] * 8 + [1, 1, 3])


def test_failures_carry_the_number_of_sources():
    with pytest.raises(ObjectSizeNoSourcesError) as failure:
        select_stars(catalog_of(np.array([])), ObjectSizeStarSelectorConfig())
    assert failure.value.numbers == {"n_input_sources": 0}
    catalog = catalog_of(np.full(3, 20.0))
    with pytest.raises(ObjectSizeNoGoodSourcesError) as failure:
        select_stars(catalog, ObjectSizeStarSelectorConfig())
    assert failure.value.numbers == {"n_input_sources": 3}
