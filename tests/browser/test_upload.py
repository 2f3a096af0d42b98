"""From files on the desk to results, with breaks in between."""

from __future__ import annotations

import base64
import re

import numpy as np
import pytest
from astropy.io import fits
from playwright.sync_api import expect

from tests.browser.conftest import is_narrow

LONG_MS = 60_000


@pytest.fixture
def fresh(service, tmp_path):
    """A file that the service has not seen: the pixels are other ones each time."""
    path = tmp_path / "fresh night.fits"
    with fits.open(service.exposure) as hdus:
        hdus[1].data = hdus[1].data + np.random.default_rng().normal(0, 0.01, hdus[1].data.shape).astype("f4")
        hdus.writeto(path)
    return path


def choose_references(page):
    page.select_option("#astrometry", "field-a")
    page.select_option("#photometry", "field-a")


def test_a_dropped_file_is_looked_at_sent_and_calibrated(page, fresh, look):
    page.goto("/upload")
    choose_references(page)
    # what a browser makes of a file that is dropped: a DataTransfer with it
    page.set_input_files("#file", [])
    transfer = page.evaluate_handle(
        """async (bytes) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], "dropped.fits"));
            return transfer;
        }""",
        base64.b64encode(fresh.read_bytes()).decode(),
    )
    page.dispatch_event("#drop", "dragover", {"dataTransfer": transfer})
    expect(page.locator("#drop")).to_have_class(re.compile("over"))
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    card = page.locator(".file", has_text="dropped.fits")
    expect(card.locator(".state")).to_have_text("ready")
    expect(card.locator(".verdicts .yes")).to_have_count(3)
    card.locator("summary").click()
    gain = card.locator("tr", has_text="gain")
    expect(gain).to_contain_text("header GAIN")
    expect(page.locator("#astrometry-hint")).to_have_text("Has stars in this part of the sky.")
    look(page, "upload-ready")
    page.click("#go")
    expect(card.locator(".state")).to_have_text("calibrated", timeout=LONG_MS)
    expect(card.locator(".words")).to_contain_text("Zero point")
    look(page, "upload-done")
    card.get_by_role("link", name="See the result").click()
    expect(page).to_have_url(re.compile("/jobs/job_"))


def test_what_is_missing_is_asked_for_and_what_was_read_can_be_changed(page, tmp_path, faults):
    faults.allow("422")  # a gain below zero
    path = tmp_path / "bare.fits"
    fits.writeto(path, np.random.default_rng(1).normal(100, 5, (64, 64)).astype("f4"), fits.Header({"FILTER": "r"}))
    page.goto("/upload")
    page.set_input_files("#file", path)
    card = page.locator(".file", has_text="bare.fits")
    lack = card.get_by_label("gain is not known")
    expect(lack).to_have_accessible_description(re.compile("the noise is taken from the image alone"))
    lack.fill("-3")
    lack.press("Tab")
    expect(card.locator(".words")).to_contain_text("no positive number")
    lack.fill("1.5")
    lack.press("Tab")
    expect(card.locator(".state")).to_have_text("ready")
    card.locator("summary").click()
    expect(card.locator("tr", has_text="gain")).to_contain_text("job parameter")
    card.get_by_role("button", name="Change band").click()
    card.get_by_label("band", exact=True).fill("i")
    card.get_by_label("band", exact=True).press("Tab")
    page.locator("#files h3").click()
    with page.expect_request("**/v1/inspect?**") as asked:
        page.select_option("#preset", "drp")
    assert "%22band%22%3A%22i%22" in asked.value.url


def test_the_only_catalogue_of_the_field_is_proposed(page, service):
    covered = {"field-a": True, "field-b": False, "field-c": False}  # all three cover it
    page.route("**/parts/upload/coverage?*", lambda route: route.fulfill(json=covered))
    page.goto("/upload")
    expect(page.locator("#astrometry")).to_have_value("none")
    page.set_input_files("#file", service.exposure)
    expect(page.locator("#astrometry")).to_have_value("field-a")
    expect(page.locator("#photometry")).to_have_value("field-a")
    page.select_option("#astrometry", "none")
    page.locator("#astrometry").dispatch_event("change")
    with page.expect_response("**/parts/upload/coverage?*"):  # the choice holds when it is looked at again
        page.select_option("#preset", "drp")
    expect(page.locator("#photometry")).to_have_value("field-a")
    expect(page.locator("#astrometry")).to_have_value("none")


