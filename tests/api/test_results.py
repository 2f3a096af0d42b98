"""What is served of a finished job."""

from __future__ import annotations

import csv
import hashlib
from datetime import UTC, datetime
from io import BytesIO, StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable import parse_single_table
from astropy.table import Table
from PIL import Image

from service.jobs import states
from service.jobs.outcome import JobError
from service.storage.records import LogLine
from tests.api.conftest import House, open_house

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture(scope="module")
def job(house: House) -> str:
    return f"/v1/jobs/{house.completed()}"


def scratch_files(house: House) -> list[Path]:
    return [path for path in house.settings.scratch_dir.rglob("*") if path.is_file()]


def test_summary_has_null_for_what_was_not_computed(house: House, job: str) -> None:
    summary = house.client.get(f"{job}/summary").json()
    assert summary["psfSigma"] == pytest.approx(1.9)
    assert summary["zeroPoint"] is None
    assert summary["raCorners"][3] is None
    assert summary["nPsfStar"] == 41
    assert list(summary) == [item["name"] for item in house.client.get("/v1/schema/summary").json()["items"]]


LONG = {"stars": "single_visit_star_unstandardized", "image": "preliminary_visit_image"}


@pytest.mark.parametrize("how", ["short", "long"])
def test_messages_name_what_was_asked_for(house: House, how: str) -> None:
    names = {short: short if how == "short" else long for short, long in LONG.items()}
    waiting = house.submit()["id"]
    for path, short in (
        (f"/v1/jobs/{waiting}/catalogs/{names['stars']}", "stars"),
        (f"/v1/jobs/{waiting}/products/{names['stars']}", "stars"),
        (f"/v1/jobs/{waiting}/images/{names['image']}", "image"),
        (f"/v1/jobs/{waiting}/images/{names['stars']}.png", "stars"),
        (f"/v1/jobs/{waiting}/catalogs/{names['image']}", "image"),
        (f"/v1/schema/catalogs/{names['image']}", "image"),
    ):
        problem = house.client.get(path).json()
        assert names[short] in problem["detail"].split()
        assert problem["product"] == LONG[short]


def test_documents(house: House, job: str) -> None:
    assert house.client.get(f"{job}/metadata").json() == {"cosmic_ray_count": 12}
    assert house.client.get(f"{job}/provenance").json() == {"code": "0.1.0"}
    assert house.client.get(f"{job}/config").json()["psf_detection"]["threshold_value"] == 10.0


def test_overrides_are_in_the_configuration_as_run(house: House) -> None:
    job = house.submit(config={"psf_detection": {"threshold_value": 7.0}})
    config = house.client.get(f"/v1/jobs/{job['id']}/config").json()
    assert config["psf_detection"]["threshold_value"] == 7.0
    assert config["psf_detection"]["include_threshold_multiplier"] == 5.0


def test_log_as_text_and_json(house: House) -> None:
    job = house.submit()
    house.report(house.claim(job["id"]), "psf.measure", 0.4)
    url = f"/v1/jobs/{job['id']}/log"
    text = house.client.get(url)
    assert text.headers["content-type"].startswith("text/plain")
    assert text.text.endswith("Z INFO    service.jobs: begin psf.measure\n")
    for answer in (
        house.client.get(f"{url}?format=json"),
        house.client.get(url, headers={"Accept": "application/json"}),
    ):
        assert answer.json()["items"][0]["message"] == "begin psf.measure"


def test_lines_of_the_log_have_their_own_time(house: House) -> None:
    fence = house.claim(house.submit()["id"])
    moments = [datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC) for second in (1, 2)]
    lines = tuple(LogLine(moment, "INFO", "visitcal", "a stage has ended") for moment in moments)
    assert states.beat(house.services.storage, fence, 60.0, states.Report("psf.measure", 0.4, log=lines)) is not None
    items = house.client.get(f"/v1/jobs/{fence.job_id}/log?format=json").json()["items"]
    assert [datetime.fromisoformat(item["at"]) for item in items] == moments


@pytest.mark.parametrize(
    "part", ["summary", "metadata", "provenance", "catalogs/stars", "images/image", "images/image.png"]
)
def test_absence_has_a_reason(house: House, part: str) -> None:
    waiting = house.submit()["id"]
    early = house.client.get(f"/v1/jobs/{waiting}/{part}")
    assert (early.status_code, early.json()["code"]) == (409, "job.not_ready")
    house.client.post(f"/v1/jobs/{waiting}/abort")
    never = house.client.get(f"/v1/jobs/{waiting}/{part}")
    assert (never.status_code, never.json()["code"]) == (404, "product.not_made")


