"""Keep a table of jobs up to date, as a dashboard does: two ways, and neither asks without need.

    python examples/dashboard.py [COUNT]

The first is for many jobs: one stream of events, until COUNT jobs have ended. The second is for one job, here the
newest, and for programs that can only ask: a long poll with the ETag of what is known, answered when that has changed
(304 when nothing has).
"""

from __future__ import annotations

import os
import sys

import httpx

from visitcal import Client


def follow_all(client: Client, count: int | None) -> None:
    """Print what happens to all jobs, beginning with what has happened."""
    ended = 0
    for event in client.events(after=0, kinds=["phase", "stage"]):
        what = event.data["phase"] if event.kind == "phase" else event.data["name"]
        print(f"{event.at[11:19]} {event.job_id} {event.kind} {what}")
        ended += event.ends_story
        if ended == count:
            return


def poll_one(url: str, job_id: str) -> None:
    """Ask for a job until it has ended."""
    phase, etag = "", ""
    while phase not in ("COMPLETED", "ERROR", "ABORTED", "ARCHIVED"):
        answer = httpx.get(f"{url}/v1/jobs/{job_id}?wait=20", headers={"If-None-Match": etag}, timeout=40)
        if answer.status_code == httpx.codes.NOT_MODIFIED:
            continue
        document = answer.raise_for_status().json()
        phase, etag = document["phase"], answer.headers["ETag"]
        print(f"{document['progress']:.0%} {phase} {document['stage'] or ''}")


if __name__ == "__main__":
    with Client() as service:
        follow_all(service, int(sys.argv[1]) if len(sys.argv) > 1 else None)
        newest = next(service.jobs(limit=1))
        poll_one(os.environ.get("VISITCAL_URL", "http://127.0.0.1:8470"), newest.id)
