"""A real browser at a real service.

``VISITCAL_TEST_CHROMIUM`` names the browser (default: the Chromium on the PATH). Without one these tests are skipped,
unless ``VISITCAL_TEST_BROWSER_REQUIRED`` is 1. Pictures go to the folder that ``VISITCAL_TEST_SCREENSHOTS`` names
(default: ``test-artefacts``).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from astropy.io import fits
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

from service.simulation import SimulationConfig, simulate, write_simulation
from visitcal.client import Client
from visitcal.server_process import ServerProcess

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"], "resultTypes": ["violations"]}
#: How long a test waits for what should be there at once; the machine may be busy with other tests.
PATIENCE_MS = 15_000
expect.set_options(timeout=PATIENCE_MS)
_END = 240.0
#: First night and seeds of what is simulated.
_MJD = 61366.1
_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.when == "call":
        item.stash[_FAILED] = report.failed
    return report


# -- the service


@dataclass(frozen=True)
class Service:
    """A running service and what is on it.

    Parameters
    ----------
    url : str
        Where it listens.
    client : Client
        Drives it as a program does.
    completed : str
        Job: r band, first night, ``OBJECT`` is ``Field A``.
    rerun : str
        The same exposure with ``psf_detection.threshold_value`` changed.
    other : str
        Job: g band, second night, ``Field B``.
    failed : str
        Job: ended as ERROR, its pointing is 400 arcsec off.
    exposure : Path
        The file of `completed`, which may be uploaded again.
    """

    url: str
    client: Client
    completed: str
    rerun: str
    other: str
    failed: str
    exposure: Path


def _exposure(directory: Path, target: str, **values: Any) -> dict[str, Path]:
    config = SimulationConfig(**{"size": 1000, "n_stars": 400, "n_galaxies": 60, **values})
    files = write_simulation(simulate(config), directory / target.replace(" ", "-"))
    with fits.open(files["exposure"], mode="update") as hdus:
        hdus[0].header["OBJECT"] = target
    return files


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str], chromium: str) -> Iterator[Service]:
    """A server with a worker, three completed jobs and a failed one; tests may add to it."""
    directory = tmp_path_factory.mktemp("service")
    with ServerProcess(directory / "data", directory / "log", environment=environment) as server:
        first = _exposure(directory, "Field A", seed=11, band="r", mjd=_MJD, visit=101, detector=1)
        second = _exposure(directory, "Field B", seed=12, band="g", mjd=_MJD + 1, visit=202, detector=2, fwhm=5.5)
        wrong = _exposure(
            directory, "Field C", seed=13, mjd=_MJD + 1.01, visit=203, detector=3, size=800, pointing_error=400.0
        )
        with Client(server.url) as client:
            jobs = []
            for name, files in (("field-a", first), ("field-b", second), ("field-c", wrong)):
                client.put_refcat(name, files["references"])
                jobs.append(client.submit(files["exposure"], references=name, run_id="browser"))
            jobs.append(client.rerun(jobs[0].id, {"config": {"psf_detection": {"threshold_value": 12.0}}}))
            for job in jobs:
                job.wait(_END, check=False)
            phases = [job.phase for job in jobs]
            assert phases == ["COMPLETED", "COMPLETED", "ERROR", "COMPLETED"], [job.document for job in jobs]
            completed, other, failed, rerun = (job.id for job in jobs)
            yield Service(server.url, client, completed, rerun, other, failed, first["exposure"])


# -- the browser


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser."""
    chosen = os.environ.get("VISITCAL_TEST_CHROMIUM")
    found = chosen or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        reason = "no Chromium on the PATH: set VISITCAL_TEST_CHROMIUM"
        if os.environ.get("VISITCAL_TEST_BROWSER_REQUIRED") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """For a module only: while Playwright runs, nothing else in this process can begin an event loop."""
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=chromium, args=_ARGUMENTS) as it:
        yield it


@dataclass
class Faults:
    """What went wrong in the browser behind a test's back; `allow` what a test provokes."""

    found: list[str] = field(default_factory=list)
    allowed: list[re.Pattern[str]] = field(default_factory=list)

    def allow(self, pattern: str) -> None:
        """Pass over faults in which the regular expression is found."""
        self.allowed.append(re.compile(pattern))

    def unexpected(self) -> list[str]:
        return [fault for fault in self.found if not any(pattern.search(fault) for pattern in self.allowed)]

    def watch(self, page: Page) -> None:
        """Note errors of scripts, of the console (refusals of the content policy are there too), and other hosts."""

        def on_console(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                self.found.append(f"console {message.type}: {message.text} ({message.location.get('url', '')})")

        def on_request(request: Request) -> None:
            address = urlsplit(request.url)
            if address.scheme not in ("data", "blob") and address.hostname != "127.0.0.1":
                self.found.append(f"request to another host: {request.url}")

        page.on("console", on_console)
        page.on("pageerror", lambda error: self.found.append(f"page error: {error}"))
        page.on("request", on_request)


@pytest.fixture
def faults() -> Faults:
    """What went wrong in the browser; see `Faults`."""
    return Faults()


@pytest.fixture(scope="session")
def artefacts() -> Path:
    """Folder of the pictures."""
    given = os.environ.get("VISITCAL_TEST_SCREENSHOTS")
    directory = Path(given) if given else Path(__file__).parents[2] / "test-artefacts"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(request: pytest.FixtureRequest, browser: Browser, faults: Faults, artefacts: Path) -> Iterator[OpenPage]:
    """Open a page of a new browser at an address; the options are those of a browser's context."""
    contexts: list[BrowserContext] = []

    def open_page(base_url: str, **options: Any) -> Page:
        options = {"viewport": {"width": 1440, "height": 900}, "color_scheme": "dark", **options}
        context = browser.new_context(base_url=base_url, **options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        faults.watch(page)
        return page

    yield open_page
    pages = [page for context in contexts for page in context.pages]
    if request.node.stash.get(_FAILED, False):
        for number, page in enumerate(pages):
            page.screenshot(path=artefacts / f"failed-{request.node.name}-{number}.png")
    for context in contexts:
        context.close()
    assert faults.unexpected() == []


@pytest.fixture
def page(open_page: OpenPage, service: Service) -> Page:
    """A wide dark window; the test fails where the browser complains."""
    return open_page(service.url)


@pytest.fixture
def phone(open_page: OpenPage, service: Service) -> Page:
    """The window of a small telephone, with touch."""
    return open_page(service.url, viewport={"width": 360, "height": 780}, has_touch=True, is_mobile=True)


@pytest.fixture
def look(artefacts: Path) -> Callable[[Page, str], None]:
    """Keep a picture of a whole page under a name."""

    def look(page: Page, name: str) -> None:
        page.screenshot(path=artefacts / f"{name}.png", full_page=True)

    return look


@pytest.fixture
def axe() -> Callable[[Page], None]:
    """Judge a page's accessibility in the dark and in the light: WCAG 2.1 A and AA, and good practice."""

    def axe(page: Page) -> None:
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            results = Axe().run(page, options=_RULES)
            assert results.violations_count == 0, f"{scheme}: {results.generate_report()}"

    return axe


def is_narrow(page: Page) -> bool:
    """Whether nothing makes the page scroll sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))
