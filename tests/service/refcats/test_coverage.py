"""Cells of the sky that a catalogue fills."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import hpgeom
import numpy as np
import pytest

from service.exposure.sky_region import healpix_index
from service.refcats.coverage import cells, covered_cells, covers, is_far

if TYPE_CHECKING:
    import numpy.typing as npt

ORDER = 5


def sky(n: int, sin_dec: tuple[float, float]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    rng = np.random.default_rng(n)
    return rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(*sin_dec, n)))


@pytest.mark.parametrize(("n", "sin_dec"), [(1, (-1, 1)), (300, (-1, 1)), (40_000, (0, 1)), (300_000, (-1, 1))])
def test_cells_are_those_of_the_stars_and_as_large_as_may_be(n: int, sin_dec: tuple[float, float]) -> None:
    ra, dec = sky(n, sin_dec)
    index = healpix_index(ra, dec)
    found = cells([index[: n // 2], index[n // 2 :]])
    fine = [
        pixel
        for order, cell in found
        for pixel in range(cell << 2 * (ORDER - order), (cell + 1) << 2 * (ORDER - order))
    ]
    assert Counter(fine) == Counter(np.unique(hpgeom.angle_to_pixel(1 << ORDER, ra, dec)).tolist())
    families = Counter((order, cell >> 2) for order, cell in found if order)
    assert max(families.values(), default=0) < 4
    if n == 300_000:
        assert sorted(found) == [(0, pixel) for pixel in range(12)]


def test_no_stars_fill_nothing() -> None:
    assert cells([]) == []
    assert covered_cells({"partitions": []}) == []


def test_a_catalogue_covers_its_stars_and_not_the_other_side_of_the_sky() -> None:
    ra, dec = sky(50, (0.3, 0.32))
    info: dict[str, Any] = {"coverage": cells([healpix_index(ra, dec)])}
    assert all(covers(info, a, d) for a, d in zip(ra, dec, strict=True))
    assert not covers(info, 10.0, -45.0)


def test_of_older_catalogues_the_files_tell() -> None:
    pixel = int(hpgeom.angle_to_pixel(1, 150.0, 2.2))
    info = {"partitions": [{"order": 0, "pixel": pixel, "n_rows": 3}]}
    assert covered_cells(info) == [(0, pixel)]
    assert covers(info, 150.0, 2.2)


def test_a_field_beside_the_stars_is_not_far_and_one_beyond_is() -> None:
    info = {"coverage": cells([healpix_index(np.array([150.0]), np.array([2.2]))])}
    assert not is_far(info, 150.0, 2.2)
    assert not is_far(info, 151.5, 2.2)
    assert is_far(info, 157.0, 2.2)  # the cell ends within 1.8 deg
    assert is_far({"coverage": []}, 150.0, 2.2)
