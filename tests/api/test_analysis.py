"""PSF, forced photometry and diagnostics of finished jobs through the API."""

from __future__ import annotations

import re
import subprocess
import sys
from io import BytesIO
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scenes
from astropy.io import fits
from astropy.table import Table
from photutils.psf import GriddedPSFModel, PSFPhotometry
from PIL import Image

from service import formats
from tests.api.conftest import House, open_house

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHAPE, ORIGIN = (290, 280), (30, 50)
N_STARS = 16  # so far apart that none is in the stamp of another


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return scenes.random_stars(SHAPE, N_STARS, np.random.default_rng(12), snr=(60, 1500))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, truth: np.ndarray) -> Iterator[House]:
    """A service that has one exposure and the catalogue of its stars."""
    directory = tmp_path_factory.mktemp("house")
    exposure = scenes.make_exposure(SHAPE, truth, np.random.default_rng(5), origin=ORIGIN)
    with open_house(directory) as house:
        pq.write_table(scenes.reference_table(exposure, truth), directory / "sim.parquet")
        put = house.client.put("/v1/refcats/sim", content=(directory / "sim.parquet").read_bytes())
        assert put.status_code == 201, put.text
        formats.write_exposure(directory / "exposure.fits", exposure)
        yield house


def calibrate(house: House, **parameters: Any) -> dict[str, Any]:
    return house.calibrate((house.directory / "exposure.fits").read_bytes(), **parameters)


@pytest.fixture(scope="module")
def job(house: House) -> dict[str, Any]:
    job = calibrate(house, references="sim")
    assert job["phase"] == "COMPLETED", job["error"]
    return job


@pytest.fixture(scope="module")
def unplaced(house: House) -> dict[str, Any]:
    """A run without astrometry."""
    job = calibrate(house, references="none")
    assert job["phase"] == "COMPLETED", job["error"]
    return job


@pytest.fixture(scope="module")
def failed(house: House) -> dict[str, Any]:
    """A run that ended before it had a PSF."""
    job = calibrate(house, references="sim", preset="parity", config={"psf_detection": {"threshold_value": 1e9}})
    assert job["phase"] == "ERROR"
    return job


