"""The page of a night as a person reads it, without a script."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from bs4 import BeautifulSoup

from api.dashboard.wording import day, signed, stage
from api.routers.config import get_errors
from service.jobs.outcome import JobError
from tests.api.conftest import House
from tests.api.test_nights import Sky

HOSTILE = '<img src=x onerror=alert(1)>"&'


@pytest.fixture
def sky(house: House) -> Sky:
    return Sky(house)


class Page:
    """A page, read."""

    def __init__(self, sky: Sky, path: str = "/", **query: Any) -> None:
        self.answer = sky.house.client.get(path, params=query or None)
        assert self.answer.status_code == 200, self.answer.text
        self.tree = BeautifulSoup(self.answer.text, "html.parser")

    def text(self, css: str) -> str:
        """All text under the one element that the selector finds."""
        [element] = self.tree.select(css)
        return words(element)

    @property
    def rows(self) -> list[str]:
        """Jobs of the table from its top."""
        return [row.get("id") for row in self.tree.select("#rows tr[id]")]

    def cells(self, job: str) -> dict[str, str]:
        """What the row of a job says, by the labels of its cells."""
        [row] = self.tree.select(f"tr#{job}")
        return {cell.get("data-label"): words(cell) for cell in row.select("[data-label]")}


def words(element: Any) -> str:
    return " ".join(element.get_text(" ").split())


def test_before_the_first_exposure_it_says_what_to_do(sky: Sky) -> None:
    page = Page(sky)
    assert "No exposure has come yet" in page.text("main")
    assert page.tree.select('main a[href="/refcats"]')
    assert page.tree.select('main a[href="/upload"]')
    assert Page(sky, "/parts/tonight").answer.text.strip() == ""


def test_a_row_says_how_an_exposure_stands(sky: Sky) -> None:
    sky.before()
    job = sky.done(minutes=4, OBJECT="NGC 253")
    clouded = sky.done({"zeroPoint": 27.7}, minutes=5)
    page = Page(sky)
    cells = page.cells(job)
    assert cells["Target"] == "r NGC 253"
    assert cells["UTC"] == "03:04:00 30 s"
    assert cells["State"] == "✓ done"
    assert cells["Seeing"] == "0.94"
    assert cells["Astrometry"] == "5.0"
    assert cells["Depth"].startswith("24.00")
    assert cells["Sky"] == "19.51 3.3 ct/s"  # 28 - 2.5 log10(100 / 0.04), and 100 counts in 30 s
    said = page.cells(clouded)["Zero point"]
    assert said.startswith("−0.300 ▼ dim usual −0.0")
    assert page.tree.select(f'tr#{job} a[href="/jobs/{job}"]')
    assert "21 November 2026" not in page.text("h1")
    assert "Tonight 20 November 2026" in page.text("h1")
    assert "farthest is the zero point of visit 14, 0.300 mag below the expected" in page.text(".verdict")


def test_a_failure_says_why(sky: Sky) -> None:
    known = get_errors().job_errors[0]
    message = "only 2 of 5 stars <b>are</b> good"
    job = sky.finish(sky.submit(), error=JobError(known.code, "Failure", message))
    page = Page(sky)
    [row] = page.tree.select(f"tr#{job}")
    assert words(row.select(".why")[0]) == f"{known.title.rstrip('.')} Only 2 of 5 stars <b>are</b> good"
    assert not row.select("img")  # there is no picture of it
    assert "1 failed" in page.text(".verdict")


def test_running_and_waiting_rows_say_how_far_they_are(sky: Sky) -> None:
    running, waiting = sky.submit(minutes=1), sky.submit(minutes=2)
    sky.house.report(sky.house.claim(running), "psf.first_pass", 0.42)
    page = Page(sky)
    [bar] = page.tree.select(f"tr#{running} progress")
    assert (bar.get("value"), bar.get("max")) == ("0.42", "1")
    [row] = page.tree.select(f"tr#{running}")
    assert "running psf: first pass 42 %" in words(row)
    assert "waiting" in page.cells(waiting)["State"]
    assert "1 running, 1 waiting" in page.text(".figures")


def test_headers_are_text(sky: Sky) -> None:
    """Whatever a header says stays text: in the table, the choices and the links."""
    job = sky.done(OBJECT=HOSTILE, INSTRUME="</select><script>1</script>")
    for page in (Page(sky), Page(sky, target=HOSTILE), Page(sky, target='"><script>alert(1)</script>')):
        assert not page.tree.select("main script")
        assert not page.tree.select("img[onerror]")
        assert HOSTILE in [option.get("value") for option in page.tree.select("#target option")]
    page = Page(sky)
    assert page.cells(job)["Target"] == f"r {HOSTILE}"
    assert "</select><script>1</script>" in words(page.tree.select(f"tr#{job} .name")[0])


def test_what_is_not_known_is_a_dash(sky: Sky) -> None:
    job = sky.submit(OBJECT=None, FILTER=None, VISIT=None, **{"INSTRUME": None, "DATE-AVG": None, "OBS-LONG": None})
    sky.finish(job, dict.fromkeys(("psfSigma", "zeroPoint", "skyBg", "magLim", "astromOffsetMean"), float("nan")))
    page = Page(sky)
    cells = page.cells(job)
    assert {cells[name] for name in ("Seeing", "Sky", "Zero point", "Depth", "Astrometry")} == {"–"}
    assert cells["Target"] == "r –"
    assert cells["UTC"].endswith("submitted 30 s")
    assert "unknown instrument" in words(page.tree.select(f"tr#{job} .name")[0])
    assert "nan" not in page.answer.text.lower().replace("ornan", "").split("<tbody")[1]
    assert "too few exposures of the nights before" in page.text(".verdict")


def test_choices_stand_in_the_address(sky: Sky) -> None:
    sky.before()
    red, green = sky.done({"psfSigma": 7.0}, OBJECT="M31"), sky.done(OBJECT="M33", FILTER="g")
    failed = sky.fail(sky.submit(OBJECT="M33"))
    assert set(Page(sky).rows) == {red, green, failed}
    assert Page(sky, target="M33", band="g").rows == [green]
    assert Page(sky, state="failed").rows == [failed]
    assert Page(sky, outside="true").rows == [red]
    page = Page(sky, target="M33", band="", state="", instrument="", night="")  # as the form sends it
    assert set(page.rows) == {green, failed}
    assert [option.get("value") for option in page.tree.select("#target option[selected]")] == ["M33"]
    nothing = Page(sky, target="M33", state="running")
    assert nothing.rows == []
    assert "No exposure of this night is so" in nothing.text("#rows")
    earlier = Page(sky, night="2026-11-19", target="M31")
    assert len(earlier.rows) == 4
    assert earlier.tree.select('a[rel=next][href="?night=2026-11-20&target=M31"]')


def test_the_run_of_a_job_leads_to_its_exposures(sky: Sky) -> None:
    one = sky.submit(days=-1, run_id="a & b")
    sky.submit()
    [link] = BeautifulSoup(sky.house.client.get(f"/jobs/{one}").text, "html.parser").select(".identity a[href*=run_id]")
    page = Page(sky, str(link.get("href")))
    assert page.rows == [one]
    assert [option.get("value") for option in page.tree.select("#run_id option[selected]")] == ["a & b"]


def test_pages_of_a_long_night(sky: Sky, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.dashboard.tonight._ROWS", 2)
    jobs = [sky.submit(minutes=number) for number in range(3)]
    page = Page(sky)
    assert page.rows == jobs[:0:-1]
    [link] = page.tree.select(".pages a[rel=next]")
    rest = Page(sky, "/" + str(link.get("href")))
    assert rest.rows == jobs[:1]
    assert not rest.tree.select(".pages a[rel=next]")
    assert rest.tree.select(".pages a")[0].get("href") == "/"


def test_what_runs_elsewhere_is_told(sky: Sky) -> None:
    sky.submit()
    sky.submit(days=-400)
    assert "Under way in other nights: 2025-10-16 (1)." in Page(sky).text(".elsewhere")


@pytest.mark.parametrize(
    ("path", "status"),
    [("/?night=2019-01-01", 404), ("/?night=tonight", 422), ("/?colour=red", 422), ("/parts/tonight?x=1", 422)],
)
def test_addresses_that_lead_nowhere(sky: Sky, path: str, status: int) -> None:
    answer = sky.house.client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")


def test_a_reprocessed_exposure_says_so(sky: Sky) -> None:
    first = sky.done()
    answer = sky.house.client.post(f"/v1/jobs/{first}/rerun", json={"force": True})
    assert answer.status_code == 202, answer.text
    again = sky.finish(answer.json()["id"])
    page = Page(sky)
    assert "calibrated again since" in page.cells(first)["State"]
    assert "rerun" in page.cells(again)["State"]
    assert "1 exposure calibrated." in page.text(".verdict")


def test_words() -> None:
    assert [str(signed(value, 2)) for value in (0.126, -0.126, 0.001, -0.001)] == ["+0.13", "−0.13", "0.00", "0.00"]
    assert "–" in str(signed(None))
    assert stage("psf.first_pass") == "psf: first pass"
    assert (day(date(2026, 1, 2)), day(date(2026, 1, 2), short=True)) == ("2 January 2026", "2 Jan")
