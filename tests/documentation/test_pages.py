"""What the pages tell people to type works, in the order in which they tell it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.formats import reader
from service.simulation import SimulationConfig, simulate, write_simulation
from tests.documentation.blocks import REPO, World, blocks_of, pages
from visitcal.server_process import ServerProcess

#: Pages whose examples speak of a job that a test has made; it runs them.
RUN_BY = {
    "docs/api.md": "tests/api/test_calibrations.py",
    "docs/client.md": "tests/end_to_end/test_examples.py",
    "docs/vo.md": "tests/api/facades/test_uws_pyvo.py",
}
#: Pages that begin with nothing.
FROM_NOTHING = ("README.md", "docs/tutorial.md")
WITH_BLOCKS = [
    page
    for page in pages()
    if page not in RUN_BY and any(block.how != "not run" and block.language != "text" for block in blocks_of(page))
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("server")
    with ServerProcess(directory / "data", directory / "server.log", environment=environment) as server:
        yield server


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    config = SimulationConfig(size=800, seed=11, n_stars=420, n_galaxies=60)
    return write_simulation(simulate(config), tmp_path_factory.mktemp("simulation"))


@pytest.fixture
def world(
    request: pytest.FixtureRequest, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    """An empty directory; for most pages with an exposure, references and a service that has them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reader, "ADAPTERS", reader.ADAPTERS)  # put back what an example changes
    variables = dict(environment)
    if request.node.callspec.params["page"] not in FROM_NOTHING:
        for name, path in request.getfixturevalue("files").items():
            if name in ("exposure", "references"):
                shutil.copy(path, tmp_path / path.name)
        variables["VISITCAL_URL"] = request.getfixturevalue("server").url
        monkeypatch.setenv("VISITCAL_URL", variables["VISITCAL_URL"])
    with World(tmp_path, variables) as world:
        yield world


@pytest.mark.end_to_end
@pytest.mark.parametrize("page", WITH_BLOCKS)
def test_blocks_run(page: str, world: World) -> None:
    assert world.run_page(page) > 0
    if page == "docs/tutorial.md":
        assert abs(world.names["error"]).max() < 0.05
        assert world.names["bright"].sum() > 20
        assert world.names["result"].summary == world.names["summary"]


@pytest.mark.parametrize("page", pages())
def test_what_is_not_run_says_why(page: str) -> None:
    """Other kinds of comments would be read by nobody."""
    for block in blocks_of(page):
        assert block.how != "not run" or len(block.what.split()) > 2, block
        assert block.how != "run" or block.what.startswith(("ends with ", "in the background", "parsed")), block
        assert block.language, f"{block} has no language; text that nobody types is 'text'"


@pytest.mark.parametrize(("page", "test"), RUN_BY.items())
def test_pages_that_others_run(page: str, test: str) -> None:
    assert f'run_page("{page}")' in (REPO / test).read_text()
