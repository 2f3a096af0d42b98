"""Queue and reference catalogues, live and by hand."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.browser.conftest import is_narrow
from visitcal.errors import ConflictError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.browser.conftest import Faults, Service

STARS = "RAJ2000,DEJ2000,rmag\n10.0,-30.0,15.0\n10.2,-30.1,16.0\n10.4,-30.2,16.5\n"


def test_the_queue_follows_jobs_without_a_reload(
    page: Page, service: Service, look: Callable[[Page, str], None], axe: Callable[[Page], None]
) -> None:
    page.goto("/queue")
    expect(page.locator("#live")).to_have_text("live")
    expect(page.get_by_text("Nothing of yours waits")).to_be_visible()
    expect(page.locator("#workers").get_by_text("alive")).to_be_visible()
    # So many that the last one waits while we look, however slow the browser and fast the worker.
    exposure = service.client.upload(service.exposure)["id"]
    options = {"references": "field-a", "run_id": "queue", "force": True}
    jobs = [service.client.submit(exposure, **options, priority=9 - number) for number in range(8)]
    abort = page.locator(f"#abort-{jobs[-1].id}")
    expect(abort).to_be_visible()
    expect(page.locator("#jobs").get_by_text("running")).to_have_count(1)
    look(page, "queue")
    abort.focus()
    with page.expect_response("**/parts/queue"):
        pass
    expect(abort).to_be_focused()
    page.once("dialog", lambda dialog: dialog.accept())
    page.keyboard.press("Enter")
    expect(abort).to_have_count(0)
    assert jobs[-1].refresh()["phase"] == "ABORTED"
    axe(page)
    for job in jobs[:-1]:
        with contextlib.suppress(ConflictError):  # it has ended meanwhile
            job.abort()
    expect(page.get_by_text("Nothing of yours waits")).to_be_visible()


def test_a_change_that_is_refused_is_told_in_words(page: Page, service: Service, faults: Faults) -> None:
    faults.allow(r"(status of|Error Code) 409")
    page.goto("/queue")
    page.evaluate(
        """id => {
            const form = document.createElement("form");
            form.setAttribute("hx-post", `/queue/${id}/abort`);
            form.append(Object.assign(document.createElement("button"), {textContent: "Too late"}));
            document.querySelector("main").append(form);
            htmx.process(form);
        }""",
        service.completed,
    )
    page.get_by_role("button", name="Too late").click()
    expect(page.locator("#notices .notice")).to_contain_text("COMPLETED")


def test_a_catalogue_is_added_seen_on_the_map_and_removed(
    page: Page, service: Service, faults: Faults, tmp_path: Path, look: Callable[[Page, str], None]
) -> None:
    path = tmp_path / "south field.csv"
    path.write_text(STARS)
    page.goto("/refcats")
    cells = page.locator("svg path.cells")
    before = cells.count()
    assert before >= 3
    page.get_by_label("File").set_input_files(path)
    expect(page.get_by_label("Name")).to_have_value("south-field")
    faults.allow(r"status of 4(00|22)")
    page.get_by_role("button", name="Add").click()
    expect(page.locator("#said")).to_contain_text("the file has no magnitude or flux")
    page.get_by_label("Columns").fill("ra=RAJ2000,dec=DEJ2000,r_mag=rmag")
    page.get_by_label("Epoch").fill("2000")
    page.keyboard.press("Enter")
    expect(page.locator("#said")).to_have_text("south-field is there, with 3 stars.")
    row = page.locator("#catalogs tbody tr", has_text="south-field")
    expect(row).to_contain_text("J2000.0")
    expect(cells).to_have_count(before + 1)
    look(page, "refcats")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Remove south-field").click()
    expect(row).to_have_count(0)
    expect(cells).to_have_count(before)


def test_a_telephone_shows_rows_as_cards(phone: Page, service: Service, look: Callable[[Page, str], None]) -> None:
    phone.goto("/refcats")
    row = phone.locator("#catalogs tbody tr").first
    assert row.evaluate("row => getComputedStyle(row).display") == "grid"
    label = row.locator("[data-label=Stars]").evaluate("cell => getComputedStyle(cell, '::before').content")
    assert label == '"Stars"'
    assert is_narrow(phone)
    look(phone, "phone-refcats-cards")
