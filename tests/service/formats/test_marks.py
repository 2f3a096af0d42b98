"""Marks of match lists: a reference and its source stay in one row."""

from __future__ import annotations

import numpy as np

from service.exposure.catalog import Column, Schema, SourceCatalog
from service.exposure.wcs import Wcs
from service.formats.marks import match_marks, source_marks

WCS = Wcs.tan((50.0, 50.0), (150.0, 2.0), np.array([[-1e-4, 0.0], [0.0, 1e-4]]))
X, Y = np.array([10.0, 60.0, 90.0]), np.array([20.0, 30.0, 40.0])


def matches() -> SourceCatalog:
    """Three sources, the second a blend that was taken apart, each at the place of its reference."""
    ra, dec = np.radians(WCS.pixel_to_sky(X, Y))
    values = {
        "ref_id": np.array([1, 2, 3]),
        "ref_coord_ra": ra,
        "ref_coord_dec": dec,
        "src_id": np.array([11, 12, 13]),
        "src_deblend_nChild": np.array([0, 2, 0], np.int32),
        "src_base_SdssCentroid_x": X,
        "src_base_SdssCentroid_y": Y,
    }
    return catalog_of(values)


def catalog_of(values: dict[str, np.ndarray]) -> SourceCatalog:
    catalog = SourceCatalog.allocate(Schema([Column(name, value.dtype.str[1:]) for name, value in values.items()]), 3)
    for name, value in values.items():
        catalog[name] = value
    return catalog


def test_a_matched_blend_keeps_its_reference() -> None:
    references, sources = match_marks(matches(), WCS)
    np.testing.assert_array_equal(references.ids, [1, 2, 3])
    np.testing.assert_array_equal(sources.ids, [11, 12, 13])
    np.testing.assert_allclose(references.x, sources.x, atol=1e-6)


def test_a_blend_of_a_catalogue_is_left_out_for_its_parts() -> None:
    values = {"id": np.array([11, 12, 13]), "deblend_nChild": np.array([0, 2, 0], np.int32)}
    np.testing.assert_array_equal(source_marks(catalog_of(values)).ids, [11, 13])
