"""What a calibration costs, stage by stage: CPU and wall seconds, memory of the process, arrays that were allocated.

``python benchmarks/bench_pipeline.py [--sizes 1024 2048 4096] [--crowded 4096] [--threads N] [--json FILE]``, or
``make bench``; ``--document docs/performance.md`` puts the tables there.

Typical exposures have 800 stars in 1024 x 1024 pixels (6,600 sources in 4096 x 4096), crowded ones 7,500 (50,000
sources in 4096 x 4096). Each run is in a process of its own, as seconds differ from process to process, and has one
before it that warms the kernels. Of some runs the one with the least CPU counts, and its memory, which is that of the
whole process at the height of a stage (Linux only); of as many with the threads of a job the one with the least wall
time. A last one is traced, which takes time: the highest sum of what numpy and compiled code have allocated in a stage
beyond the exposure itself, in float32 planes of its size. Compare ratios within one run; seconds depend on the machine
and on what else it does.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import pickle
import platform
import re
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from service import threads
from service.calibration.calibrate_image import CalibrateImage, References
from service.calibration.presets import resolve_config
from service.calibration.result import CalibrationResult
from service.exposure.exposure import Exposure
from service.operations.marked_text import with_marked_text
from service.refcats import load_table
from service.simulation import SimulationConfig, simulate

_HIGH_WATER = re.compile(r"VmHWM:\s+(\d+) kB")


def typical(size: int) -> SimulationConfig:
    area = (size / 1024) ** 2
    n_stars, n_galaxies = round(800 * area), round(240 * area)
    return SimulationConfig(size=size, seed=4, n_stars=n_stars, n_galaxies=n_galaxies, mag_faint=25.0)


def crowded(size: int) -> SimulationConfig:
    """A wider PSF would blend sources together faster than stars are added."""
    area = (size / 1024) ** 2
    n_stars, n_galaxies = round(7500 * area), round(240 * area)
    return SimulationConfig(size=size, seed=4, n_stars=n_stars, n_galaxies=n_galaxies, mag_faint=24.0, fwhm=3.5)


class Scene:
    """A simulated exposure in a directory, read anew for each run, which modifies it."""

    def __init__(self, directory: Path) -> None:
        self._exposures = directory / "exposures.pickle"
        self._references = directory / "references.parquet"

    def write(self, config: SimulationConfig) -> None:
        simulation = simulate(config)
        self._exposures.write_bytes(pickle.dumps(simulation.exposures, protocol=5))
        pq.write_table(pa.table(simulation.references), self._references)

    def read(self) -> tuple[list[Exposure], References]:
        with self._exposures.open("rb") as stream:
            exposures = pickle.load(stream)
        loader = load_table(self._references)
        return exposures, References(loader, loader)


class Stages:
    """Calls one function when a stage begins and another when it ends, and keeps what the latter says."""

    def __init__(self, begin: Callable[[], Any], end: Callable[[Any], dict[str, float]]) -> None:
        self._begin, self._end = begin, end
        self._begun: tuple[str, Any] | None = None
        self.found: dict[str, dict[str, float]] = {}

    def __call__(self, stage: str, fraction: float, numbers: dict[str, Any]) -> None:
        if self._begun is None or self._begun[0] != stage:
            self._begun = (stage, self._begin())
        else:
            self.found[stage] = self._end(self._begun[1])
            self._begun = None


def calibrate(exposures: list[Exposure], references: References, preset: str, stages: Stages) -> CalibrationResult:
    result = CalibrateImage(resolve_config(preset)).run(exposures, references, stages)
    if result.failure is not None:
        raise RuntimeError(f"calibration failed: {result.failure}")
    return result


def _forget_high_water() -> None:
    if platform.system() == "Linux":
        Path("/proc/self/clear_refs").write_text("5")


def _high_water_mb() -> float:
    if platform.system() != "Linux":
        return float("nan")
    found = _HIGH_WATER.search(Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def timed(scene: Scene, preset: str, n_threads: int) -> dict[str, Any]:
    """Seconds and memory of one run."""

    def begin() -> tuple[float, float]:
        _forget_high_water()
        return time.process_time(), time.perf_counter()

    def end(began: tuple[float, float]) -> dict[str, float]:
        cpu, wall = time.process_time() - began[0], time.perf_counter() - began[1]
        return {"cpu_s": cpu, "wall_s": wall, "memory_mb": _high_water_mb()}

    stages = Stages(begin, end)
    exposures, references = scene.read()
    cpu, wall = time.process_time(), time.perf_counter()
    with threads.at_most(n_threads):
        result = calibrate(exposures, references, preset, stages)
    seconds = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
    counts = {"sources": result.metadata["post_deblend_source_count"], "stars": result.metadata["star_count"]}
    memory = max(stage["memory_mb"] for stage in stages.found.values())
    return {**counts, **seconds, "memory_mb": memory, "stages": stages.found}


def traced(scene: Scene, preset: str) -> dict[str, float]:
    """Most float32 planes allocated at once in each stage, beyond the exposure."""
    exposures, references = scene.read()
    plane = exposures[0].masked_image.image.nbytes
    stages = Stages(tracemalloc.reset_peak, lambda _: {"planes": tracemalloc.get_traced_memory()[1] / plane})
    tracemalloc.start()
    calibrate(exposures, references, preset, stages)
    tracemalloc.stop()
    return {stage: found["planes"] for stage, found in stages.found.items()}


def warm(run: Callable[..., Any], *arguments: Any) -> Any:
    """What a run finds whose kernels another has loaded."""
    logging.disable(logging.WARNING)
    run(*arguments)
    return run(*arguments)


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def measure(config: SimulationConfig, preset: str, repeats: int, n_threads: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bench-pipeline-") as name:
        scene = Scene(Path(name))
        alone(scene.write, config)
        runs = [[alone(warm, timed, scene, preset, n) for n in (1, n_threads)] for _ in range(repeats)]
        planes = alone(warm, traced, scene, preset)
    found: dict[str, Any] = min((run for run, _ in runs), key=lambda run: run["cpu_s"])
    fastest = min((run for _, run in runs), key=lambda run: run["wall_s"])
    for numbers, threaded in [(found, fastest), *((found["stages"][n], fastest["stages"][n]) for n in planes)]:
        numbers |= {f"threaded_{key}": threaded[key] for key in ("cpu_s", "wall_s", "memory_mb")}
    for stage, numbers in found["stages"].items():
        numbers["planes"] = planes[stage]
    return {"size": config.size} | found | {"planes": max(planes.values())}


def table(title: str, key: str, digits: int, scenes: dict[str, Any]) -> str:
    """Markdown of one number: a row each stage and the whole, a column each scene."""
    stages = list(dict.fromkeys(stage for scene in scenes.values() for stage in scene["stages"]))
    lines = [f"| {title} | " + " | ".join(scenes) + " |", "| --- |" + " ---: |" * len(scenes)]
    for row in [*stages, "whole"]:
        numbers = [
            scene.get(key) if row == "whole" else scene["stages"].get(row, {}).get(key) for scene in scenes.values()
        ]
        cells = ["" if number is None else f"{number:,.{digits}f}" for number in numbers]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def growth(scenes: dict[str, Any]) -> str:
    """What four times as many pixels and sources cost, a line each step; 4 would be in proportion."""
    steps = [(a, b) for a, b in pairwise(scenes) if a.split()[0] == b.split()[0]]
    steps = [(a, b) for a, b in steps if scenes[b]["size"] == 2 * scenes[a]["size"]]
    return "".join(f"CPU of {b} over {a}: {scenes[b]['cpu_s'] / scenes[a]['cpu_s']:.2f}\n" for a, b in steps)


def report(scenes: dict[str, Any], n_threads: int) -> str:
    found = {f"{name}, {scene['sources']:,} sources": scene for name, scene in scenes.items()}
    seconds = table("CPU s", "cpu_s", 2, found), growth(scenes)
    threaded = table(f"wall s, {n_threads} threads", "threaded_wall_s", 2, found)
    memory = table("MB of the process", "memory_mb", 0, found), table("planes allocated", "planes", 2, found)
    return "\n".join(text for text in (*seconds, threaded, *memory) if text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1024, 2048, 4096], help="of typical exposures, pixels")
    parser.add_argument("--crowded", type=int, nargs="*", default=[4096], help="sizes of crowded exposures, pixels")
    parser.add_argument("--preset", default="generic")
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the cheapest counts")
    parser.add_argument("--threads", type=int, default=threads.sensible(), help="of the runs that have some")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--document", type=Path, help="put the tables between the marks of this document")
    options = parser.parse_args()
    configs = {f"typical {size}": typical(size) for size in options.sizes}
    configs |= {f"crowded {size}": crowded(size) for size in options.crowded}
    scenes = {}
    for name, config in configs.items():
        scenes[name] = measure(config, options.preset, options.repeats, options.threads)
        print(f"{name}: {scenes[name]['cpu_s']:.2f} CPU s", flush=True)
    tables = report(scenes, options.threads)
    print(f"\n{tables}")
    if options.document:
        options.document.write_text(with_marked_text(options.document.read_text(), "calibration", tables))
    if options.json:
        machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
        options.json.write_text(
            json.dumps({"machine": machine, "threads": options.threads, "scenes": scenes}, indent=2)
        )


if __name__ == "__main__":
    main()
