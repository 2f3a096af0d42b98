"""A night in a real browser: rows come and advance by themselves, choices by keyboard, narrow screens."""

from __future__ import annotations

import itertools
import re
import time
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import is_narrow

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from tests.browser.conftest import Faults, Service

#: Night of visit 101 at the longitude of Chile; 202 and 203 are of the next one.
FIRST = "2026-11-21"
#: Of the zero point there is none: so few exposures tell nothing of what is to be expected.
CHARTS = 4


def settled(page: Page) -> None:
    """Wait until the page is live and its charts stand."""
    expect(page.locator("#live-word")).to_have_text("live")
    expect(page.locator("#charts canvas")).to_have_count(CHARTS)


def test_the_night_is_there_at_a_glance(
    page: Page, service: Service, look: Callable[[Page, str], None], axe: Callable[[Page], None]
) -> None:
    page.goto("/")
    settled(page)
    row = page.locator(f"tr#{service.other}")
    expect(row).to_contain_text("202 · 2")
    expect(row).to_contain_text("Field B")
    expect(row.locator("td[data-label=Seeing]")).to_have_text(re.compile(r"^\s*1\.[12]\d\s"))  # 5.5 px of 0.2 arcsec
    expect(page.locator(f"tr#{service.failed} .why strong")).not_to_be_empty()
    expect(page.locator(f"tr#{service.other} img.thumb")).to_have_js_property("complete", True)
    assert page.locator(f"tr#{service.other} img.thumb").evaluate("image => image.naturalWidth") > 50
    expect(page.locator(".verdict")).to_contain_text("1 failed")
    look(page, "tonight")
    axe(page)
    page.locator("#theme").click()
    expect(page.locator("#charts canvas")).to_have_count(CHARTS)
    look(page, "tonight-light")


def test_a_new_exposure_comes_and_ends_without_a_reload(page: Page, service: Service) -> None:
    page.goto("/")
    settled(page)
    page.evaluate("window.isStillThisPage = true")
    asked: list[float] = []
    page.on("request", lambda request: asked.append(time.monotonic()) if "/parts/tonight" in request.url else None)
    page.locator(f"tr#{service.other} th a").focus()
    job = service.client.rerun(service.other, {"config": {"psf_detection": {"threshold_value": 9.0}}, "force": True})
    row = page.locator(f"tr#{job.id}")
    expect(row).to_be_visible()
    expect(row.locator(".mark")).to_have_text(re.compile("done"), timeout=60_000)
    expect(row.locator("td[data-label=Seeing]")).to_have_text(re.compile(r"\d\.\d\d"))
    expect(page.locator(f"tr#{service.other}")).to_have_class(re.compile("superseded"))
    assert page.evaluate("window.isStillThisPage") is True
    assert page.evaluate("document.activeElement.closest('tr')?.id") == service.other  # the focus is where it was
    gaps = [late - early for early, late in itertools.pairwise(asked)]
    assert asked
    assert all(gap > 0.9 for gap in gaps), gaps


def test_a_running_row_advances_by_its_events(page: Page, service: Service) -> None:
    page.goto(f"/?night={FIRST}")
    settled(page)
    job = service.client.submit(service.exposure, references="field-a", force=True)
    row = page.locator(f"tr#{job.id}")
    expect(row).to_be_visible()
    expect(row.locator(".mark")).to_have_text(re.compile("done"), timeout=60_000)


def test_choices_by_keyboard_alone(page: Page, service: Service) -> None:
    page.goto("/")
    settled(page)
    page.locator("#state").focus()
    page.keyboard.type("failed")
    page.wait_for_url(re.compile(r"\?state=failed$"))  # and nothing that was not chosen
    expect(page.locator("#rows tr[id]")).to_have_count(1)
    expect(page.locator(f"tr#{service.failed}")).to_be_visible()
    page.reload()
    expect(page.locator("#state")).to_have_value("failed")
    page.locator(".clear").focus()
    page.keyboard.press("Enter")
    expect(page.locator(f"tr#{service.other}")).to_be_visible()
    page.locator("a[rel=prev]").focus()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("Night of 21 November 2026")
    expect(page.locator(f"tr#{service.completed}")).to_be_visible()


def test_a_point_of_a_chart_leads_to_its_exposure(page: Page, service: Service) -> None:
    page.goto(f"/?night={FIRST}")
    settled(page)
    page.locator("[data-span=nights]").click()
    expect(page.locator("[data-span=nights]")).to_have_attribute("aria-pressed", "true")
    page.locator("[data-span=night]").click()
    seeing = page.locator("#charts figure").first
    expect(seeing.locator("[role=img]")).to_have_attribute("aria-label", re.compile(r"Seeing\. r: \d+ points?, median"))
    over = seeing.locator(".u-over")
    box = over.bounding_box()
    assert box is not None
    found = False
    for step in range(20):  # along the middle of time, where the only moment of that night is
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * (step + 0.5) / 20)
        found = page.locator("tr.pointed").count() == 1
        if found:
            break
    assert found
    pointed = page.locator("tr.pointed").get_attribute("id")
    page.mouse.down()
    page.mouse.up()
    page.wait_for_url(f"**/jobs/{pointed}")


def test_a_telephone_needs_no_sideways_scroll(
    phone: Page, service: Service, look: Callable[[Page, str], None], axe: Callable[[Page], None]
) -> None:
    phone.goto("/")
    settled(phone)
    assert is_narrow(phone)
    expect(phone.locator(f"tr#{service.failed}")).to_be_visible()
    look(phone, "tonight-phone")
    axe(phone)


def test_it_polls_where_no_stream_stands(page: Page, service: Service, faults: Faults) -> None:
    faults.allow("Failed to load resource|net::ERR")
    page.route("**/v1/events?*", lambda route: route.abort())
    page.goto("/")
    expect(page.locator("#live-word")).to_have_text("reconnecting")
    job = service.client.rerun(service.other, {"config": {"psf_detection": {"threshold_value": 8.0}}, "force": True})
    expect(page.locator(f"tr#{job.id}")).to_be_visible(timeout=12_000)


@pytest.mark.parametrize("script", [True, False])
def test_it_says_the_same_without_a_script(open_page: Callable[..., Page], service: Service, *, script: bool) -> None:
    page = open_page(service.url, java_script_enabled=script)
    page.goto("/?state=failed")
    expect(page.locator(f"tr#{service.failed} .why")).to_be_visible()
    expect(page.locator("#apply")).to_have_count(1)
    if not script:
        page.locator("#state").select_option("done")
        page.locator("#apply").click()
        expect(page.locator(f"tr#{service.other}")).to_be_visible()
