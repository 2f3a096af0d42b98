"""CPU of one job by what uses it: the calibration's own stages, the rest of the child, the worker, the API.

``python -m benchmarks.bench_service_cost [--size 4096] [--jobs 3]``

An API process and a worker process serve a client that uploads an exposure, submits it and waits, job after job. CPU,
not time, so that other load on the machine tells little. What processes use while nothing happens is measured before
and shown by itself: it belongs to no job. The API's part has the upload of the whole file, the job and its polls.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from service.jobs import pipeline
from service.jobs.outcome import JobOutcome
from service.jobs.pipeline import warm_up
from service.jobs.task import Reporter, Task
from service.settings import Settings
from service.simulation import SimulationConfig, simulate, write_simulation
from visitcal.client import Client
from visitcal.server_process import ServerProcess

__all__ = ["calibrate", "warm_up"]

REPO = Path(__file__).parents[1]
_IDLE_SECONDS = 10.0
_AROUND = ("read", "write")  # stages of the job that are none of the calibration


class CpuOfStages(Reporter):
    """Passes progress on, and sums the CPU time between the two calls of each stage."""

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self._began: tuple[str, float] | None = None
        self.seconds: dict[str, float] = {}

    @property
    def stage(self) -> str | None:
        """The stage under way, or the last one."""
        return self._report.stage

    def __call__(self, stage: str, fraction: float, numbers: dict[str, Any]) -> None:
        now = time.process_time()
        if self._began is None or self._began[0] != stage:
            self._began = (stage, now)
        else:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._began[1]
        self._report(stage, fraction, numbers)


def calibrate(task: Task) -> JobOutcome:
    """The task of a worker, with the CPU of its stages among the job's metadata."""
    clock = CpuOfStages(task.report)
    began = time.process_time()
    outcome = pipeline.run_job(replace(task, report=clock))
    seconds = clock.seconds | {"task": time.process_time() - began}
    return replace(outcome, metadata={**(outcome.metadata or {}), "cpu_seconds": seconds})


class Service:
    """An API and workers of one slot in a directory, and their processes' CPU.

    Parameters
    ----------
    directory : Path
        Where they keep everything.
    workers : int
        Worker processes.
    database_url : str, optional
        A database with the tables of the service; by default files of SQLite.
    threads : int
        Of each job.
    """

    def __init__(self, directory: Path, *, workers: int = 1, database_url: str | None = None, threads: int = 1) -> None:
        self._settings = Settings(
            data_dir=directory / "data",
            kernel_cache_dir=Path(os.environ.get("NUMBA_CACHE_DIR", REPO / ".numba_cache")),
            task="benchmarks.bench_service_cost:calibrate",
            embedded_worker=False,
            slots=1,
            threads_per_job=threads,
            database_url=database_url,
        )
        environment = self._settings.environment()
        self.server = ServerProcess(self._settings.data_dir, directory / "server.log", environment=environment)
        self.server.start()
        self._workers = [_ready_worker(directory / f"worker{n}.log", environment) for n in range(workers)]

    @property
    def n_workers(self) -> int:
        """How many run."""
        return len(self._workers)

    def cpu(self) -> dict[str, float]:
        """Seconds used so far by each kind of process."""
        workers = [psutil.Process(worker.pid) for worker in self._workers]
        children = [child for worker in workers for child in worker.children(recursive=True)]
        kinds = {"api": [psutil.Process(self.server.pid)], "worker": workers, "child": children}
        return {name: sum(sum(process.cpu_times()[:2]) for process in found) for name, found in kinds.items()}

    def close(self) -> None:
        for worker in self._workers:
            worker.terminate()
            worker.wait()
        self.server.stop()


def _ready_worker(log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """A worker process that waits for jobs."""
    command = [sys.executable, "-m", "service.jobs.worker", str(os.getpid())]
    with log.open("wb") as stream:
        worker = subprocess.Popen(command, cwd=REPO, env=os.environ | environment, stderr=stream)
    while b"is ready" not in log.read_bytes():
        if worker.poll() is not None:
            raise SystemExit(log.read_text())
        time.sleep(0.2)
    return worker


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4096, help="pixels a side")
    parser.add_argument("--stars", type=int, help="default: 300 in 1024 x 1024 pixels")
    parser.add_argument("--jobs", type=int, default=3)
    options = parser.parse_args()
    stars = options.stars or round(300 * (options.size / 1024) ** 2)
    with tempfile.TemporaryDirectory(prefix="bench-cost-", dir=Path.cwd()) as name:
        directory = Path(name)
        simulation = simulate(SimulationConfig(size=options.size, n_stars=stars, seed=3))
        files = write_simulation(simulation, directory / "input")
        service = Service(directory)
        try:
            with Client(service.server.url) as client:
                client.put_refcat("gaia", files["references"])
                _report(_measure(service, client, files["exposure"], options.jobs), files["exposure"])
        finally:
            service.close()


def _measure(service: Service, client: Client, path: Path, jobs: int) -> dict[str, float]:
    """CPU seconds of one job; the first one is left out, since it touches much for the first time."""
    _run(client, path)
    before = service.cpu()
    time.sleep(_IDLE_SECONDS)
    idle = {name: (value - before[name]) / _IDLE_SECONDS for name, value in service.cpu().items()}
    before, began = service.cpu(), time.monotonic()
    stages: dict[str, float] = {}
    for _ in range(jobs):
        for stage, seconds in _run(client, path).items():
            stages[stage] = stages.get(stage, 0.0) + seconds / jobs
    time.sleep(1.0)  # what follows the end of a job: memory given back, leases, events
    wall = time.monotonic() - began
    after = {name: (value - before[name] - idle[name] * wall) / jobs for name, value in service.cpu().items()}
    core = sum(seconds for stage, seconds in stages.items() if stage not in (*_AROUND, "task"))
    return {
        "calibration": core,
        "child: read": stages["read"],
        "child: write": stages["write"],
        "child: rest of the task": stages["task"] - core - stages["read"] - stages["write"],
        "child: around the task": after["child"] - stages["task"],
        "worker": after["worker"],
        "API": after["api"],
        "idle worker, per second": idle["worker"] + idle["child"],
        "idle API, per second": idle["api"],
    }


def _run(client: Client, path: Path) -> dict[str, float]:
    exposure = client.upload(path)
    job = client.submit(exposure["id"], references="gaia", force=True)
    seconds: dict[str, float] = job.wait().metadata["cpu_seconds"]
    return seconds


def _report(seconds: dict[str, float], path: Path) -> None:
    core = seconds["calibration"]
    print(f"exposure of {path.stat().st_size / 1e6:.0f} MB; CPU seconds of a job")
    for name, value in seconds.items():
        print(f"  {name:28s}{value:8.3f}{value / core:9.1%} of the calibration")
    own = sum(value for name, value in seconds.items() if name != "calibration" and not name.startswith("idle"))
    print(f"the service's own: {own:.3f} s, {own / (core + own):.1%} of all")


if __name__ == "__main__":
    main()
