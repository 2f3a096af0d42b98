"""What all pages have: headers, problems as pages, and no place in the API's description."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from bs4 import BeautifulSoup

if TYPE_CHECKING:
    from tests.api.conftest import House

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def test_pages_run_only_scripts_of_their_own_and_are_kept_nowhere(open_to_all: House) -> None:
    for path in ("/", "/queue", "/queue?no=1", "/nothing-here"):
        headers = open_to_all.client.get(path, headers=BROWSER).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"


def test_no_page_has_a_script_a_style_or_a_handler_in_its_text(open_to_all: House) -> None:
    for path in ("/", "/queue", "/upload", "/nothing-here"):
        page = BeautifulSoup(open_to_all.client.get(path, headers=BROWSER).text, "html.parser")
        assert page.find_all("style") == []
        assert [script for script in page.find_all("script") if not script.get("src")] == []
        named = [name for tag in page.find_all(True) for name in tag.attrs]
        assert [name for name in named if name == "style" or re.match(r"on[a-z]", name)] == []


def test_every_answer_says_that_it_is_what_it_says(open_to_all: House) -> None:
    for path in ("/v1/jobs", "/healthz", "/v1/nothing"):
        assert open_to_all.client.get(path).headers["x-content-type-options"] == "nosniff"


def test_a_problem_is_a_page_with_words_for_people(open_to_all: House) -> None:
    answer = open_to_all.client.get("/queue?no=1")
    assert answer.status_code == 422
    assert answer.headers["content-type"].startswith("text/html")
    page = BeautifulSoup(answer.text, "html.parser")
    alert = page.select_one("main [role=alert]")
    assert alert is not None
    assert "no" in alert.text
    assert page.select_one("nav a[href='/queue']") is not None


def test_of_a_part_a_problem_is_a_part(open_to_all: House) -> None:
    answer = open_to_all.client.get("/queue?no=1", headers={"HX-Request": "true"})
    assert answer.status_code == 422
    assert "<html" not in answer.text
    assert 'role="alert"' in answer.text


@pytest.mark.parametrize("path", ["/nothing-here", "/jobs-of-ada/x", "/static/x.js"])
def test_an_address_that_nothing_has_is_a_page_in_a_browser_only(open_to_all: House, path: str) -> None:
    page = open_to_all.client.get(path, headers=BROWSER)
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    assert "route.not_found" in page.text
    document = open_to_all.client.get(path)
    assert document.status_code == 404
    assert document.headers["content-type"] == "application/problem+json"


def test_an_address_is_text_and_never_mark_up(open_to_all: House) -> None:
    page = open_to_all.client.get("/%3Cimg src=x onerror=alert(1)%3E", headers=BROWSER)
    assert page.status_code == 404
    assert BeautifulSoup(page.text, "html.parser").find("img", src="x") is None
    assert "&lt;img" in page.text


def test_pages_are_not_in_the_description_of_the_api(open_to_all: House) -> None:
    paths = open_to_all.client.get("/openapi.json").json()["paths"]
    assert paths
    assert {path for path in paths if not path.startswith(("/v1/", "/uws/", "/scs", "/datalink"))} <= {
        "/healthz",
        "/readyz",
        "/metrics",
    }
