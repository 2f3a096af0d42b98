"""Stamps of PSF candidates on made-up footprints."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from service.calibration.config.psf import MakePsfCandidatesConfig
from service.calibration.psf.candidates import extract_stamps, make_psf_candidates
from service.exposure.catalog import SourceCatalog
from service.exposure.exposure import Exposure
from service.exposure.footprint import FootprintSet
from service.exposure.masked_image import MaskedImage
from service.exposure.star_schema import psf_star_schema

X0, Y0 = 100, -50


def scene(peaks_of_first: list[tuple[int, int]]) -> tuple[Exposure, SourceCatalog]:
    """A footprint of 9x15 px around (130, -20), and another of 3x3 px eleven columns to its right."""
    image = np.arange(60 * 60, dtype=np.float32).reshape(60, 60)
    planes = MaskedImage(image, np.zeros((60, 60), np.int32), np.ones((60, 60), np.float32), x0=X0, y0=Y0)
    spans = [(y, 123, 137) for y in range(-24, -15)] + [(y, 140, 142) for y in range(-21, -18)]
    footprints = FootprintSet.build(
        np.array(spans, np.int32),
        np.array([0, 9, 12]),
        np.array([*peaks_of_first, (141, -20)], np.int32),
        peak_offsets=np.array([0, len(peaks_of_first), len(peaks_of_first) + 1]),
    )
    footprints.paint(planes.mask, planes.planes.bitmask(["DETECTED"]), X0, Y0)
    catalog = SourceCatalog.allocate(psf_star_schema(), 2, footprints)
    catalog["base_SdssCentroid_x"] = np.array([130.2, 141.0])
    catalog["base_SdssCentroid_y"] = np.array([-19.8, -20.0])
    return Exposure(planes), catalog


def plane(exposure: Exposure, mask: np.ndarray, name: str) -> np.ndarray:
    return (mask & exposure.masked_image.planes.bitmask([name])) != 0


def test_neighbouring_region_is_grown_and_ignored():
    exposure, catalog = scene([(130, -20)])
    stamps = extract_stamps(exposure, catalog, np.array([0]), 27)
    np.testing.assert_array_equal(stamps.corners, [[117, -33]])
    np.testing.assert_array_equal(stamps.image[0], exposure.masked_image.image[17:44, 17:44])
    y, x = np.mgrid[-33:-6, 117:144]
    neighbour = (abs(x - 141) <= 1) & (abs(y + 20) <= 1)
    dy, dx = np.mgrid[-3:4, -3:4]
    grown = ndimage.binary_dilation(neighbour, dx**2 + dy**2 <= 9)
    own = (abs(x - 130) <= 7) & (abs(y + 20) <= 4)
    np.testing.assert_array_equal(plane(exposure, stamps.mask[0], "INTRP"), grown)
    np.testing.assert_array_equal(plane(exposure, stamps.mask[0], "DETECTED"), own & ~grown)
    assert not plane(exposure, exposure.masked_image.mask, "INTRP").any()  # the image's own mask is left alone


def test_pixels_nearer_to_another_peak_are_ignored():
    exposure, catalog = scene([(135, -18), (130, -20), (124, -23)])
    stamps = extract_stamps(exposure, catalog, np.array([0]), 27)
    y, x = np.mgrid[-33:-6, 117:144]

    def distance2(px: int, py: int) -> np.ndarray:
        return (x - px) ** 2 + (y - py) ** 2

    own = distance2(130, -20)
    other = np.minimum(distance2(135, -18), distance2(124, -23)) < own
    footprint = (abs(x - 130) <= 7) & (abs(y + 20) <= 4)
    detected = plane(exposure, stamps.mask[0], "DETECTED")
    np.testing.assert_array_equal(detected & footprint, footprint & ~other & (x < 137))
    assert plane(exposure, stamps.mask[0], "INTRP")[footprint & other].all()


def test_stars_at_the_border_are_dropped_and_maxima_recorded():
    exposure, catalog = scene([(130, -20)])
    catalog["psf_max_value"] = 5.0
    config = MakePsfCandidatesConfig(kernel_size=27)
    candidates = make_psf_candidates(exposure, catalog, np.array([True, True]), config)
    np.testing.assert_array_equal(candidates, [0, 1])
    np.testing.assert_array_equal(catalog["psf_max_value"], [43 * 60 + 43, 43 * 60 + 54])
    catalog["base_SdssCentroid_x"][1] = 147.0  # the stamp would reach column 160
    np.testing.assert_array_equal(make_psf_candidates(exposure, catalog, np.array([True, True]), config), [0])
    assert np.isnan(catalog["psf_max_value"][1])
    catalog["base_SdssCentroid_x"][1] = np.nan
    np.testing.assert_array_equal(make_psf_candidates(exposure, catalog, np.array([False, True]), config), [])


def test_stamps_of_nan_are_no_candidates():
    exposure, catalog = scene([(130, -20)])
    exposure.masked_image.image[:] = np.nan
    exposure.masked_image.image[30, 47] = 7.0
    candidates = make_psf_candidates(exposure, catalog, np.array([True, True]), MakePsfCandidatesConfig(kernel_size=15))
    np.testing.assert_array_equal(candidates, [1])
    assert catalog["psf_max_value"][1] == 7.0


def test_catalogue_without_footprints_is_refused():
    exposure, catalog = scene([(130, -20)])
    catalog.footprints = None
    with pytest.raises(ValueError, match="footprints"):
        extract_stamps(exposure, catalog, np.array([0]), 27)
