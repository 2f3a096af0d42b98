"""The page of a job in a browser: the image and what is drawn over it, by mouse, by keyboard and by finger."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from tests.browser.conftest import PATIENCE_MS, is_narrow

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Locator, Page

    from tests.browser.conftest import Faults, Service

_COLORS = {"stars": (0x5F, 0xD3, 0x9A), "psf-used": (0xFF, 0x6B, 0x6B), "residuals": (255, 255, 255)}
_PIXELS = """(color) => {
  const canvas = document.querySelector(".marks");
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let count = 0;
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] > 200 && color.every((value, band) => Math.abs(data[i + band] - value) < 12)) count++;
  }
  return count;
}"""


@pytest.fixture(autouse=True)
def _read_back(faults: Faults) -> None:
    faults.allow("willReadFrequently")  # the tests look at canvases, the page does not


def wait(page: Page, expression: str) -> None:
    """Until an expression holds; Playwright's own way needs `eval`, which the page's policy forbids."""
    end = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(50)


def open_job(page: Page, job_id: str, rest: str = "") -> None:
    page.goto(f"/jobs/{job_id}{rest}")
    page.locator("#viewer[data-drawn]").wait_for()
    wait(page, "Number(document.getElementById('viewer').dataset.drawn) > 0")


def pixels(page: Page, layer: str) -> int:
    """Pixels of the canvas of marks in the colour of a layer."""
    page.wait_for_timeout(150)  # a frame is drawn
    return int(page.evaluate(_PIXELS, list(_COLORS[layer])))


def layer(page: Page, name: str) -> Locator:
    return page.locator(f"[data-layer={name}]")


def stars_of(service: Service) -> list[dict[str, Any]]:
    """Rows of the star catalogue that are stars, the brightest first."""
    columns = "id,base_SdssCentroid_x,base_SdssCentroid_y,base_PsfFlux_mag"
    query = {"where": "!sky_source,deblend_nChild=0", "order": "-base_PsfFlux_instFlux", "columns": columns}
    answer = httpx.get(f"{service.url}/v1/jobs/{service.completed}/catalogs/stars", params={**query, "limit": 10000})
    rows: list[dict[str, Any]] = answer.raise_for_status().json()["items"]
    return rows


def on_screen(page: Page, x: float, y: float) -> tuple[float, float]:
    """Where a pixel of the image is in the window, by OpenSeadragon's own reckoning, once all has come to rest."""
    place = page.evaluate(
        """([x, y]) => {
          const image = window.visitcalViewer.osd.world.getItemAt(0), height = image.getContentSize().y;
          const at = image.imageToViewerElementCoordinates(new OpenSeadragon.Point(x + 0.5, height - y - 0.5));
          const box = document.getElementById("osd").getBoundingClientRect();
          return [box.x + at.x, box.y + at.y];
        }""",
        [x, y],
    )
    return place[0], place[1]


def test_tiles_of_the_image_are_shown_sharp(page: Page, service: Service, look: Callable[[Page, str], None]) -> None:
    with page.expect_response(lambda answer: "/tiles_files/" in answer.url) as first:
        page.goto(f"/jobs/{service.completed}")
    assert first.value.status == 200
    assert page.locator("h1").inner_text().startswith("Visit 101, detector 1")
    wait(page, "window.visitcalViewer.osd.world.getItemAt(0)?.getFullyLoaded()")
    shades = page.evaluate(
        """() => {
          const canvas = document.querySelector("#osd canvas"), side = Math.min(canvas.width, canvas.height) / 2;
          const data = canvas.getContext("2d").getImageData((canvas.width - side) / 2, side / 2, side, side).data;
          return new Set(data.filter((_, i) => i % 4 === 0)).size;
        }"""
    )
    assert shades > 60
    look(page, "job")


def test_marks_come_and_go_with_their_boxes(page: Page, service: Service) -> None:
    open_job(page, service.completed)
    expected = len(stars_of(service))
    counted = [layer(page, name).locator("xpath=..").locator(".count").inner_text() for name in ("stars", "flagged")]
    assert sum(int(text.replace("\u202f", "")) for text in counted) == expected
    assert pixels(page, "stars") > 200
    layer(page, "stars").uncheck()
    assert pixels(page, "stars") == 0
    assert pixels(page, "psf-used") == 0
    layer(page, "psf-used").check()
    wait(page, "Number(document.getElementById('viewer').dataset.drawn) > 0")
    assert pixels(page, "psf-used") > 50
    layer(page, "residuals").check()
    page.locator("#vector-scale").wait_for()
    assert "mas" in page.locator("#vector-scale").inner_text()


