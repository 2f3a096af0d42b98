"""What both clients make of a finished job, against the files that the service stored and its scene."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import VarianceUncertainty

from tests.api.test_calibrations import ROWS, calibrate, completed, house
from visitcal import CalibrationFailedError, NotFoundError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.api.conftest import House
    from tests.visitcal.conftest import Kind

__all__ = ["completed", "house"]

X0, Y0 = 30, 50  # parent pixel of the image's first


@pytest.fixture
def client(kind: Kind, house: House) -> Any:
    def answer(request: httpx.Request) -> httpx.Response:
        there = house.client._transport.handle_request(request)
        return httpx.Response(there.status_code, headers=there.headers, content=there.read())

    return kind.connect(answer, base_url="http://127.0.0.1:8470")


@pytest.fixture
def result(kind: Kind, client: Any, completed: dict[str, Any]) -> Any:
    return kind(kind(client.job(completed["id"])).wait())


@pytest.fixture
def stored(kind: Kind, result: Any, tmp_path: Path) -> Any:
    """The stored image as astropy reads it."""
    with fits.open(kind(result.download("image", tmp_path)), memmap=False) as hdus:
        yield hdus


def test_tables_have_the_stored_values_with_units_and_meanings(kind: Kind, result: Any, tmp_path: Path) -> None:
    for name in ("stars", "psf_stars"):
        table = kind.load(result, name)
        assert table is kind.load(result, name)
        there = pq.read_table(kind(result.download(name, tmp_path)))
        assert list(table["id"]) == there["id"].to_pylist()
        np.testing.assert_allclose(table["base_SdssCentroid_x"], there["base_SdssCentroid_x"].to_numpy(), rtol=1e-12)
    stars = kind.load(result, "stars")
    assert stars["base_PsfFlux_flux"].unit == units.nJy
    assert stars["coord_ra"].unit.is_equivalent(units.deg)
    assert all(column.description for column in stars.itercols())


def test_rows_and_columns_are_chosen_by_the_service(kind: Kind, result: Any) -> None:
    stars = kind.load(result, "stars")
    chosen = kind(result.table(columns=["id", "psfMag"], where="psfMag<19", order="psfMag"))
    magnitudes = stars["base_PsfFlux_mag"]
    assert chosen.colnames == ["id", "psfMag"]
    assert len(chosen) == np.count_nonzero(magnitudes < 19) > 0
    assert (np.diff(chosen["psfMag"]) >= 0).all()
    rows = kind(result.rows(columns=["id", "psfMag"], where="psfMag<19", order="psfMag"))
    assert [row["id"] for row in rows] == list(chosen["id"])
    one = chosen["id"][0]
    (place,) = np.flatnonzero(stars["id"] == one)
    ra, dec = (np.degrees(float(stars[f"coord_{axis}"][place])) for axis in ("ra", "dec"))
    assert list(kind(result.table(cone=(ra, dec, 1e-5)))["id"]) == [one]
    corners = [ra + 1e-5, dec - 1e-5, ra, dec + 1e-5, ra - 1e-5, dec - 1e-5]
    assert [row["id"] for row in kind(result.rows(polygon=corners))] == [one]


def test_image_is_ccddata_with_all_parts(kind: Kind, result: Any, stored: Any) -> None:
    image = kind.load(result, "image")
    assert image is kind.load(result, "image")
    assert image.unit == units.nJy
    np.testing.assert_array_equal(image.data, stored["IMAGE"].data)
    assert isinstance(image.uncertainty, VarianceUncertainty)
    np.testing.assert_array_equal(image.uncertainty.array, stored["VARIANCE"].data)
    np.testing.assert_array_equal(image.flags, stored["MASK"].data)
    planes = image.meta["mask_planes"]
    cosmic_ray = (image.flags >> planes["CR"]) & 1 == 1
    detected = (image.flags >> planes["DETECTED"]) & 1 == 1
    assert image.mask[cosmic_ray].all()
    assert cosmic_ray.any()
    assert not image.mask[detected & ~cosmic_ray].all()
    assert image.meta["BUNIT"] == "nJy"


def test_image_has_the_world_coordinates_of_the_stars(kind: Kind, result: Any) -> None:
    image, stars = kind.load(result, "image"), kind.load(result, "stars")
    good = stars[~stars["base_SdssCentroid_flag"]]
    places = image.wcs.pixel_to_world(good["base_SdssCentroid_x"] - X0, good["base_SdssCentroid_y"] - Y0)
    true = SkyCoord(good["coord_ra"], good["coord_dec"])
    assert places.separation(true).arcsec.max() < 1e-3


def test_background_is_what_was_subtracted(kind: Kind, result: Any, house: House) -> None:
    image, background = kind.load(result, "image"), kind.load(result, "background")
    with fits.open(house.directory / "exposure.fits") as hdus:
        counts = hdus["IMAGE"].data.astype(float)
    scale = 10 ** ((31.4 - kind.load(result, "summary")["zeroPoint"]) / 2.5)  # nJy per count
    assert background.unit == units.nJy
    assert background.shape == image.shape
    untouched = ~image.mask
    difference = (scale * counts - image.data - background.data)[untouched]
    assert np.abs(difference).max() < 1e-3 * scale * np.median(counts)


def test_documents_are_those_of_the_service(kind: Kind, result: Any, house: House) -> None:
    for name in ("summary", "metadata", "config", "provenance"):
        there = house.client.get(f"/v1/jobs/{result.job_id}/{name}").json()
        assert kind.load(result, name) == there
        assert kind.load(result, name) is kind.load(result, name)
    assert "stars" in {alias for product in kind(result.products()) for alias in product["aliases"]}


def test_cutouts_are_parts_of_the_image(kind: Kind, result: Any) -> None:
    image = kind.load(result, "image")
    part = kind(result.cutout(x=X0 + 100, y=Y0 + 60, width=21, height=11))
    assert part.shape == (11, 21)
    np.testing.assert_array_equal(part.data, image.data[55:66, 90:111])
    np.testing.assert_array_equal(part.flags, image.flags[55:66, 90:111])
    place = image.wcs.pixel_to_world(100, 60)
    np.testing.assert_allclose(part.wcs.world_to_pixel(place), (10, 5), atol=1e-6)
    around = kind(result.cutout(place.ra.deg, place.dec.deg, 4.0))
    np.testing.assert_allclose(around.wcs.world_to_pixel(place), (np.array(around.shape[::-1]) - 1) / 2, atol=1.0)
    mask = kind(result.cutout(x=X0 + 100, y=Y0 + 60, size=5, product="mask"))
    np.testing.assert_array_equal(mask.data, image.flags[58:63, 98:103])


def test_psf_is_a_stamp_with_its_shape(kind: Kind, result: Any) -> None:
    psf = kind(result.psf(X0 + 100.0, Y0 + 60.0))
    assert (psf.x, psf.y) == (X0 + 100.0, Y0 + 60.0)
    assert psf.image.sum() == pytest.approx(1.0, abs=1e-3)
    columns = np.arange(psf.image.shape[1])
    assert np.unravel_index(psf.image.argmax(), psf.image.shape) == (Y0 + 60 - psf.y0, X0 + 100 - psf.x0)
    assert psf.shape["sigma"] == pytest.approx(4.0 / 2.355, rel=0.1)
    moved = kind(result.psf(X0 + 100.4, Y0 + 60.0, centered=False))
    first, second = ((stamp.image * (columns + stamp.x0)).sum() for stamp in (psf, moved))
    assert second - first == pytest.approx(0.4, abs=0.02)


def test_measurements_and_figures(kind: Kind, result: Any) -> None:
    stars = kind.load(result, "stars")
    brightest = stars[np.nanargmax(stars["base_PsfFlux_flux"])]
    place = {"x": float(brightest["base_SdssCentroid_x"]), "y": float(brightest["base_SdssCentroid_y"])}
    forced = kind(result.photometry([place], radii=[3.5, 12], annulus=(20, 30)))
    assert forced["base_PsfFlux_flux"][0] == pytest.approx(brightest["base_PsfFlux_flux"], rel=0.02)
    assert kind(result.psf_grid(n=2)).data.shape[0] == 4
    assert kind.load(result, "diagnostics")["zero_point"]["available"]
    assert kind(result.diagnostic("zero_point"))["numbers"]
    assert kind(result.figure("zero_point")).startswith(b"<svg")
    assert kind(result.picture(size=64, stretch="log")).startswith(b"\x89PNG")
    assert "circle" in kind(result.regions()) or "ellipse" in kind(result.regions())


def test_stars_across_jobs(kind: Kind, client: Any, result: Any) -> None:
    stars = kind.load(result, "stars")
    # Detections of all results of the exposure's field, as long as they are primary.
    place = stars[np.nanargmax(stars["base_PsfFlux_flux"])]
    ra, dec = np.degrees(float(place["coord_ra"])), np.degrees(float(place["coord_dec"]))
    found = kind(client.stars(ra, dec, 1e-4, columns=["psfMag", "mjd", "job_id"]))
    assert [set(row) >= {"psfMag", "mjd", "job_id"} for row in found] == [True]
    assert found[0]["psfMag"] == pytest.approx(float(place["base_PsfFlux_mag"]), abs=1e-6)
    curves = kind(client.light_curves(ra, dec, columns=["psfMag", "mjd"]))
    assert list(curves["object"]) == [0]
    assert curves["psfMag"][0] == pytest.approx(found[0]["psfMag"], abs=1e-6)
    (row,) = (row for row in kind(client.summaries(fields=["psfSigma"])) if row["job_id"] == result.job_id)
    assert row["psfSigma"] == kind.load(result, "summary")["psfSigma"]
    assert kind(client.visit_summary(7))["detectors"][0]["detector"] == 3
    assert len(kind(client.visit_table(7))) == 1


def test_what_a_failed_job_has_reached_is_there(kind: Kind, client: Any, house: House) -> None:
    document = calibrate(house, config=ROWS["psf"].config, references="sim")
    job = kind(client.job(document["id"]))
    with pytest.raises(CalibrationFailedError, match=r"repair\.too_many_cosmic_rays") as caught:
        kind(job.wait())
    assert caught.value.error is not None
    assert "maxCosmicRays" in caught.value.error["numbers"]
    partial: Any = caught.value.result
    image = kind.load(partial, "image")
    assert image.unit == units.electron
    assert image.wcs is None  # it ended before the astrometry
    assert kind.load(partial, "background").unit == units.electron
    with pytest.raises(NotFoundError, match="ended without") as missing:
        kind.load(partial, "stars")
    assert missing.value.code == "product.not_made"
    assert missing.value.request_id
    with pytest.raises(NotFoundError, match="without a PSF"):
        kind(partial.psf())