def test_a_file_that_cannot_be_used_says_why_and_is_not_sent(page, tmp_path, faults):
    path = tmp_path / "notes.txt"
    path.write_text("no stars here")
    page.goto("/upload")
    page.set_input_files("#file", path)
    card = page.locator(".file", has_text="notes.txt")
    expect(card.locator(".state")).to_have_text("cannot be used")
    expect(card.locator(".words")).to_contain_text("not a FITS file")
    page.on("request", lambda request: faults.found.append("sent") if "/v1/uploads?" in request.url else None)
    page.click("#go")
    card.get_by_role("button", name="Remove").click()
    expect(page.locator("#nothing-yet")).to_be_visible()


def test_an_upload_goes_on_after_the_connection_was_cut(page, fresh, faults):
    faults.allow("Failed to load resource")
    pieces = []

    def cut(route):
        pieces.append(int(route.request.headers["upload-offset"]))
        if len(pieces) == 1:
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route("**/v1/uploads/upl_*", lambda route: cut(route) if route.request.method == "PATCH" else route.fallback())
    page.goto("/upload")
    page.set_input_files("#file", fresh)
    page.click("#go")
    card = page.locator(".file", has_text="fresh night.fits")
    expect(card.locator(".words")).to_contain_text("The connection is lost.")
    card.get_by_role("button", name="Try now").click()
    expect(card.locator(".state")).to_have_text(re.compile("calibrat|queued"), timeout=LONG_MS)
    assert len(pieces) == 2


def test_an_interrupted_upload_survives_a_reload(page, fresh, faults, look):
    """The page is closed in the middle; the same file goes on from what had arrived."""
    faults.allow("Failed to load resource")
    size, half = fresh.stat().st_size, fresh.stat().st_size // 2
    page.goto("/upload")
    page.set_input_files("#file", fresh)
    # the first half arrives, then the line is dead
    page.route(
        "**/v1/uploads/upl_*", lambda route: route.abort() if route.request.method == "PATCH" else route.fallback()
    )
    with page.expect_response("**/v1/uploads?filename=*") as begun:
        page.click("#go")
    upload = begun.value.json()["id"]
    head = {"Content-Type": "application/partial-upload", "Upload-Offset": "0", "Upload-Complete": "?0"}
    answer = page.request.patch(f"/v1/uploads/{upload}", headers=head, data=fresh.read_bytes()[:half])
    assert answer.status == 204
    page.unroute_all()
    page.goto("/upload")
    page.reload()
    unfinished = page.locator("#unfinished .file")
    expect(unfinished).to_contain_text("fresh night.fits")
    expect(unfinished).to_contain_text("Choose the same file again")
    look(page, "upload-interrupted")
    offsets = []
    page.on("request", lambda one: offsets.append(one.headers["upload-offset"]) if one.method == "PATCH" else None)
    page.set_input_files("#file", fresh)
    card = page.locator("#files .file")
    expect(card.locator(".words")).to_contain_text("A part of it is there already")
    page.click("#go")
    expect(card.locator(".state")).to_have_text(re.compile("calibrat|queued"), timeout=LONG_MS)
    assert offsets == [str(half)]
    assert page.request.get("/v1/exposures?limit=1").json()["items"][0]["size"] == size
    expect(unfinished).to_have_count(0)


def test_paused_goes_on_where_it_was(page, fresh):
    page.goto("/upload")
    page.set_input_files("#file", fresh)
    held = []
    page.route(
        "**/v1/uploads/upl_*", lambda route: held.append(route) if route.request.method == "PATCH" else route.fallback()
    )
    page.click("#go")
    card = page.locator("#files .file")
    card.get_by_role("button", name="Pause").click()
    expect(card.locator(".state")).to_have_text("paused")
    page.unroute_all(behavior="ignoreErrors")
    card.get_by_role("button", name="Pause").click()  # its name for the whole time; it says Go on
    expect(card.locator(".state")).to_have_text(re.compile("calibrat|queued"), timeout=LONG_MS)


def test_the_page_is_used_by_keyboard_alone(page, service):
    # The page's process has to know that choosers are listened for before it gets the key that opens one. Keys go there
    # by a way of their own and may overtake what was sent just before, so there is a listener from the beginning; what
    # is asked of the page below comes after it for certain.
    page.on("filechooser", lambda _: None)
    page.goto("/upload")
    page.focus("#file")
    expect(page.locator("label[for=file]")).to_have_css("outline-style", "solid")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(service.exposure)
    expect(page.locator("#files .state")).to_have_text("ready")
    page.focus("#go")
    page.keyboard.press("Enter")
    expect(page.locator("#files .state")).to_have_text("calibrated", timeout=LONG_MS)


def test_it_is_accessible_and_fits_a_telephone(page, phone, service, axe, look):
    for window in (page, phone):
        window.goto("/upload")
        window.set_input_files("#file", service.exposure)
        expect(window.locator("#files .state")).to_have_text("ready")
        window.locator("#files summary").click()
        axe(window)
        assert is_narrow(window)
    look(phone, "upload-phone")