def test_marks_are_where_the_stars_are(page: Page, service: Service) -> None:
    open_job(page, service.completed)
    star = stars_of(service)[0]
    place = on_screen(page, star["base_SdssCentroid_x"], star["base_SdssCentroid_y"])
    box = page.locator(".marks").bounding_box()
    assert box is not None
    near = page.evaluate(
        """([x, y, reach]) => {
          const side = 2 * reach, context = document.querySelector(".marks").getContext("2d");
          const data = context.getImageData(x - reach, y - reach, side, side).data;
          let sum = [0, 0, 0];
          for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 60) {
            const pixel = i / 4;
            sum = [sum[0] + (pixel % side) - reach + 0.5, sum[1] + Math.floor(pixel / side) - reach + 0.5, sum[2] + 1];
          }
          return [sum[0] / sum[2], sum[1] / sum[2], sum[2]];
        }""",
        [round(place[0] - box["x"]), round(place[1] - box["y"]), 9],
    )
    assert near[2] > 10
    assert abs(near[0]) < 1.5
    assert abs(near[1]) < 1.5


def test_a_click_on_a_star_tells_its_numbers(page: Page, service: Service, look: Callable[[Page, str], None]) -> None:
    open_job(page, service.completed)
    star = stars_of(service)[0]
    page.mouse.click(*on_screen(page, star["base_SdssCentroid_x"], star["base_SdssCentroid_y"]))
    panel = page.locator("#star")
    panel.locator("dl").wait_for()
    assert panel.locator("h3").inner_text() == f"Star {star['id']}"
    assert f"{star['base_PsfFlux_mag']:.3f} ±" in panel.inner_text()
    wait(page, "document.querySelectorAll('#star canvas')[2]?.width === 41")
    left = page.evaluate(
        """() => [...document.querySelectorAll("#star canvas")].map((canvas) => {
          const data = canvas.getContext("2d").getImageData(16, 16, 9, 9).data;
          return data.filter((_, i) => i % 4 === 0).reduce((a, b) => a + b) / 81;
        })"""
    )
    assert left[0] > 100
    assert abs(left[1] - left[0]) < 0.1 * left[0]  # the model is like the data
    assert left[2] < 0.6 * left[0]  # and leaves little
    look(page, "job-star")


def test_the_pointer_reads_the_sky_and_a_click_the_pixel(page: Page, service: Service) -> None:
    open_job(page, service.completed)
    layer(page, "stars").uncheck()
    page.mouse.move(*on_screen(page, 300.0, 200.0))
    lines = page.locator("#readout").inner_text().split("\n")
    x, y = (float(part) for part in lines[0].replace("x", "").replace("y", "").split())
    assert max(abs(x - 300), abs(y - 200)) < 2  # a mouse has whole pixels
    file = httpx.get(f"{service.url}/v1/jobs/{service.completed}/images/image").content
    with fits.open(io.BytesIO(file)) as hdus:
        ra, dec = WCS(hdus["IMAGE"].header).all_pix2world(x, y, 0)
        value = float(hdus["IMAGE"].data[round(y), round(x)])
    shown = SkyCoord(lines[1].replace("−", "-"), unit=("hourangle", "deg"))
    assert shown.separation(SkyCoord(ra, dec, unit="deg")).arcsec < 0.05
    page.mouse.click(*on_screen(page, x, y))
    wait(page, "document.getElementById('readout').textContent.includes('nJy')")
    assert float(page.locator("#readout").inner_text().split("\n")[2].split()[0]) == pytest.approx(value, rel=1e-4)


def test_mask_planes_lie_over_the_image(page: Page, service: Service) -> None:
    open_job(page, service.completed)
    with page.expect_response(lambda answer: "/mask/EDGE_files/" in answer.url and answer.status == 200):
        page.locator("[data-plane=EDGE]").check()
    wait(page, "window.visitcalViewer.osd.world.getItemAt(1)?.getFullyLoaded()")
    x, y = on_screen(page, 2.0, 500.0)  # the rim has EDGE: yellow over grey
    color = (
        "([x, y]) => { const canvas = document.querySelector('#osd canvas'), box = canvas.getBoundingClientRect();"
        " return [...canvas.getContext('2d').getImageData(x - box.x, y - box.y, 1, 1).data]; }"
    )
    page.wait_for_timeout(300)
    red, green, blue, _ = page.evaluate(color, [x, y])
    assert min(red, green) > blue + 60
    page.locator("[data-plane=EDGE]").uncheck()
    page.wait_for_timeout(300)
    red, green, blue, _ = page.evaluate(color, [x, y])
    assert red == green == blue


def test_looks_are_asked_of_the_service(page: Page, service: Service) -> None:
    open_job(page, service.completed)
    for control, value, query in (
        ("#stretch", "log", "stretch=log"),
        ("#limits", "zscale", "limits=zscale"),
        ("#cmap", "viridis", "cmap=viridis"),
        ("#plane", "background", "/images/background/"),
    ):
        with page.expect_response(lambda answer, query=query: query in answer.url) as tile:  # type: ignore[misc]
            page.select_option(control, value)
        assert tile.value.status == 200
    page.select_option("#limits", "own")
    page.fill("#low", "0")
    with page.expect_response(lambda answer: "limits=0%2C900" in answer.url) as tile:
        page.fill("#high", "900")
        page.keyboard.press("Tab")
    assert tile.value.status == 200


