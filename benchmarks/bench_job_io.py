"""CPU seconds of a job outside the calibration: reading, products, SQL, start-up of a child.

``python -m benchmarks.bench_job_io [--size 4096] [--stars 12800] [--repeat 5]``

One simulated exposure is calibrated once; then each part is done again and again by itself, and the least CPU time
(user and system) of this process counts. ``bench_service_cost`` measures whole jobs of a service instead.
"""

from __future__ import annotations

import argparse
import gzip
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from service import formats
from service.calibration.calibrate_image import CalibrateImage, References
from service.calibration.presets import resolve_config
from service.calibration.result import CalibrationResult
from service.formats.compressed import write_compressed
from service.formats.sections import ImageFile
from service.jobs import publish
from service.jobs.outcome import JobOutcome
from service.jobs.prepare import prepare
from service.jobs.product_files import write_products
from service.jobs.progress import ProgressLog
from service.jobs.provenance import identity
from service.jobs.runner import Spawner
from service.jobs.submission import JobRequest, Submissions
from service.jobs.turns import take
from service.refcats import ingest, load_table, open_catalog
from service.settings import Settings
from service.simulation import SimulationConfig, simulate
from service.storage import Storage
from service.storage.blobs import FileReader
from service.storage.records import Fence, JobRecord, Scope

OWNER = Scope("local")


def cpu() -> float:
    """User and system time of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def least(act: Callable[[], object], repeat: int, before: Callable[[], object] = lambda: None) -> float:
    """Least CPU time of some runs, each after something that does not count."""
    seconds = []
    for _ in range(repeat):
        before()
        began = cpu()
        act()
        seconds.append(cpu() - began)
    return min(seconds)


def packings(path: Path) -> dict[str, Path]:
    """A file as it is, with compressed tiles, and packed as a whole."""
    found = {"uncompressed": path, "gzip of the file": path.with_suffix(".fits.gz")}
    with path.open("rb") as plain, gzip.open(found["gzip of the file"], "wb", compresslevel=1) as packed:
        shutil.copyfileobj(plain, packed, 1 << 20)
    for name in ("rice_q16", "gzip2"):
        found[f"{name} tiles"] = path.with_suffix(f".{name}.fz")
        with path.open("rb") as file:
            source = FileReader(file)
            write_compressed(found[f"{name} tiles"], source, ImageFile(source), name)
    return found


class Service:
    """A store and a queue with an exposure, whose jobs are taken by nobody else."""

    def __init__(self, directory: Path, exposure: Path) -> None:
        self.settings = Settings(data_dir=directory / "data")
        prepare(self.settings)
        self.storage = Storage(self.settings)
        self._submissions = Submissions(self.storage, self.settings)
        blob = self.storage.blobs.put_file(exposure)
        record, _ = self.storage.exposures.add(
            OWNER, blob, filename=exposure.name, file_format="lsst_masked_image", metadata={}
        )
        self._exposure = record.id

    def job(self) -> JobRecord:
        """A job that has begun."""
        self._submissions.submit(OWNER, JobRequest((self._exposure,)))
        job = take(self.storage, self.settings, "bench")
        if not isinstance(job, JobRecord):
            raise SystemExit(f"no job was taken: {job}")
        return job

    def close(self) -> None:
        self._submissions.close()
        self.storage.close()


class Ending:
    """What a worker does with the products of a job."""

    def __init__(self, service: Service, result: CalibrationResult, directory: Path) -> None:
        self._service, self._result, self._directory = service, result, directory

    def write(self) -> None:
        """Write the products."""
        self._directory.mkdir(exist_ok=True)
        self._outcome = JobOutcome(
            summary=self._result.summary.as_dict(),
            identity=identity(self._result.exposure),
            metadata=self._result.metadata,
            products=write_products(self._result, self._directory),
        )

    def store(self) -> None:
        """Take the files into the store."""
        self._records = publish.store_files(self._service.storage, self._outcome)

    def begin(self) -> None:
        """Claim a job."""
        job = self._service.job()
        self._fence = Fence(job.id, job.attempt, job.worker or "")

    def publish(self) -> None:
        """Rows and documents into the database."""
        report = ProgressLog().report()
        if publish.publish(self._service.storage, self._fence, self._outcome, self._records, report) is None:
            raise SystemExit("nothing was published")

    def again(self) -> None:
        """Everything before `publish`, anew: a blob that is there already costs less."""
        shutil.rmtree(self._directory, ignore_errors=True)
        shutil.rmtree(self._service.settings.blob_dir)
        self._service.storage.close()
        self._service.storage = Storage(self._service.settings)


def start_up(settings: Settings) -> dict[str, float]:
    """CPU of the imports of a job, and of a child until it is ready (kernels are compiled before)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import service.jobs.pipeline"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spawner = Spawner(settings)
    try:
        for _ in range(2):  # the first may compile
            child = spawner.start(threading.Event())
            ready = sum(psutil.Process(child.pid).cpu_times()[:2])
            child.kill()
    finally:
        spawner.close()
    imports = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"imports of a child": imports, "child until ready": ready}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4096, help="pixels a side")
    parser.add_argument("--stars", type=int, help="default: 800 in 1024 x 1024 pixels")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    stars = options.stars or round(800 * (options.size / 1024) ** 2)
    with tempfile.TemporaryDirectory(prefix="bench-job-io-", dir=Path.cwd()) as name:
        _measure(Path(name), SimulationConfig(size=options.size, n_stars=stars, seed=4), options.repeat)


def _measure(directory: Path, config: SimulationConfig, repeat: int) -> None:
    simulation = simulate(config)
    path, table = directory / "exposure.fits", directory / "references.parquet"
    formats.write_exposure(path, simulation.exposures[0])
    pq.write_table(pa.table(simulation.references), table)
    exposure, loader = formats.read_exposure(path).exposure, load_table(table)
    result = CalibrateImage(resolve_config("generic")).run([exposure], References(loader, loader), lambda *_: None)
    if result.failure is not None or result.stars is None:
        raise SystemExit(f"calibration failed: {result.failure}")
    print(f"{config.size} x {config.size} pixels, {len(result.stars)} stars; CPU seconds")
    for label, packed in packings(path).items():
        _print(f"read, {label}", least(lambda packed=packed: formats.read_exposure(packed), repeat))
    ingest(table, name="gaia", store_dir=directory / "refcats")
    circle = (*result.exposure.wcs.pixel_to_sky(*result.exposure.bbox.center), 0.2)
    _print(
        "references",
        least(lambda: open_catalog(directory / "refcats", "gaia").load_circle(*circle, epoch=60_000.0), repeat),
    )
    service = Service(directory, path)
    ending = Ending(service, result, directory / "products")
    _print("write the products", least(ending.write, repeat, ending.again))
    _print("take them into the store", least(ending.store, repeat, lambda: (ending.again(), ending.write())))
    _print("SQL", least(ending.publish, repeat, ending.begin))
    for label, seconds in start_up(service.settings).items():
        _print(label, seconds)
    service.close()


def _print(label: str, seconds: float) -> None:
    print(f"  {label:28s}{seconds:8.3f}", flush=True)


if __name__ == "__main__":
    main()
