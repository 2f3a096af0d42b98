"""Exposures a minute through HTTP with one worker and with two, on SQLite and PostgreSQL, and what the service adds.

``python -m benchmarks.bench_service [--size 4096] [--jobs 8] [--threads 1] [--json FILE]``, with ``--document
docs/operations.md`` to put the table of a large camera there, worked out on paper from the last run.

An API process and warm worker processes of one slot serve a client that uploads as many different exposures as there
are jobs, submits all, and waits; a job has one thread unless told otherwise, or one worker would use the processors of
two. Time runs from the first claim to the last end, by the database. PostgreSQL is a private server on this machine, if
its programs are installed; it syncs its commits, as SQLite does.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import sqlalchemy as sa
from astropy.io import fits

from benchmarks.bench_service_cost import Service
from service.operations.marked_text import with_marked_text
from service.simulation import SimulationConfig, simulate, write_simulation
from tests.service.postgresql import running_server
from visitcal.client import Client

_AROUND = ("read", "write", "task")  # stages that are none of the calibration
_STARS_PER_1K = 800
_DETECTORS, _CADENCE_S, _NIGHT_H = 189, 35.0, 10.0
_IDLE_S = 10.0
_UTILISATION = 0.8  # of workers, so that a queue that has formed goes down again


@dataclass(frozen=True)
class Measured:
    """Means of a job in one run of the queue, without what processes use while nothing happens; CPU s, bytes."""

    database: str
    workers: int
    jobs: int
    exposures_per_minute: float
    calibration_cpu: float
    child_cpu: float
    worker_cpu: float
    upload_cpu: float
    api_cpu: float
    others_cpu_share: float
    input_bytes: float
    product_bytes: float
    rows_written: float | None
    transactions: float | None
    wal_bytes: float | None
    idle_cpu_per_s: float
    idle_transactions_per_s: float | None

    @property
    def overhead_cpu(self) -> float:
        """CPU that a job costs beyond its calibration: the rest of the child, the worker, the API with the upload."""
        return self.child_cpu - self.calibration_cpu + self.worker_cpu + self.upload_cpu + self.api_cpu


class PostgresWrites:
    """What a PostgreSQL database has written so far; nothing for SQLite, which does not count."""

    def __init__(self, url: str | None) -> None:
        self._engine = sa.create_engine(url, isolation_level="AUTOCOMMIT") if url else None

    def now(self) -> dict[str, float] | None:
        """Rows, transactions (reading ones too) and bytes of the write-ahead log."""
        if self._engine is None:
            return None
        with self._engine.connect() as connection:
            connection.execute(sa.text("SELECT pg_stat_clear_snapshot()"))
            query = (
                "SELECT tup_inserted + tup_updated + tup_deleted AS rows, xact_commit AS transactions,"
                " pg_current_wal_lsn() - '0/0'::pg_lsn AS wal FROM pg_stat_database WHERE datname = current_database()"
            )
            row = connection.execute(sa.text(query)).one()
        return {"rows": float(row.rows), "transactions": float(row.transactions), "wal": float(row.wal)}

    def close(self) -> None:
        if self._engine is not None:
            self._engine.dispose()


def different_exposures(path: Path, count: int) -> Iterator[Path]:
    """The same pixels under other bytes, one file at a time: equal ones would be stored once."""
    for number in range(count):
        fits.setval(path, "BENCHNO", value=number)
        yield path


def measure(files: dict[str, Path], url: str | None, workers: int, threads: int, jobs: int) -> Measured:
    """One queue of jobs, in a new service."""
    with TemporaryDirectory(prefix="bench-service-") as name:
        writes = PostgresWrites(url)
        service = Service(Path(name), workers=workers, database_url=url, threads=threads)
        try:
            with Client(service.server.url) as client:
                client.put_refcat("gaia", files["references"])
                return _measure(service, writes, client, files["exposure"], jobs)
        finally:
            service.close()
            writes.close()


def _measure(service: Service, writes: PostgresWrites, client: Client, path: Path, jobs: int) -> Measured:
    # a job for each worker, and one more for good measure, touch all for the first time
    first = client.upload(path)["id"]
    for job in [client.submit(first, references="gaia", force=True) for _ in range(service.n_workers + 1)]:
        job.wait()
    before, writes_before = service.cpu(), writes.now()
    time.sleep(_IDLE_S)
    start, busy, writes_start = service.cpu(), _busy(), writes.now()
    idle = {name: (start[name] - before[name]) / _IDLE_S for name in start}
    idle_writes = _difference(writes_start, writes_before, 1 / _IDLE_S)
    exposures = [client.upload(file)["id"] for file in different_exposures(path, jobs)]
    sent, written, then = service.cpu(), writes.now(), time.monotonic()
    submitted = [client.submit(exposure, references="gaia", force=True) for exposure in exposures]
    results = [job.wait() for job in submitted]
    time.sleep(2.0)  # leases, events, memory given back; PostgreSQL tells its statistics once a second
    end, ended, others = service.cpu(), writes.now(), _busy() - busy
    wall = time.monotonic() - then
    documents = [job.refresh() for job in submitted]
    began = min(datetime.fromisoformat(str(document["started_at"])) for document in documents)
    last = max(datetime.fromisoformat(str(document["ended_at"])) for document in documents)
    seconds = [result.metadata["cpu_seconds"] for result in results]
    own = sum(end[name] - start[name] for name in end)
    rows = {
        name: value - idle_writes[name] * wall / jobs for name, value in _difference(ended, written, 1 / jobs).items()
    }
    cpu = {name: (end[name] - sent[name] - idle[name] * wall) / jobs for name in end}
    return Measured(
        database="PostgreSQL" if rows else "SQLite",
        workers=service.n_workers,
        jobs=jobs,
        exposures_per_minute=60 * jobs / (last - began).total_seconds(),
        calibration_cpu=sum(sum(s for name, s in job.items() if name not in _AROUND) for job in seconds) / jobs,
        child_cpu=cpu["child"],
        worker_cpu=cpu["worker"],
        upload_cpu=(sent["api"] - start["api"]) / jobs,
        api_cpu=cpu["api"],
        others_cpu_share=(others - own) / max(others, 1e-9),
        input_bytes=path.stat().st_size,
        product_bytes=sum(product["size"] or 0 for document in documents for product in document["products"]) / jobs,
        rows_written=rows.get("rows"),
        transactions=rows.get("transactions"),
        wal_bytes=rows.get("wal"),
        idle_cpu_per_s=sum(idle.values()),
        idle_transactions_per_s=idle_writes.get("transactions"),
    )


def _difference(now: dict[str, float] | None, before: dict[str, float] | None, per: float) -> dict[str, float]:
    return {name: (now[name] - before[name]) * per for name in now} if now and before else {}


def _busy() -> float:
    """CPU seconds that all processes of the machine have used."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0) + getattr(times, "guest", 0.0)
    return float(sum(times) - idle)