def test_all_of_it_works_by_keyboard(page: Page, service: Service) -> None:
    open_job(page, service.completed)
    page.locator("#osd .openseadragon-canvas").focus()
    zoom = "window.visitcalViewer.osd.viewport.getZoom(true)"
    before = page.evaluate(zoom)
    for _ in range(3):
        page.keyboard.press("+")
    wait(page, f"{zoom} > 1.5 * {before}")
    middle = page.evaluate("window.visitcalViewer.osd.viewport.getCenter().x")
    page.keyboard.press("ArrowRight")
    wait(page, f"window.visitcalViewer.osd.viewport.getCenter().x > {middle}")
    page.keyboard.press("r")  # an image of the sky is not turned
    assert page.evaluate("window.visitcalViewer.osd.viewport.getRotation()") == 0
    page.keyboard.press("Enter")
    page.locator("#star dl").wait_for()
    page.keyboard.press("0")
    wait(page, f"Math.abs({zoom} - {before}) < 0.01 * {before}")
    layer(page, "psf-used").focus()
    page.keyboard.press("Space")
    wait(page, "document.querySelector('[data-layer=psf-used]').checked")
    assert pixels(page, "psf-used") > 50


def test_a_row_of_the_table_chooses_the_star(page: Page, service: Service) -> None:
    open_job(page, service.completed)
    page.locator("#stars").scroll_into_view_if_needed()
    first = page.locator("#star-table .star-link").first
    first.wait_for()
    star = stars_of(service)[0]
    assert first.inner_text() == str(star["id"])
    first.click()
    page.locator("#star dl").wait_for()
    assert page.locator("#star h3").inner_text() == f"Star {star['id']}"
    page.fill("#star-words", str(star["id"]))
    page.keyboard.press("Enter")
    wait(page, "document.querySelectorAll('#star-table tbody tr').length === 1")


def test_meanings_show_on_focus(page: Page, service: Service) -> None:
    open_job(page, service.completed)
    tip = page.locator("#tip-psfSigma")
    assert not tip.is_visible()
    page.locator("[aria-describedby=tip-psfSigma]").focus()
    assert tip.is_visible()
    assert "PSF" in tip.inner_text()


def test_the_configuration_is_searched_in_place(page: Page, service: Service) -> None:
    open_job(page, service.rerun)
    assert page.locator("#configuration tbody tr").first.inner_text().startswith("psf_detection.threshold_value")
    page.fill("#config-words", "deblend masked")
    page.locator("#all-settings tbody tr").first.wait_for()
    assert page.url.endswith(service.rerun)


def test_a_deep_link_leads_to_its_figure(page: Page, service: Service) -> None:
    page.goto(f"/jobs/{service.completed}#astrometric_residuals")
    figure = page.locator("#astrometric_residuals")
    figure.locator("img").wait_for()
    wait(page, "document.querySelector('#astrometric_residuals img').naturalWidth > 0")
    box = figure.bounding_box()
    assert box is not None
    assert -20 < box["y"] < 700


def test_a_failed_job_shows_what_it_has(page: Page, service: Service, look: Callable[[Page, str], None]) -> None:
    page.goto(f"/jobs/{service.failed}")
    assert page.locator(".failure").is_visible()
    page.locator("#viewer[data-drawn]").wait_for()
    assert layer(page, "references").is_disabled()
    look(page, "job-failed")


def test_a_telephone_shows_all_of_it(phone: Page, service: Service, look: Callable[[Page, str], None]) -> None:
    open_job(phone, service.completed)
    assert is_narrow(phone)
    star = stars_of(service)[0]
    phone.locator("#osd").scroll_into_view_if_needed()
    phone.touchscreen.tap(*on_screen(phone, star["base_SdssCentroid_x"], star["base_SdssCentroid_y"]))
    phone.locator("#star dl").wait_for()
    look(phone, "job-phone")


def test_without_scripts_there_is_a_picture_and_every_number(open_page: Callable[..., Page], service: Service) -> None:
    page = open_page(service.url, java_script_enabled=False)
    page.goto(f"/jobs/{service.completed}")
    assert page.locator("img.still").is_visible()
    assert page.locator("#statistics").inner_text().count("psf") > 10
    page.click("#stars a")
    assert page.locator(".star-rows tbody tr").count() > 20


def test_the_page_is_open_to_all(page: Page, service: Service, axe: Callable[[Page], None]) -> None:
    open_job(page, service.completed)
    page.locator("#stars").scroll_into_view_if_needed()
    page.locator("#star-table .star-link").first.click()
    page.locator("#star dl").wait_for()
    axe(page)


def test_pages_beside_it_are_open_to_all(page: Page, service: Service, axe: Callable[[Page], None]) -> None:
    for path in ("stars", "config?q=psf_detection+threshold"):
        page.goto(f"/jobs/{service.completed}/{path}")
        axe(page)


def test_a_job_is_watched_to_its_end(page: Page, service: Service) -> None:
    job = service.client.submit(service.exposure, references="field-a", force=True)
    page.goto(f"/jobs/{job.id}")
    page.locator("#viewer[data-drawn]").wait_for(timeout=60_000)  # it reloads by itself
    assert "completed" in page.locator("h1").inner_text()
