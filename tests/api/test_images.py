"""Images over HTTP: cut-outs, pictures, tiles, regions and compressed copies of a job with known pixels."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import fitsio
import numpy as np
import pytest
import regions
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.wcs import WCS
from PIL import Image

from service import formats
from service.exposure.background import BackgroundList, BackgroundModel
from service.exposure.catalog import Column, Schema, SourceCatalog
from service.exposure.exposure import Exposure
from service.exposure.geometry import Box
from service.exposure.mask import MaskPlanes
from service.exposure.masked_image import MaskedImage
from service.exposure.star_schema import star_schema
from service.exposure.wcs import Wcs
from service.jobs.outcome import ProductFile
from tests.api.conftest import House, open_house

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHAPE, ORIGIN = (620, 900), (100, -50)
SCALE = 0.25  # arcsec
STARS = np.array([[200.0, 100.0], [700.25, 300.5], [950.0, 500.0]])  # parent pixels
OFFSET = (0.4, -0.2)  # px, sources from their references


@pytest.fixture(scope="module")
def wcs() -> Wcs:
    return Wcs.tan((550.0, 260.0), (150.0, 2.0), SCALE / 3600 * np.array([[-1.0, 0.0], [0.0, 1.0]]))


@pytest.fixture(scope="module")
def exposure(wcs: Wcs) -> Exposure:
    rng = np.random.default_rng(11)
    image = rng.normal(50, 4, SHAPE).astype(np.float32)
    for x, y in (STARS - ORIGIN).round().astype(int):
        image[y - 2 : y + 3, x - 2 : x + 3] += 500
    planes = MaskPlanes()
    mask = np.zeros(SHAPE, np.int32)
    mask[100:140, 200:260] |= 1 << planes["SAT"]
    mask[300, 400] |= 1 << planes["CR"]
    masked_image = MaskedImage(image, mask, np.full(SHAPE, 16.0, np.float32), planes, *ORIGIN)
    return Exposure(masked_image, wcs=wcs, unit="nJy")


def star_catalog(wcs: Wcs) -> SourceCatalog:
    catalog = SourceCatalog.allocate(star_schema(), len(STARS))
    catalog["id"] = 1 + np.arange(len(STARS))
    catalog["base_SdssCentroid_x"], catalog["base_SdssCentroid_y"] = STARS.T
    ra, dec = wcs.pixel_to_sky(*STARS.T)
    catalog["coord_ra"], catalog["coord_dec"] = np.radians(ra), np.radians(dec)
    for moment, value in (("xx", 16.0), ("yy", 4.0), ("xy", 0.0)):
        catalog[f"ext_shapeHSM_HsmSourceMoments_{moment}"] = value
    catalog["calib_psf_used"] = np.array([True, False, False])
    catalog["sky_source"] = np.array([False, False, True])
    return catalog


def match_catalog(wcs: Wcs) -> SourceCatalog:
    stars = star_catalog(wcs)
    ra, dec = wcs.pixel_to_sky(STARS[:, 0] - OFFSET[0], STARS[:, 1] - OFFSET[1])
    values: dict[str, Any] = {
        "ref_id": 100 + np.arange(len(STARS)),
        "ref_coord_ra": np.radians(ra),
        "ref_coord_dec": np.radians(dec),
        **{f"src_{name}": stars[name] for name in stars.schema.names},
    }
    kinds = {name: "?" if array.dtype.kind == "b" else array.dtype.str[1:] for name, array in values.items()}
    return SourceCatalog(Schema([Column(name, kind) for name, kind in kinds.items()]), values)


def background() -> BackgroundList:
    statistics = np.linspace(10, 30, 12, dtype=np.float32).reshape(3, 4)
    return BackgroundList(
        [
            BackgroundModel(
                statistics,
                np.ones_like(statistics),
                np.zeros(statistics.shape, np.int32),
                Box(*ORIGIN, SHAPE[1], SHAPE[0]),
                approx_order=1,
            )
        ]
    )


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, exposure: Exposure, wcs: Wcs) -> Iterator[House]:
    directory = tmp_path_factory.mktemp("house")
    with open_house(directory) as house:
        house.product_files = lambda: product_files(directory, exposure, wcs)  # type: ignore[method-assign]
        yield house


def product_files(directory: Path, exposure: Exposure, wcs: Wcs) -> tuple[ProductFile, ...]:
    files = []
    for product, catalog in (
        ("single_visit_star_unstandardized", star_catalog(wcs)),
        ("initial_astrometry_match_detector", match_catalog(wcs)),
    ):
        path = directory / f"{product}.parquet"
        formats.write_catalog(catalog, path, "parquet")
        files.append(ProductFile(product, "parquet", "application/vnd.apache.parquet", str(path), len(catalog)))
    names = ("preliminary_visit_image", "preliminary_visit_mask", "preliminary_visit_image_background")
    image, mask, sky = (directory / f"{name}.fits" for name in names)
    formats.write_exposure(image, exposure)
    formats.write_mask(mask, exposure.masked_image, wcs)
    formats.write_background(sky, background())
    files += [
        ProductFile(name, "fits", "application/fits", str(path))
        for name, path in zip(names, (image, mask, sky), strict=True)
    ]
    return tuple(files)


@pytest.fixture(scope="module")
def job(house: House) -> str:
    return f"/v1/jobs/{house.completed()}"


def hdus(content: bytes) -> fits.HDUList:
    return fits.open(io.BytesIO(content))


def pixels(content: bytes) -> np.ndarray[Any, Any]:
    """A picture with rows upwards."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), dtype=int)[::-1]


