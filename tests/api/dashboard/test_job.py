"""The page of a job as a person without scripts reads it, in every phase; what scripts draw has tests in a browser."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from bs4 import BeautifulSoup

from api.dashboard.job_config import changed, settings
from api.dashboard.job_facts import GROUPS, LOOKS, figures, stage_bars, statistics
from service.calibration.presets import PRESETS
from service.exposure.summary import summary_fields
from service.jobs.configuration import resolved_config
from service.jobs.outcome import JobError
from service.storage.records import Phase, StageRecord
from tests.api.conftest import OWNER, House, fits_bytes, open_house, stars
from tests.api.dashboard.conftest import log_in, token_of
from tests.api.test_images import OFFSET, STARS, exposure, product_files, wcs
from tests.api.test_reruns import sweep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.exposure.exposure import Exposure
    from service.exposure.wcs import Wcs

__all__ = ["exposure", "wcs"]  # fixtures

EVIL = "<script>alert(1)</script>"


def page_of(house: House, path: str) -> BeautifulSoup:
    answer = house.client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    return BeautifulSoup(answer.text, "html.parser")


def job_page(house: House, job_id: str) -> BeautifulSoup:
    return page_of(house, f"/jobs/{job_id}")


def words(tag: Any) -> str:
    return " ".join(tag.get_text(" ").split())


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory, exposure: Exposure, wcs: Wcs) -> Iterator[tuple[House, str]]:
    """A job with known pixels, stars and pairs."""
    directory = tmp_path_factory.mktemp("known")
    with open_house(directory) as house:
        house.product_files = lambda: product_files(directory, exposure, wcs)  # type: ignore[method-assign]
        yield house, house.completed(run_id="a night")


def test_a_finished_job_has_every_section_and_links_that_lead_to_it(known: tuple[House, str]) -> None:
    house, job_id = known
    page = job_page(house, job_id)
    assert [h1.text.strip() for h1 in page.find_all("h1")] == [page.h1.text.strip()]
    assert "completed" in words(page.h1)
    links = [link["href"] for link in page.select("nav.sections a")]
    names = ["image", "stars", "diagnostics", "statistics", "stages", "configuration", "provenance", "downloads", "log"]
    assert links == [f"#{name}" for name in names]
    for name in names:
        section = page.find(id=name)
        assert section is not None, name
        assert page.find(id=section["aria-labelledby"]) is not None
    assert page.select_one(f"a[href='/jobs/{job_id}/rerun']") is not None
    assert page.select_one(f"a[href^='/compare?a={job_id}']") is not None
    ids = [tag["id"] for tag in page.find_all(id=True)]
    assert len(ids) == len(set(ids))


def test_addresses_on_the_page_are_there(known: tuple[House, str]) -> None:
    house, job_id = known
    page = job_page(house, job_id)
    addresses = {link["href"] for link in page.select("#downloads a[href], #provenance a[href], #statistics a[href]")}
    addresses |= {page.select_one("#viewer")["data-frame"]}
    assert len(addresses) > 15
    for address in addresses:
        assert house.client.get(address).status_code in (200, 307), address


def test_diagnostics_are_figures_with_words_of_what_is_good(known: tuple[House, str]) -> None:
    house, job_id = known
    figures_ = job_page(house, job_id).select("#diagnostics figure")
    assert len(figures_) == 7
    for figure in figures_:
        assert figure.img["alt"]
        assert "Good:" in words(figure.figcaption)
        answer = house.client.get(figure.img["src"])
        assert answer.headers["content-type"] == "image/svg+xml"


def test_numbers_that_are_not_there_are_dashes(house: House) -> None:
    page = job_page(house, house.completed())
    rows = {words(row.th).split()[0]: row for row in page.select("#statistics tr") if row.th and row.td}
    assert rows["nPsfStar"].td.text.strip() == "41"
    assert rows["psfSigma"].td.text.strip() == "1.9"
    assert rows["zeroPoint"].td.text.strip() == "–"
    assert rows["zeroPoint"].td.span["title"] == "not measured"
    verdict = {words(item.dt).split()[0]: words(item.dd) for item in page.select(".verdict > div")}
    assert verdict["Zero"] == "–"
    assert verdict["Seeing"] == "–"  # without a scale there are no seconds of arc
    assert "NaN" not in page.text
    assert "None" not in page.text


def test_every_statistic_has_its_meaning_and_unit(house: House) -> None:
    page = job_page(house, house.completed())
    rows = {row.th.contents[0].contents[0]: row for row in page.select("#statistics tbody tr")}
    fields = {field.name: field for field in summary_fields()}
    assert rows.keys() == fields.keys()
    for name, row in rows.items():
        tip = row.select_one("[aria-describedby]")
        assert tip["tabindex"] == "0"
        assert page.find(id=tip["aria-describedby"]).text == fields[name].doc
        assert row.find_all("td")[-1].text == fields[name].unit


def test_each_statistic_is_in_one_group() -> None:
    named = [name for names in GROUPS.values() for name in names]
    assert len(named) == len(set(named))
    grouped = statistics({})
    assert sorted(row.field.name for rows in grouped.values() for row in rows) == sorted(
        field.name for field in summary_fields()
    )


def test_seeing_is_the_width_of_a_gaussian_at_half_its_height() -> None:
    (seeing, *others) = figures({"psfSigma": 2.0, "pixelScale": 0.25, "astromOffsetMean": 0.012}, {})
    half = math.exp(-0.5 * (seeing.value / 0.25 / 2 / 2.0) ** 2)  # type: ignore[operator]
    assert half == pytest.approx(0.5)
    assert [other.value for other in others if other.label == "Astrometry"] == [pytest.approx(12.0)]


def test_bars_of_stages_are_the_time_of_the_run() -> None:
    bars = stage_bars([StageRecord("a", 1.0, {}), StageRecord("b", 3.0, {}), StageRecord("c", 0.0, {})])
    assert [(bar.start, bar.share) for bar in bars] == [(0, 25), (25, 75), (100, 0)]
    assert stage_bars([StageRecord("a", 0.0, {})])[0].share == 0


def test_every_phase_has_a_word() -> None:
    assert LOOKS.keys() == set(Phase)


def test_what_a_header_says_stays_text(house: House) -> None:
    exposure_id = house.upload(fits_bytes(INSTRUME=EVIL, OBJECT=EVIL, FILTER=EVIL))
    metadata = {"instrument": EVIL, "band": EVIL[:20]}
    job_id = house.submit(exposures=[exposure_id], metadata=metadata, run_id=EVIL)["id"]
    for _ in range(2):
        page = job_page(house, job_id)
        assert EVIL in page.text
        assert "alert(1)" not in "".join(script.text for script in page.find_all("script"))
        assert [script for script in page.find_all("script") if not script.get("src")] == []
        if not house.services.storage.jobs.get(OWNER, job_id).is_terminal:  # type: ignore[union-attr]
            house.finish(house.claim(job_id), JobError("service.fault", EVIL, EVIL, EVIL, {"n": EVIL}, EVIL))


def test_a_waiting_job_says_when_its_turn_is(house: House) -> None:
    first = house.submit()["id"]
    page = job_page(house, house.submit()["id"])
    assert "queued" in words(page.h1)
    assert "1 job is begun before it." in words(page.select_one("#status"))
    assert page.select_one("#status button[data-abort]").text == "Abort"
    assert page.select_one("#viewer") is None
    assert page.select_one("#statistics") is None
    assert "It is next." in words(job_page(house, first).select_one("#status"))


def test_a_running_job_shows_how_far_it_is(house: House) -> None:
    job_id = house.submit()["id"]
    house.report(house.claim(job_id), "psf.measure", 0.42)
    for path in (f"/jobs/{job_id}", f"/parts/jobs/{job_id}/status"):
        status = page_of(house, path).select_one("#status")
        assert status["data-active"] == "yes"
        assert status.h2.text == "psf.measure"
        assert status.progress["value"] == "0.42"
        assert "snap_combine" in words(status.ol)
    badge = page_of(house, f"/parts/jobs/{job_id}/status").select_one("#phase")
    assert (badge["hx-swap-oob"], words(badge)) == ("true", "running")


def test_the_part_of_a_job_that_has_ended_asks_for_the_whole_page(house: House) -> None:
    job_id = house.submit()["id"]
    assert "hx-refresh" not in house.client.get(f"/parts/jobs/{job_id}/status").headers
    house.finish(house.claim(job_id))
    answer = house.client.get(f"/parts/jobs/{job_id}/status")
    assert answer.headers["hx-refresh"] == "true"
    assert BeautifulSoup(answer.text, "html.parser").button is None


def test_a_failed_job_explains_itself_above_what_it_has(house: House) -> None:
    job_id = house.submit()["id"]
    house.finish(house.claim(job_id), JobError("psf.no_good_stars", "X", "no stars", "psf.measure", {"n": 1}))
    page = job_page(house, job_id)
    assert "failed" in words(page.h1)
    assert "no stars" in words(page.select_one(".failure"))
    assert page.select_one("#viewer")["data-layers"] == "stars"


def test_a_failed_job_without_an_image_has_no_viewer(house: House) -> None:
    job_id = house.submit()["id"]
    house.finish(house.claim(job_id), JobError("format.corrupt", "X", "broken", "read", {}), products=False)
    page = job_page(house, job_id)
    assert page.select_one("#viewer") is None
    assert page.select_one("script[src*=openseadragon]") is None
    assert page.select_one("#log") is not None


def test_an_archived_job_keeps_what_tells_of_it(house: House) -> None:
    job_id = house.completed()
    house.client.patch(f"/v1/jobs/{job_id}", json={"destruction": "2020-01-01T00:00:00Z"})
    sweep(house)
    page = job_page(house, job_id)
    assert "archived" in words(page.h1)
    assert page.select_one("#viewer") is None
    assert page.select_one("#downloads") is None
    assert "41" in words(page.select_one("#statistics"))


def test_an_aborted_job_and_its_rerun(house: House) -> None:
    job_id = house.submit()["id"]
    house.client.delete(f"/v1/jobs/{job_id}")
    assert "aborted" in words(job_page(house, job_id).h1)
    again = house.client.post(f"/v1/jobs/{job_id}/rerun", json={}).json()["id"]
    page = job_page(house, again)
    assert page.select_one(f"a[href='/jobs/{job_id}']") is not None
    assert page.select_one(f"a[href='/compare?a={job_id}&b={again}']") is not None


def test_what_is_not_the_default_comes_first_with_who_chose_it(house: House) -> None:
    job_id = house.submit(preset="parity", config={"psf_detection": {"threshold_value": 12.5}})["id"]
    rows = job_page(house, job_id).select("#configuration tbody tr")
    assert rows[0].code.text == "psf_detection.threshold_value"
    assert [words(cell) for cell in rows[0].find_all("td")] == ["12.5", "10.0", "job"]
    assert {words(row.find_all("td")[-1]) for row in rows[1:]} == {"preset"}
    named = {row.code.text for row in rows}
    assert "astrometry.wide_search.enabled" in named
    assert "astrometry.match_radius" not in named


def test_settings_are_all_values_with_their_meaning(house: House) -> None:
    job = house.services.storage.jobs.get(OWNER, house.submit()["id"])
    assert job is not None
    config = resolved_config("generic", {})
    found = settings(config, job, {})
    assert changed(found) == []
    assert len(found) > 400
    assert [item.path for item in found if not item.doc] == []
    config["psf_detection"]["threshold_value"] = 7.0
    (other,) = changed(settings(config, job, {"psf_detection": {"threshold_value": 7.0}}))
    assert (other.path, other.value, other.default, other.origin) == (
        "psf_detection.threshold_value",
        7.0,
        10.0,
        "instrument",
    )
    assert changed(settings(config, job, {}))[0].origin == "version"


def test_the_configuration_is_searched(house: House) -> None:
    job_id = house.submit()["id"]
    rows = page_of(house, f"/jobs/{job_id}/config?q=psf_detection+threshold").select("#settings tbody tr")
    assert 1 <= len(rows) < 20
    for row in rows:
        assert "psf_detection" in words(row)
        assert "threshold" in words(row).lower()
    assert "Nothing" in words(page_of(house, f"/jobs/{job_id}/config?q=unheard-of").select_one("#settings"))
    assert len(page_of(house, f"/jobs/{job_id}/config").select("#settings tbody tr")) > 400


def test_presets_of_other_days_do_not_break_the_page(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = house.submit(preset="parity")["id"]
    monkeypatch.delitem(PRESETS, "parity")
    assert house.client.get(f"/jobs/{job_id}").status_code == 200


def test_the_log_is_on_the_page(house: House) -> None:
    job_id = house.submit()["id"]
    fence = house.claim(job_id)
    house.report(fence, "psf.measure", 0.1)
    assert "begin psf.measure" in words(job_page(house, job_id).select_one("#log"))


def test_a_stranger_finds_nothing(guarded: House) -> None:
    log_in(guarded, token_of(guarded, "anna", "submit"))
    exposure_id = guarded.client.put(
        "/v1/exposures", content=fits_bytes(), headers={"Origin": "http://127.0.0.1:8470"}
    ).json()["id"]
    job_id = guarded.client.post(
        "/v1/jobs", json={"exposures": [exposure_id]}, headers={"Origin": "http://127.0.0.1:8470"}
    ).json()["id"]
    paths = [f"/jobs/{job_id}{rest}" for rest in ("", "/config", "/stars")]
    paths += [f"/parts/jobs/{job_id}/status", f"/parts/jobs/{job_id}/layers/stars"]
    assert guarded.client.get(paths[0]).status_code == 200
    guarded.client.cookies.clear()
    log_in(guarded, token_of(guarded, "berta", "read"))
    for path in paths:
        answer = guarded.client.get(path)
        assert (answer.status_code, job_id in answer.text) == (404, True), path
        assert "There is no job" in answer.text


def layer(known: tuple[House, str], name: str) -> dict[str, Any]:
    house, job_id = known
    answer = house.client.get(f"/parts/jobs/{job_id}/layers/{name}")
    assert answer.status_code == 200, answer.text
    again = house.client.get(f"/parts/jobs/{job_id}/layers/{name}", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    columns: dict[str, Any] = answer.json()
    assert len({len(values) for values in columns.values()}) == 1
    return columns


def test_stars_of_the_layer_are_those_of_the_catalogue(known: tuple[House, str]) -> None:
    columns = layer(known, "stars")
    np.testing.assert_allclose(np.transpose([columns["x"], columns["y"]]), STARS, atol=0.005)
    assert columns["id"] == ["1", "2", "3"]
    assert columns["kind"] == ["star", "star", "sky"]
    assert columns["a"] == [10.0, 10.0, None]  # 2.5 times the root of 16
    assert columns["b"] == [5.0, 5.0, None]


def test_residuals_are_what_stars_are_from_their_references(known: tuple[House, str]) -> None:
    columns = layer(known, "astrometry")
    np.testing.assert_allclose(columns["dx"], OFFSET[0], atol=2e-4)
    np.testing.assert_allclose(columns["dy"], OFFSET[1], atol=2e-4)
    np.testing.assert_allclose(np.transpose([columns["rx"], columns["ry"]]), STARS - OFFSET, atol=0.006)


def test_layers_that_are_not_there(known: tuple[House, str]) -> None:
    house, job_id = known
    assert house.client.get(f"/parts/jobs/{job_id}/layers/psf_stars").status_code == 404
    assert house.client.get(f"/parts/jobs/{job_id}/layers/galaxies").status_code == 422


def star_rows(house: House, job_id: str, query: str = "") -> list[dict[str, str]]:
    table = page_of(house, f"/jobs/{job_id}/stars{query}").select_one("table")
    names = [re.sub(r"[▲▼ ].*", "", words(head)) for head in table.thead.find_all("th")]
    cells = [[words(cell) for cell in row.find_all("td")] for row in table.tbody.find_all("tr")]
    return [dict(zip(names, row, strict=False)) for row in cells]


def test_the_table_begins_with_the_brightest_stars(house: House) -> None:
    rows = star_rows(house, house.completed())
    assert [row["sourceId"] for row in rows[:3]] == ["1024", "1023", "1022"]
    assert rows[0]["base_PsfFlux_instFlux"] == "240"
    assert (rows[-1]["sourceId"], rows[-1]["base_PsfFlux_instFlux"]) == ("1007", "–")


def test_the_light_of_a_blend_is_in_the_table_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = stars()
    catalog["deblend_nChild"][24] = 2
    catalog["sky_source"][23] = True
    monkeypatch.setattr("tests.api.conftest.stars", lambda: catalog)
    job_id = house.completed()
    assert [row["sourceId"] for row in star_rows(house, job_id)[:2]] == ["1022", "1021"]
    assert [row["sourceId"] for row in star_rows(house, job_id, "?q=1024")] == ["1024"]


def test_the_table_is_sorted_and_searched(house: House) -> None:
    job_id = house.completed()
    assert [row["sourceId"] for row in star_rows(house, job_id, "?order=sourceId")[:2]] == ["1000", "1001"]
    assert [row["sourceId"] for row in star_rows(house, job_id, "?q=1013")] == ["1013"]
    flagged = star_rows(house, job_id, "?q=base_PsfFlux_flag&order=sourceId")
    assert {row["sourceId"] for row in flagged} == {str(number) for number in range(1001, 1025, 2)}
    assert {row["Used"] for row in flagged} == {"flux failed"}
    (nothing,) = star_rows(house, job_id, "?q=999")
    assert nothing["sourceId"] == "No star is like that."
    answer = house.client.get(f"/jobs/{job_id}/stars?q=nonsense>3")
    assert answer.status_code == 422
    assert "nonsense" in answer.text
