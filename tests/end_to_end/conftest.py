from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from service.simulation import SimulationConfig, simulate, write_simulation
from visitcal.client import Client
from visitcal.server_process import ServerProcess


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small simulated exposure with its references and its truth."""
    directory = tmp_path_factory.mktemp("simulation")
    written = write_simulation(simulate(SimulationConfig(size=800, seed=11, n_stars=420, n_galaxies=60)), directory)
    empty = directory / "empty.parquet"
    pq.write_table(pq.read_table(written["references"]).slice(0, 0), empty)
    return {**written, "empty": empty}


@pytest.fixture(scope="session")
def truth(files: dict[str, Path]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(files["config"].read_text())
    return document


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("server")
    with ServerProcess(directory / "data", directory / "server.log", environment=environment) as server:
        yield server


@pytest.fixture(scope="session")
def client(server: ServerProcess, files: dict[str, Path]) -> Iterator[Client]:
    with Client(server.url) as client:
        client.put_refcat("sim", files["references"])
        yield client
