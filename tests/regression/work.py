"""Count the work of one calibration and of one job anew, into ``work.json``: ``python -m tests.regression.work``.

The table is the truth of what the code does: ``test_work.py`` fails where there is more work than it says, which wants
a reason, and where there is less, which wants the table lowered, so that what was won stays won.

Counting has a process of its own, and compiles nothing: what an interpreter allocates for itself, such as the table of
its names as it grows, depends on all that it has done before.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from service.calibration.calibrate_image import CalibrateImage
from service.jobs.pipeline import warm_up
from service.simulation import SimulationConfig, simulate
from tests.regression.counted import PlaneTracer, kernel_calls
from tests.regression.exposures import references
from tests.regression.job_work import work_of_a_job

TABLE = Path(__file__).with_name("work.json")

#: Large against the stamps and columns of its few sources.
SCENE = SimulationConfig(size=1536, seed=21, n_stars=300, n_galaxies=60)

Table = dict[str, dict[str, Any]]


def work_of_a_calibration() -> Table:
    """Kernels called, planes allocated and memory at its height."""
    calibrate()  # what is imported and loaded at a first use is no work of the second
    tracer = PlaneTracer(SCENE.size**2)
    with kernel_calls() as calls:
        calibrate(tracer)
    peaks = {stage: round(peak, 2) for stage, peak in tracer.peaks.items() if stage}
    return {
        "kernel_calls": dict(sorted(calls.items())),
        "bytes_per_pixel_allocated": tracer.allocated,
        "peak_planes": peaks,
    }


def calibrate(tracer: PlaneTracer | None = None) -> None:
    """Calibrate the scene, followed by a tracer."""
    simulation = simulate(SCENE)
    loaders = references(simulation)
    with tracer or nullcontext():
        result = CalibrateImage().run(simulation.exposures, loaders, tracer)
    assert result.failure is None


def counted_in_a_process() -> Table:
    """The table of today."""
    warm_up()  # what is compiled is compiled here
    calibrate()
    command = [sys.executable, "-m", "tests.regression.work", "count"]
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    root = Path(__file__).parents[2]
    found: Table = json.loads(
        subprocess.run(command, cwd=root, env=environment, capture_output=True, check=True).stdout
    )
    return found


def main() -> None:
    logging.disable(logging.WARNING)
    if sys.argv[1:] == ["count"]:
        table = work_of_a_calibration()
        with tempfile.TemporaryDirectory() as directory:
            print(json.dumps(table | work_of_a_job(Path(directory))))
    else:
        TABLE.write_text(json.dumps(counted_in_a_process(), indent=2) + "\n")


if __name__ == "__main__":
    main()