def get(house: House, job: dict[str, Any], path: str, **params: Any) -> Any:
    answer = house.client.get(f"/v1/jobs/{job['id']}/{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer


def table(house: House, job: dict[str, Any], product: str) -> Table:
    columns = pq.read_table(BytesIO(get(house, job, f"catalogs/{product}", format="parquet").content))
    return Table({name: columns[name].to_numpy() for name in columns.column_names})


# -- PSF


def test_the_psf_at_the_centre_is_that_of_the_summary(house: House, job: dict[str, Any]) -> None:
    summary = get(house, job, "summary").json()
    psf = get(house, job, "psf").json()
    center = [ORIGIN[0] + (SHAPE[1] - 1) / 2, ORIGIN[1] + (SHAPE[0] - 1) / 2]
    assert [psf["x"], psf["y"]] == center
    shape = psf["shape"]
    assert shape["sigma"] == pytest.approx(summary["psfSigma"], rel=1e-5)
    assert shape["area"] == pytest.approx(summary["psfArea"], rel=1e-5)
    for name in ("ixx", "iyy", "ixy"):
        assert shape[name] == pytest.approx(summary["psfI" + name[1:]], abs=1e-5)
    assert shape["fwhm_arcsec"] == pytest.approx(4.0 * scenes.SCALE, rel=0.05)
    assert 0.97 < shape["aperture_flux"] < 1.01
    image = np.array(psf["image"])
    assert image.sum() == pytest.approx(1.0, abs=1e-5)
    assert np.unravel_index(image.argmax(), image.shape) == (image.shape[0] // 2, image.shape[1] // 2)


def test_a_stamp_lies_on_the_pixels_as_its_star_does(house: House, job: dict[str, Any], tmp_path: Path) -> None:
    """The stamp at the brightest star, by pixel and by sky, is the star in the stored image but for its flux."""
    stars = table(house, job, "stars")
    star = stars[np.argmax(stars["base_PsfFlux_flux"])]
    place = {"x": float(star["slot_Centroid_x"]), "y": float(star["slot_Centroid_y"])}
    content = get(house, job, "psf", format="fits", centered="false", **place).content
    stamp, header = fits.getdata(BytesIO(content)), fits.getheader(BytesIO(content))
    image = fits.getdata(BytesIO(get(house, job, "images/image").content), "IMAGE")
    y, x = -header["LTV2"] - ORIGIN[1], -header["LTV1"] - ORIGIN[0]
    part = image[y : y + stamp.shape[0], x : x + stamp.shape[1]]
    flux = star["base_PsfFlux_flux"] / star["base_PsfFlux_apCorr"]
    assert np.sum(part * stamp) / np.sum(stamp**2) == pytest.approx(flux, rel=1e-3)
    assert np.abs(part / flux - stamp).max() < 0.02 * stamp.max()
    sky = {"ra": float(np.degrees(star["coord_ra"])), "dec": float(np.degrees(star["coord_dec"]))}
    again = get(house, job, "psf", centered="false", **sky).json()
    assert (again["x"], again["y"]) == pytest.approx((place["x"], place["y"]), abs=1e-5)
    np.testing.assert_allclose(again["image"], stamp, atol=1e-5)
    picture = Image.open(BytesIO(get(house, job, "psf", format="png").content))
    assert picture.size == (287, 287)  # 7 px for each of 41
    assert picture.getpixel((143, 143)) > picture.getpixel((5, 5))


@pytest.mark.parametrize(
    "query", ["x=5", "x=100&y=100&ra=150&dec=2.2", "x=-100&y=100", "ra=10&dec=80", "x=nan&y=1", "aperture_radius=0"]
)
def test_a_place_that_is_none(house: House, job: dict[str, Any], query: str) -> None:
    answer = house.client.get(f"/v1/jobs/{job['id']}/psf?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "request.invalid")
    assert answer.json()["errors"][0]["parameter"]


def test_the_grid_measures_our_fluxes_in_photutils(house: House, job: dict[str, Any], tmp_path: Path) -> None:
    answer = get(house, job, "psf/grid", n=16)
    assert 'filename="psf-grid.fits"' in answer.headers["Content-Disposition"]
    path = tmp_path / "psf-grid.fits"
    path.write_bytes(answer.content)
    model = GriddedPSFModel.read(path, format="stdpsf")
    model.x_0.fixed = model.y_0.fixed = True
    with fits.open(BytesIO(get(house, job, "images/image").content)) as hdus:
        image, variance = hdus["IMAGE"].data.astype(float), hdus["VARIANCE"].data.astype(float)
    stars = table(house, job, "stars")
    stars = stars[~stars["sky_source"] & ~stars["base_PsfFlux_flag"] & (stars["parent"] == 0)]
    x, y = stars["slot_Centroid_x"] - ORIGIN[0], stars["slot_Centroid_y"] - ORIGIN[1]
    start = Table({"x_0": x, "y_0": y, "flux": np.full(len(stars), 1e4)})
    # The noise is the sky's, the same everywhere: weights are equal, as ours are.
    noise = np.full(image.shape, np.sqrt(np.median(variance)))
    fitted = PSFPhotometry(model, (41, 41))(image, error=noise, init_params=start)
    difference = fitted["flux_fit"] * stars["base_PsfFlux_apCorr"] - stars["base_PsfFlux_flux"]
    assert len(stars) == N_STARS
    assert np.abs(difference / stars["base_PsfFlux_fluxErr"]).max() < 1.0


# -- forced photometry


def post(house: House, job: dict[str, Any], body: Any, query: str = "") -> Any:
    return house.client.post(f"/v1/jobs/{job['id']}/photometry{query}", json=body)


def test_fluxes_of_the_jobs_own_stars(house: House) -> None:
    """At the stars' own centroids: PSF fluxes as in the catalogue, apertures within the rim of whole pixels.

    Without sky sources the stars have no neighbours, which the catalogue would hide behind noise.
    """
    job = calibrate(house, references="sim", config={"star_sky_sources": {"n_sources": 0}})
    stars = table(house, job, "stars")
    stars = stars[~stars["sky_source"] & ~stars["base_PsfFlux_flag"] & (stars["deblend_nChild"] == 0)]
    positions = [
        {"x": float(s["slot_Centroid_x"]), "y": float(s["slot_Centroid_y"]), "id": int(s["id"])} for s in stars
    ]
    answer = post(house, job, {"positions": positions}, "?radii=12,6")
    assert answer.status_code == 200, answer.text
    rows = {name: np.array([row[name] for row in answer.json()["items"]]) for name in answer.json()["items"][0]}
    assert rows["id"].tolist() == [str(i) for i in stars["id"]]
    for column in ("instFlux", "flux", "instFluxErr", "fluxErr", "mag", "magErr", "apCorr"):
        ours, theirs = rows[f"base_PsfFlux_{column}"], np.asarray(stars[f"base_PsfFlux_{column}"])
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, err_msg=column)
    np.testing.assert_allclose(
        rows["aperture_12_0_flux"],
        stars["base_CircularApertureFlux_12_0_flux"],
        rtol=0.01,
        atol=3 * np.median(stars["base_CircularApertureFlux_12_0_fluxErr"]) * 0.3,
    )
    np.testing.assert_allclose(rows["ra"], np.degrees(stars["coord_ra"]), atol=1e-8)
    units = {column["name"]: column["unit"] for column in answer.json()["columns"]}
    assert (units["base_PsfFlux_flux"], units["base_PsfFlux_instFlux"], units["ra"]) == ("nJy", "ct", "deg")


def test_magnitudes_are_true(house: House, job: dict[str, Any], truth: np.ndarray) -> None:
    positions = [{"x": float(x + ORIGIN[0]), "y": float(y + ORIGIN[1])} for x, y, _ in truth]
    items = post(house, job, {"positions": positions}, "?radii=").json()["items"]
    magnitudes = scenes.ZERO_POINT - 2.5 * np.log10(scenes.star_fluxes(truth, 4.0, 10.0))
    pull = (np.array([row["base_PsfFlux_mag"] for row in items]) - magnitudes) / np.hypot(
        [row["base_PsfFlux_magErr"] for row in items], 0.01
    )
    assert np.abs(pull).max() < 4.0
    assert abs(np.mean(pull)) < 0.6
    assert [row["id"] for row in items] == [str(i) for i in range(N_STARS)]


def _csv(positions: Table) -> bytes:
    lines = [",".join(positions.colnames), *(",".join(str(v) for v in row) for row in positions)]
    return "\n".join(lines).encode()


def _parquet(positions: Table) -> bytes:
    buffer = BytesIO()
    pq.write_table(pa.table({name: np.asarray(positions[name]) for name in positions.colnames}), buffer)
    return buffer.getvalue()


def _votable(positions: Table) -> bytes:
    buffer = BytesIO()
    positions.write(buffer, format="votable")
    return buffer.getvalue()


BODIES = {"text/csv": _csv, "application/x-votable+xml": _votable, "application/vnd.apache.parquet": _parquet}


@pytest.mark.parametrize(("media_type", "output"), list(zip(BODIES, ["fits", "parquet", "votable"], strict=True)))
def test_tables_in_and_out(house: House, job: dict[str, Any], media_type: str, output: str) -> None:
    positions = Table({"id": ["a", "b"], "ra": [150.0, 150.001], "dec": [2.2, 2.2005], "note": [1, 2]})
    positions["ra"].unit = positions["dec"].unit = "deg"
    answer = house.client.post(
        f"/v1/jobs/{job['id']}/photometry?radii=6&format={output}",
        content=BODIES[media_type](positions),
        headers={"Content-Type": media_type},
    )
    assert answer.status_code == 200, answer.text
    if output == "parquet":
        columns = pq.read_table(BytesIO(answer.content))
        found = Table({name: columns[name].to_numpy(zero_copy_only=False) for name in columns.column_names})
    else:
        found = Table.read(BytesIO(answer.content), format=output)
    listed = [{"ra": float(r["ra"]), "dec": float(r["dec"]), "id": str(r["id"])} for r in positions]
    expected = post(house, job, {"positions": listed}, "?radii=6").json()["items"]
    assert [str(i) for i in found["id"]] == ["a", "b"]
    for name in ("x", "base_PsfFlux_flux", "aperture_6_0_fluxErr"):
        np.testing.assert_allclose(np.asarray(found[name], float), [row[name] for row in expected], rtol=1e-12)


@pytest.mark.parametrize(
    ("body", "query", "status"),
    [
        ({"positions": []}, "", 422),
        ({"positions": [{"x": 1, "y": 2}, {"ra": 1, "dec": 2}]}, "", 422),
        ({"positions": [{"x": 1}]}, "", 422),
        ({"positions": [{"x": 1, "y": 1e9}]}, "", 422),
        ({"positions": [{"x": 1.0, "y": 2.0}] * 10_001}, "", 422),
        ({"positions": [{"x": 100, "y": 100}]}, "?radii=6,6.0", 422),
        ({"positions": [{"x": 100, "y": 100}]}, "?radii=0.1", 422),
        ({"positions": [{"x": 100, "y": 100}]}, "?radii=a", 422),
        ({"positions": [{"x": 100, "y": 100}]}, "?annulus=30,20", 422),
        ({"positions": [{"x": 100, "y": 100}]}, "?annulus=nan,20", 422),
    ],
)
def test_what_cannot_be_measured(house: House, job: dict[str, Any], body: Any, query: str, status: int) -> None:
    answer = post(house, job, body, query)
    assert (answer.status_code, answer.json()["code"]) == (status, "request.invalid")
    assert answer.json()["errors"]


FAULTS: list[tuple[Any, str, str]] = [
    (
        [{"x": 1, "y": 2}, {"ra": 1, "dec": 2}],
        "/positions",
        "must all be in pixels (x, y), or all on the sky (ra, dec)",
    ),
    ([{"x": 1, "y": 2, "ra": 1}], "/positions", "must all be in pixels (x, y), or all on the sky (ra, dec)"),
    ([{"x": 1, "y": 2}, {"x": 1}], "/positions/1/y", "Field required"),
    ([{"ra": 400, "dec": 2}], "/positions/0/ra", "Input should be less than or equal to 360"),
    ([{"ra": 4, "dec": 2, "flux": 1}], "/positions/0/flux", "Extra inputs are not permitted"),
    ([{"ra": 4, "dec": 2, "id": [1]}], "/positions/0/id", "must be a text or a whole number"),
    ([7], "/positions/0", "Input should be a valid dictionary or instance of PixelPosition"),
    ("here", "/positions", "Input should be a valid list"),
    ([], "/positions", "List should have at least 1 item after validation, not 0"),
]


@pytest.mark.parametrize(("positions", "pointer", "sentence"), FAULTS)
def test_a_fault_is_told_once(house: House, job: dict[str, Any], positions: Any, pointer: str, sentence: str) -> None:
    [error] = post(house, job, {"positions": positions}).json()["errors"]
    assert (error["pointer"], error["detail"]) == (pointer, sentence)


def test_a_place_on_the_sky_of_an_image_without_a_solution(house: House, unplaced: dict[str, Any]) -> None:
    place = {"ra": 150.0, "dec": 2.2}
    sent = [
        post(house, unplaced, {"positions": [place]}),
        house.client.get(f"/v1/jobs/{unplaced['id']}/images/image/cutout", params={**place, "size": 10}),
        house.client.get(f"/v1/jobs/{unplaced['id']}/psf", params=place),
    ]
    for answer in sent:
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (422, "image.no_wcs")
        assert problem["detail"] == "The image has no astrometric solution: give x and y in pixels."


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"a,b\n1,2\n", "text/csv", 422),
        (b"x,y\n1,two\n", "text/csv", 422),
        (b"x,y\n1,\n", "text/csv", 422),
        (b"ra,dec\n400,2\n", "text/csv", 422),
        (b"\x00\xff", "text/csv", 422),
        (b"<VOTABLE>", "application/x-votable+xml", 422),
        (b"PAR1", "application/vnd.apache.parquet", 422),
        (b"x", "text/plain", 415),
    ],
)
def test_tables_that_are_none(house: House, job: dict[str, Any], content: bytes, kind: str, status: int) -> None:
    answer = house.client.post(f"/v1/jobs/{job['id']}/photometry", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text


def test_a_run_without_a_psf_says_so(house: House, failed: dict[str, Any]) -> None:
    for path in ("psf", "psf/grid"):
        answer = house.client.get(f"/v1/jobs/{failed['id']}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "product.not_made")
    measured = post(house, failed, {"positions": [{"x": 100.0, "y": 200.0}]}, "?radii=6").json()["items"][0]
    assert measured["base_PsfFlux_flag"]
    assert measured["base_PsfFlux_instFlux"] is None
    assert measured["aperture_6_0_instFlux"] is not None
    assert measured["aperture_6_0_flux"] is None
    waiting = house.submit()["id"]
    for method, path in (("GET", "psf"), ("POST", "photometry")):
        body = {"json": {"positions": [{"x": 1, "y": 1}]}} if method == "POST" else {}
        answer = house.client.request(method, f"/v1/jobs/{waiting}/{path}", **body)
        assert (answer.status_code, answer.json()["code"]) == (409, "job.not_ready")


# -- rows


@pytest.mark.parametrize("region", [{"cone": "150,2.2,1"}, {"polygon": "149,1,151,1,151,3,149,3"}])
def test_regions_of_a_catalogue_without_positions(
    house: House, job: dict[str, Any], unplaced: dict[str, Any], region: dict[str, str]
) -> None:
    """No rows would say that no star is there."""
    assert get(house, job, "catalogs/stars", **region).json()["total"] > N_STARS
    for file_format in ("json", "csv"):
        path = f"/v1/jobs/{unplaced['id']}/catalogs/stars"
        answer = house.client.get(path, params={"format": file_format, **region})
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (422, "image.no_wcs")
        assert "no astrometric solution" in problem["detail"]
        assert problem["errors"][0]["parameter"] == next(iter(region))


# -- diagnostics

NAMES = [
    "background",
    "psf_residuals",
    "ellipticity_whiskers",
    "aperture_correction_map",
    "astrometric_residuals",
    "zero_point",
    "completeness",
]


def test_every_diagnostic_as_numbers_and_pictures(house: House, job: dict[str, Any]) -> None:
    items = get(house, job, "diagnostics").json()["items"]
    assert [item["name"] for item in items] == NAMES
    for item in items:
        assert item["available"], item["reason"]
        assert all(number["value"] is not None for number in item["numbers"].values()), item["numbers"]
        whole = house.client.get(item["links"]["self"]).json()
        assert {name: whole[name] for name in item} == item
        for columns in whole["tables"].values():
            assert len({len(series["values"]) for series in columns.values()}) == 1
        svg = house.client.get(item["links"]["svg"])
        assert svg.headers["content-type"] == "image/svg+xml"
        root = ET.fromstring(svg.content)
        texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
        assert item["title"] in texts
        assert any("[" in str(text) for text in texts)  # a unit
        assert "prefers-color-scheme: dark" in svg.text
        picture = Image.open(BytesIO(house.client.get(item["links"]["png"]).content))
        assert picture.size == (2 * int(root.attrib["width"]), 2 * int(root.attrib["height"]))
        assert len(picture.getcolors(1 << 24)) > 20
        again = house.client.get(item["links"]["svg"], headers={"If-None-Match": svg.headers["ETag"]})
        assert again.status_code == 304


def numbers_of(house: House, job: dict[str, Any], name: str) -> dict[str, float]:
    numbers = get(house, job, f"diagnostics/{name}").json()["numbers"]
    return {key: number["value"] for key, number in numbers.items()}


def test_diagnostics_agree_with_the_summary(house: House, job: dict[str, Any]) -> None:
    """The statistics that the calibration worked out itself, from its own arrays."""
    summary, metadata = get(house, job, "summary").json(), get(house, job, "metadata").json()
    psf = numbers_of(house, job, "psf_residuals")
    assert N_STARS // 2 < psf["n_stars"] <= summary["nPsfStar"]
    for ours, theirs in (("size", "Size"), ("e1", "E1"), ("e2", "E2")):
        assert psf[f"delta_{ours}_median"] == pytest.approx(summary[f"psfStarDelta{theirs}Median"], abs=1e-7)
        assert psf[f"delta_{ours}_scatter"] == pytest.approx(summary[f"psfStarDelta{theirs}Scatter"], abs=1e-7)
    astrometry = numbers_of(house, job, "astrometric_residuals")
    assert astrometry["distance_median"] == pytest.approx(1000 * metadata["astrom_offset_median"], rel=0.01)
    assert astrometry["n_matches"] == metadata["astrometry_matches_count"]
    zero_point = numbers_of(house, job, "zero_point")
    assert zero_point["zero_point"] == metadata["zero_point"]
    assert zero_point["difference_median"] == pytest.approx(scenes.ZERO_POINT, abs=0.01)
    assert zero_point["n_matches"] == metadata["photometry_matches_count"]
    scale = 10 ** (0.4 * (31.4 - summary["zeroPoint"]))
    background = numbers_of(house, job, "background")
    assert background["mean"] == pytest.approx(500 * scale, rel=1e-3)
    assert background["min"] <= background["mean"] <= background["max"]
    found = numbers_of(house, job, "completeness")
    # What PSF fluxes scatter by at empty places is the noise of the pixels over the area of the PSF.
    assert found["flux_noise"] == pytest.approx(10 * np.sqrt(summary["psfArea"]), rel=0.3)
    assert found["flux_noise"] != pytest.approx(summary["skyNoise"] * np.sqrt(summary["psfArea"]), rel=1e-6)
    assert found["n_stars"] == N_STARS
    assert found["magnitude_90"] < found["magnitude_50"] < found["magnitude_limit_5_sigma"]


def test_a_map_of_aperture_corrections_is_that_of_the_catalogue(house: House, job: dict[str, Any]) -> None:
    grid = get(house, job, "diagnostics/aperture_correction_map").json()["tables"]["grid"]
    stars = table(house, job, "stars")
    for star in stars[~stars["sky_source"]]:
        nearest = np.argmin(
            np.hypot(
                np.array(grid["x"]["values"]) - star["slot_Centroid_x"],
                np.array(grid["y"]["values"]) - star["slot_Centroid_y"],
            )
        )
        value = grid["base_PsfFlux"]["values"][nearest]
        assert value == pytest.approx(star["base_PsfFlux_apCorr"], abs=2e-3)


def test_a_background_map_is_the_background(house: House, job: dict[str, Any]) -> None:
    """Means of tiles of the plane that was subtracted."""
    tiles = get(house, job, "diagnostics/background").json()["tables"]["tiles"]
    path = house.directory / "background.fits"
    path.write_bytes(get(house, job, "products/background").content)
    plane = formats.read_background(path).image()
    x, y, values = (np.array(tiles[name]["values"]) for name in ("x", "y", "background"))
    drawn = plane[(y - ORIGIN[1]).round().astype(int), (x - ORIGIN[0]).round().astype(int)]
    np.testing.assert_allclose(values, drawn, rtol=2e-3)


def test_the_unit_of_the_background_is_that_of_the_image(
    house: House, job: dict[str, Any], failed: dict[str, Any]
) -> None:
    for run, expected in ((job, "nJy"), (failed, "electron")):
        numbers = get(house, run, "diagnostics/background").json()["numbers"]
        assert {numbers[name]["unit"] for name in ("mean", "min", "max")} == {expected}
        assert get(house, run, "images/image/frame").json()["unit"] == expected
        header = fits.getheader(BytesIO(get(house, run, "images/image").content), "IMAGE")
        assert header["BUNIT"] == expected


def test_counts_are_integers(house: House, job: dict[str, Any]) -> None:
    counts = {}
    for item in get(house, job, "diagnostics").json()["items"]:
        counts |= {key: number["value"] for key, number in item["numbers"].items() if re.search(r"(^|_)n_", key)}
    assert set(counts) == {"n_components", "n_stars", "n_matches", "zero_point_n_stars"}
    assert {type(value) for value in counts.values()} == {int}


def test_a_failed_run_says_what_it_did_not_make(house: House, failed: dict[str, Any]) -> None:
    items = get(house, failed, "diagnostics").json()["items"]
    reasons = {item["name"]: item["reason"] for item in items}
    assert reasons == {
        "background": None,
        "psf_residuals": "The run ended without a star catalogue.",
        "ellipticity_whiskers": "The run ended without a PSF.",
        "aperture_correction_map": "The run ended without aperture corrections.",
        "astrometric_residuals": "The run ended without astrometric matches.",
        "zero_point": "The run ended without photometric matches.",
        "completeness": "The run ended without a star catalogue.",
    }
    for item in items:
        assert item["available"] == (item["reason"] is None)
        assert get(house, failed, f"diagnostics/{item['name']}").json()["numbers"] == item["numbers"]
        svg = get(house, failed, f"diagnostics/{item['name']}.svg").text
        assert (item["reason"] or "Background") in svg
        assert get(house, failed, f"diagnostics/{item['name']}.png").content


def test_diagnostics_of_what_is_none(house: House, job: dict[str, Any]) -> None:
    for suffix in ("", ".svg", ".png"):
        answer = house.client.get(f"/v1/jobs/{job['id']}/diagnostics/nothing{suffix}")
        assert (answer.status_code, answer.json()["code"]) == (404, "diagnostic.unknown")
    waiting = house.submit()["id"]
    answer = house.client.get(f"/v1/jobs/{waiting}/diagnostics")
    assert (answer.status_code, answer.json()["code"]) == (409, "job.not_ready")


def test_the_api_does_without_a_plotting_library() -> None:
    """Neither at its start nor later: figures are our own."""
    code = "import sys, api.app; print([name for name in ('matplotlib', 'photutils') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
