"""What is done with runs: why one failed, once more with changes, two side by side."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.conftest import is_narrow


def test_a_failed_job_shows_where_the_references_should_be(page, service, look):
    page.goto(f"/jobs/{service.failed}")
    failure = page.locator("section.failure")
    expect(failure.get_by_role("heading").first).to_contain_text("The catalogue has no star in this field")
    field = failure.locator("svg.field")
    expect(field).to_have_attribute("aria-label", re.compile("references of field-c"))
    assert field.locator("circle").count() > 20
    expect(failure.get_by_role("link", name="Run again with changes")).to_be_visible()
    look(page, "failure-field")


def test_one_button_runs_what_a_failed_job_suggests(page, service, look):
    """No star lies as near its reference as this run wants it for the zero point."""
    config = {"photometry": {"match_radius_arcsec": 1e-5}}
    job = service.client.submit(service.exposure, references="field-a", config=config)
    job.wait(120, check=False)
    page.goto(f"/jobs/{job.id}")
    failure = page.locator("section.failure")
    expect(failure.get_by_role("heading").first).to_contain_text("No star could be matched with a photometric")
    expect(failure.locator(".diff")).to_contain_text("photometry.match_radius_arcsec from 1e-05 to 1.0")
    look(page, "failure")
    failure.get_by_role("button", name="Try with these settings").click()
    expect(page).not_to_have_url(re.compile(job.id))
    new = service.client.job(page.url.rpartition("/")[2]).document
    assert new["rerun_of"] == job.id
    expect(page.locator("section.failure")).to_have_count(0)


def test_a_field_of_the_form_reaches_the_new_job(page, service, look):
    page.goto(f"/jobs/{service.completed}/rerun")
    page.fill("#search", "psf_detection threshold")
    threshold = page.get_by_label("threshold_value").locator("visible=true")
    expect(threshold).to_have_count(1)
    threshold.fill("14")
    expect(page.locator("#count")).to_have_text("1 setting changed")
    look(page, "rerun")
    with page.expect_request(lambda request: request.method == "POST") as sent:
        page.get_by_role("button", name="Run again").first.click()
    assert "config." in sent.value.post_data
    assert sent.value.post_data.count("config.") == 1  # what was not changed does not travel
    expect(page).to_have_url(re.compile("/jobs/job_[^/]+$"))
    config = page.request.get(f"/v1/jobs/{page.url.rpartition('/')[2]}/config").json()
    assert config["psf_detection"]["threshold_value"] == 14.0


def test_a_change_can_be_taken_back_by_keyboard(page, service):
    page.goto(f"/jobs/{service.completed}/rerun")
    box = page.get_by_label("do_compute_shapelet_decomposition", exact=True)
    box.focus()
    page.keyboard.press("Space")
    expect(page.locator("#count")).to_have_text("1 setting changed")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Reset do_compute_shapelet_decomposition")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#count")).to_have_text("")
    expect(box).to_be_checked()
    expect(box).to_be_focused()


def test_a_value_that_cannot_be_is_shown_at_its_field(page, service, faults):
    faults.allow("422")
    page.goto(f"/jobs/{service.completed}/rerun")
    page.fill("#search", "max_offset_pix")
    page.get_by_label("max_offset_pix", exact=True).fill("-5")
    page.get_by_role("button", name="Run again").first.click()
    field = page.get_by_label("max_offset_pix", exact=True)
    expect(field).to_be_focused()
    expect(field).to_have_value("-5")
    expect(field).to_have_accessible_description(re.compile("greater than or equal to 1"))


def test_two_runs_side_by_side(page, service, look):
    page.goto(f"/compare?a={service.completed}")
    page.locator(f"a[href*='{service.rerun}']").click()
    expect(page.locator("tr", has_text="psf_detection.threshold_value")).to_contain_text("12.0")
    matched = page.locator("dl.figures div", has_text="In both").locator("dd")
    expect(matched).to_have_text(re.compile(r"\d{2,}"))
    expect(page.locator("dl.figures div", has_text="Median Δ magnitude")).to_contain_text("mmag")
    expect(page.locator("#viewer-b canvas")).to_be_visible()
    page.locator("#blink").click()
    expect(page.locator("#viewers")).to_have_class(re.compile("blinking"))
    expect(page.locator("figure.behind")).to_have_count(1)
    page.locator("#blink").click()
    expect(page.locator("figure.behind")).to_have_count(0)
    look(page, "compare")


def test_they_are_accessible_and_fit_a_telephone(page, phone, service, axe, look):
    for name, address in (
        ("failure", f"/jobs/{service.failed}"),
        ("rerun", f"/jobs/{service.completed}/rerun"),
        ("compare", f"/compare?a={service.completed}&b={service.rerun}"),
        ("compare-choice", f"/compare?a={service.completed}"),
    ):
        page.goto(address)
        page.wait_for_load_state("networkidle")
        axe(page)
        phone.goto(address)
        phone.wait_for_load_state("networkidle")
        assert is_narrow(phone), name
        look(phone, f"{name}-phone")
