"""POST /v1/inspect and the presets of instruments, over HTTP."""

from __future__ import annotations

import bz2
import gzip
import importlib
import inspect as inspect_source
import json
import re
from io import BytesIO
from typing import Any

import astropy.units
import numpy as np
import pytest
from astropy.io import fits

from api.problem_types import PROBLEM_TYPES
from service.formats import reader
from service.formats.metadata import VALUE_UNITS
from service.formats.reader import ADAPTERS
from service.jobs.prospects import LACKS
from tests.api.conftest import House, fits_bytes, open_house
from tests.fits_layouts import SHAPE, lsst, tan_cards

PRESET = """\
name: roof
description: The camera on our roof.
match: [{INSTRUME: Roof*}]
metadata: {gain: 1.5, read_noise: 7, pixel_scale: 0.6}
filters: {Sloan R: {band: r}}
fiducials: {zero_point: {r: 22.5}}
"""


def inspect(house: House, data: bytes, **query: Any) -> dict[str, Any]:
    answer = house.client.post("/v1/inspect", content=data, params=query)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def headers_alone(data: bytes) -> bytes:
    """The headers of a file, by astropy."""
    with fits.open(BytesIO(data)) as hdus:
        places = [hdu.fileinfo() for hdu in hdus]
    return b"".join(data[place["hdrLoc"] : place["datLoc"]] for place in places)


def on_the_sky(**cards: Any) -> bytes:
    header = tan_cards()
    header.update({"EXPTIME": 30.0, "FILTER": "r", "INSTRUME": "DECam", **cards})
    stream = BytesIO()
    fits.PrimaryHDU(np.full((300, 400), 7, np.float32), header).writeto(stream)
    return stream.getvalue()


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    directory = tmp_path_factory.mktemp("house")
    (directory / "presets").mkdir()
    (directory / "presets" / "roof.yaml").write_text(PRESET)
    with open_house(directory, instruments_dir=directory / "presets") as house:
        yield house


def with_references(house: House) -> None:
    rows = "id,ra,dec,r_mag\n1,10.0,20.0,17.0\n2,10.01,20.01,18.0\n"
    answer = house.client.put("/v1/refcats/ours", content=rows.encode(), params={"format": "csv"})
    assert answer.status_code in (200, 201), answer.text


# -- what is answered


def test_the_beginning_of_a_file_tells_what_would_be_read(house):
    data = on_the_sky(FILTER="r DECam SDSS c0002 6415.0 1480.0", GAINA=4.0, GAINB=5.0)
    found = inspect(house, data[: 2880 * 2])
    assert found["problem"] is None
    assert (found["instrument"]["name"], found["instrument"]["chosen_by"]) == ("decam", "header INSTRUME")
    assert found["shape"] == [300, 400]
    assert not found["complete"]
    assert found["metadata"]["gain"]["value"] == 4.5
    assert found["metadata"]["latitude"] == {
        "value": -30.1661,
        "unit": "deg",
        "origin": "instrument preset decam",
    }
    assert found["metadata"]["exposure_time"] == {"value": 30.0, "unit": "s", "origin": "header EXPTIME"}
    assert {lack["name"] for lack in found["missing"]} >= {"variance", "mjd"}
    assert all(lack["remedy"] and lack["consequence"] for lack in found["missing"])
    assert found["expected"]["memory_bytes"] == 300 * 400 * 40
    assert found["expected"]["seconds"] is None
    assert any("behind the bytes" in warning for warning in found["warnings"])
    assert inspect(house, data)["complete"]
    assert inspect(house, data[:5760], size=len(data))["complete"]


