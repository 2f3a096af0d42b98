"""The frame around every page: login, navigation, colours, keyboard, narrow screens, problems."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import is_narrow
from visitcal import cli
from visitcal.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.browser.conftest import Faults, OpenPage, Service

PAGES = {"Tonight": "/", "Upload": "/upload", "Queue": "/queue", "References": "/refcats", "Tokens": "/tokens"}


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.textContent.trim() || document.activeElement.id"))


def test_every_page_is_one_step_away_and_says_where_one_is(page: Page, axe: Callable[[Page], None]) -> None:
    page.goto("/")
    for name, path in PAGES.items():
        page.get_by_role("navigation").get_by_role("link", name=name).click()
        page.wait_for_url(f"**{path}")
        expect(page.locator("nav [aria-current=page]")).to_have_text(name)
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        expect(page.get_by_role("main")).to_have_count(1)
        axe(page)


def test_the_keyboard_reaches_everything_and_skips_the_navigation(page: Page) -> None:
    page.goto("/queue")
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to content"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Shift+Tab")  # backwards out of the content: the last tool of the frame
    assert page.evaluate("document.activeElement.id") == "theme"
    page.goto("/queue")
    seen = []
    for _ in range(8):
        page.keyboard.press("Tab")
        seen.append(focused(page))
    assert seen == ["Skip to content", "visitcal", *PAGES, "◐"]


def test_meanings_of_figures_show_on_focus_too(page: Page) -> None:
    page.goto("/queue")
    term = page.locator("abbr", has_text="Jobs an hour")
    shown = "getComputedStyle(document.querySelector('.figures abbr'), '::after').content"
    assert page.evaluate(shown) == "none"
    term.focus()
    assert "last 10 minutes" in page.evaluate(shown)


def test_the_choice_of_colours_stays(page: Page) -> None:
    page.goto("/queue")
    dark = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    page.get_by_role("button", name="Switch between dark and light").click()
    light = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert dark != light
    page.goto("/tokens")
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == light
    page.emulate_media(color_scheme="light")
    page.get_by_role("button", name="Switch between dark and light").click()
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == dark


def test_an_address_without_a_page_says_so_in_words(
    page: Page, faults: Faults, look: Callable[[Page, str], None], axe: Callable[[Page], None]
) -> None:
    faults.allow(r"status of 404")
    page.goto("/nothing-here")
    expect(page.get_by_role("alert")).to_contain_text("There is no page /nothing-here")
    axe(page)
    look(page, "problem")
    faults.allow(r"status of 422")
    page.goto("/queue?no=1")
    expect(page.get_by_role("alert")).to_be_visible()


@pytest.mark.parametrize("name", PAGES)
def test_a_telephone_shows_every_page_without_scrolling_sideways(
    phone: Page, name: str, look: Callable[[Page, str], None], axe: Callable[[Page], None]
) -> None:
    phone.goto(PAGES[name])
    expect(phone.get_by_role("heading", level=1)).to_be_visible()
    assert is_narrow(phone)
    for link in phone.get_by_role("navigation").get_by_role("link").all():
        box = link.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360
        assert box["height"] >= 24  # WCAG 2.2: wide enough for a finger
    axe(phone)
    look(phone, f"phone-{name.lower()}")


# -- behind tokens


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, chromium: str) -> Iterator[tuple[str, str]]:
    """A service that asks for tokens, and a token of ada's."""
    directory = tmp_path_factory.mktemp("guarded")
    environment = {"VISITCAL_REQUIRE_TOKENS": "true", "VISITCAL_DATA_DIR": str(directory / "data")}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with ServerProcess(directory / "data", directory / "log", ("--no-worker",), environment) as server:
            yield server.url, _new_token(directory)


def _new_token(directory: Path) -> str:
    import contextlib
    import io

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = cli.main(["token", "create", "--owner", "ada", "--name", "laptop", "--scope", "submit"])
    assert code == 0, said.getvalue()
    return next(word for word in said.getvalue().split() if word.startswith("vc_"))


def test_a_person_logs_in_makes_a_token_and_logs_out(
    open_page: OpenPage,
    guarded: tuple[str, str],
    faults: Faults,
    look: Callable[[Page, str], None],
    axe: Callable[[Page], None],
) -> None:
    url, token = guarded
    faults.allow(r"status of 401")
    page = open_page(url)
    page.goto("/tokens")
    assert page.url.endswith("/login?next=%2Ftokens")
    expect(page.get_by_label("Token")).to_be_focused()
    look(page, "login")
    axe(page)
    page.keyboard.type("vc_wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("no token of this service")
    axe(page)
    page.get_by_label("Token").fill(token)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{url}/tokens")
    assert page.evaluate("document.cookie") == ""  # no script reads it
    page.get_by_label("Name").fill("night pipeline")
    page.get_by_label("Your own token").fill(token)
    page.get_by_role("button", name="Make it").click()
    secret = page.get_by_label("The token", exact=True).input_value()
    axe(page)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == secret
    page.evaluate("document.getElementById('secret').value = 'vc_…'")
    look(page, "tokens")
    header = {"Authorization": f"Bearer {secret}"}
    assert httpx.get(f"{url}/v1/tokens/current", headers=header).json()["owner"] == "ada"
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Revoke night pipeline").click()
    assert httpx.get(f"{url}/v1/tokens/current", headers=header).status_code == 200
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Revoke night pipeline").click()
    expect(page.locator("#tokens").get_by_text("revoked")).to_be_visible()
    assert httpx.get(f"{url}/v1/tokens/current", headers=header).status_code == 401
    page.get_by_role("button", name="Log out ada").click()
    page.wait_for_url("**/login")
    page.go_back()
    page.wait_for_url("**/login**")  # nobody turns back the pages


def test_the_cookie_is_no_ones_but_the_browsers(open_page: OpenPage, guarded: tuple[str, str]) -> None:
    url, token = guarded
    page = open_page(url)
    page.goto("/login")
    page.get_by_label("Token").fill(token)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{url}/")
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/")
    assert cookie["value"] != token


def test_a_page_of_another_port_reads_and_changes_nothing(
    open_page: OpenPage, guarded: tuple[str, str], service: Service, faults: Faults
) -> None:
    """To a browser another port of this host is the same site: its pages send the cookie along."""
    url, token = guarded
    page = open_page(url)
    page.goto("/login")
    page.get_by_label("Token").fill(token)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{url}/")
    faults.allow(r"Content Security Policy|status of 40[134]|CORS|ERR_FAILED")
    page.goto(f"{service.url}/healthz")  # a neighbour, whose policy forbids nothing
    image = """url => new Promise(done => {
        const image = new Image();
        image.onload = () => done("loaded"); image.onerror = () => done("refused");
        image.src = url;
    })"""
    assert page.evaluate(image, f"{url}/static/x.png") == "refused"
    with page.expect_response(f"{url}/v1/jobs") as answer:
        page.evaluate("url => fetch(url, {mode: 'no-cors', credentials: 'include'}).catch(() => 0)", f"{url}/v1/jobs")
    assert answer.value.status == 401
    with page.expect_response(f"{url}/logout") as answer:
        page.evaluate(
            "url => fetch(url, {method: 'POST', mode: 'no-cors', credentials: 'include'}).catch(() => 0)",
            f"{url}/logout",
        )
    assert answer.value.status == 403
    page.goto(f"{url}/queue")
    expect(page.get_by_role("button", name="Log out ada")).to_be_visible()
