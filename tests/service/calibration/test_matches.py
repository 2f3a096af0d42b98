"""Match lists as tables."""

from __future__ import annotations

import numpy as np
import pytest

from service.calibration.astrometry.coordinates import separation
from service.calibration.matches import box_metadata, circle_metadata, join_matches
from service.exposure.catalog import SourceCatalog
from service.exposure.geometry import Box
from service.exposure.star_schema import psf_star_schema
from service.exposure.wcs import Wcs


def test_rows_columns_and_aliases(references_of):
    references = references_of(
        np.array([[10.0, 1.0], [20.0, 2.0], [30.0, 3.0]]), {"r": np.array([1.0, 2.0, 3.0])}
    ).table
    sources = SourceCatalog.allocate(psf_star_schema(), 2)
    sources["id"], sources["slot_Centroid_x"] = np.array([7, 8]), np.array([1.5, 2.5])
    pairs, distance = np.array([[2, 0], [0, 1], [2, 1]]), np.array([1e-7, 2e-7, 3e-7])
    matches = join_matches(
        references,
        sources,
        pairs,
        distance,
        reference_aliases={"any": "r_flux"},
        leave_out=("centroid_x",),
        metadata={"SMATCHV": 2},
    )
    assert len(matches) == 3
    assert len(matches.schema) == (len(references.schema) - 1) + len(sources.schema) + 1
    assert matches["ref_id"].tolist() == [3, 1, 3]
    assert matches["src_id"].tolist() == [7, 8, 8]
    assert matches["src_slot_Centroid_x"].tolist() == [1.5, 2.5, 2.5]
    assert matches["ref_any"].tolist() == [3.0, 1.0, 3.0]
    assert matches["distance"].tolist() == distance.tolist()
    assert "ref_centroid_x" not in matches
    assert matches.schema["src_base_SdssCentroid_xErr"].unit == "pix"
    assert matches.schema.names[-1] == "distance"
    assert matches.metadata == {"SMATCHV": 2}
    matches["src_id"] = 0
    assert sources["id"].tolist() == [7, 8]  # a copy, not a view


def test_circle_metadata():
    metadata = circle_metadata(150.0, 2.0, 0.1, "r", 51544.5 + 365.25 * 25)
    assert metadata["JEPOCH"] == pytest.approx(2025.0)
    assert metadata["TIMESYS"] == "TAI"
    assert circle_metadata(150.0, 2.0, 0.1, None, np.nan)["JEPOCH"] is None


def test_box_metadata_names_the_corners_as_they_lie():
    """Boxes 100 px inside and outside the one that was loaded; the circle goes through its corners."""
    wcs = Wcs.tan((500.0, 400.0), (150.0, 2.0), 0.2 / 3600 * np.array([[-1.0, 0.2], [0.2, 1.0]]))
    metadata = box_metadata(Box(0, 0, 1000, 800), wcs, 250, "r", 60000.0)
    for name, grow in (("INNER", 150), ("OUTER", 350)):
        for corner, x, y in (
            ("LOWER_LEFT", -0.5 - grow, -0.5 - grow),
            ("LOWER_RIGHT", 999.5 + grow, -0.5 - grow),
            ("UPPER_RIGHT", 999.5 + grow, 799.5 + grow),
            ("UPPER_LEFT", -0.5 - grow, 799.5 + grow),
        ):
            found = wcs.sky_to_pixel(metadata[f"{name}_{corner}_RA"], metadata[f"{name}_{corner}_DEC"])
            assert np.array(found) == pytest.approx([x, y], abs=1e-6)
    corner = np.radians(wcs.pixel_to_sky(-250.5, -250.5))
    center = np.radians(wcs.pixel_to_sky(499.5, 399.5))
    assert np.radians(metadata["RADIUS"]) == pytest.approx(separation(*corner, *center), rel=1e-4)
    assert (metadata["RA"], metadata["DEC"]) == pytest.approx(tuple(np.degrees(center)))