@pytest.mark.parametrize("compressed", [False, True])
def test_headers_alone_tell_all_of_a_file_of_many_parts(house, tmp_path, compressed):
    path = lsst(tmp_path / "a.fits", np.ones(SHAPE, "f4"), compressed=compressed)
    data = path.read_bytes()
    found = inspect(house, headers_alone(data), headers_only=True, size=len(data))
    whole = inspect(house, data)
    assert found == whole
    assert [hdu["name"] for hdu in found["hdus"]] == ["", "IMAGE", "MASK", "VARIANCE"]
    assert (found["complete"], found["format"]) == (True, "lsst_masked_image")
    assert "variance" not in {lack["name"] for lack in found["missing"]}
    short = inspect(house, headers_alone(data), headers_only=True, size=len(data) - 2880 * 3)
    assert short["problem"]["code"] == "format.truncated"


def test_compressed_beginnings_are_unpacked(house):
    data = on_the_sky()
    packed = gzip.compress(data)
    found = inspect(house, packed[: len(packed) // 2])
    assert (found["shape"], found["complete"]) == ([300, 400], False)
    assert inspect(house, packed, size=len(packed))["complete"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x89PNG" * 2000, "format.not_fits"),
        (b"SIMPLE  =", "format.incomplete"),
        (fits_bytes()[:2879], "format.incomplete"),
        (fits_bytes(BAYERPAT="RGGB"), "format.bayer"),
        (gzip.compress(b"nothing" * 1000), "format.not_fits"),
        (bz2.compress(fits_bytes())[:60], "format.incomplete"),
    ],
    ids=["png", "nine-bytes", "header-cut", "bayer", "gzip-of-something", "bzip2-cut"],
)
def test_what_no_job_could_use_has_a_problem_and_no_prospects(house, data, code):
    found = inspect(house, data)
    assert found["problem"]["code"] == code
    assert not any(prospect["possible"] for prospect in found["can"].values())
    assert found["can"]["image"]["reason"] == found["problem"]["message"]


def test_every_value_that_has_a_unit_names_it(house):
    values = inspect(house, on_the_sky(RDNOISE=5.0, MJD_OBS=60000.0, GAIN=2.0, INSTRUME="ZTF/MOSAIC", MAGZP=26.3))[
        "metadata"
    ]
    units = {name: value["unit"] for name, value in values.items()}
    assert units["gain"] == "electron/count"
    assert (units["read_noise"], units["latitude"]) == ("electron", "deg")
    numbers = {name for name, value in values.items() if isinstance(value["value"], float)}
    assert {name for name in numbers if units[name] is None} <= {"airmass"}
    assert units["band"] is units["instrument"] is None
    for unit in set(units.values()) - {None}:
        astropy.units.Unit(unit)  # as astropy reads it
    stated = {name for adapter in ADAPTERS for name in adapter.rules if name.startswith("stated_")}
    assert stated <= set(VALUE_UNITS)


@pytest.mark.parametrize("cards", [{"BAYERPAT": "RGGB"}, {"BAYERPAT": "GBRG", "SWCREATE": "SharpCap"}])
def test_a_colour_filter_array_is_called_that(house, cards):
    data = fits_bytes(**cards)
    found = inspect(house, data)
    assert (found["format"], found["problem"]["code"]) == ("bayer", "format.bayer")
    exposure = house.client.get(f"/v1/exposures/{house.upload(data)}").json()
    assert exposure["format"] == "bayer"


def test_an_image_behind_what_was_sent_is_not_called_missing(house, tmp_path):
    data = lsst(tmp_path / "a.fits", np.ones(SHAPE, "f4")).read_bytes()
    primary = len(headers_alone(data).split(b"XTENSION")[0])
    found = inspect(house, data[: primary + 100])
    assert found["problem"]["code"] == "format.incomplete"
    assert "headers alone" in found["problem"]["message"]


def test_a_catalogue_of_another_part_of_the_sky_promises_nothing(house):
    with_references(house)
    found = inspect(house, on_the_sky(FILTER="r"), references="ours", metadata=json.dumps({"ra": 200.0, "dec": -40.0}))
    assert found["can"]["astrometry"] == {
        "possible": False,
        "reason": "ours has no stars around RA 200.000, Dec -40.000",
        "remedy": "another catalogue, or metadata ra, dec (deg)",
    }
    assert not found["can"]["photometry"]["possible"]


def test_prospects_follow_references_and_band(house):
    with_references(house)
    data = on_the_sky()
    can = inspect(house, data)["can"]
    assert can["image"]["possible"]
    assert can["astrometry"] == can["astrometry"] | {"possible": False, "reason": "no reference catalogue is named"}
    assert all(prospect["possible"] for prospect in inspect(house, data, references="ours")["can"].values())
    can = inspect(house, data, astrometry="ours", photometry="gone")["can"]
    assert can["astrometry"]["possible"]
    assert can["photometry"]["reason"] == "there is no reference catalogue gone"
    can = inspect(house, data, references="ours", metadata=json.dumps({"band": "u"}))["can"]
    assert can["photometry"]["reason"] == "the catalogue has no passband u for the band u; it has r"
    # The preset of DECam takes r for VR.
    assert inspect(house, on_the_sky(FILTER="VR DECam c0007"), references="ours")["can"]["photometry"]["possible"]
    assert "ra, dec" in inspect(house, fits_bytes(), references="ours")["can"]["astrometry"]["remedy"]


def test_the_forecast_is_that_of_the_queue(tmp_path):
    with open_house(tmp_path) as house:
        costs = house.services.storage.costs
        with house.services.storage.database.write() as transaction:
            costs.learn(transaction, "classic/generic/-3", {"psf.measure": 2.4}, 0.12)
        assert inspect(house, on_the_sky())["expected"]["seconds"] == pytest.approx(2.4)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"instrument": "nope"}, 422, "request.invalid"),
        ({"preset": "nope"}, 422, "request.invalid"),
        ({"metadata": "[1]"}, 422, "request.invalid"),
        ({"metadata": "{"}, 422, "request.invalid"),
        ({"metadata": '{"gian": 1}'}, 422, "request.invalid"),
        ({"wrong": "1"}, 422, "request.invalid"),
    ],
)
def test_questions_that_cannot_be_are_refused(house, query, status, code):
    answer = house.client.post("/v1/inspect", content=on_the_sky(), params=query)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_bodies_have_a_limit_and_are_not_empty(house):
    assert house.client.post("/v1/inspect", content=b"").json()["code"] == "upload.empty"
    answer = house.client.post("/v1/inspect", content=bytes((4 << 20) + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "request.too_large")


# -- a job says the same


def test_a_job_on_a_file_that_cannot_work_has_the_words_of_the_inspection(house):
    data = fits_bytes(BAYERPAT="RGGB")
    said = inspect(house, data)["problem"]
    exposure = house.upload(data)
    answer = house.client.post("/v1/jobs", json={"exposures": [exposure]})
    problem = answer.json()
    assert answer.status_code == 422
    assert (problem["code"], problem["detail"]) == (said["code"], said["message"])
    assert problem["exposure_id"] == exposure
    batch = house.client.post("/v1/batches", json={"exposures": [house.upload(), exposure], "parameters": {}})
    assert batch.status_code == 422
    assert said["message"] in batch.text
    # Where the job chooses the image, the headers seen do not decide.
    assert house.client.post("/v1/jobs", json={"exposures": [exposure], "metadata": {"hdu": "0"}}).status_code == 202


def test_jobs_too_large_are_refused_in_the_same_words(tmp_path):
    with open_house(tmp_path, max_job_pixels=1000) as house:
        data = fits_bytes()
        said = inspect(house, data)["problem"]
        problem = house.client.post("/v1/jobs", json={"exposures": [house.upload(data)]}).json()
        assert (problem["code"], problem["detail"]) == (said["code"], said["message"])


def test_the_worker_says_what_it_used_and_where_it_came_from(house):
    data = fits_bytes(INSTRUME="Roof 2", FILTER="Sloan R", RDNOISE=5.0)
    document = house.calibrate(data, metadata={"visit": 7})
    assert document["instrument"]["name"] == "roof"
    assert document["instrument"]["chosen_by"] == "header INSTRUME"
    provenance = house.client.get(f"/v1/jobs/{document['id']}/provenance").json()
    used = house.client.get(f"/v1/jobs/{document['id']}/metadata").json()["inputs"][0]["metadata"]
    assert used == provenance["inputs"][0]["metadata"]
    assert used["gain"] == {"value": 1.5, "origin": "instrument preset roof"}
    assert used["read_noise"] == {"value": 5.0, "origin": "header RDNOISE"}
    assert used["visit"] == {"value": 7, "origin": "job parameter"}
    assert used["band"] == {"value": "r", "origin": "instrument preset roof, filter Sloan R"}
    assert provenance["instrument"] == document["instrument"]
    config = house.client.get(f"/v1/jobs/{document['id']}/config").json()
    assert config["compute_summary_stats"]["fiducials"]["zero_point"]["r"] == 22.5


def test_a_job_may_name_its_instrument_and_a_rerun_another(house):
    job = house.submit(instrument="ztf")
    assert (job["instrument"]["name"], job["instrument"]["chosen_by"]) == ("ztf", "job parameter")
    again = house.client.post(f"/v1/jobs/{job['id']}/rerun", json={"force": True}).json()
    assert again["instrument"] == job["instrument"]
    other = house.client.post(f"/v1/jobs/{job['id']}/rerun", json={"instrument": "roof", "force": True}).json()
    assert other["instrument"]["name"] == "roof"
    chosen = house.client.post(f"/v1/jobs/{house.submit()['id']}/rerun", json={"force": True}).json()
    assert chosen["instrument"]["chosen_by"] == "no other preset fits the header"
    refused = house.client.post("/v1/jobs", json={"exposures": [house.upload()], "instrument": "nope"})
    assert refused.json()["errors"][0]["pointer"] == "/instrument"


def test_another_preset_is_another_job(house):
    def submit(**parameters: Any) -> Any:
        return house.client.post("/v1/jobs", json={"exposures": [house.upload()], **parameters})

    house.finish(house.claim(submit().json()["id"]))
    assert "Identical-Job" in submit().headers
    assert "Identical-Job" not in submit(instrument="ztf").headers


# -- the presets


def test_presets_are_listed_and_shown(house):
    items = {item["name"]: item for item in house.client.get("/v1/instruments").json()["items"]}
    assert {"generic", "lsstcam", "decam", "roof"} <= set(items)
    assert (items["roof"]["own"], items["decam"]["own"]) == (True, False)
    shown = house.client.get(items["roof"]["links"]["self"]).json()
    assert shown["preset"]["metadata"] == {"gain": 1.5, "read_noise": 7.0, "pixel_scale": 0.6}
    assert shown["config"]["compute_summary_stats"]["fiducials"]["zero_point"] == {"r": 22.5}
    assert shown["sha256"] == items["roof"]["sha256"]
    answer = house.client.get("/v1/instruments/nope")
    assert (answer.status_code, answer.json()["code"]) == (404, "instrument.not_found")


def test_every_refusal_of_headers_is_a_listed_problem():
    """What inspection can find must not change its code on the way to a client."""
    modules = {type(adapter).__module__ for adapter in ADAPTERS}
    modules |= {
        f"service.formats.{name}" for name in ("adapter", "container", "headers", "metadata", "planes", "reader")
    }
    source = "".join(inspect_source.getsource(importlib.import_module(name)) for name in sorted(modules))
    raised = set(re.findall(r'FormatError\(\s*"(format\.[a-z_]+)"', source))
    of_pixels = {"format.no_pixels", "format.no_variance", "format.unknown_companion"}  # found by jobs alone
    assert "format.bayer" in raised
    assert raised - set(PROBLEM_TYPES) <= of_pixels


def test_everything_that_may_be_missing_has_a_remedy():
    assert {*reader._USEFUL, "wcs", "variance"} <= set(LACKS)
