"""CPU seconds and peak memory of the calibration, stage by stage.

Run ``make bench`` or ``python benchmarks/bench_pipeline.py --sizes 1024 2048 4096``. The first run of each size warms
the kernels and is not counted. Times are those of this process; compare ratios within one run.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from service.calibration.calibrate_image import CalibrateImage, References
from service.calibration.config import CalibrateImageConfig
from service.calibration.presets import resolve_config
from service.refcats import load_table
from service.simulation import Simulation, SimulationConfig, simulate


class StageClock:
    """CPU seconds by stage, from progress reports."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.process_time()

    def __call__(self, stage: str, fraction: float, numbers: dict[str, Any]) -> None:
        now = time.process_time()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


def scene(size: int, stars_per_1k: int) -> Simulation:
    area = (size / 1024) ** 2
    config = SimulationConfig(
        size=size, seed=4, n_stars=int(stars_per_1k * area), n_galaxies=int(0.3 * stars_per_1k * area), mag_faint=25.0
    )
    return simulate(config)


def run(simulation: Simulation, references: References, config: CalibrateImageConfig) -> dict[str, Any]:
    exposures = [
        type(e)(**{name: getattr(e, name) for name in e.__slots__} | {"masked_image": e.masked_image.copy()})
        for e in simulation.exposures
    ]
    clock = StageClock()
    start, wall = time.process_time(), time.perf_counter()
    result = CalibrateImage(config).run(exposures, references, clock)
    if result.failure is not None:
        raise SystemExit(f"calibration failed: {result.failure}")
    return {
        "cpu_s": time.process_time() - start,
        "wall_s": time.perf_counter() - wall,
        "stages_cpu_s": clock.seconds,
        "sources": result.metadata["post_deblend_source_count"],
        "stars": result.metadata["star_count"],
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048, 4096])
    parser.add_argument("--stars-per-1k", type=int, default=400, help="stars per 1024 x 1024 pixels")
    parser.add_argument("--preset", default="generic")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args()
    config = resolve_config(options.preset)
    report = {}
    for size in options.sizes:
        simulation = scene(size, options.stars_per_1k)
        path = Path(f"/tmp/bench_references_{size}.parquet")
        pq.write_table(pa.table(simulation.references), path)
        loader = load_table(path)
        references = References(loader, loader)
        run(simulation, references, config)
        report[size] = run(simulation, references, config)
        numbers = report[size]
        print(f"\n{size} x {size}: {numbers['sources']} sources, {numbers['stars']} stars")
        for stage, seconds in numbers["stages_cpu_s"].items():
            print(f"  {stage:<22} {seconds:8.3f}")
        print(f"  {'total CPU s':<22} {numbers['cpu_s']:8.3f}   wall {numbers['wall_s']:.3f}")
        print(f"  {'peak memory MB':<22} {numbers['peak_memory_mb']:8.0f}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