def test_failed_job_serves_what_it_has(house: House) -> None:
    job_id = house.submit()["id"]
    house.finish(house.claim(job_id), JobError("psf.no_sources", "ObjectSizeNoSourcesError", "None", "psf.measure"))
    assert house.client.get(f"/v1/jobs/{job_id}/summary").json()["psfSigma"] == pytest.approx(1.9)
    assert house.client.get(f"/v1/jobs/{job_id}/images/image").status_code == 200


# -- catalogues


def rows(house: House, url: str, **params: Any) -> list[dict[str, Any]]:
    answer = house.client.get(url, params=params)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def test_rows_in_pages(house: House, job: str) -> None:
    truth = house.stars()
    collected, url = [], f"{job}/catalogs/stars?limit=10&columns=id,base_PsfFlux_instFlux,base_PsfFlux_flag"
    while url:
        answer = house.client.get(url)
        page = answer.json()
        assert page["total"] == 25
        assert len(page["items"]) <= 10
        collected += page["items"]
        link = answer.headers.get("Link")
        assert (link is None) == (page["next"] is None)
        url = link[1:].split(">")[0] if link else ""
    assert [row["id"] for row in collected] == truth["id"].tolist()
    assert [row["base_PsfFlux_flag"] for row in collected] == truth["base_PsfFlux_flag"].tolist()
    assert collected[7]["base_PsfFlux_instFlux"] is None
    assert collected[8]["base_PsfFlux_instFlux"] == 80.0
    columns = page["columns"]
    assert [column["name"] for column in columns] == ["id", "base_PsfFlux_instFlux", "base_PsfFlux_flag"]
    assert columns[1]["unit"] == "ct"
    assert columns[1]["dtype"] == "f8"


def test_all_columns_come_by_default(house: House, job: str) -> None:
    (row,) = rows(house, f"{job}/catalogs/single_visit_star_unstandardized", limit=1)
    declared = [item["name"] for item in house.client.get("/v1/schema/catalogs/stars").json()["items"]]
    assert list(row) == declared
    assert len(declared) == 159


def test_conditions_and_order(house: House, job: str) -> None:
    found = rows(
        house,
        f"{job}/catalogs/stars",
        where="base_PsfFlux_flag=false,slot_PsfFlux_instFlux>150",
        order="-base_PsfFlux_instFlux",
        columns="id",
    )
    assert found == [{"id": 1000 + i} for i in (24, 22, 20, 18, 16)]
    first = house.client.get(f"{job}/catalogs/stars", params={"where": "id>=1000", "limit": 20}).json()
    rest = house.client.get(
        f"{job}/catalogs/stars", params={"where": "id>=1000", "limit": 20, "after": first["next"]}
    ).json()
    assert [row["id"] for row in first["items"] + rest["items"]] == list(range(1000, 1025))


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"columns": "nope"}, "catalog.unknown_column"),
        ({"where": "nope=1"}, "catalog.unknown_column"),
        ({"where": "id"}, "catalog.invalid_query"),
        ({"order": "nope"}, "catalog.unknown_column"),
        ({"after": "rubbish"}, "page.invalid_cursor"),
        ({"after": "9" * 60}, "page.invalid_cursor"),
        ({"after": "-1"}, "page.invalid_cursor"),
        ({"after": "rubbish", "where": "id>0"}, "page.invalid_cursor"),
        ({"limit": "0"}, "request.invalid"),
        ({"limit": "99999999"}, "request.invalid"),
        ({"format": "xlsx"}, "request.invalid"),
        ({"format": "fits", "columns": "nope"}, "catalog.unknown_column"),
    ],
)
def test_bad_choices_of_rows(house: House, job: str, params: dict[str, str], code: str) -> None:
    answer = house.client.get(f"{job}/catalogs/stars", params=params)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert scratch_files(house) == []


def test_columns_keep_the_names_that_were_asked_for(house: House, job: str) -> None:
    asked = {"columns": "id,slot_PsfFlux_instFlux", "limit": 2}
    plain = rows(house, f"{job}/catalogs/stars", **asked)
    assert list(plain[0]) == ["id", "slot_PsfFlux_instFlux"]
    assert rows(house, f"{job}/catalogs/stars", where="id>=1000", **asked) == plain
    text = house.client.get(f"{job}/catalogs/stars", params={**asked, "format": "csv"}).text
    assert text.splitlines()[0].replace('"', "") == "id,slot_PsfFlux_instFlux"


def test_one_cursor_serves_both_kinds_of_pages(house: House, job: str) -> None:
    url = f"{job}/catalogs/stars"
    stored = house.client.get(url, params={"columns": "id", "limit": 5}).json()
    chosen = house.client.get(url, params={"columns": "id", "limit": 5, "where": "id>0"}).json()
    assert stored["next"] == chosen["next"]
    following = rows(house, url, columns="id", where="id>0", limit=1, after=stored["next"])
    assert following == rows(house, url, columns="id", limit=1, after=stored["next"]) == [{"id": 1005}]


