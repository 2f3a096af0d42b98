"""Files of the page: under their digest, for ever, and nothing but them."""

from __future__ import annotations

import gzip
import re
from typing import TYPE_CHECKING

import pytest

from api.dashboard.assets import STATIC, static_root

if TYPE_CHECKING:
    from pathlib import Path

    from tests.api.conftest import House


def test_the_page_names_files_that_may_be_kept_for_ever(open_to_all: House) -> None:
    page = open_to_all.client.get("/queue").text
    names = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    assert len(names) >= 4
    for name in names:
        answer = open_to_all.client.get(name)
        assert answer.status_code == 200, name
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.content == (STATIC / name.split("/", 3)[3]).read_bytes()


def test_another_content_has_another_address(tmp_path: Path) -> None:
    roots = []
    for number, (name, content) in enumerate((("a.js", "1"), ("a.js", "2"), ("b.js", "2"), ("b.js", "2"))):
        directory = tmp_path / str(number)
        directory.mkdir()
        (directory / name).write_text(content)
        roots.append(static_root(directory))
    assert len(set(roots)) == 3
    assert roots[-1] == roots[-2]


def test_scripts_come_compressed(open_to_all: House) -> None:
    address = f"{static_root()}/vendor/htmx.min.js"
    plain = (STATIC / "vendor" / "htmx.min.js").read_bytes()
    with open_to_all.client.stream("GET", address, headers={"Accept-Encoding": "gzip"}) as answer:
        sent = b"".join(answer.iter_raw())
        assert answer.headers["content-encoding"] == "gzip"
        assert "accept-encoding" in answer.headers["vary"].lower()
    assert gzip.decompress(sent) == plain
    assert len(sent) < 0.5 * len(plain)
    assert "content-encoding" not in open_to_all.client.get(address, headers={"Accept-Encoding": "identity"}).headers


@pytest.mark.parametrize(
    "path",
    [
        "../base.html",
        "../templates/base.html",
        "%2e%2e/templates/base.html",
        "css/..%2f..%2ftemplates/base.html",
        "/etc/passwd",
        "%2fetc/passwd",
        "css/",
        "",
        "missing.js",
    ],
)
def test_nothing_else_is_served(open_to_all: House, path: str) -> None:
    answer = open_to_all.client.get(f"{static_root()}/{path}", follow_redirects=False)
    assert answer.status_code == 404
    assert "block main" not in answer.text


def test_an_address_of_other_contents_is_none(open_to_all: House) -> None:
    assert open_to_all.client.get("/static/0000000000000000/css/base.css").status_code == 404
