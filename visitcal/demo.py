"""`visitcal demo`: a simulated exposure through the whole service, on this machine, without a network."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from visitcal.cli import EXIT_FAILED, EXIT_OK, EXIT_UNREACHABLE
from visitcal.client import Client
from visitcal.commands.remote import print_result, watch
from visitcal.display import upload_bar
from visitcal.errors import VisitcalError
from visitcal.server_process import ServerProcess

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from visitcal.job import Job

__all__ = ["kernel_cache", "run"]

REFCAT = "demo"


def run(options: argparse.Namespace) -> int:
    """Simulate, serve, upload, calibrate, print; nothing is left behind unless asked for."""
    console = Console()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="visitcal-demo-") as name:
        directory = Path(name)
        try:
            job_phase = _demonstrate(options, console, directory)
        except VisitcalError as error:
            console.print(f"[red]{error}[/]", highlight=False)
            return EXIT_UNREACHABLE
    console.print(f"[dim]everything stopped and removed after {time.monotonic() - started:.0f} s[/]", highlight=False)
    return EXIT_OK if job_phase == "COMPLETED" else EXIT_FAILED


def _demonstrate(options: argparse.Namespace, console: Console, directory: Path) -> str:
    from service.jobs.kernel_cache import kernel_cache_dir

    cache = kernel_cache()
    first_time = not any(kernel_cache_dir(cache).rglob("*.nbc"))
    environment = {"VISITCAL_KERNEL_CACHE_DIR": str(cache)}
    with ServerProcess(directory / "data", directory / "server.log", environment=environment) as server:
        console.print(f"[green]✓[/] service at {server.url}, with a worker beside it", highlight=False)
        # The worker warms up while we simulate.
        with _step(console, f"simulated {options.stars} stars on {options.size} x {options.size} pixels"):
            files, truth = _simulate(options, directory / "input")
        with Client(server.url) as client:
            with _step(console, "reference catalogue uploaded"):
                client.put_refcat(REFCAT, files["references"])
            with upload_bar(console) as bar:
                size = files["exposure"].stat().st_size
                task = bar.add_task("upload exposure", total=size)
                exposure = client.upload(
                    files["exposure"], on_progress=lambda sent, _: bar.update(task, completed=sent)
                )
            console.print(f"[green]✓[/] exposure uploaded ({size / 1e6:.0f} MB) as {exposure['id']}", highlight=False)
            job = client.submit(exposure["id"], references=REFCAT, run_id="demo")
            console.print(f"[green]✓[/] job {job.id} submitted", highlight=False)
            if first_time:
                console.print("[dim]the first time, the worker compiles its kernels: this takes a minute or two[/]")
            watch(job, console)
            print_result(client, job, console, truth)
            if options.keep is not None:
                _keep(job, files, options.keep)
                console.print(f"inputs and products are in {options.keep}", soft_wrap=True)
            return job.phase


def _simulate(options: argparse.Namespace, directory: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    """Files of a simulated exposure, and the true values of some statistics."""
    from service.simulation import SimulationConfig, simulate, write_simulation

    config = SimulationConfig(size=options.size, seed=options.seed, n_stars=options.stars)
    simulation = simulate(config)
    truth = {
        "zeroPoint": simulation.aperture_zero_point(),
        "pixelScale": config.pixel_scale,
        "expTime": config.exposure_time,
    }
    return write_simulation(simulation, directory), truth


def _keep(job: Job, files: dict[str, Path], directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for path in files.values():
        shutil.copy2(path, directory)
    for product in job.result.products():
        job.result.download(product["id"], directory)


def kernel_cache() -> Path:
    """Compiled kernels outlive the demo, so that the second one starts faster."""
    base = os.environ.get("VISITCAL_KERNEL_CACHE_DIR")
    if base:
        return Path(base)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "visitcal" / "kernels"


@contextmanager
def _step(console: Console, done: str) -> Iterator[None]:
    started = time.monotonic()
    with console.status(f"{done} ..."):
        yield
    console.print(f"[green]✓[/] {done} ({time.monotonic() - started:.1f} s)", highlight=False)
