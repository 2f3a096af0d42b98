"""Reference catalogues as a person sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from bs4 import BeautifulSoup

from api.dashboard.refcats import catalog_row
from api.schemas.refcats import RefcatDocument
from tests.api.conftest import open_house
from tests.api.dashboard.conftest import ORIGIN, log_in, token_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.api.conftest import House

STARS = b"ra,dec,g_mag,r_mag\n150.0,2.2,15.0,14.8\n150.1,2.3,16.0,15.7\n"
REMOTE = {
    "archive": {"kind": "scs", "url": "https://vo.example.org/scs", "columns": {"ra": "RA", "dec": "DE", "g_mag": "G"}}
}


def page_of(house: House) -> BeautifulSoup:
    return BeautifulSoup(house.client.get("/refcats").text, "html.parser")


def rows(page: BeautifulSoup) -> dict[str, list[str]]:
    found = {}
    for row in page.select("#catalogs tbody tr"):
        _number, name, *_ = row.th.stripped_strings  # type: ignore[union-attr]
        found[name] = [" ".join(cell.text.split()) for cell in row.find_all("td")]
    return found


def test_without_any_the_page_says_what_is_missing(house: House) -> None:
    page = page_of(house)
    assert "There is no reference catalogue yet" in page.text
    assert page.select_one("svg") is None
    assert {field["name"] for field in page.select("#add input")} == {"file", "name", "epoch", "columns"}
    for field in page.select("#add input"):
        assert page.select_one(f"label[for='{field['id']}']") is not None


def test_stored_and_remote_ones_are_listed_and_drawn(tmp_path: Path) -> None:
    with open_house(tmp_path, remote_refcats=REMOTE) as house:
        assert house.client.put("/v1/refcats/field?epoch=2015.5", content=STARS).status_code == 201
        page = page_of(house)
        table = rows(page)
        assert list(table) == ["archive", "field"]
        assert table["archive"][:2] == ["remote", "asked for"]
        assert table["field"][0] == "for all"
        assert table["field"][1] == "2"
        assert sorted(table["field"][2].split()) == ["g", "r"]
        assert table["field"][3] == "J2015.5"
        assert table["field"][4].endswith("deg²")
        assert len(page.select("svg path.cells")) == 1  # of the remote one nobody knows
        assert len(page.select("svg .mark circle")) == 1
        assert page.select_one("form[action='/refcats/archive/delete']") is None
        assert page.select_one("form[action='/refcats/field/delete']") is not None


def test_one_is_removed(house: House) -> None:
    house.client.put("/v1/refcats/field", content=STARS)
    answer = house.client.post("/refcats/field/delete", headers=ORIGIN, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/refcats")
    assert house.client.get("/v1/refcats").json()["items"] == []
    house.client.put("/v1/refcats/field", content=STARS)
    part = house.client.post("/refcats/field/delete", headers={**ORIGIN, "HX-Request": "true"})
    assert part.status_code == 200
    assert "There is no reference catalogue yet" in part.text
    assert house.client.post("/refcats/field/delete", headers=ORIGIN).status_code == 404


def test_one_that_a_job_waits_for_stays(house: House) -> None:
    house.client.put("/v1/refcats/field", content=STARS)
    house.submit(references="field")
    answer = house.client.post("/refcats/field/delete", headers={**ORIGIN, "HX-Request": "true"})
    assert answer.status_code == 409
    assert "needed by 1 active job" in answer.text


def test_what_is_for_all_is_not_everybodys_to_remove(guarded: House) -> None:
    service = {"Authorization": f"Bearer {token_of(guarded, 'local')}"}
    assert guarded.client.put("/v1/refcats/shared", content=STARS, headers=service).status_code in (200, 201)
    log_in(guarded, token_of(guarded, "ada"))
    assert guarded.client.put("/v1/refcats/mine", content=STARS, headers=ORIGIN).status_code in (200, 201)
    page = page_of(guarded)
    assert [form["action"] for form in page.select("form[action$='/delete']")] == ["/refcats/mine/delete"]
    assert rows(page)["mine"][0] == "yours"
    assert guarded.client.post("/refcats/shared/delete", headers=ORIGIN).status_code == 403
    log_in(guarded, token_of(guarded, "ada", "read"))
    page = page_of(guarded)
    assert page.select("#add, form[action$='/delete']") == []
    assert guarded.client.post("/refcats/mine/delete", headers=ORIGIN).status_code == 403


def document(**info: object) -> RefcatDocument:
    return RefcatDocument(
        name="n", sha256="0", rows=1, bands=[], created_at=None, shared=True, info=dict(info), links={}
    )


@pytest.mark.parametrize(
    ("info", "epoch"),
    [
        ({}, None),
        ({"epoch_min": 2016.0, "epoch_max": 2016.0}, "J2016.0"),
        ({"epoch_min": 1999.96, "epoch_max": 2003.5}, "J2000.0 to 2003.5"),
    ],
)
def test_epochs_are_one_or_a_range(info: dict[str, float], epoch: str | None) -> None:
    assert catalog_row(1, document(**info), is_removable=False).epoch == epoch


def test_the_whole_sky_and_a_small_field_are_told_apart() -> None:
    whole = catalog_row(6, document(coverage=[(0, pixel) for pixel in range(12)]), is_removable=False)
    assert (whole.is_whole_sky, whole.is_small, whole.place, whole.color) == (True, False, None, 1)
    field = catalog_row(2, document(coverage=[(5, 6814)]), is_removable=False)
    assert (field.is_whole_sky, field.is_small, field.color) == (False, True, 2)
    assert field.area == pytest.approx(3.357, abs=0.001)
