"""Stars across jobs over HTTP: lists, light curves, and the cone search as pyvo does it."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import astropy.units as u
import numpy as np
import pyarrow.parquet as pq
import pytest
import pyvo
import pyvo.io.vosi
import requests
import urllib3
from astropy.coordinates import SkyCoord
from astropy.io.votable import parse_single_table
from astropy.table import Table

from service import formats
from service.exposure.catalog import SourceCatalog
from service.exposure.star_schema import star_schema
from service.jobs import states
from service.jobs.outcome import JobOutcome, ProductFile
from service.jobs.publish import publish, store_files
from tests.api.conftest import House, open_house
from tests.api.tenants import bearer

if TYPE_CHECKING:
    from collections.abc import Iterator

RA, DEC = 150.1, 2.2
N_STARS, N_NIGHTS = 12, 4
MJD = 61_000.25
STARS = "single_visit_star_unstandardized"


def sky() -> tuple[np.ndarray, np.ndarray]:
    """True positions, 20 arcsec apart; the first is the centre."""
    angle = np.arange(N_STARS) * 2.4
    return RA + np.sqrt(angle) * np.cos(angle) * 4e-3, DEC + np.sqrt(angle) * np.sin(angle) * 4e-3


def measured(night: int) -> SourceCatalog:
    """The stars of a night: each 0.05 arcsec off; the last star only on every second night; one empty aperture."""
    ra, dec = sky()
    rng = np.random.default_rng(night)
    catalog = SourceCatalog.allocate(star_schema(), N_STARS + 1)
    catalog["id"] = 100 * night + np.arange(N_STARS + 1)
    offsets = rng.normal(0, 0.05 / 3600, (2, N_STARS))
    catalog["coord_ra"] = np.radians(np.append(ra + offsets[0], RA))
    catalog["coord_dec"] = np.radians(np.append(dec + offsets[1], DEC))
    catalog["detect_isPrimary"] = np.append(np.arange(N_STARS) < N_STARS - night % 2, False)
    catalog["base_PsfFlux_mag"] = 18.0 + 0.1 * np.arange(N_STARS + 1) + 0.01 * night
    catalog["base_PsfFlux_flux"] = 10 ** (0.4 * (31.4 - catalog["base_PsfFlux_mag"]))
    catalog["base_PsfFlux_flag"] = np.arange(N_STARS + 1) == 3
    return catalog


def publish_night(house: House, night: int, *, who: dict[str, str] | None = None, exposure: int | None = None) -> str:
    """A completed job with the stars of a night; ``exposure`` is the night of the file where it is not this one."""
    headers = who or {}
    content = house.fits_bytes(night if exposure is None else exposure)
    put = house.client.put("/v1/exposures", content=content, headers=headers).json()["id"]
    job = house.client.post("/v1/jobs", json={"exposures": [put], "force": True}, headers=headers).json()["id"]
    fence = house.claim(job)
    path = house.directory / f"{job}.parquet"
    formats.write_catalog(measured(night), path, "parquet")
    moment = f"2025-11-{21 + night:02d}T06:00:00+00:00"  # MJD 61000.25 and the next days
    outcome = JobOutcome(
        error=None,
        warnings=(),
        stages=(),
        summary={"psfSigma": 2.0, "pixelScale": 0.25, "zeroPoint": 31.0 + night},
        identity={"instrument": "Sim", "band": "rg"[night % 2], "visit": None, "detector": 3, "observed_at": moment},
        metadata={"zero_point_sigma": 0.002},
        provenance={},
    )
    table = ProductFile(STARS, "parquet", "application/vnd.apache.parquet", str(path), N_STARS + 1)
    outcome = replace(outcome, products=(table,))
    storage = house.services.storage
    report = states.Report(None, 1.0, (), 2)
    assert publish(storage, fence, outcome, store_files(storage, outcome), report) is not None
    return str(job)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("stars"), require_tokens=True) as house:
        house.client.headers.update(bearer(house, "ada"))
        for night in range(N_NIGHTS):
            publish_night(house, night, who=bearer(house, "ada"))
        publish_night(house, 0, who=bearer(house, "eve"))
        yield house


def get(house: House, path: str, **params: Any) -> dict[str, Any]:
    answer = house.client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def test_stars_of_all_nights(house: House) -> None:
    found = get(house, "/v1/stars", ra=RA, dec=DEC, radius=1.0)
    assert found["next"] is None
    ids = {row["sourceId"] for row in found["items"]}
    expected = {100 * night + star for night in range(N_NIGHTS) for star in range(N_STARS - night % 2)}
    assert ids == expected
    row = next(row for row in found["items"] if row["sourceId"] == 203)
    truth = measured(2)
    assert row["ra"] == pytest.approx(np.degrees(truth["coord_ra"][3]), abs=1e-12)
    assert row["psfMag"] == pytest.approx(truth["base_PsfFlux_mag"][3])
    assert row["base_PsfFlux_flag"] is True
    assert row["mjd"] == pytest.approx(MJD + 2, abs=1e-9)
    assert row["seeing"] == pytest.approx(2.0 * 0.25 * 2.354820, rel=1e-6)
    assert (row["zeroPoint"], row["zeroPointErr"]) == (33.0, 0.002)
    assert (row["visit"], row["detector"], row["instrument"]) == (None, 3, "Sim")
    place = SkyCoord(row["ra"], row["dec"], unit="deg")
    assert row["distance"] == pytest.approx(place.separation(SkyCoord(RA, DEC, unit="deg")).arcsec, abs=1e-6)
    units = {column["name"]: column["unit"] for column in found["columns"]}
    assert (units["ra"], units["distance"], units["psfFlux"], units["mjd"]) == ("deg", "arcsec", "nJy", "d")


def test_pages_filters_and_columns(house: House) -> None:
    params = {"ra": RA, "dec": DEC, "radius": 1.0, "columns": "sourceId,band,slot_PsfFlux_mag", "limit": 7}
    url, seen = "/v1/stars", []
    page = house.client.get(url, params=params)
    while True:
        assert list(page.json()["items"][0]) == ["sourceId", "band", "slot_PsfFlux_mag"]
        seen += [row["sourceId"] for row in page.json()["items"]]
        if "Link" not in page.headers:
            break
        page = house.client.get(page.headers["Link"][1:].split(">")[0])
    assert len(seen) == len(set(seen)) == N_STARS * N_NIGHTS - 2
    red = get(house, "/v1/stars", ra=RA, dec=DEC, radius=1.0, band="r", since="2025-11-22T12:00:00Z")
    assert {row["sourceId"] // 100 for row in red["items"]} == {2}
    early = get(house, "/v1/stars", ra=RA, dec=DEC, radius=1.0, until="2025-11-21T12:00:00")
    assert {row["sourceId"] // 100 for row in early["items"]} == {0}


def test_a_rerun_takes_the_place_of_what_was_before(tmp_path_factory: pytest.TempPathFactory) -> None:
    with open_house(tmp_path_factory.mktemp("rerun")) as house:
        first = publish_night(house, 1)
        second = publish_night(house, 2, exposure=1)
        params = {"ra": RA, "dec": DEC, "radius": 1.0}
        assert {row["job_id"] for row in get(house, "/v1/stars", **params)["items"]} == {second}
        both = get(house, "/v1/stars", results="all", **params)["items"]
        assert {row["job_id"] for row in both} == {first, second}
        assert house.client.delete(f"/v1/jobs/{second}").status_code == 204
        assert {row["job_id"] for row in get(house, "/v1/stars", **params)["items"]} == {first}


def test_light_curves(house: House) -> None:
    found = get(house, "/v1/lightcurves", ra=RA, dec=DEC, radius=0.1)
    ra, _ = sky()
    assert [item["object"] for item in found["items"]] == list(range(N_STARS))
    distances = [
        SkyCoord(item["ra"], item["dec"], unit="deg").separation(SkyCoord(RA, DEC, unit="deg")).deg
        for item in found["items"]
    ]
    assert distances == sorted(distances)
    for item in found["items"]:
        stars = [row["sourceId"] % 100 for row in item["detections"]]
        (star,) = set(stars)  # every detection is of the same true star
        assert abs(item["ra"] - ra[star]) < 0.1 / 3600
        nights = [row["sourceId"] // 100 for row in item["detections"]]
        assert nights == ([0, 2] if star == N_STARS - 1 else [0, 1, 2, 3])
        mags = [row["psfMag"] for row in item["detections"]]
        np.testing.assert_allclose(mags, [18.0 + 0.1 * star + 0.01 * night for night in nights])
    one = get(house, "/v1/lightcurves", ra=RA, dec=DEC, columns="mjd,psfMag", band="g")
    (only,) = one["items"]
    assert [list(row) for row in only["detections"]] == [["mjd", "psfMag"]] * 2


def test_light_curves_as_files(house: House) -> None:
    params = {"ra": RA, "dec": DEC, "radius": 0.1}
    whole = get(house, "/v1/lightcurves", **params)
    flat = [(item["object"], row["sourceId"]) for item in whole["items"] for row in item["detections"]]
    parquet = pq.read_table(BytesIO(house.client.get("/v1/lightcurves", params=params | {"format": "parquet"}).content))
    assert list(zip(parquet["object"].to_pylist(), parquet["sourceId"].to_pylist(), strict=True)) == flat
    assert parquet.schema.field("psfFlux").metadata[b"unit"] == b"nJy"
    assert parquet["visit"].null_count == len(flat)
    answer = house.client.get("/v1/lightcurves", params=params, headers={"Accept": "application/x-votable+xml"})
    votable = parse_single_table(BytesIO(answer.content)).to_table()
    assert list(zip(votable["object"].tolist(), votable["sourceId"].tolist(), strict=True)) == flat
    assert votable["psfFlux"].unit == u.nJy
    assert votable["visit"].mask.all()
    text = house.client.get("/v1/lightcurves", params=params | {"format": "csv"}).text
    assert Table.read(text, format="ascii.csv")["sourceId"].tolist() == [number for _, number in flat]


@pytest.mark.parametrize(
    ("path", "params", "code"),
    [
        ("/v1/stars", {"ra": 1, "dec": 2}, "request.invalid"),
        ("/v1/stars", {"ra": 1, "dec": 91, "radius": 1}, "request.invalid"),
        ("/v1/stars", {"ra": 1, "dec": 2, "radius": 50}, "request.invalid"),
        ("/v1/stars", {"ra": 1, "dec": 2, "radius": 1, "columns": "colour"}, "catalog.unknown_column"),
        ("/v1/stars", {"ra": 1, "dec": 2, "radius": 1, "after": "7"}, "page.invalid_cursor"),
        ("/v1/lightcurves", {"ra": 1, "dec": 2, "radius": 5}, "request.invalid"),
        ("/v1/stars", {"ra": 1, "dec": 2, "radius": 1, "since": "0001-01-01T00:00:00+10:00"}, "request.invalid"),
    ],
)
def test_bad_questions(house: House, path: str, params: dict[str, Any], code: str) -> None:
    answer = house.client.get(path, params=params)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_too_many_detections_for_light_curves(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.jobs.lightcurves.MAX_DETECTIONS", 5)
    answer = house.client.get("/v1/lightcurves", params={"ra": RA, "dec": DEC, "radius": 0.1})
    assert (answer.status_code, answer.json()["code"]) == (422, "catalog.invalid_query")


# -- Simple Cone Search


class Wire(requests.adapters.BaseAdapter):
    """Lets pyvo talk to the application without a network."""

    def __init__(self, house: House) -> None:
        super().__init__()
        self.house = house

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        parts = urlsplit(request.url or "")
        answer = self.house.client.get(f"{parts.path}?{parts.query}")
        response = requests.Response()
        response.status_code, response.url = answer.status_code, request.url or ""
        response.raw = urllib3.HTTPResponse(BytesIO(answer.content), preload_content=False)
        response.headers = requests.structures.CaseInsensitiveDict(answer.headers)
        response.request = request
        return response

    def close(self) -> None:
        pass


@pytest.fixture
def service(house: House) -> pyvo.dal.SCSService:
    session = requests.Session()
    session.mount("http://", Wire(house))
    return pyvo.dal.SCSService("http://127.0.0.1:8470/scs", session=session)


def test_cone_search_by_pyvo(service: pyvo.dal.SCSService) -> None:
    ra, dec = sky()
    found = service.search(pos=SkyCoord(RA, DEC, unit="deg"), radius=0.01 * u.deg, verbosity=2)
    distance = SkyCoord(RA, DEC, unit="deg").separation(SkyCoord(ra, dec, unit="deg")).deg
    inside = set(np.flatnonzero(distance < 0.01).tolist())
    assert len(inside) > 2
    table = found.to_table()
    assert {number % 100 for number in table["sourceId"]} == inside
    assert len({record.id for record in found}) == len(found)
    first = found[0]
    assert first.pos.separation(SkyCoord(RA, DEC, unit="deg")).deg <= 0.01
    ucds = {field.ucd: field for field in found.fielddescs if field.ucd}
    assert (ucds["ID_MAIN"].datatype, ucds["POS_EQ_RA_MAIN"].datatype) == ("unicodeChar", "double")
    assert str(ucds["POS_EQ_DEC_MAIN"].unit) == "deg"
    assert table["psfFlux"].unit == u.nJy


def test_verbosity_and_limits(service: pyvo.dal.SCSService, house: House) -> None:
    few, usual, every = (
        service.search(pos=(RA, DEC), radius=0.01, verbosity=level).to_table().colnames for level in (1, 2, 3)
    )
    assert set(few) < set(usual) < set(every)
    assert set(star_schema().names) < set(every)
    fields = parse_single_table(BytesIO(house.client.get(f"/scs?ra={RA}&Dec={DEC}&sr=1&verb=3").content)).fields
    for ucd in ("ID_MAIN", "POS_EQ_RA_MAIN", "POS_EQ_DEC_MAIN"):
        assert [field.ucd for field in fields].count(ucd) == 1
    short = service.search(pos=(RA, DEC), radius=1.0, maxrec=2)
    assert len(short) == 2
    assert [info.value for info in short.resultstable._votable.resources[0].infos] == ["OVERFLOW"]
    endless = house.client.get(f"/scs?RA={RA}&DEC={DEC}&SR=1&MAXREC=inf")
    assert endless.status_code == 200
    assert b"OVERFLOW" not in endless.content
    endless = parse_single_table(BytesIO(house.client.get(f"/scs?RA={RA}&DEC={DEC}&SR=1&MAXREC=inf").content))
    assert len(endless.array) == N_STARS * N_NIGHTS - 2
    empty = service.search(pos=(RA, DEC), radius=0.0)
    assert len(empty) == 0
    assert "psfMag" in empty.fieldnames


@pytest.mark.parametrize("name", ["since", "until"])
@pytest.mark.parametrize("number", ["60000", "1764000000", "61000.25", "-1e9", "nan", " 20261123"])
def test_moments_are_written_out(house: House, name: str, number: str) -> None:
    """60000 was meant as an MJD, and read as an afternoon of 1970."""
    paths = ["/v1/stars?radius=1&ra=1&dec=2&", "/v1/lightcurves?ra=1&dec=2&"]
    for path in [*paths, "/v1/summaries?"] if name == "since" else paths:
        answer = house.client.get(path, params={name: number, **dict(parse_qsl(urlsplit(path).query))})
        [error] = answer.json()["errors"]
        assert (answer.status_code, error["parameter"]) == (422, name)
        assert "ISO 8601" in error["detail"]


@pytest.mark.parametrize("number", ["nan", "inf", "-Infinity"])
@pytest.mark.parametrize("name", ["ra", "dec", "radius"])
def test_numbers_are_finite(house: House, name: str, number: str) -> None:
    answer = house.client.get("/v1/stars", params={"ra": 1, "dec": 2, "radius": 1, name: number})
    [error] = answer.json()["errors"]
    assert answer.status_code == 422
    assert error == {"parameter": name, "detail": "must be a finite number", "code": "finite_number"}


def test_a_client_finds_the_cone_search_by_its_standard(service: pyvo.dal.SCSService, house: House) -> None:
    document = house.client.get("/uws/capabilities", headers={"Host": "127.0.0.1:8470"}).content
    [cone] = [
        each
        for each in pyvo.io.vosi.parse_capabilities(BytesIO(document).read)
        if each.standardid == "ivo://ivoa.net/std/ConeSearch"
    ]
    address = cone.interfaces[0].accessurls[0]
    assert address.use == "base"
    found = pyvo.dal.SCSService(address.content, session=service._session).search((RA, DEC), 0.01)
    assert len(found) == len(service.search((RA, DEC), 0.01)) > 2


def test_parameters_that_are_not_known_are_ignored(service: pyvo.dal.SCSService) -> None:
    """As Simple Cone Search 1.03 says in section 2; other addresses refuse them."""
    plain = service.search((RA, DEC), 0.01)
    more = service.search((RA, DEC), 0.01, TIME="60000 61000", catalog="mine")
    assert [record.id for record in more] == [record.id for record in plain]


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("RA=1&DEC=2", "SR"),
        ("RA=x&DEC=2&SR=1", "RA=x"),
        ("RA=1&DEC=-91&SR=1", "DEC"),
        ("RA=1&DEC=2&SR=50", "SR"),
        ("RA=nan&DEC=2&SR=1", "RA=nan is not a finite number"),
        ("RA=1&DEC=2&SR=1&VERB=9", "VERB"),
        ("RA=1&DEC=2&SR=1&RESPONSEFORMAT=fits", "RESPONSEFORMAT"),
        ("RA=1&DEC=2&SR=" + "9" * 300, "SR"),
        ("TIME=60000&DEC=2&SR=1", "RA is missing"),
    ],
)
def test_errors_are_votables(service: pyvo.dal.SCSService, query: str, word: str) -> None:
    with pytest.raises(pyvo.dal.exceptions.DALQueryError, match=word):
        pyvo.dal.scs.SCSResults.from_result_url(f"http://127.0.0.1:8470/scs?{query}", session=service._session)
