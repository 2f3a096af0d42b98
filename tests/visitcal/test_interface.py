"""The clients and the service's description of itself: what is asked for exists, and what is left out is known."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from api.app import create_app
from service.settings import Settings
from visitcal import FetchFailedError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.visitcal.conftest import Kind

#: Operations of the service for which the client has no method, and why.
LEFT_OUT = {
    "pages of browsers: `picture` draws the whole": {
        "GET /v1/jobs/{job_id}/images/{product}/tiles.dzi",
        "GET /v1/jobs/{job_id}/images/{product}/tiles/{z}/{x}/{y}.png",
        "GET /v1/jobs/{job_id}/images/{product}/tiles_files/{z}/{x}_{y}.png",
        "GET /v1/jobs/{job_id}/images/{product}/mask/{plane}.dzi",
        "GET /v1/jobs/{job_id}/images/{product}/mask/{plane}_files/{z}/{x}_{y}.png",
        "GET /v1/jobs/{job_id}/images/{product}/frame",
    },
    "of operators: a balancer and Prometheus ask": {"GET /healthz", "GET /metrics"},
    "programs of the Virtual Observatory have clients of their own": {
        "GET /scs",
        "GET /v1/jobs/{job_id}/links",
        *(f"GET /uws/{name}" for name in ("availability", "capabilities")),
        *(f"{method} /uws/calibrate" for method in ("GET", "POST")),
        *(f"{method} /uws/calibrate/{{job_id}}" for method in ("GET", "POST", "DELETE")),
        *(
            f"{method} /uws/calibrate/{{job_id}}/{part}"
            for part in ("phase", "executionduration", "destruction", "parameters")
            for method in ("GET", "POST")
        ),
        *(f"GET /uws/calibrate/{{job_id}}/{part}" for part in ("quote", "owner", "results", "error")),
    },
}

ERROR = {"code": "source.dns", "message": "No."}
UPLOAD = {"id": "upl_1", "phase": "ERROR", "exposure_id": None, "size": 1, "offset": 1, "source": "", "error": ERROR}
PRODUCT = {"id": "stars", "aliases": [], "kind": "catalog", "links": {"file": "/v1/jobs/job_1/products/stars"}}
JOB = {"id": "job_1", "phase": "QUEUED", "version": 1, "error": None}
BATCH = {"id": "batch_1", "active": False, "version": "1", "phases": {}}
ANSWERS = {
    "POST /v1/jobs": JOB,
    "GET /v1/jobs/job_1": JOB,
    "GET /v1/batches/batch_1": BATCH,
    "GET /v1/exposures": {"items": [], "next": None},
    "GET /v1/uploads": {"items": [], "next": None},
    "POST /v1/uploads": {"id": "upl_1"},
    "GET /v1/uploads/upl_1": UPLOAD,
    "POST /v1/exposures": UPLOAD | {"phase": "QUEUED"},
    "GET /v1/jobs/job_1/products": {"items": [PRODUCT]},
}


class Recorder:
    """Keeps what is asked for; there is next to nothing behind it."""

    def __init__(self) -> None:
        self.seen: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        document = ANSWERS.get(f"{request.method} {request.url.path}")
        if document is None:
            return httpx.Response(404, json={"code": "nothing.here", "detail": "Nothing."})
        return httpx.Response(200, json=document, headers={"Upload-Offset": "0"})


def calls(client: Any, result: Any, path: Path) -> list[Callable[[], Any]]:
    """Every operation with all that can be said to it."""
    exposures: dict[str, Any] = {"band": "r", "instrument": "Sim", "since": "2026-11-22", "until": "2026-11-23"}
    rows: dict[str, Any] = {"columns": ["ra"], "where": "a>1", "order": "a", "cone": (1, 2, 3), "polygon": [1, 2] * 3}
    run: dict[str, Any] = {"instrument": "Sim", "run_id": "night"}
    page: dict[str, Any] = {"owner": "*", "limit": 3}
    return [
        lambda: client.upload(path),
        lambda: client.upload(path, resumable=True),
        lambda: client.fetch("https://host/x", poll=0.0),
        lambda: client.exposure("exp_1"),
        lambda: client.exposures(sha256="0" * 64, **page),
        lambda: client.delete_exposure("exp_1"),
        lambda: client.cancel_upload("upl_1"),
        lambda: client.inspect(path, references="sim", instrument="s", preset="p", metadata={"gain": 1}),
        lambda: client.inspect(path, astrometry="sim"),
        lambda: client.submit("exp_1", references="none"),
        lambda: client.rerun("job_1"),
        lambda: client.submit_batch(["exp_1"], references="none"),
        lambda: client.batches(**page),
        lambda: client.jobs(phase="ERROR", run_id="n", batch="b", rerun_of="j", **page),
        lambda: client.events(after=3, kinds=["phase"], owner="*"),
        client.queue,
        lambda: client.put_refcat("sim", path, columns={"ra": "RA"}, epoch=2016.0, file_format="csv"),
        client.refcats,
        lambda: client.refcat("sim"),
        lambda: client.delete_refcat("sim"),
        lambda: client.stars(1, 2, 3, columns=["ra"], results="all", limit=3, **exposures),
        lambda: client.light_curves(1, 2, 3, match_radius_arcsec=1, columns=["ra"], results="all", **exposures),
        lambda: client.nights(limit=3),
        lambda: client.night("2026-11-22", instrument="Sim", band="r", target="M 31", outside=True, limit=3),
        client.night_trends,
        lambda: client.summaries(instrument="Sim", band="r", since="2026-11-22", fields=["psfSigma"], limit=3),
        lambda: client.visit_summary(7, correlations=False, **run),
        lambda: client.visit_table(7, **run),
        client.config_schema,
        client.presets,
        client.instruments,
        lambda: client.instrument("decam"),
        client.summary_schema,
        lambda: client.catalog_schema("stars"),
        client.error_schema,
        client.readiness,
        client.is_ready,
        lambda: client.tokens.create("night", ["submit"], expires_in_days=3, owner="ada"),
        lambda: client.tokens.list(owner="*"),
        client.tokens.current,
        lambda: client.tokens.revoke("tok_1"),
        client.webhooks.secret,
        client.webhooks.make_secret,
        lambda: client.webhooks.messages(state="waiting", job_id="job_1", **page),
        lambda: client.webhooks.message("msg_1"),
        lambda: client.webhooks.replay("msg_1"),
        lambda: result.rows(limit=3, **rows),
        lambda: result.table(**rows),
        lambda: result.cutout(x=1, y=2, width=3, height=4, product="mask"),
        lambda: result.cutout(1, 2, 3),
        lambda: result.picture(size=64, stretch="log", limits="zscale", cmap="gray", invert=True, overlay="sources"),
        lambda: result.picture(file_format="jpg", plane="mask", vector_scale=10),
        lambda: result.psf(1, 2, centered=False, aperture_radius=3, size=21),
        lambda: result.psf(ra=1, dec=2),
        lambda: result.psf_grid(n=2, oversampling=3),
        lambda: result.photometry([{"x": 1, "y": 2}], radii=[3], annulus=(4, 5)),
        lambda: result.diagnostic("zero_point"),
        lambda: result.figure("zero_point"),
        lambda: result.figure("zero_point", file_format="png"),
        lambda: result.regions(system="icrs"),
        lambda: result.download("stars", path.with_name("out")),
        result.log,
    ]


def templates(description: dict[str, Any]) -> list[tuple[re.Pattern[str], str, dict[str, Any]]]:
    """What a path looks like, and its declaration; those with fewer variables first."""
    found = []
    for path in sorted(description["paths"], key=lambda path: (path.count("{"), -len(path))):
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))
        found.append((re.compile(pattern), path, description["paths"][path]))
    return found


def test_every_operation_has_a_method_or_a_reason(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(b"SIMPLE")
    recorder = Recorder()
    client = kind.connect(recorder, retries=0)
    job, batch = kind(client.job("job_1")), kind(client.batch("batch_1"))
    result = job.result
    handles = [job.refresh, job.events, job.abort, lambda: job.keep("P3D"), job.delete]
    handles += [batch.refresh, batch.abort, batch.delete]
    for call in [*calls(client, result, path), *handles]:
        before = len(recorder.seen)
        with suppress(NotFoundError, FetchFailedError):
            kind(call())
        assert len(recorder.seen) > before
    loaded = ("stars", "image", "background", "summary", "metadata", "config", "provenance", "diagnostics")
    for name in loaded:
        with pytest.raises(NotFoundError):
            kind.load(result, name)
    description = create_app(Settings(data_dir=tmp_path)).openapi()
    declared = templates(description)
    reached = set()
    for request in recorder.seen:
        template, item = next((t, i) for p, t, i in declared if p.fullmatch(request.url.path))
        operation = item[request.method.lower()]
        reached.add(f"{request.method} {template}")
        known = {parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "query"}
        assert set(request.url.params) <= known, request.url
        headers = {p["name"] for p in operation.get("parameters", []) if p["in"] == "header"}
        assert "idempotency-key" not in request.headers or "idempotency-key" in headers
    everything = {f"{method.upper()} {path}" for path, item in description["paths"].items() for method in item}
    assert everything - reached == set().union(*LEFT_OUT.values())


def test_the_command_line_and_the_names_need_nothing_heavy() -> None:
    """Neither ``import visitcal`` nor a client imports what takes long: tables and images do."""
    heavy = ("numpy", "astropy", "pyarrow", "photutils", "service", "api")
    code = f"import sys, visitcal; visitcal.Client().close(); print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    code = "import sys, visitcal; print('httpx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_all_names_are_there_and_no_others() -> None:
    import visitcal

    for name in visitcal.__all__:
        assert getattr(visitcal, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        visitcal.Nothing  # noqa: B018


def test_types_are_those_of_the_blocking_and_of_the_asynchronous_world() -> None:
    """`usage.py` says with ``assert_type`` what a type checker must find."""
    usage = Path(__file__).parent / "usage.py"
    arguments = ["mypy", "--strict", "--follow-imports=silent", str(usage)]
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