def test_products_that_are_no_catalogue(house: House, job: str) -> None:
    for name, code in (
        ("image", "product.unknown"),
        ("nonsense", "product.unknown"),
        ("psf_stars", "product.not_made"),
    ):
        answer = house.client.get(f"{job}/catalogs/{name}")
        assert (answer.status_code, answer.json()["code"]) == (404, code)
    answer = house.client.get(f"{job}/images/stars")
    assert (answer.status_code, answer.json()["code"]) == (404, "product.unknown")


def test_catalog_files_agree_with_the_rows(house: House, job: str) -> None:
    truth = house.stars()
    url = f"{job}/catalogs/stars"
    parquet = pq.read_table(BytesIO(house.client.get(f"{url}?format=parquet").content))
    np.testing.assert_array_equal(parquet["id"].to_numpy(), truth["id"])
    np.testing.assert_array_equal(parquet["base_PsfFlux_instFlux"].to_numpy(), truth["base_PsfFlux_instFlux"])
    with fits.open(BytesIO(house.client.get(f"{url}?format=fits").content)) as hdus:
        np.testing.assert_array_equal(hdus[1].data["id"], truth["id"])
        np.testing.assert_array_equal(hdus[1].data["base_PsfFlux_flag"], truth["base_PsfFlux_flag"])
    table = parse_single_table(BytesIO(house.client.get(f"{url}?format=votable").content)).to_table()
    np.testing.assert_allclose(np.asarray(table["coord_ra"]), truth["coord_ra"], rtol=1e-12)
    chosen = house.client.get(f"{url}?format=csv&columns=id,coord_ra&where=id<1003&order=-id")
    lines = list(csv.DictReader(StringIO(chosen.text)))
    assert [int(line["id"]) for line in lines] == [1002, 1001, 1000]
    assert list(lines[0]) == ["id", "coord_ra"]
    assert 'filename="single_visit_star_unstandardized.csv"' in chosen.headers["content-disposition"]
    assert scratch_files(house) == []


def test_stored_parquet_is_served_byte_for_byte(house: House, job: str) -> None:
    answer = house.client.get(f"{job}/catalogs/stars?format=parquet")
    product = next(item for item in house.client.get(f"{job}/products").json()["items"] if "stars" in item["aliases"])
    assert hashlib.sha256(answer.content).hexdigest() == product["sha256"]
    assert answer.headers["ETag"] == f'"{product["sha256"]}"'
    assert house.client.get(product["links"]["file"]).content == answer.content


def test_converted_file_has_an_etag_of_its_choice(house: House, job: str) -> None:
    url = f"{job}/catalogs/stars?format=csv&columns=id"
    etag = house.client.get(url).headers["ETag"]
    assert house.client.get(url, headers={"If-None-Match": etag}).status_code == 304
    assert house.client.get(f"{url},parent").headers["ETag"] != etag
    assert scratch_files(house) == []


# -- images


def test_image_and_its_ranges(house: House, job: str) -> None:
    whole = house.client.get(f"{job}/images/image")
    assert whole.headers["content-type"] == "application/fits"
    with fits.open(BytesIO(whole.content)) as hdus:
        assert hdus["IMAGE"].data[39, 49] == 1999
    size = len(whole.content)
    head = house.client.head(f"{job}/images/preliminary_visit_image")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(size))
    assert head.headers["accept-ranges"] == "bytes"
    for header, start, stop in (
        ("bytes=0-79", 0, 80),
        ("bytes=80-", 80, size),
        ("bytes=-100", size - 100, size),
        (f"bytes=10-{size * 2}", 10, size),
        ("bytes=0-0", 0, 1),
    ):
        part = house.client.get(f"{job}/images/image", headers={"Range": header})
        assert part.status_code == 206, header
        assert part.content == whole.content[start:stop]
        assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"


def test_ranges_that_cannot_be_served(house: House, job: str) -> None:
    url = f"{job}/images/image"
    size = int(house.client.head(url).headers["content-length"])
    for header in (f"bytes={size}-", "bytes=-0"):
        outside = house.client.get(url, headers={"Range": header})
        assert outside.status_code == 416
        assert outside.headers["content-range"] == f"bytes */{size}"
        assert outside.json()["code"] == "range.not_satisfiable"
    for header in ("bytes=5-2", "bytes=0-1,5-6", "lines=1-2", "bytes=-", "rubbish", f"bytes=0-{'9' * 4400}"):
        assert house.client.get(url, headers={"Range": header}).status_code == 200, header


def test_conditions_on_an_image(house: House, job: str) -> None:
    url = f"{job}/images/image"
    etag = house.client.head(url).headers["etag"]
    assert not etag.startswith("W/")
    assert house.client.get(url, headers={"If-None-Match": etag}).status_code == 304
    fresh = house.client.get(url, headers={"Range": "bytes=0-9", "If-Range": etag})
    stale = house.client.get(url, headers={"Range": "bytes=0-9", "If-Range": '"old"'})
    assert (fresh.status_code, stale.status_code) == (206, 200)


