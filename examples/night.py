"""Calibrate all exposures of a folder, with the asynchronous client, and print them as they are ready.

    python examples/night.py FOLDER REFCAT

Four files travel at a time; all jobs are watched through one stream.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from visitcal import AsyncClient, AsyncJob


async def main(folder: Path, refcat: str) -> None:
    """Submit what is there, and follow it to its end."""
    at_a_time = asyncio.Semaphore(4)
    async with AsyncClient() as client:

        async def submit(path: Path) -> AsyncJob:
            async with at_a_time:
                return await client.submit(path, references=refcat, run_id=folder.name)

        paths = sorted(folder.glob("*.fits"))
        jobs = await asyncio.gather(*map(submit, paths))
        names = {job: path.name for job, path in zip(jobs, paths, strict=True)}
        async for job in client.as_completed(jobs, timeout=3600):
            summary = job.document["summary"] or {}
            error = job.document["error"]
            told = error["message"] if error else f"zero point {summary['zeroPoint']:.3f}"
            print(f"{names[job]}: {job.phase}, {told}")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
