"""Ingest and queries of a large reference catalogue: memory, time, and whether the answers are right.

``python benchmarks/refcats.py --rows 10000000`` makes a Gaia-like Parquet file (six hours of right ascension, most
stars near the equator), ingests it in a process of its own, whose peak memory is printed, and times pixel boxes of a
4096 x 4096 detector and circles from a freshly opened catalogue; some answers are compared with a search through the
whole file.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from service import refcats
from service.exposure.geometry import Box
from service.exposure.wcs import Wcs

MAX_QUERY_SECONDS = 0.05
PIXEL_SCALE = 0.2 / 3600  # deg
ROWS_AT_A_TIME = 1_000_000


def write_stars(path: Path, n_rows: int, seed: int = 1) -> None:
    """Stars in no order, in six hours of right ascension, some 20,000 per square degree at the equator."""
    rng = np.random.default_rng(seed)
    writer = None
    for first in range(0, n_rows, ROWS_AT_A_TIME):
        n = min(ROWS_AT_A_TIME, n_rows - first)
        columns: dict[str, NDArray[Any]] = {
            "source_id": np.arange(first + 1, first + n + 1),
            "ra": rng.uniform(0, 90, n),
            "dec": np.clip(rng.laplace(0, 5, n), -70, 70),
            "ra_error": rng.uniform(0.02, 1, n),
            "dec_error": rng.uniform(0.02, 1, n),
            "pmra": rng.normal(0, 8, n),
            "pmdec": rng.normal(0, 8, n),
            "pmra_error": rng.uniform(0.02, 1, n),
            "pmdec_error": rng.uniform(0.02, 1, n),
            "parallax": rng.exponential(0.5, n),
            "parallax_error": rng.uniform(0.02, 1, n),
            "ref_epoch": np.full(n, 2016.0),
            "g_mag": rng.uniform(12, 21, n),
            "g_mag_error": np.full(n, 0.003),
        }
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def watch_memory(peak: list[int], done: threading.Event) -> None:
    """Keep the largest anonymous memory [KiB]: what the kernel cannot take back, unlike pages of mapped files."""
    while not done.wait(0.02):
        status = Path("/proc/self/status").read_text()
        peak[0] = max(peak[0], int(status.partition("RssAnon:")[2].split()[0]))


def ingest(path: Path, store: Path, told: Any) -> None:
    """Run in a process of its own, so that the peak is that of the ingest; sends seconds, memory and progress."""
    peak, done = [0], threading.Event()
    watcher = threading.Thread(target=watch_memory, args=(peak, done))
    watcher.start()
    phrases: list[tuple[float, str]] = []
    start = time.perf_counter()
    info = refcats.ingest(path, name="stars", store_dir=store, progress=lambda f, p: phrases.append((f, p)))
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    told.send((seconds, peak[0], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, len(phrases), phrases[-1], info))


def report_ingest(path: Path, store: Path) -> None:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=ingest, args=(path, store, sender))
    process.start()
    sender.close()
    seconds, own, resident, n_told, last, info = receiver.recv()
    process.join()
    print(
        f"ingest: {info.n_rows} rows of {path.stat().st_size / 1e6:.0f} MB in {seconds:.1f} s"
        f" ({info.n_rows / seconds / 1e6:.2f} million rows/s); peak RSS {resident / 1024:.0f} MiB, of which at"
        f" most {own / 1024:.0f} MiB not pages of files"
    )
    print(
        f"        {len(info.partitions)} partitions, {info.size_bytes / 1e6:.0f} MB; told {n_told} times, last {last}"
    )


def brute_force(path: Path, ra: float, dec: float, reach: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """All stars of the file in a generous band of declination about a place."""
    import pyarrow.compute as pc

    dec_column = pc.field("dec")
    rows = pq.read_table(path, columns=["ra", "dec"], filters=(dec_column > dec - reach) & (dec_column < dec + reach))
    found_ra, found_dec = rows["ra"].to_numpy(), rows["dec"].to_numpy()
    near = np.abs((found_ra - ra + 180) % 360 - 180) < reach / np.cos(np.radians(dec)) * 1.1
    return found_ra[near], found_dec[near]


def report_queries(path: Path, store: Path, n_queries: int, seed: int = 2) -> bool:
    rng = np.random.default_rng(seed)
    refcats.open_catalog(store, "stars").load_circle(10.0, 0.0, 0.01, epoch=60000.0)  # imports are not the query's
    box = Box(0, 0, 4096, 4096)
    times: dict[str, list[float]] = {"open": [], "pixel box": [], "circle": []}
    counts = []
    right = True
    for number in range(n_queries):
        ra, dec = rng.uniform(1, 89), rng.uniform(-10, 10)
        wcs = Wcs.tan((2047.5, 2047.5), (ra, dec), PIXEL_SCALE * np.array([[-1.0, 0.0], [0.0, 1.0]]))
        clock = [time.perf_counter()]
        catalog = refcats.open_catalog(store, "stars")
        clock.append(time.perf_counter())
        found = catalog.load_pixel_box(box, wcs, margin=250, epoch=60000.0)
        clock.append(time.perf_counter())
        catalog.load_circle(ra, dec, 0.16, epoch=60000.0)
        clock.append(time.perf_counter())
        for name, seconds in zip(times, np.diff(clock), strict=True):
            times[name].append(float(seconds))
        counts.append(len(found))
        if number < 5:
            x, y = wcs.sky_to_pixel(*brute_force(path, ra, dec, 0.5))
            expected = int(np.sum((np.abs(x - 2047.5) <= 2298) & (np.abs(y - 2047.5) <= 2298)))
            right &= expected == len(found)
    print(f"queries: {n_queries} places, {np.median(counts):.0f} stars in the median box, at most {max(counts)}")
    for name, seconds_each in times.items():
        median, high, worst = 1e3 * np.percentile(seconds_each, [50, 95, 100])
        print(f"  {name:10s} median {median:6.1f} ms, 95 % {high:6.1f} ms, worst {worst:6.1f}")
    print(f"  answers {'agree' if right else 'DO NOT AGREE'} with a search through the file")
    return right and float(np.percentile(times["pixel box"], 95)) < MAX_QUERY_SECONDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=None, help="where to work; by default a temporary directory")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="visitcal-refcats-", dir=arguments.folder) as directory:
        path, store = Path(directory) / "stars.parquet", Path(directory) / "store"
        write_stars(path, arguments.rows)
        report_ingest(path, store)
        good = report_queries(path, store, arguments.queries)
    print(f"wanted: 95 % of the boxes under {1e3 * MAX_QUERY_SECONDS:.0f} ms: {'yes' if good else 'NO'}")
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
