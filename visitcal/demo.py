"""`visitcal demo`: a simulated exposure through the whole service, on this machine, without a network."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visitcal.client import Client
from visitcal.commands.following import print_result, wait_for
from visitcal.display import upload_bar
from visitcal.exit_codes import EXIT_FAILED, EXIT_OK
from visitcal.server_process import ServerProcess

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from rich.console import Console

    from visitcal.job import Job
    from visitcal.output import Output

__all__ = ["kernel_cache", "run"]

REFCAT = "demo"
DAY_S = 86_400.0


def run(options: argparse.Namespace, output: Output) -> int:
    """Simulate, serve, upload, calibrate, print; nothing is left behind unless asked for."""
    from service.jobs.kernel_cache import kernel_cache_dir

    started = time.monotonic()
    cache = kernel_cache()
    if not any(kernel_cache_dir(cache).rglob("*.nbc")):
        output.say("the first time, the worker compiles its kernels: this takes a minute or two", "dim")
    environment = {"VISITCAL_KERNEL_CACHE_DIR": str(cache)}
    with tempfile.TemporaryDirectory(prefix="visitcal-demo-") as name:
        directory = Path(name)
        server = ServerProcess(directory / "data", directory / "server.log", environment=environment)
        with server:
            output.say(f"✓ service at {server.url}/ (its page, too), with a worker beside it")
            job = _demonstrate(options, output, server.url, directory / "input")
            if output.is_json:
                output.line({"url": server.url, "job": job.document})
            if options.keep:
                _serve_on(server.url, output)
    output.say(f"everything stopped and removed after {time.monotonic() - started:.0f} s", "dim")
    if not options.keep:
        output.say("visitcal demo --keep leaves the service with its page running until Ctrl-C", "dim")
    return EXIT_OK if job.phase == "COMPLETED" else EXIT_FAILED


def _demonstrate(options: argparse.Namespace, output: Output, url: str, directory: Path) -> Job:
    console = output.console
    # The worker warms up while we simulate.
    with _step(console, f"simulated {options.stars} stars on {options.size} x {options.size} pixels"):
        files, truth = _simulate(options, directory)
    with Client(url) as client:
        with _step(console, "reference catalogue uploaded"):
            client.put_refcat(REFCAT, files["references"])
        size = files["exposure"].stat().st_size
        with upload_bar(console) as bar:
            task = bar.add_task("upload exposure", total=size)
            exposure = client.upload(files["exposure"], on_progress=lambda sent, _: bar.update(task, completed=sent))
        output.say(f"✓ exposure uploaded ({size / 1e6:.0f} MB) as {exposure['id']}")
        job = client.submit(exposure["id"], references=REFCAT, run_id="demo")
        output.say(f"✓ job {job.id} submitted")
        wait_for(job, output)
        print_result(client, job.document, output, truth)
        if options.out is not None:
            _copy(job, files, options.out)
            output.say(f"inputs and products are in {options.out}")
    return job


def _serve_on(url: str, output: Output) -> None:
    """Leave the service to whoever looks at its page, until Ctrl-C."""
    output.say(f"the page is at {url}/ until Ctrl-C", "bold")
    try:
        while True:
            time.sleep(DAY_S)
    except KeyboardInterrupt:
        output.say("")


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


def _copy(job: Job, files: dict[str, Path], directory: Path) -> None:
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
