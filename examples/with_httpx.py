"""Calibrate an exposure with nothing but httpx: every step is one request.

    python examples/with_httpx.py exposure.fits REFCAT

The service is at $VISITCAL_URL, or on this machine.
"""

from __future__ import annotations

import os
import sys
import uuid
from pathlib import Path

import httpx


def main(exposure: Path, refcat: str) -> None:
    """Upload, submit, wait, fetch."""
    url = os.environ.get("VISITCAL_URL", "http://127.0.0.1:8470")
    with httpx.Client(base_url=url, timeout=60) as http:
        sent = http.put("/v1/exposures", params={"filename": exposure.name}, content=exposure.read_bytes())
        sent.raise_for_status()
        # With a key of its own a submission can be repeated safely when an answer is lost.
        job = http.post(
            "/v1/jobs",
            json={"exposures": [sent.json()["id"]], "references": refcat},
            headers={"Idempotency-Key": str(uuid.uuid4())},
        ).raise_for_status()
        document = job.json()
        while document["phase"] in ("HELD", "QUEUED", "EXECUTING"):
            # Held back until something changes, or for 20 s.
            document = http.get(job.headers["Location"], params={"wait": 20}).json()
        print(document["id"], document["phase"])
        if document["error"]:
            print(document["error"]["code"], document["error"]["message"])
        stars = http.get(
            f"/v1/jobs/{document['id']}/catalogs/stars",
            params={
                "columns": "ra,dec,psfMag",
                "where": "detect_isPrimary,!base_PsfFlux_flag",
                "order": "psfMag",
                "limit": 3,
            },
        )
        for star in stars.raise_for_status().json()["items"]:
            print(f"{star['ra']:.5f} {star['dec']:+.5f} {star['psfMag']:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
