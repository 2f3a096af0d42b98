"""``python -m benchmarks.peers``: CPU seconds and accuracy of visitcal and the classic chain on the same exposures."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.peers import classic, judge, ours, programs, report
from benchmarks.peers.measured import Measured
from benchmarks.peers.scenes import SCENES
from service.formats import write_exposure
from service.simulation import Simulation, simulate


def compare(simulation: Simulation, folder: Path, repeat: int) -> dict[str, Any]:
    """Both on one exposure: CPU seconds by step, the least of the runs, and figures of the last.

    Parameters
    ----------
    simulation : Simulation
        One exposure and its truth.
    folder : Path
        Where the files go.
    repeat : int
        Runs of each that count.

    Returns
    -------
    dict
        By program ``cpu`` and ``figures``; ``command_cpu`` of ours with start-up and every product; ``variants`` of
        SCAMP.
    """
    write_exposure(folder / ours.EXPOSURE, simulation.exposures[0])
    pq.write_table(pa.table(simulation.references), folder / ours.REFERENCES)
    classic.write_inputs(simulation, folder)
    known = judge.truth(simulation)
    ours.calibrated(folder)  # compiles and warms
    chains: dict[str, Callable[[], Measured]] = {
        report.OURS: lambda: ours.measured(folder),
        report.CLASSIC: lambda: classic.calibrated(simulation, folder),
    }
    result: dict[str, Any] = {}
    for name, chain in chains.items():
        runs = [chain() for _ in range(repeat)]
        cpu = {step: min(run.cpu[step] for run in runs) for step in runs[0].cpu}
        result[name] = {"cpu": cpu, "figures": judge.judge(known, runs[-1])}
    ours.command_seconds(folder)  # kernels of this process may not be those of another's cache
    result["command_cpu"] = ours.command_seconds(folder)
    result["variants"] = {name: _solved(simulation, folder, options) for name, options in report.VARIANTS.items()}
    return result


def _solved(simulation: Simulation, folder: Path, options: dict[str, object]) -> dict[str, float]:
    seconds = classic.solve(folder, **options)
    return {"cpu": seconds, "wcs": judge.wcs_error(simulation, classic.solution(folder))}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--scenes", nargs="+", default=list(SCENES), choices=list(SCENES))
    parser.add_argument("--repeat", type=int, default=2, help="runs that count; the least CPU seconds are shown")
    parser.add_argument("--install", action="store_true", help="install what is missing by apt-get, as root")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    parser.add_argument("--readme", type=Path, help="rewrite the table between the marks in this file")
    options = parser.parse_args()
    if options.readme and set(options.scenes) != set(SCENES):
        parser.error("--readme needs all scenes")
    programs.require(install=options.install)
    results = {}
    for name in options.scenes:
        with tempfile.TemporaryDirectory() as folder:
            results[name] = compare(simulate(SCENES[name]), Path(folder), options.repeat)
        print(report.text(name, results[name]), flush=True)
        if options.json:
            options.json.write_text(json.dumps(results, indent=2) + "\n")
    if options.readme:
        report.rewrite(options.readme, report.markdown(results))


if __name__ == "__main__":
    main()