def throughput_table(found: list[Measured]) -> str:
    """A row of Markdown for each run."""
    rows = [
        "| database | workers | exposures/min | calibration [CPU s] | rest of child | worker | upload | API "
        "| other programs |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    rows += [
        f"| {m.database} | {m.workers} | {m.exposures_per_minute:.1f} | {m.calibration_cpu:.2f} "
        f"| {m.child_cpu - m.calibration_cpu:.2f} | {m.worker_cpu:.2f} | {m.upload_cpu:.2f} | {m.api_cpu:.2f} "
        f"| {m.others_cpu_share:.0%} |"
        for m in found
    ]
    return "\n".join(rows) + "\n"


def camera_table(found: list[Measured]) -> str:
    """What a camera of 189 detectors needs, by the numbers of the last of some runs; rows of Markdown.

    A core is one worker's: its throughput is that of the run divided by its workers, which had a core each. The API,
    the database and the blob store take theirs beside.
    """
    measured = found[-1]
    rate = _DETECTORS / _CADENCE_S
    night = _NIGHT_H * 3600 * rate
    per_core = measured.exposures_per_minute / 60 / measured.workers
    gigabit = 8e-9 * rate
    rows = [
        ("exposures", f"{rate:.1f}/s, {night:,.0f} a night of {_NIGHT_H:.0f} h"),
        ("measured throughput of a worker on one core", f"{60 * per_core:.1f}/min"),
        (f"workers at {_UTILISATION:.0%} use", f"{rate / per_core / _UTILISATION:.0f} (one core, one slot each)"),
        ("cores of API processes", f"{rate * (measured.upload_cpu + measured.api_cpu):.1f}"),
        (
            "network",
            f"{gigabit * measured.input_bytes:.0f} Gbit/s in, {gigabit * measured.product_bytes:.0f} to the blob store",
        ),
        ("storage of inputs", f"{night * measured.input_bytes / 1e12:.0f} TB a night"),
        ("storage of products", f"{night * measured.product_bytes / 1e12:.0f} TB a night, uncompressed"),
    ]
    if measured.rows_written is not None and measured.transactions is not None and measured.wal_bytes is not None:
        rows += [
            ("database rows written", f"{rate * measured.rows_written:,.0f}/s ({measured.rows_written:,.0f} a job)"),
            ("database transactions", f"{rate * measured.transactions:.0f}/s ({measured.transactions:.0f} a job)"),
            ("of waiting processes, besides", _polls(found)),
            (
                "write-ahead log",
                f"{rate * measured.wal_bytes / 1e6:.0f} MB/s, {night * measured.wal_bytes / 1e12:.1f} TB a night",
            ),
        ]
    return "\n".join(["| what | needed |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]) + "\n"


def _polls(found: list[Measured]) -> str:
    """Transactions of processes that wait: what another worker adds, and the rest."""
    waiting = {m.workers: m.idle_transactions_per_s for m in found if m.idle_transactions_per_s is not None}
    (few, at_few), (many, at_many) = min(waiting.items()), max(waiting.items())
    each = (at_many - at_few) / max(many - few, 1)
    return f"{each:.1f}/s a worker process, {at_few - each * few:.1f}/s an API process"


@contextmanager
def database(kind: str) -> Iterator[str | None]:
    """URL of a new PostgreSQL database, or None for files of SQLite."""
    if kind == "sqlite":
        yield None
        return
    with running_server(fsync=True) as server:
        yield server.service_database()


def main() -> None:
    """Print tables of Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", type=int, default=4096, help="pixels a side")
    parser.add_argument("--jobs", type=int, default=8, help="of each run")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--threads", type=int, default=1, help="of each job")
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"], choices=["sqlite", "postgresql"])
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--document", type=Path, help="put the table of the camera between the marks of this document")
    options = parser.parse_args()
    stars = round(_STARS_PER_1K * (options.size / 1024) ** 2)
    found: list[Measured] = []
    with TemporaryDirectory(prefix="bench-service-input-") as name:
        simulation = simulate(SimulationConfig(size=options.size, n_stars=stars, n_galaxies=3 * stars // 10, seed=3))
        files = write_simulation(simulation, Path(name))
        del simulation
        for kind in options.databases:
            runs = []
            for workers in options.workers:
                with database(kind) as url:
                    runs.append(measure(files, url, workers, options.threads, options.jobs))
                print(throughput_table(runs[-1:]), flush=True)
            ratio = runs[-1].exposures_per_minute / runs[0].exposures_per_minute
            print(f"{kind}: {runs[-1].workers} workers are {ratio:.2f} times as fast as {runs[0].workers}", flush=True)
            found += runs
    print(f"\n{os.cpu_count()} cores, {options.size} x {options.size} pixels\n\n{throughput_table(found)}")
    print(camera_table(found))
    if options.json:
        options.json.write_text(json.dumps([asdict(m) | {"overhead_cpu": m.overhead_cpu} for m in found], indent=2))
    if options.document:
        table = camera_table(found)
        options.document.write_text(with_marked_text(options.document.read_text(), "camera", table))


if __name__ == "__main__":
    main()
