"""Pages of what the service tells: error codes, metrics, events and webhook messages."""

from __future__ import annotations

import inspect
import json
from typing import Any, get_args

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from api.problem_types import PROBLEM_TYPES
from api.schemas.events import EventKind
from making.markdown import cell, code, table
from making.raised import numbers_of
from service.calibration.errors import AlgorithmError, algorithm_errors
from service.calibration.input_errors import CalibrationInputError
from service.calibration.progress import STAGES
from service.jobs.errors import JOB_FAILURES
from service.jobs.sources import SOURCE_FAILURES
from service.jobs.webhooks import CALLBACK_EVENTS
from service.operations.metrics import HttpMetrics, JobMetrics
from service.settings import Settings
from service.storage.records import Phase

__all__ = ["errors_page", "events_page", "metrics_page"]

_ERRORS = """\
# Error codes

Codes are stable: programs may rely on them; sentences and hints may become better. `GET /v1/schema/errors` is the
same for programs.

"""

_JOB_ERRORS = """\
## Jobs that end in ERROR

`error` of the job has `code`, `type` (upstream's name), `stage`, `message`, `numbers` and, where something is known,
`hint` and `suggested_config`. Failures of the calibration are results: what was reached is kept and served. The
code's first part is what failed; [the pipeline](../pipeline.md) says in which stage that is.

"""

_REFUSALS = """\

## Jobs whose input and configuration do not fit together

They end in ERROR, too, and have no products.

"""

_METRICS = """\
# Metrics

`GET /metrics`, in Prometheus' text format. How to scrape them, and what to be woken by, is in
[operations](../operations.md#health-metrics-logs). Histograms have `_bucket`, `_sum` and `_count`.

## Of the whole service

From the database; every API process says the same.

"""

_OWN_METRICS = """
## Of one API process

Beside them stand `visitcal_api_process_...`, its CPU seconds, memory and open files.

"""

_ENDINGS = {"counter": "_total"}

_EVENTS = """\
# Events, phases and messages

## Kinds of events

`GET /v1/jobs/{id}/events` and `GET /v1/events` ([how to follow them](../api.md#follow-a-job-or-all-of-them)). Each
event has `seq` (rises within a job), `job_id`, `kind`, `at` (UTC) and `data`:

"""

_STAGES = """
## Stages

`read` and `write` stand around those of the [calibration](../pipeline.md). The share is the usual part of the work,
by which progress is reckoned.

"""

_MESSAGES = """
## Messages

A job's `callback` is told by [signed messages](../api.md#being-told-of-the-end-of-a-job).

"""

_DATA = {
    "phase": ("phase, attempt, version, reason", "The job has come to another phase."),
    "stage": ("name, seconds, numbers", "A stage has finished; the numbers are what it found."),
    "progress": ("stage, progress", "Where the job is, and what part of it is done (0 to 1)."),
    "log": ("level, logger, message, at", "A line of the job's log; not in `GET /v1/events`."),
    "product": ("product, format, media_type, size, sha256, rows", "A product has been published."),
}

_PHASES = {
    Phase.PENDING: "Made, and not started by its maker yet.",
    Phase.QUEUED: "Waits for its turn.",
    Phase.EXECUTING: "A worker calibrates.",
    Phase.COMPLETED: "Everything was made.",
    Phase.ERROR: "Ended early; `error` says why, what was reached is served.",
    Phase.ABORTED: "Ended because somebody said so.",
    Phase.HELD: "Waits for room in the owner's quota.",
    Phase.ARCHIVED: "The files are removed; summary, configuration and provenance stay.",
}


def errors_page() -> str:
    """Every code: of answers, of jobs, of files that are fetched."""
    job_errors = [
        (
            code(error.code),
            f"{cell(_first_line(error))} {cell(error.hint)} {_config(error)}".strip(),
            _numbers(error),
            code(error.__name__),
        )
        for error in algorithm_errors()
    ]
    refusals = [
        (code(error.code), cell(_first_line(error)), _numbers(error), code(error.__name__))
        for error in CalibrationInputError.__subclasses__()
    ]
    answers = [(code(one.code), str(one.status), cell(one.title)) for one in PROBLEM_TYPES.values()]
    return (
        _ERRORS
        + _JOB_ERRORS
        + table(["code", "meaning, and what may help", "numbers", "type"], job_errors)
        + _REFUSALS
        + table(["code", "meaning", "numbers", "type"], refusals)
        + "\n## Jobs that the service ends\n\n"
        + table(["code", "meaning"], ((code(name), cell(text)) for name, text in JOB_FAILURES.items()))
        + "\n## Answers\n\nProblem documents (RFC 9457), `application/problem+json`.\n\n"
        + table(["code", "status", "meaning"], answers)
        + "\n## Files that are fetched\n\n`error` of an upload whose file the service fetches itself.\n\n"
        + table(["code", "meaning"], ((code(name), cell(text)) for name, text in SOURCE_FAILURES.items()))
    )


def _first_line(error: type[Exception]) -> str:
    return (inspect.getdoc(error) or "").splitlines()[0]


def _numbers(error: type[Exception]) -> str:
    return ", ".join(code(name) for name in numbers_of(error.__name__))


def _config(error: type[AlgorithmError]) -> str:
    """What may help, as paths with their values."""
    found = []
    levels: list[tuple[str, Any]] = [("", error.suggested_config)]
    while levels:
        path, value = levels.pop(0)
        if isinstance(value, dict):
            levels += [(f"{path}.{key}".lstrip("."), inner) for key, inner in value.items()]
        else:
            found.append(code(f"{path} = {json.dumps(value)}"))
    return f"Suggested: {', '.join(found)}." if found else ""


def metrics_page() -> str:
    """Every metric that the service itself counts."""
    of_requests, of_jobs = CollectorRegistry(), CollectorRegistry()
    HttpMetrics(of_requests)
    JobMetrics(None, Settings(), of_jobs)  # type: ignore[arg-type]
    return _METRICS + _metrics(of_jobs) + _OWN_METRICS + _metrics(of_requests)


def _metrics(registry: CollectorRegistry) -> str:
    rows = (
        (code(one.name + _ENDINGS.get(one.type, "")), one.type, _labels(registry, one), cell(one.documentation))
        for one in registry.collect()
        if not one.name.startswith("visitcal_api_process_")
    )
    return table(["metric", "kind", "labels", "meaning"], rows)


def _labels(registry: CollectorRegistry, metric: Metric) -> str:
    collector = registry._names_to_collectors[metric.name]  # noqa: SLF001 -- nowhere else are labels without values
    return ", ".join(code(label) for label in getattr(collector, "_labelnames", ()))


def events_page() -> str:
    """Every kind of event, phase and message."""
    events = (
        (code(kind), ", ".join(code(key) for key in _DATA[kind][0].split(", ")), _DATA[kind][1])
        for kind in get_args(EventKind)
    )
    whole = sum(STAGES.values())
    messages = ((code(f"job.{phase.lower()}"), f"The job has come to {phase}.") for phase in CALLBACK_EVENTS)
    return (
        _EVENTS
        + table(["kind", "data", "when"], events)
        + "\n## Phases\n\nThose of IVOA UWS.\n\n"
        + table(["phase", "meaning"], ((code(phase.value), text) for phase, text in _PHASES.items()))
        + _STAGES
        + table(["stage", "share"], ((code(name), f"{share / whole:.0%}") for name, share in STAGES.items()))
        + _MESSAGES
        + table(["type", "when"], messages)
    )
