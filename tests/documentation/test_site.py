"""The site is built without a warning, and nothing in it leads nowhere or asks another host."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from making.reference import DOCS, PAGES, pages_of_today
from markdown_it import MarkdownIt

from tests.documentation.blocks import ADDRESS, REPO, pages

#: Attributes by which a page fetches something, not by which a reader goes somewhere.
FETCHING = {
    "img": "src",
    "script": "src",
    "link": "href",
    "iframe": "src",
    "source": "srcset",
    "video": "src",
    "object": "data",
}
_STYLE_FETCHES = re.compile(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//")


@dataclass
class Page(HTMLParser):
    """What a page of HTML has and names."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        self.ids.update(values[name] for name in ("id", "name") if name in values)
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if FETCHING.get(tag) in values:
            self.fetched.append(values[FETCHING[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    """Every page of the site, built as ``make docs`` does."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", f"{target}/.doctrees"]
    built = subprocess.run([*command, "docs", target], cwd=REPO, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    found = {}
    for path in sorted(target.rglob("*.html")):
        found[path] = Page()
        found[path].feed(path.read_text())
    return found


def test_every_page_is_in_the_site(site: dict[Path, Page]) -> None:
    names = {path.stem for path in site}
    assert {Path(page).stem for page in pages() if page.startswith("docs/")} <= names


def test_links_lead_somewhere(site: dict[Path, Page]) -> None:
    lost = [
        f"{path.name}: {link}"
        for path, page in site.items()
        for link in page.links
        if not urlsplit(link).scheme and not _leads(site, path, link)
    ]
    assert not lost


def _leads(site: dict[Path, Page], path: Path, link: str) -> bool:
    parts = urlsplit(link)
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target not in site:
        return target.is_file() and not parts.fragment
    return parts.fragment in ("", *site[target].ids)


def test_links_to_elsewhere_are_addresses(site: dict[Path, Page]) -> None:
    """Whether somebody answers there is asked by hand, with ``make links``: tests have no network."""
    elsewhere = {link for page in site.values() for link in page.links if urlsplit(link).scheme}
    own = {link for link in elsewhere if link.startswith(ADDRESS)}
    assert own
    for link in elsewhere - own:
        assert urlsplit(link).scheme == "https", link
        assert "." in urlsplit(link).netloc, link


def test_nothing_is_fetched_from_elsewhere(site: dict[Path, Page]) -> None:
    for path, page in site.items():
        for address in page.fetched:
            assert not urlsplit(address).netloc, (path.name, address)
            assert (path.parent / (unquote(urlsplit(address).path) or path.name)).is_file(), (path.name, address)
    for style in next(iter(site)).parent.rglob("*.css"):
        assert not _STYLE_FETCHES.search(style.read_text()), style.name


def test_links_of_the_readme_lead_somewhere(site: dict[Path, Page]) -> None:
    """It is no page of the site; a forge resolves its links as paths of the repository."""
    anchors = {path.stem: page.ids for path, page in site.items()}
    links = [
        token.attrs["href"]
        for block in MarkdownIt().parse((REPO / "README.md").read_text())
        for token in block.children or ()
        if token.type == "link_open"
    ]
    inner = [str(link) for link in links if not urlsplit(str(link)).scheme]
    assert len(inner) > 5
    for link in inner:
        target, _, anchor = link.partition("#")
        assert (REPO / target).exists(), link
        assert not anchor or anchor in anchors[Path(target).stem], link


def test_pictures_are_small(site: dict[Path, Page]) -> None:
    """They are kept in the repository."""
    sizes = [path.stat().st_size for path in (DOCS / "images").rglob("*") if path.is_file()]
    assert max(sizes) < 150_000
    assert sum(sizes) < 1_500_000


@pytest.mark.parametrize("name", [*PAGES, "operations.md", "cli.md"])
def test_references_are_of_today(name: str, today: dict[Path, str]) -> None:
    assert (DOCS / name).read_text() == today[DOCS / name], "run make reference"


@pytest.fixture(scope="module")
def today() -> dict[Path, str]:
    return pages_of_today()