def test_preview(house: House, job: str) -> None:
    answer = house.client.get(f"{job}/images/image.png?size=32&stretch=linear&limits=minmax")
    assert answer.headers["content-type"] == "image/png"
    picture = np.asarray(Image.open(BytesIO(answer.content)).convert("L")).astype(int)
    assert max(picture.shape) <= 32
    # The image is a ramp that grows with y, and y goes up.
    assert picture[0].mean() > picture[-1].mean() + 100
    again = house.client.get(
        f"{job}/images/image.png?size=32&stretch=linear&limits=minmax",
        headers={"If-None-Match": answer.headers["ETag"]},
    )
    assert again.status_code == 304
    other = house.client.get(f"{job}/images/image.png?size=32&stretch=linear&limits=0,5000")
    assert np.asarray(Image.open(BytesIO(other.content)).convert("L")).max() < 150


@pytest.mark.parametrize(
    "query", ["size=1", "size=99999", "stretch=cube", "limits=5,1", "limits=a,b", "limits=nan,1", "limits=101"]
)
def test_bad_previews_are_refused(house: House, job: str, query: str) -> None:
    answer = house.client.get(f"{job}/images/image.png?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "request.invalid")


# -- which rows, and as what


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("application/x-votable+xml", "application/x-votable+xml"),
        ("text/html, text/csv;q=0.9, application/json;q=0.5", "text/csv"),
        ("application/fits;q=0.2, application/vnd.apache.parquet", "application/vnd.apache.parquet"),
        ("text/x-ecsv", "text/x-ecsv"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("image/png", "application/json"),
        ("text/csv;q=0", "application/json"),
        ("text/csv;q=much", "application/json"),
    ],
)
def test_the_format_may_be_what_accept_says(house: House, job: str, accept: str, media_type: str) -> None:
    answer = house.client.get(f"{job}/catalogs/stars", headers={"Accept": accept})
    assert answer.headers["content-type"].split(";")[0] == media_type
    assert "Accept" in answer.headers["vary"]
    asked = house.client.get(f"{job}/catalogs/stars?format=csv", headers={"Accept": accept})
    assert asked.headers["content-type"].startswith("text/csv")


def test_rows_in_usual_units_and_places(house: House, job: str) -> None:
    truth, url = house.stars(), f"{job}/catalogs/stars"
    ra, dec = np.degrees(truth["coord_ra"]), np.degrees(truth["coord_dec"])
    found = rows(house, url, columns="sourceId,ra,dec", limit=5)
    np.testing.assert_allclose([row["ra"] for row in found], ra[:5], rtol=1e-14)
    few = rows(house, url, columns="id", where=f"ra<{float(ra[3])!r},!base_PsfFlux_flag")
    assert [row["id"] for row in few] == [1000, 1002]
    near = rows(house, url, columns="id", cone=f"{ra[10]},{dec[10]},0.3")
    distance = SkyCoord(ra, dec, unit="deg").separation(SkyCoord(ra[10], dec[10], unit="deg")).deg
    assert [row["id"] for row in near] == truth["id"][distance <= 0.3].tolist()
    assert len(near) == 3
    box = f"{ra[4] - 0.01},-5,{ra[8] + 0.01},-5,{ra[8] + 0.01},5,{ra[4] - 0.01},5"
    inside = rows(house, url, columns="id", polygon=box, order="-id")
    assert [row["id"] for row in inside] == [1008, 1007, 1006, 1005, 1004]
    table = Table.read(house.client.get(f"{url}?format=ecsv&columns=ra,id&polygon={box}").text, format="ascii.ecsv")
    assert table["id"].tolist() == [1004, 1005, 1006, 1007, 1008]
    assert str(table["ra"].unit) == "deg"


@pytest.mark.parametrize(
    "params",
    [
        {"cone": "1,2"},
        {"cone": "1,2,0"},
        {"cone": "1,91,1"},
        {"cone": "1,2,nan"},
        {"cone": "1,2,3", "polygon": "0,0,1,0,1,1"},
        {"polygon": "0,0,1,0"},
        {"polygon": "0,0,1,0,1"},
        {"polygon": "0,0,1,1,1,0,0,1"},
        {"polygon": "a,b,c,d,e,f"},
    ],
)
def test_places_that_are_none(house: House, job: str, params: dict[str, str]) -> None:
    answer = house.client.get(f"{job}/catalogs/stars", params=params)
    assert (answer.status_code, answer.json()["code"]) == (422, "catalog.invalid_query")
    assert answer.json()["errors"][0]["parameter"] in params
