from __future__ import annotations

import json

import pytest
from lxml import html

from api.dashboard.config_form import changes, config_tree, counting, fields_of
from api.routers.config import get_config_schema
from service.calibration.config import CalibrateImageConfig
from service.jobs.configuration import complete_config
from service.storage.records import Scope

OWNER = Scope("local")
DEFAULTS = complete_config("generic", {}).values


def tree_of(values=DEFAULTS):
    return config_tree(get_config_schema(), values, DEFAULTS)


def leaves(values, path=""):
    for name, value in values.items():
        inner = f"{path}.{name}" if path else name
        if isinstance(value, dict) and value and not _is_value(inner):
            yield from leaves(value, inner)
        else:
            yield inner, value


def _is_value(path):
    """Whether the field is a mapping by itself: told by pydantic, not by the form."""
    model = CalibrateImageConfig
    value = CalibrateImageConfig()
    for name in path.split("."):
        value = getattr(value, name)
        if isinstance(value, dict):
            return True
    return model is None


def rerun(house, job_id, **fields):
    return house.client.post(f"/jobs/{job_id}/rerun", data=fields, follow_redirects=False)


def config_of(house, answer):
    assert answer.status_code == 303, answer.text[:2000]
    return house.client.get(f"/v1{answer.headers['location']}/config").json()


def test_the_form_has_every_value_of_the_configuration():
    shown = {one.path: one.value for one in counting(tree_of(), {})}
    values = dict(leaves(DEFAULTS))
    assert len(values) > 400
    assert {path: shown[path] for path in values} == values


@pytest.mark.parametrize("preset", ["generic", "drp", "parity"])
def test_a_form_that_is_sent_as_it_came_changes_nothing(preset):
    tree = tree_of(complete_config(preset, {}).values)
    assert changes(tree, {one.key: one.text(one.value) for one in fields_of(tree)}) == ({}, [])


def test_only_what_is_different_becomes_an_override():
    given = {
        "astrometry.matcher.max_offset_pix": "900",
        "do_compute_shapelet_decomposition": "false",
        "photometry.match_radius_arcsec": "0.5",
        "astrometry.matcher.retry_num_points_for_shape": "[6, 5]",
        "star_selector.signal_to_noise_max": "",
    }
    given["photometry.match_radius_arcsec"] = str(DEFAULTS["photometry"]["match_radius_arcsec"])
    overrides, faults = changes(tree_of(), given)
    assert faults == []
    assert overrides == {
        "astrometry": {"matcher": {"max_offset_pix": 900, "retry_num_points_for_shape": [6, 5]}},
        "do_compute_shapelet_decomposition": False,
    }


@pytest.mark.parametrize(("text", "said"), [("many", "a whole number"), ("true", "a whole number"), ("", "a whole")])
def test_a_text_that_is_no_value_is_told_by_its_field(text, said):
    _, (fault,) = changes(tree_of(), {"astrometry.matcher.max_offset_pix": text})
    assert fault.path == "astrometry.matcher.max_offset_pix"
    assert said in fault.detail


def test_the_other_model_of_a_choice_can_be_chosen(house):
    job_id = house.completed()
    path = "config.astrometry.wcs_fitter"
    config = config_of(
        house,
        rerun(house, job_id, **{f"{path}.name": "tan_sip", f"{path}-tan_sip.order": "2", f"{path}.num_rej_iter": "7"}),
    )
    assert config["astrometry"]["wcs_fitter"]["name"] == "tan_sip"
    assert config["astrometry"]["wcs_fitter"]["order"] == 2
    assert config["astrometry"]["wcs_fitter"]["num_rej_iter"] == 1  # the 7 was for the other one


def test_the_page_has_meaning_unit_range_default_and_the_value_as_run(house):
    job_id = house.completed(config={"psf_detection": {"threshold_value": 7.5}})
    page = html.fromstring(house.client.get(f"/jobs/{job_id}/rerun").text)
    (field,) = page.xpath("//input[@name='config.psf_detection.threshold_value']")
    (setting,) = field.xpath("ancestor::div[contains(@class, 'setting')]")
    assert field.get("value") == "7.5"
    assert "differs" in setting.get("class")
    text = " ".join(setting.text_content().split())
    assert f"default {json.dumps(DEFAULTS['psf_detection']['threshold_value'])}" in text
    assert "> 0" in text
    assert page.xpath("//select[@name='config.psf_repair.cosmicray.fill']/option/text()")
    assert page.xpath("//input[@type='checkbox'][@name='config.do_compute_shapelet_decomposition'][@checked]")


