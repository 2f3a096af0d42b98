"""Publishing: files to the blob store, then everything else in one fenced transaction."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from service.jobs import forecast, states
from service.jobs.nights import observation
from service.storage.errors import BlobLostError
from service.storage.records import Fence, JobRecord, ProductRecord, utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.jobs.outcome import JobOutcome
    from service.storage import Storage

__all__ = ["publish", "store_files"]


def store_files(storage: Storage, outcome: JobOutcome) -> list[ProductRecord]:
    """Copy the files of an attempt into the blob store; they are on disk when this returns.

    Raises
    ------
    OSError, StorageUnavailableError
        The disk is full or broken, or the store away; the attempt's own files are untouched and the call may be
        repeated.
    """
    records = []
    for file in outcome.products:
        path = Path(file.path)
        blob = storage.blobs.put_file(path, link=True, sha256=file.sha256)
        records.append(
            ProductRecord(
                product=file.product,
                format=file.format,
                media_type=file.media_type,
                filename=path.name,
                sha256=blob.sha256,
                size=blob.size,
                rows=file.rows,
                created_at=utc_now(),
            )
        )
    return records


def publish(
    storage: Storage, fence: Fence, outcome: JobOutcome, records: Sequence[ProductRecord], report: states.Report
) -> JobRecord | None:
    """Make a result visible: phase, products, catalogue rows, summary and documents, all or nothing.

    Parameters
    ----------
    storage : Storage
        Where it goes.
    fence : Fence
        Who publishes.
    outcome : JobOutcome
        What is published.
    records : sequence of ProductRecord
        Its files, already stored.
    report : Report
        What was not yet written of the attempt's progress.

    Returns
    -------
    JobRecord or None
        The finished job; None where the fence has fallen, and nothing was written.
    """
    try:
        return _publish(storage, fence, outcome, records, report)
    except BlobLostError:
        # Another job's file with the same bytes was swept away between our storing it and now.
        return _publish(storage, fence, outcome, store_files(storage, outcome), report)


def _publish(
    storage: Storage, fence: Fence, outcome: JobOutcome, records: Sequence[ProductRecord], report: states.Report
) -> JobRecord | None:
    with storage.database.write() as transaction:
        job = storage.job_changes.fenced(transaction, fence)
        if job is None:
            return None
        now = transaction.now()  # one clock for all hosts
        records = [replace(record, created_at=now) for record in records]
        storage.blob_references.refer(transaction, [record.sha256 for record in records])
        storage.job_changes.add_products(transaction, job, records)
        for file in outcome.products:  # the attempt's own: a blob may be far away
            if file.format == "parquet" and storage.catalogs.has_table(file.product):
                storage.catalogs.insert(transaction, job, file.product, Path(file.path))
        if outcome.summary is not None:
            storage.summaries.insert(transaction, job, outcome.summary, _typed(outcome.identity))
        if read := outcome.metadata.get("inputs"):
            values = {name: given["value"] for name, given in read[0]["metadata"].items()}
            storage.nights.correct(transaction, job, observation(values, job.created_at))
        for kind, body in (("metadata", outcome.metadata), ("provenance", outcome.provenance)):
            if body:
                storage.job_changes.set_document(transaction, job, kind, body)
        # Last: the numbers of its events are drawn as it commits, and who reads them in order waits for no insert.
        job = states.finish(
            storage,
            transaction,
            fence,
            error=outcome.error,
            warnings=outcome.warnings,
            report=report,
            products=records,
        )
        if job is not None and outcome.error is None:
            forecast.learn(storage, transaction, job, report.stages)
        return job


def _typed(identity: dict[str, object]) -> dict[str, object]:
    observed = identity.get("observed_at")
    return identity | {"observed_at": datetime.fromisoformat(observed) if isinstance(observed, str) else None}
