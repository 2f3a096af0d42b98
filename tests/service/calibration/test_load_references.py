"""The options by which references are left out or refused as they are loaded."""

from __future__ import annotations

import numpy as np
import pytest

from service.calibration.astrometry.references import load_references
from service.calibration.config.photometry import PhotometryConfig
from service.calibration.config.selectors import LoadReferenceObjectsConfig
from service.calibration.errors import PhotometryMatchFailure, ReferenceBandError
from service.calibration.input_errors import MissingProperMotionError
from service.calibration.photometry import photometry
from service.calibration.reference_selector import limit_references
from service.exposure.catalog import SourceCatalog
from service.exposure.exposure import Exposure, FilterLabel, VisitInfo
from service.exposure.masked_image import MaskedImage
from service.exposure.reference import ReferenceCatalog, reference_schema
from service.exposure.star_schema import star_schema
from service.exposure.wcs import Wcs


def references(magnitudes: dict[str, list[float]], *, has_proper_motion: bool = False) -> ReferenceCatalog:
    n = len(next(iter(magnitudes.values())))
    table = SourceCatalog.allocate(reference_schema(tuple(magnitudes)), n)
    table["id"] = np.arange(n)
    for band, values in magnitudes.items():
        table[f"{band}_flux"] = 10 ** ((31.4 - np.array(values)) / 2.5)
    return ReferenceCatalog(table, tuple(magnitudes), "some", {"RA": 1.0}, has_proper_motion)


class Loader:
    """Gives what it was given, and keeps what it was asked."""

    def __init__(self, catalog: ReferenceCatalog) -> None:
        self.catalog, self.name, self.bands = catalog, catalog.name, catalog.bands
        self.asked: dict[str, object] = {}

    def load_pixel_box(self, bbox, wcs, **options):
        self.asked = options
        return self.catalog

    def load_circle(self, ra, dec, radius, **options):
        self.asked = options
        return self.catalog


@pytest.fixture
def exposure() -> Exposure:
    zeros = np.zeros((20, 30), np.float32)
    given = Exposure(MaskedImage(zeros, np.zeros((20, 30), np.int32), zeros + 1))
    given.wcs = Wcs.tan((0.0, 0.0), (10.0, 20.0), np.array([[-1e-4, 0], [0, 1e-4]]))
    given.filter = FilterLabel("r", "r_01")
    given.visit_info = VisitInfo(mjd_mid_tai=60000.0)
    return given


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"min_ref_mag": 16.0}, [0, 2, 3, 4, 5]),
        ({"max_ref_objects": 2}, [1, 3]),
        ({"max_ref_objects": 2, "min_ref_mag": 16.0}, [0, 3]),
        ({"max_ref_objects": 5}, [0, 1, 2, 3, 5]),  # the one without a magnitude goes first
        ({"max_ref_objects": 100}, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_limits(options: dict[str, float], expected: list[int]) -> None:
    given = references({"r": [17.0, 15.0, 19.0, 16.5, np.nan, 18.0]})
    kept = limit_references(given, "r", LoadReferenceObjectsConfig(**options))
    assert kept.table["id"].tolist() == expected
    assert (kept.name, kept.bands, kept.metadata) == (given.name, given.bands, given.metadata)


def test_the_limits_are_in_the_band_that_the_map_chooses(exposure: Exposure) -> None:
    given = references({"g": [15.0, 16.0, 17.0], "r": [17.0, 16.0, 15.0]})
    loader = Loader(given)
    for options, brightest in (
        ({}, 2),
        ({"filter_map": {"r": "g"}}, 0),
        ({"any_filter_maps_to_this": "g"}, 0),
        ({"any_filter_maps_to_this": "phot_g_mean"}, 2),
    ):
        found = load_references(exposure, loader, LoadReferenceObjectsConfig(max_ref_objects=1, **options))
        assert found.table["id"].tolist() == [brightest]
    exposure.filter = FilterLabel("z", "z_01")  # nothing stands for it: any passband ranks
    assert load_references(exposure, loader, LoadReferenceObjectsConfig(max_ref_objects=1)).table["id"].tolist() == [0]
    assert load_references(exposure, loader, LoadReferenceObjectsConfig()) is given


def test_the_loader_is_told_margin_epoch_and_parallax(exposure: Exposure) -> None:
    loader = Loader(references({"r": [17.0]}))
    load_references(exposure, loader, LoadReferenceObjectsConfig(pixel_margin=77, apply_parallax=True))
    assert loader.asked == {"margin": 77, "epoch": 60000.0, "parallax": True}


def test_required_proper_motions(exposure: Exposure) -> None:
    config = LoadReferenceObjectsConfig(require_proper_motion=True)
    assert len(load_references(exposure, Loader(references({"r": [17.0]}, has_proper_motion=True)), config)) == 1
    with pytest.raises(MissingProperMotionError, match="'some' has no epochs") as caught:
        load_references(exposure, Loader(references({"r": [17.0]})), config)
    assert caught.value.code == "references.no_proper_motion"


def test_photometry_obeys_them_too(exposure: Exposure) -> None:
    given = references({"r": [17.0, 15.0]}, has_proper_motion=True)
    given.table["coord_ra"], given.table["coord_dec"] = np.radians([10.0, 10.001]), np.radians([20.0, 20.0])
    stars = SourceCatalog.allocate(star_schema(), 1)
    stars["coord_ra"], stars["coord_dec"] = np.radians(10.001), np.radians(20.0)
    loader = Loader(given)
    config = PhotometryConfig(ref_loader=LoadReferenceObjectsConfig(min_ref_mag=16.0, apply_parallax=True))
    with pytest.raises(PhotometryMatchFailure):  # the one that would have matched is too bright
        photometry.solve(exposure, stars, loader, config)
    assert loader.asked["parallax"] is True
    required = PhotometryConfig(ref_loader=LoadReferenceObjectsConfig(require_proper_motion=True))
    with pytest.raises(MissingProperMotionError):
        photometry.solve(exposure, stars, Loader(references({"r": [17.0]})), required)
    with pytest.raises(ReferenceBandError):
        photometry.solve(exposure, stars, Loader(references({"g": [17.0]})), PhotometryConfig())
