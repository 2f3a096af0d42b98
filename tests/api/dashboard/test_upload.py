from __future__ import annotations

import json

import pytest
from lxml import html

from api.dashboard.upload import job_parameters
from api.problems import Problem
from service.storage.records import Scope

CATALOG = b"ra,dec,r_mag\n" + b"\n".join(b"%f,2.0,%f" % (150 + 0.01 * i, 15 + 0.1 * i) for i in range(30))


def page_of(answer):
    return html.fromstring(answer.text)


def menu(page, name):
    return [option.get("value") for option in page.xpath(f"//select[@name='{name}']/option")]


def test_the_form_offers_what_the_service_knows(house):
    house.client.put("/v1/refcats/gaia", content=CATALOG).raise_for_status()
    page = page_of(house.client.get("/upload"))
    assert menu(page, "astrometry") == menu(page, "photometry") == ["none", "gaia"]
    assert page.xpath("//select[@name='astrometry']/option[@selected]/@value") == ["gaia"]  # the only one there is
    assert menu(page, "preset") == [one["name"] for one in house.client.get("/v1/presets").json()["items"]]
    assert menu(page, "instrument")[0] == ""
    assert "decam" in menu(page, "instrument")
    labelled = set(page.xpath("//label/@for"))
    for field in page.xpath("//input | //select"):
        assert field.get("id") in labelled or field.xpath("ancestor::label"), html.tostring(field)


def test_the_scripts_get_every_key_that_a_job_may_give(house):
    keys = json.loads(page_of(house.client.get("/upload")).xpath("//form[@id='upload']/@data-keys")[0])
    assert keys["gain"] == {"type": "number", "unit": "electron/count", "doc": "electrons per count of the image"}
    assert {"band", "ra", "dec", "pixel_scale", "mjd"} <= keys.keys()


def test_a_plain_form_uploads_submits_and_leads_to_the_job(house):
    fields = {"astrometry": "none", "photometry": "none", "preset": "generic", "instrument": "", "run_id": " night "}
    answer = house.client.post(
        "/upload",
        data={**fields, "metadata.gain": "1.5", "metadata.band": ""},
        files={"file": ("e.fits", house.fits_bytes())},
        follow_redirects=False,
    )
    assert answer.status_code == 303, answer.text
    job_id = answer.headers["location"].removeprefix("/jobs/")
    job = house.client.get(f"/v1/jobs/{job_id}").json()
    assert job["run_id"] == "night"
    record = house.services.storage.jobs.get(Scope("local"), job_id)
    assert record.spec["metadata"] == {"gain": 1.5}


def test_two_files_of_a_plain_form_are_snaps_of_one_exposure(house):
    files = [("file", ("a.fits", house.fits_bytes(1.0))), ("file", ("b.fits", house.fits_bytes(2.0)))]
    answer = house.client.post("/upload", data={"preset": "generic"}, files=files, follow_redirects=False)
    job = house.client.get(f"/v1{answer.headers['location']}").json()
    assert len(job["exposures"]) == 2


@pytest.mark.parametrize(
    ("content", "fields", "said"),
    [
        (b"no fits file", {}, "does not begin as a FITS file"),
        (None, {"metadata.gain": "-1"}, "metadata 'gain' is '-1', no positive number"),
        (None, {"astrometry": "nowhere"}, "nowhere"),
        (None, {"preset": "soup"}, "there is no preset 'soup'"),
    ],
)
def test_a_refused_form_comes_again_with_the_reason_in_words(house, content, fields, said):
    files = {"file": ("e.fits", content or house.fits_bytes())}
    answer = house.client.post("/upload", data={"preset": "generic", **fields}, files=files)
    assert 400 <= answer.status_code < 500
    page = page_of(answer)
    assert said in page.xpath("string(//*[@role='alert'])")
    assert page.xpath("//form[@id='upload']")
    assert house.client.get("/v1/jobs").json()["items"] == []


def test_what_was_left_empty_is_not_said():
    fields = {"astrometry": "gaia", "photometry": "", "instrument": "", "metadata.band": "r", "metadata.mjd": " "}
    assert job_parameters(fields, ["exp_1"]) == {
        "exposures": ["exp_1"],
        "references": {"astrometry": "gaia", "photometry": "none"},
        "metadata": {"band": "r"},
    }


def test_an_unknown_field_is_refused():
    with pytest.raises(Problem, match="colour"):
        job_parameters({"colour": "red"}, [])


def test_the_coverage_of_catalogues_is_told_by_position(house):
    house.client.put("/v1/refcats/gaia", content=CATALOG).raise_for_status()
    assert house.client.get("/parts/upload/coverage?ra=150.1&dec=2").json() == {"gaia": True}
    assert house.client.get("/parts/upload/coverage?ra=-209.9&dec=2").json() == {"gaia": True}
    assert house.client.get("/parts/upload/coverage?ra=330&dec=-70").json() == {"gaia": False}


def test_hostile_names_stay_text(house):
    house.client.put("/v1/refcats/gaia", content=CATALOG).raise_for_status()
    answer = house.client.post(
        "/upload",
        data={"preset": "<script>alert(1)</script>"},
        files={"file": ("e.fits", house.fits_bytes())},
    )
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;alert" in answer.text