# -- cut-outs


def test_cutout_by_pixels(house: House, job: str, exposure: Exposure) -> None:
    answer = house.client.get(f"{job}/images/image/cutout", params={"x": 700.25, "y": 300.5, "size": 41})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/fits"
    assert int(answer.headers["content-length"]) == len(answer.content)
    masked_image = exposure.masked_image
    center = (700.25 - ORIGIN[0], 300.5 - ORIGIN[1])
    with hdus(answer.content) as found:
        assert [hdu.name for hdu in found[1:]] == ["IMAGE", "MASK", "VARIANCE"]
        for name, plane in (
            ("IMAGE", masked_image.image),
            ("MASK", masked_image.mask),
            ("VARIANCE", masked_image.variance),
        ):
            np.testing.assert_array_equal(found[name].data, Cutout2D(plane, center, 41).data)
        assert found["MASK"].header["MP_SAT"] == masked_image.planes["SAT"]
        assert found["IMAGE"].header["BUNIT"] == "nJy"
        x, y = WCS(found["IMAGE"].header).world_to_pixel(
            SkyCoord(*exposure.wcs.pixel_to_sky(700.25, 300.5), unit="deg")
        )
        assert (x, y) == pytest.approx((20.25, 20.5), abs=1e-6)


def test_cutout_on_the_sky(house: House, job: str, wcs: Wcs) -> None:
    ra, dec = (float(value) for value in wcs.pixel_to_sky(200.2, 100.2))
    url = f"{job}/images/image/cutout"
    answer = house.client.get(url, params={"ra": ra, "dec": dec, "width": 10, "height": 5, "plane": "mask"})
    with hdus(answer.content) as found:
        assert [hdu.name for hdu in found] == ["PRIMARY", "MASK"]
        assert found["MASK"].data.shape == (20, 40)
        assert (found["MASK"].header["LTV1"], found["MASK"].header["LTV2"]) == (-181, -91)
    around = house.client.get(url, params={"ra": ra - 360, "dec": dec, "width": 10, "height": 5, "plane": "mask"})
    assert around.content == answer.content


def test_cutout_of_other_products(house: House, job: str, exposure: Exposure) -> None:
    query = {"x": 305, "y": 55, "size": 80}
    with hdus(house.client.get(f"{job}/images/mask/cutout", params=query).content) as found:
        np.testing.assert_array_equal(found["MASK"].data, exposure.masked_image.mask[65:145, 165:245])
    with hdus(house.client.get(f"{job}/images/background/cutout", params=query).content) as found:
        np.testing.assert_allclose(found["IMAGE"].data, background().image()[65:145, 165:245], rtol=1e-6)
        assert found["IMAGE"].header["LTV1"] == -265


