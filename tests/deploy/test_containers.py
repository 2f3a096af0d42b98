"""The entrypoints of the image with the environment of the compose file: ready, one job, a clean end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.simulation import SimulationConfig, simulate, write_simulation
from tests.deploy.container import Container, can_shut_in
from tests.deploy.image import read_image
from tests.deploy.manifests import compose, interpolated
from tests.service.object_store import KEYS, Bucket
from tests.service.postgresql import PostgresServer
from visitcal.client import Client

pytestmark = pytest.mark.end_to_end

#: What stands in docker/.env.
VARIABLES = {
    "POSTGRES_PASSWORD": "unused: the server here trusts",
    "S3_ACCESS_KEY_ID": KEYS["s3_access_key_id"],
    "S3_SECRET_ACCESS_KEY": KEYS["s3_secret_access_key"],
    "METRICS_TOKEN": "a-token-for-the-metrics",
}


def until_healthy(container: Container, process: subprocess.Popen[str], timeout: float = 120.0) -> None:
    deadline = time.monotonic() + timeout
    while not container.is_healthy():
        assert process.poll() is None, "it ended"
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Stack:
    """The services of the compose file that are ours."""

    def __init__(self, root: Path, substitutes: dict[str, str], kernels: Path) -> None:
        self._root = root
        self._kernels = kernels
        self._substitutes = substitutes
        self._running: list[subprocess.Popen[str]] = []

    def container(self, service: str) -> Container:
        document = compose()["services"][service]
        given = {name: interpolated(value, VARIABLES) for name, value in document["environment"].items()}
        image = read_image(document["build"]["target"])
        # Those of the tests, which are for this host's processor: the image's would take minutes to compile.
        del image.environment["VISITCAL_KERNEL_CPU"]
        given["VISITCAL_KERNEL_IMAGE_DIR"] = str(self._kernels)
        places = dict(volume.split(":") for volume in document["volumes"])
        volumes = {"refcats": self._root / "refcats"} if places["refcats"] == "/data/refcats" else {}
        return Container(image, given | self._substitutes, self._root / service, volumes)

    def start(self, service: str) -> tuple[Container, subprocess.Popen[str]]:
        container = self.container(service)
        process = container.start(*compose()["services"][service].get("command", []))
        self._running.append(process)
        return container, process

    def kill(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that another user reaches."""
    root = tmp_path_factory.mktemp("containers")
    for directory in (root, *root.parents[:2]):
        directory.chmod(0o755)
    return root


def warm_up(kernels: Path, directory: Path, variables: dict[str, str]) -> None:
    environment = os.environ | {"VISITCAL_KERNEL_CACHE_DIR": str(kernels)} | variables
    subprocess.run([sys.executable, "-m", "visitcal.cli", "warmup"], env=environment, cwd=directory, check=True)


@pytest.fixture
def kernels(root: Path) -> Path:
    """The compiled kernels of the tests, all of them by now."""
    directory = os.environ.get("NUMBA_CACHE_DIR", str(root / "kernels"))
    warm_up(Path(directory), root, {})
    return Path(directory)


@pytest.fixture
def stack(root: Path, postgres_server: PostgresServer, bucket: Bucket, kernels: Path) -> Iterator[Stack]:
    postgres_server.let_everybody_in()
    substitutes = {
        "VISITCAL_DATABASE_URL": postgres_server.url(postgres_server.create_database()),
        "VISITCAL_BLOB_URL": f"s3://{bucket.name}/blobs",
        "VISITCAL_S3_ENDPOINT": bucket.endpoint,
        "VISITCAL_PORT": str(free_port()),
    }
    stack = Stack(root, substitutes, kernels)
    yield stack
    stack.kill()


def test_the_stack_of_the_compose_file_runs_a_job(stack: Stack, root: Path) -> None:
    if not can_shut_in():
        print("this machine lets nobody be shut in: the file system is not read-only here")
    _, migration = stack.start("migrate")
    assert migration.wait(60) == 0
    api, api_process = stack.start("api")
    url = f"http://127.0.0.1:{api.environment['VISITCAL_PORT']}"
    until_healthy(api, api_process)
    assert httpx.get(f"{url}/v1/jobs").status_code == 401
    worker, worker_process = stack.start("worker")
    assert not worker.is_healthy(), "its kernels are not loaded yet"
    token = api.start("token", "create", "--scope", "admin", "--json", stdout=subprocess.PIPE)
    bearer = json.loads(token.communicate(timeout=60)[0])["token"]
    simulation = simulate(SimulationConfig(size=512, seed=3, n_stars=220, n_galaxies=10))
    files, zero_point = write_simulation(simulation, root / "input"), simulation.aperture_zero_point()
    until_healthy(worker, worker_process)
    assert httpx.get(f"{url}/readyz").json()["status"] == "ok"
    with Client(url, token=bearer) as client:
        client.put_refcat("sim", files["references"])
        result = client.submit(files["exposure"], references="sim").wait(120)
        assert result.summary["zeroPoint"] == pytest.approx(zero_point, abs=0.1)
    numbers = httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {VARIABLES['METRICS_TOKEN']}"}).text
    assert "visitcal_worker_slots{" in numbers
    services = compose()["services"]
    for service, process in (("worker", worker_process), ("api", api_process)):
        since = time.monotonic()
        process.send_signal(signal.Signals[api.image.stop_signal])
        assert process.wait(60) == 0
        assert time.monotonic() - since < float(services[service]["stop_grace_period"].removesuffix("s"))
    assert not worker.is_healthy()
    assert not api.is_healthy()


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_worker_compiles_nothing_that_the_image_has(root: Path) -> None:
    """The kernels are made as in the build, and read-only; an idle worker has run a whole calibration to warm up."""
    kernels = root / "kernels"
    cpu = {"VISITCAL_KERNEL_CPU": read_image("build").environment["VISITCAL_KERNEL_CPU"]}
    warm_up(kernels, root, cpu)
    for path in (kernels, *kernels.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    worker = Container(read_image("worker"), {"VISITCAL_KERNEL_IMAGE_DIR": str(kernels)}, root / "worker", {})
    process = worker.start()
    try:
        until_healthy(worker, process)
    finally:
        process.terminate()
        process.wait(60)
    copied = sorted(path.relative_to(kernels) for path in kernels.rglob("*.nbc"))
    used = root / "worker" / "data" / "kernel-cache"
    assert copied
    assert sorted(path.relative_to(used) for path in used.rglob("*.nbc")) == copied
