"""`visitcal report`: one file, which refers to nothing, shows what there is, and believes no header."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.visitcal.test_cli import SUMMARY_SCHEMA, finished
from visitcal import cli
from visitcal.client import Client
from visitcal.report.collect import Figure, Report, collect
from visitcal.report.config_changes import Change, changes
from visitcal.report.inline_svg import SvgError, inline_svg
from visitcal.report.page import render

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="10" height="5"
 viewBox="0 0 10 5" aria-labelledby="t">
<style>.a {fill: red} @media (prefers-color-scheme: dark) {.a {fill: blue}}</style>
<title id="t">a &lt;b&gt;</title><defs><clipPath id="c"><rect width="1" height="1"/></clipPath></defs>
<g clip-path="url(#c)"><use xlink:href="#t"/><text class="a">1 &lt; 2</text></g></svg>"""


class Page(HTMLParser):
    """Elements, ids and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.attributes: set[str] = set()
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
                self.addresses.append(value or "")

    def handle_data(self, data: str) -> None:
        self.words += data


def job(phase: str = "COMPLETED", **more: Any) -> dict[str, Any]:
    return finished(phase, exposures=["exp_1"], preset="generic", **more)


# -- figures


def test_figures_keep_their_names_apart() -> None:
    first, second = inline_svg(SVG, "figure-0"), inline_svg(SVG, "figure-1")
    page = Page(f"<!doctype html>{first}{second}")
    assert page.ids == ["figure-0", "figure-0-t", "figure-0-c", "figure-1", "figure-1-t", "figure-1-c"]
    assert page.addresses == ["#figure-0-t", "#figure-1-t"]
    assert "url(#figure-1-c)" in second
    assert 'aria-labelledby="figure-1-t"' in second
    assert "#figure-1 { .a {fill: red}" in second
    assert "1 &lt; 2" in second


@pytest.mark.parametrize(
    "harm",
    [
        "<script>alert(1)</script>",
        "<foreignObject><body xmlns='http://www.w3.org/1999/xhtml'>x</body></foreignObject>",
        "<image href='https://example.org/x.png'/>",
        "<image href='data:image/svg+xml;base64,AAAA'/>",
        "<use href='https://example.org/x.svg#a'/>",
        "<a href='javascript:alert(1)'><text>x</text></a>",
        "<rect onload='alert(1)'/>",
        "<rect fill='url(https://example.org/x)'/>",
        "<rect style='background:url(//example.org/x)'/>",
        "<rect fill='url(#c) url(https://example.org/x)'/>",
        "<rect style='fill:\\75rl(https://example.org/x)'/>",
        "<style>@import 'https://example.org/x.css';</style>",
        "<style>} * { color: url(https://example.org) </style>",
        "<style>} body { display: none </style>",
        "<set attributeName='href' to='javascript:alert(1)'/>",
    ],
)
def test_figures_bring_no_harm(harm: str) -> None:
    figure = inline_svg(f"<svg xmlns='http://www.w3.org/2000/svg'>{harm}</svg>".encode(), "f")
    assert not re.search(r"script|example\.org|onload|foreignObject|import|body|svg\+xml|<a|<set", figure)


@pytest.mark.parametrize(
    "document",
    [b"", b"<svg", b"<html/>", b'<!DOCTYPE svg [<!ENTITY a "b">]><svg xmlns="http://www.w3.org/2000/svg">&a;</svg>'],
)
def test_what_is_no_figure(document: bytes) -> None:
    with pytest.raises(SvgError):
        inline_svg(document, "f")


# -- configuration


def test_changes_of_the_configuration() -> None:
    inner = {"properties": {"x": {"default": 1, "description": "how many"}, "y": {"default": [2]}}}
    schema = {
        "properties": {"a": {"default": False}, "b": {"$ref": "#/$defs/Inner", "default": {"y": [3]}}},
        "$defs": {"Inner": inner},
    }
    assert list(changes({"a": False, "b": {"x": 1, "y": [3]}}, schema)) == []
    assert list(changes({"a": True, "b": {"x": 5, "y": [2]}}, schema)) == [
        Change("a", True, False, ""),
        Change("b.x", 5, 1, "how many"),
        Change("b.y", [2], [3], ""),
    ]


def test_defaults_of_the_service_are_no_changes() -> None:
    from service.calibration.config import CalibrateImageConfig

    schema = CalibrateImageConfig.model_json_schema()
    assert list(changes(CalibrateImageConfig().model_dump(mode="json"), schema)) == []
    changed = CalibrateImageConfig.model_validate({"photometry": {"match_radius_arcsec": 0.75}})
    (change,) = changes(changed.model_dump(mode="json"), schema)
    assert (change.path, change.value) == ("photometry.match_radius_arcsec", 0.75)
    assert change.description


# -- the page


def hostile_report() -> Report:
    error = {
        "code": HOSTILE, "type": "X", "message": HOSTILE, "stage": HOSTILE, "numbers": {HOSTILE: HOSTILE},
        "hint": HOSTILE, "suggested_config": {HOSTILE: HOSTILE},
    }  # fmt: skip
    stages = [{"name": HOSTILE, "seconds": 1.0, "numbers": {HOSTILE: HOSTILE}}]
    document = job("ERROR", warnings=[HOSTILE], error=error, run_id=HOSTILE, stages=stages)
    metadata = {"cards": {"OBJECT": HOSTILE, "OBSERVER": HOSTILE}, "values": {"instrument": HOSTILE}}
    return Report(
        document,
        files=[{"filename": HOSTILE, "metadata": metadata}],
        statistics=[(HOSTILE, 1.5, HOSTILE, HOSTILE)],
        figures=[Figure(HOSTILE, HOSTILE, inline_svg(SVG, "figure-0")), Figure(HOSTILE, "", None, HOSTILE)],
        changes=[Change(HOSTILE, HOSTILE, HOSTILE, HOSTILE)],
        provenance={"code_version": HOSTILE, "libraries": {HOSTILE: HOSTILE}, "inputs": [{"sha256": HOSTILE}]},
        picture=b"\xff\xd8picture",
    )


def test_headers_stay_text() -> None:
    text = render(hostile_report())
    page = Page(text)
    assert "script" not in page.tags
    assert page.tags.count("img") == 1
    assert not [name for name in page.attributes if name.startswith("on")]
    assert page.words.count("<script>alert(1)</script>") > 15
    assert "<script" not in text


def test_nothing_is_fetched_and_nothing_runs() -> None:
    text = render(hostile_report())
    page = Page(text)
    assert all(address.startswith(("data:image/jpeg;base64,", "#")) for address in page.addresses)
    assert "link" not in page.tags
    assert "@import" not in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text


def service(phase: str, error: dict[str, Any] | None = None) -> Client:
    """Has the job, and of everything else only what a failed one has."""
    answers: dict[str, Any] = {
        "/v1/jobs/job_1": job(phase, error=error, summary={"psfSigma": 1.91, "zeroPoint": None}),
        "/v1/exposures/exp_1": {"filename": "a.fits", "metadata": {"cards": {"OBJECT": "M 31"}}},
    }

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/schema/summary":
            return SUMMARY_SCHEMA
        if request.url.path not in answers:
            return httpx.Response(404, json={"code": "product.not_made", "detail": "Not there."})
        return httpx.Response(200, json=answers[request.url.path])

    return Client("http://service", transport=httpx.MockTransport(answer), retries=0)


def test_a_failed_job_shows_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = {
        "code": "astrometry.bad_fit", "type": "BadFit", "message": "The fit is bad.", "stage": "astrometry",
        "numbers": {"scatter": 1.25}, "hint": "Look at the pointing.", "suggested_config": {"a": 1},
    }  # fmt: skip
    monkeypatch.setattr("visitcal.commands.connection.Client", lambda *_, **__: service("ERROR", error))
    path = tmp_path / "report.html"
    assert cli.main(["report", "job_1", "-o", str(path)]) == 0
    assert capsys.readouterr().out.strip() == str(path)
    words = Page(path.read_text()).words
    for expected in ("M 31", "Not calibrated in full", "The fit is bad.", "1.25", "Look at the pointing.", "1.91"):
        assert expected in words
    assert "visitcal rerun job_1 --config '{\"a\": 1}'" in words
    assert "zeroPoint" not in words


@pytest.mark.parametrize("phase", ["EXECUTING", "ABORTED", "ARCHIVED"])
def test_any_job_has_a_report(phase: str) -> None:
    with service(phase) as client:
        report = collect(client, "job_1")
    assert report.picture is None
    assert phase in Page(render(report)).words