def test_cutout_as_picture(house: House, job: str, exposure: Exposure) -> None:
    query = {"x": 200, "y": 100, "size": 21, "stretch": "linear", "limits": "0,1000", "format": "png"}
    answer = house.client.get(f"{job}/images/image/cutout", params=query)
    assert answer.headers["content-type"] == "image/png"
    expected = Cutout2D(exposure.masked_image.image, (100, 150), 21).data / 1000 * 255
    np.testing.assert_allclose(pixels(answer.content)[..., 0], expected, atol=1)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("x=5000&y=0&size=10", "cutout.outside"),
        ("ra=10&dec=-80&size=10", "cutout.outside"),
        ("x=300&y=100", "request.invalid"),
        ("x=300&size=10", "request.invalid"),
        ("x=300&y=100&ra=150&dec=2&size=10", "request.invalid"),
        ("ra=150&dec=91&size=10", "request.invalid"),
        ("x=nan&y=100&size=10", "request.invalid"),
        ("x=300&y=100&size=inf", "request.invalid"),
        ("x=300&y=100&size=10&format=gif", "request.invalid"),
        ("x=300&y=100&size=10&format=png&overlay=mask:NONE", "image.no_plane"),
    ],
)
def test_cutouts_that_cannot_be(house: House, job: str, query: str, code: str) -> None:
    answer = house.client.get(f"{job}/images/image/cutout?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text


def test_cutout_is_not_sent_twice(house: House, job: str) -> None:
    url = f"{job}/images/image/cutout?x=300&y=100&size=10"
    first = house.client.get(url)
    assert house.client.get(url, headers={"If-None-Match": first.headers["etag"]}).status_code == 304
    head = house.client.head(url)
    assert (head.headers["content-length"], head.content) == (first.headers["content-length"], b"")
    assert house.client.get(f"{url}&plane=mask").headers["etag"] != first.headers["etag"]


# -- pictures


def test_colour_maps_and_inversion(house: House, job: str) -> None:
    url = f"{job}/images/image.png?stretch=linear&limits=0,600"
    grey = pixels(house.client.get(url).content)
    np.testing.assert_array_equal(255 - grey, pixels(house.client.get(f"{url}&invert=true").content))
    viridis = pixels(house.client.get(f"{url}&cmap=viridis").content)
    assert np.abs(viridis[(grey == 0).all(axis=-1)] - (68, 1, 84)).max(initial=0) <= 1
    star = (100, 150)
    assert viridis[star[1], star[0]].tolist() == pytest.approx([200, 225, 32], abs=25)


def test_jpeg_by_suffix_and_by_accept(house: House, job: str) -> None:
    by_suffix = house.client.get(f"{job}/images/image.jpg")
    by_accept = house.client.get(f"{job}/images/image", headers={"Accept": "image/jpeg"})
    assert by_suffix.headers["content-type"] == by_accept.headers["content-type"] == "image/jpeg"
    assert by_suffix.content == by_accept.content
    assert "Accept" in by_accept.headers["vary"]
    png, jpeg = pixels(house.client.get(f"{job}/images/image.png").content), pixels(by_suffix.content)
    assert np.abs(png - jpeg).mean() < 5
    for accept in ("*/*", "application/fits", "image/png,*/*;q=0.5"):
        answer = house.client.get(f"{job}/images/image", headers={"Accept": accept})
        assert answer.headers["content-type"] == "application/fits"


def test_mask_planes_are_tinted(house: House, job: str, exposure: Exposure) -> None:
    plain = pixels(house.client.get(f"{job}/images/image.png").content)
    tinted = pixels(house.client.get(f"{job}/images/image.png?overlay=mask:SAT,mask:CR").content)
    mask = exposure.masked_image.mask
    assert ((tinted != plain).any(axis=-1) <= (mask != 0)).all()
    assert (tinted[120, 230] - plain[120, 230] // 2).tolist() == pytest.approx([0, 127, 0], abs=2)  # green
    assert (tinted[300, 400] - plain[300, 400] // 2).tolist() == pytest.approx([127, 0, 127], abs=2)  # magenta
    small = pixels(house.client.get(f"{job}/images/image.png?overlay=mask:CR&size=90").content)
    untinted = pixels(house.client.get(f"{job}/images/image.png?size=90").content)
    assert np.argwhere((small != untinted).any(axis=-1)).tolist() == [[30, 40]]  # a single pixel is not lost


def test_mask_of_the_exposure_is_drawn_on_the_background(house: House, job: str) -> None:
    url = f"{job}/images/background.png?stretch=linear&limits=0,40"
    plain, tinted = (pixels(house.client.get(u).content) for u in (url, f"{url}&overlay=mask:SAT"))
    np.testing.assert_allclose(plain[..., 0], background().image() / 40 * 255, atol=1)
    rows, columns = np.nonzero((tinted != plain).any(axis=-1))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (100, 139, 200, 259)


def drawn(house: House, job: str, overlay: str, query: str = "") -> np.ndarray[Any, Any]:
    url = f"{job}/images/image.png?limits=1e8,2e8&{query}"  # all black
    return (pixels(house.client.get(f"{url}&overlay={overlay}").content) != pixels(house.client.get(url).content)).any(
        -1
    )


def test_sources_are_ellipses_around_their_places(house: House, job: str) -> None:
    changed = drawn(house, job, "sources")
    for (x, y), radii in zip(STARS - ORIGIN, ((10, 5), (10, 5), (3, 3)), strict=True):  # the last has no shape
        rows, columns = np.nonzero(changed[int(y) - 20 : int(y) + 21, int(x) - 20 : int(x) + 21])
        rows, columns = rows + int(y) - 20, columns + int(x) - 20
        assert (columns.mean(), rows.mean()) == pytest.approx((x, y), abs=0.8)
        # 2.5 sigma of moments of 16 and 4 px2
        assert (np.ptp(columns) / 2, np.ptp(rows) / 2) == pytest.approx(radii, abs=1)
    assert changed.sum() < 3 * 80


def test_overlays_follow_the_size(house: House, job: str) -> None:
    changed = drawn(house, job, "sources", "size=450")
    x, y = (STARS[0] - ORIGIN + 0.5) / 2 - 0.5
    rows, columns = np.nonzero(changed[:150, :150])
    assert (columns.mean(), rows.mean()) == pytest.approx((x, y), abs=0.8)


def test_residuals_are_vectors(house: House, job: str) -> None:
    changed = drawn(house, job, "residuals", "vector_scale=50")
    x, y = (STARS[1] - ORIGIN).round().astype(int)
    rows, columns = np.nonzero(changed[y - 60 : y + 61, x - 60 : x + 61])
    # from the source along what it is from its reference: 50 times (0.4, -0.2) px
    assert (columns.max() - 60, rows.min() - 60) == pytest.approx((20, -10), abs=2)
    assert (columns.min() - 60, rows.max() - 60) == pytest.approx((0, 0), abs=2)
    bar = changed[:20, :400]
    assert np.ptp(np.nonzero(bar.any(axis=0))[0]) == pytest.approx(0.1 / SCALE * 50, abs=2)


def test_references_are_crosses(house: House, job: str) -> None:
    changed = drawn(house, job, "references")
    x, y = (STARS[1] - OFFSET - ORIGIN).round().astype(int)
    assert changed[y, x - 4 : x + 5].all()
    assert changed[y - 4 : y + 5, x].all()
    assert changed.sum() == pytest.approx(3 * 17, abs=3)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("overlay=stars", 422, "request.invalid"),
        ("overlay=mask:sat", 422, "request.invalid"),
        ("overlay=mask:NOTHING", 422, "image.no_plane"),
        ("overlay=psf_stars", 404, "product.not_made"),
        ("cmap=jet", 422, "request.invalid"),
        ("limits=0%25", 422, "request.invalid"),
        ("limits=00.00%25", 422, "request.invalid"),
        ("plane=weight", 422, "request.invalid"),
        ("vector_scale=0", 422, "request.invalid"),
    ],
)
def test_pictures_that_cannot_be(house: House, job: str, query: str, status: int, code: str) -> None:
    answer = house.client.get(f"{job}/images/image.png?{query}")
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


def test_a_plane_that_is_not_there_is_told_with_those_that_are(house: House, job: str) -> None:
    answer = house.client.get(f"{job}/images/mask.png?plane=variance")
    assert answer.json()["detail"].endswith("it has MASK")


def test_pictures_are_drawn_once(house: House, job: str) -> None:
    url = f"{job}/images/image.png?size=333"
    first = house.client.get(url)
    kept = house.settings.image_cache_dir / first.headers["etag"].strip('"')
    kept.write_bytes(b"what is kept")
    assert house.client.get(url).content == b"what is kept"


# -- tiles


@pytest.mark.parametrize("layout", ["tiles/{z}/{x}/{y}.png", "tiles_files/{z}/{x}_{y}.png"])
def test_tiles_make_the_image(house: House, job: str, exposure: Exposure, layout: str) -> None:
    descriptor = house.client.get(f"{job}/images/image/tiles.dzi")
    root = ET.fromstring(descriptor.content)
    deep_zoom = "{http://schemas.microsoft.com/deepzoom/2008}"
    size = root.find(f"{deep_zoom}Size")
    assert root.tag == f"{deep_zoom}Image"
    assert size is not None
    width, height, tile = int(size.attrib["Width"]), int(size.attrib["Height"]), int(root.attrib["TileSize"])
    assert (height, width) == SHAPE
    top = (max(width, height) - 1).bit_length()  # Deep Zoom's number of the level with all pixels
    rows = []
    for y in range(-(-height // tile)):
        urls = [layout.format(z=top, x=x, y=y) for x in range(-(-width // tile))]
        tiles = [house.client.get(f"{job}/images/image/{url}?stretch=linear&limits=30,70") for url in urls]
        rows.append(np.hstack([pixels(answer.content)[::-1, :, 0] for answer in tiles]))
    expected = np.clip((exposure.masked_image.image[::-1] - 30) / 40, 0, 1) * 255
    np.testing.assert_allclose(np.vstack(rows), expected, atol=1)


def test_tiles_of_a_mask_plane_lie_over_the_image(house: House, job: str, exposure: Exposure) -> None:
    base = f"{job}/images/image/mask"
    size = ET.fromstring(house.client.get(f"{base}/SAT.dzi").content)[0].attrib
    assert (size["Width"], size["Height"]) == (str(SHAPE[1]), str(SHAPE[0]))
    masked_image = exposure.masked_image
    is_saturated = (masked_image.mask >> masked_image.planes["SAT"]) & 1 == 1
    seen = np.zeros(SHAPE, bool)
    for x in range(-(-SHAPE[1] // 256)):
        for y in range(-(-SHAPE[0] // 256)):
            answer = house.client.get(f"{base}/SAT_files/10/{x}_{y}.png")
            assert answer.headers["content-type"] == "image/png"
            tile = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGBA"))
            shown = tile[..., 3] > 0
            assert np.all(tile[shown] == (0, 255, 0, 128))
            seen[y * 256 : y * 256 + len(tile), x * 256 : x * 256 + tile.shape[1]] = shown
    np.testing.assert_array_equal(seen[::-1], is_saturated)


def test_a_single_pixel_of_a_mask_shows_in_the_smallest_tile(house: House, job: str) -> None:
    def alpha(plane: str) -> int:
        content = house.client.get(f"{job}/images/image/mask/{plane}_files/0/0_0.png").content
        picture = Image.open(io.BytesIO(content)).convert("RGBA")
        assert picture.size == (1, 1)
        return int(picture.getpixel((0, 0))[3])  # type: ignore[index]

    assert (alpha("CR"), alpha("STREAK")) == (128, 0)


@pytest.mark.parametrize(
    ("address", "status", "code"),
    [
        ("image/mask/NONE_files/9/0_0.png", 422, "image.no_plane"),
        ("background/mask/SAT_files/9/0_0.png", 422, "image.no_plane"),
        ("image/mask/SAT_files/10/9_0.png", 404, "image.no_tile"),
        ("image/mask/sat_files/9/0_0.png", 422, "request.invalid"),
        ("stars/mask/SAT_files/9/0_0.png", 404, "product.unknown"),
        ("stars/frame", 404, "product.unknown"),
    ],
)
def test_mask_tiles_that_cannot_be(house: House, job: str, address: str, status: int, code: str) -> None:
    answer = house.client.get(f"{job}/images/{address}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_frame_has_the_sky_of_the_image(house: House, job: str, wcs: Wcs) -> None:
    answer = house.client.get(f"{job}/images/image/frame")
    frame = answer.json()
    assert (frame["x0"], frame["y0"], frame["width"], frame["height"]) == (*ORIGIN, SHAPE[1], SHAPE[0])
    assert frame["unit"] == "nJy"
    assert {"name": "SAT", "bit": 1, "color": "#00ff00"} in frame["mask_planes"]
    sky = frame["sky"]
    cards = hdus(house.client.get(f"{job}/images/image/cutout?x=550&y=260&width=900&height=620").content)[
        "IMAGE"
    ].header
    theirs = WCS(cards)  # astropy's, of the file's own cards
    x, y = np.meshgrid(sky["x"], sky["y"])
    expected = theirs.pixel_to_world(x - ORIGIN[0], y - ORIGIN[1])
    center = SkyCoord(sky["ra"], sky["dec"], unit="deg")
    offset = expected.transform_to(center.skyoffset_frame())
    east, north = np.tan(offset.lon.rad), np.tan(offset.lat.rad) / np.cos(offset.lon.rad)
    np.testing.assert_allclose(np.radians(sky["xi"]), east, atol=1e-10)
    np.testing.assert_allclose(np.radians(sky["eta"]), north, atol=1e-10)
    again = house.client.get(f"{job}/images/image/frame", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


def test_frame_of_an_image_without_a_sky(tmp_path: Path) -> None:
    with open_house(tmp_path) as house:
        frame = house.client.get(f"/v1/jobs/{house.completed()}/images/image/frame").json()
    assert (frame["sky"], [plane["name"] for plane in frame["mask_planes"]], frame["width"]) == (None, ["BAD"], 50)


def test_limits_are_those_of_the_whole_for_all_tiles(house: House, job: str, exposure: Exposure) -> None:
    image = exposure.masked_image.image
    low, high = np.percentile(image, [0.5, 99.5])
    for x in (0, 1, 2, 3):
        url = f"{job}/images/image/tiles/10/{x}/1.png?limits=99%25&stretch=linear"
        expected = np.clip((image[::-1][256:512, 256 * x : 256 * (x + 1)] - low) / (high - low), 0, 1) * 255
        np.testing.assert_allclose(pixels(house.client.get(url).content)[::-1, :, 0], expected, atol=1)


def test_tiles_that_are_not_there(house: House, job: str) -> None:
    for place in ("11/0/0", "10/4/0", "10/0/3"):
        answer = house.client.get(f"{job}/images/image/tiles/{place}.png")
        assert (answer.status_code, answer.json()["code"]) == (404, "image.no_tile")
    assert house.client.get(f"{job}/images/image/tiles/-1/0/0.png").status_code == 422


def test_pyramid_is_built_once(house: House, job: str) -> None:
    def pyramids() -> set[tuple[str, int]]:
        return {
            (path.name, path.stat().st_ino)
            for path in house.settings.image_cache_dir.iterdir()
            if path.stat().st_size > 2e6
        }

    answers = [
        house.client.get(f"{job}/images/image/tiles/8/0/0.png?plane=variance&stretch={s}") for s in ("log", "sqrt")
    ]
    before = pyramids()
    assert answers[0].headers["etag"] != answers[1].headers["etag"]
    again = house.client.get(f"{job}/images/image/tiles/8/0/0.png?plane=variance&stretch=linear&cmap=heat")
    assert again.status_code == 200
    assert pyramids() == before


# -- regions


def test_regions_in_pixels(house: House, job: str) -> None:
    answer = house.client.get(f"{job}/catalogs/stars.reg")
    assert answer.headers["content-type"].startswith("text/plain")
    found = regions.Regions.parse(answer.text, format="ds9")
    centers = np.array([(region.center.x, region.center.y) for region in found])
    np.testing.assert_allclose(centers, STARS - ORIGIN, atol=1e-3)  # regions counts from 0, DS9 from 1
    assert (found[0].width / 2, found[0].height / 2) == pytest.approx((10, 5), abs=1e-3)
    assert [type(region).__name__[:-11] for region in found] == ["Ellipse", "Ellipse", "Circle"]
    assert [region.visual["facecolor"] for region in found] == ["red", "green", "cyan"]


@pytest.mark.parametrize("system", ["icrs", "fk5"])
def test_regions_on_the_sky(house: House, job: str, wcs: Wcs, system: str) -> None:
    found = regions.Regions.parse(house.client.get(f"{job}/catalogs/stars.reg?system={system}").text, format="ds9")
    truth = SkyCoord(*wcs.pixel_to_sky(*STARS.T), unit="deg")
    radii = [np.sqrt(50) * SCALE, np.sqrt(50) * SCALE, 1.0]
    for region, place, radius in zip(found, truth, radii, strict=True):
        assert region.center.frame.name == system
        assert region.center.icrs.separation(place).arcsec < 1e-4
        assert region.radius.to_value("arcsec") == pytest.approx(radius, rel=1e-4)


def test_regions_of_matches(house: House, job: str) -> None:
    found = regions.Regions.parse(house.client.get(f"{job}/catalogs/astrometry_matches.reg").text, format="ds9")
    points = [region for region in found if isinstance(region, regions.PointPixelRegion)]
    centers = np.array([(region.center.x, region.center.y) for region in points])
    np.testing.assert_allclose(centers, STARS - OFFSET - ORIGIN, atol=2e-3)
    assert len(found) == 2 * len(points)


def test_regions_that_are_not_there(house: House, job: str) -> None:
    for product, code in (("image", "product.unknown"), ("psf_stars", "product.not_made")):
        answer = house.client.get(f"{job}/catalogs/{product}.reg")
        assert (answer.status_code, answer.json()["code"]) == (404, code)


# -- compressed copies


def test_compressed_copy(house: House, job: str, exposure: Exposure, tmp_path: Path) -> None:
    answer = house.client.get(f"{job}/images/image?compression=rice")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-disposition"].endswith('"preliminary_visit_image.fits.fz"')
    (tmp_path / "x.fits.fz").write_bytes(answer.content)
    with fitsio.FITS(tmp_path / "x.fits.fz") as found:
        np.testing.assert_array_equal(found["IMAGE"].read(), exposure.masked_image.image)
        np.testing.assert_array_equal(found["MASK"].read(), exposure.masked_image.mask)
    etag = answer.headers["etag"]
    part = house.client.get(
        f"{job}/images/image?compression=rice", headers={"Range": "bytes=1000-1999", "If-Range": etag}
    )
    assert (part.status_code, part.content) == (206, answer.content[1000:2000])
    plain = house.client.get(f"{job}/images/image")
    assert (plain.headers["etag"] != etag, len(plain.content) > len(answer.content)) == (True, True)
    assert house.client.get(f"{job}/images/image?compression=zip").status_code == 422


def test_too_large_to_compress(house: House, job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house.services.images, "_max_compressed", 1000)
    answer = house.client.get(f"{job}/images/image?compression=gzip1")
    assert (answer.status_code, answer.json()["code"]) == (422, "image.too_large")


def test_too_many_at_a_time(house: House, job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.image_work._MAX_WAITING", 0)
    answer = house.client.get(f"{job}/images/image.png?size=100")
    assert (answer.status_code, answer.json()["code"]) == (503, "image.busy")
    assert answer.headers["retry-after"] == "2"


@pytest.mark.parametrize("product", ["mask", "background"])
def test_compressed_copies_of_other_products(house: House, job: str, product: str, tmp_path: Path) -> None:
    packed = house.client.get(f"{job}/images/{product}?compression=hcompress").content
    plain = house.client.get(f"{job}/images/{product}").content
    with hdus(packed) as found, hdus(plain) as wanted:
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert one.name == other.name
            np.testing.assert_array_equal(one.data, other.data)


def test_masks_are_drawn_where_any_bit_is_set(house: House, job: str, exposure: Exposure) -> None:
    expected = (exposure.masked_image.mask != 0) * 255
    for url in (f"{job}/images/mask.png", f"{job}/images/image.png?plane=mask"):
        np.testing.assert_array_equal(pixels(house.client.get(url).content)[..., 0], expected)
    tile = pixels(house.client.get(f"{job}/images/mask/tiles/10/0/1.png").content)[::-1, :, 0]
    np.testing.assert_array_equal(tile, expected[::-1][256:512, :256])


def test_products_lead_to_their_pictures(house: House, job: str) -> None:
    products = {item["id"]: item["links"] for item in house.client.get(f"{job}/products").json()["items"]}
    for name, wanted in (
        ("preliminary_visit_image", {"fits", "png", "jpg", "tiles", "file"}),
        ("single_visit_star_unstandardized", {"reg", "json", "parquet"}),
    ):
        assert wanted <= set(products[name])
        for kind in wanted:
            assert house.client.get(products[name][kind]).status_code == 200, kind
