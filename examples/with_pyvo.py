"""The same service in the dialects of the Virtual Observatory, with pyvo: UWS and Simple Cone Search.

    python examples/with_pyvo.py exposure.fits REFCAT

The service needs the extra `vo` (pip install 'visitcal[vo]'), this example pyvo.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import httpx
from pyvo.dal import SCSService
from pyvo.dal.tap import AsyncTAPJob


def main(exposure: Path, refcat: str) -> None:
    """Run a job by UWS, then find its stars by a cone search."""
    url = os.environ.get("VISITCAL_URL", "http://127.0.0.1:8470")
    with exposure.open("rb") as file:
        made = httpx.post(f"{url}/uws/calibrate", files={"UPLOAD": file}, data={"REFERENCES": refcat}, timeout=60)
    job = AsyncTAPJob(made.headers["Location"])  # any UWS job, not only one of TAP
    job.run().wait()
    print(job.job_id, job.phase)
    for result in job.results:
        print(result.id_, result.href)
    frame = httpx.get(f"{url}/v1/jobs/{job.job_id}/summary").raise_for_status().json()
    stars = SCSService(f"{url}/scs?").search(pos=(frame["ra"], frame["dec"]), radius=0.02)
    print(f"{len(stars)} stars within 0.02 deg of {frame['ra']:.4f} {frame['dec']:+.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