def test_a_plain_form_reruns_with_a_field_changed(house):
    job_id = house.completed(run_id="night")
    answer = rerun(house, job_id, **{"config.psf_detection.threshold_value": "12", "run_id": "again", "preset": ""})
    assert config_of(house, answer)["psf_detection"]["threshold_value"] == 12.0
    new = house.client.get(f"/v1{answer.headers['location']}").json()
    assert (new["rerun_of"], new["run_id"], new["preset"]) == (job_id, "again", "generic")
    record = house.services.storage.jobs.get(OWNER, new["id"])
    assert record.spec["config"] == {"psf_detection": {"threshold_value": 12}}


def test_a_box_that_is_unticked_is_off(house):
    """The field is there twice where the box is ticked: hidden as off, and the box itself."""
    name = "config.do_compute_shapelet_decomposition"
    job_id = house.completed()
    assert config_of(house, rerun(house, job_id, **{name: "false"}))["do_compute_shapelet_decomposition"] is False
    ticked = house.client.post(
        f"/jobs/{job_id}/rerun",
        content=f"{name}=false&{name}=true&force=on",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        follow_redirects=False,
    )
    assert config_of(house, ticked)["do_compute_shapelet_decomposition"] is True


def test_metadata_are_given_and_taken_back(house):
    job_id = house.completed(metadata={"gain": 2.0})
    answer = rerun(house, job_id, **{"metadata.gain": "", "metadata.band": "i"})
    new = house.services.storage.jobs.get(OWNER, answer.headers["location"].removeprefix("/jobs/"))
    assert {name: value for name, value in new.spec["metadata"].items() if value is not None} == {
        "band": "i",
        "gain": 2.0,
    }


@pytest.mark.parametrize(
    ("field", "text", "said"),
    [
        ("config.astrometry.matcher.max_offset_pix", "far", "is not a whole number"),
        ("config.astrometry.matcher.num_bright_stars", "-3", "greater than or equal to 2"),
        ("config.photometry.match_radius_arcsec", "-1", "greater than 0"),
        ("metadata.gain", "-2", "no positive number"),
    ],
)
def test_faults_stand_at_their_fields(house, field, text, said):
    job_id = house.completed()
    answer = rerun(house, job_id, **{field: text})
    assert answer.status_code == 422
    page = html.fromstring(answer.text)
    (entry,) = page.xpath("//*[@aria-invalid='true']")
    assert (entry.get("name"), entry.get("value")) == (field, text)
    assert said in page.xpath(f"string(//*[@id='{entry.get('aria-describedby')}'])")
    assert page.xpath(f"//*[@role='alert']//a[@href='#{entry.get('id')}']")
    assert all(group.get("open") is not None for group in entry.xpath("ancestor::details"))


def test_nothing_changed_says_so_instead_of_leading_in_a_circle(house):
    content = house.fits_bytes(5.0)
    answer = house.client.post("/v1/jobs", json={"exposures": [house.upload(content)]})
    job_id = answer.json()["id"]
    house.finish(house.claim(job_id))
    answer = rerun(house, job_id)
    assert answer.status_code == 200
    assert "Nothing is different" in answer.text
    assert rerun(house, job_id, force="on").status_code == 303


def test_a_job_of_nobody_is_not_found(house):
    assert house.client.get("/jobs/job_0/rerun").status_code == 404
    assert rerun(house, "job_0").status_code == 404


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 20_000, "9" * 5000])
def test_a_text_without_end_is_a_fault_of_its_field(house, text):
    job_id = house.completed()
    for path in ("psf_detection.stats_mask", "psf_subtract_background.approx_order_x"):
        answer = rerun(house, job_id, **{f"config.{path}": text})
        assert answer.status_code == 422
        assert "is not" in answer.text


def test_a_form_with_more_fields_than_any_has_is_refused(house):
    answer = rerun(house, house.completed(), **{f"field{number}": "1" for number in range(2001)})
    assert answer.status_code == 400
    assert "cannot be read" in html.fromstring(answer.text).text_content()
