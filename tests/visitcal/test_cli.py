"""The command line: grammar, exit codes, and how fast it starts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from visitcal import cli
from visitcal.client import Client
from visitcal.grammar.options import column_mapping
from visitcal.options import OptionError, held_references, json_object, key_values, reference_names

HEAVY = (
    "numpy",
    "astropy",
    "numba",
    "scipy",
    "pyarrow",
    "sqlalchemy",
    "fastapi",
    "pydantic",
    "httpx",
    "rich",
    "service",
)


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys; from visitcal import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
    assert "calibrate" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["submit"],
        ["calibrate", "a.fits"],
        ["refcat", "drop"],
        ["calibrate", "a", "--out", "b", "--columns", "x"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: visitcal" in capsys.readouterr().err


def test_column_mapping() -> None:
    assert column_mapping("ra=RAJ2000, dec = DE") == {"ra": "RAJ2000", "dec": "DE"}


def test_json_object_from_text_or_file(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"a": {"b": 1}}')
    assert json_object(None) == {}
    assert json_object(' {"a": 2}') == {"a": 2}
    assert json_object(str(tmp_path / "c.json")) == {"a": {"b": 1}}
    for bad in ("{", str(tmp_path / "absent.json"), str(tmp_path)):
        with pytest.raises(OptionError):
            json_object(bad)
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(OptionError, match="not a JSON object"):
        json_object(str(tmp_path / "list.json"))


def test_key_values_keep_types() -> None:
    values = key_values(["gain=1.5", "visit=42", "band=r", "name=a=b", "flag=true"])
    assert values == {"gain": 1.5, "visit": 42, "band": "r", "name": "a=b", "flag": True}
    with pytest.raises(OptionError):
        key_values(["gain"])


def test_reference_names() -> None:
    assert reference_names("gaia", None, None) == {"astrometry": "gaia", "photometry": "gaia"}
    assert reference_names("gaia", None, "ps1") == {"astrometry": "gaia", "photometry": "ps1"}
    assert reference_names(None, "gaia", None) == {"astrometry": "gaia", "photometry": "none"}
    assert held_references("gaia", None, None) == reference_names("gaia", None, None)
    with pytest.raises(OptionError, match=r"visitcal refcat put NAME out/gaia\.parquet"):
        held_references(None, "gaia", "out/gaia.parquet")


def serve_script(monkeypatch: pytest.MonkeyPatch, answers: dict[str, httpx.Response]) -> list[httpx.Request]:
    """Let the commands talk to a script instead of a service."""
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        request.read()
        seen.append(request)
        return answers[f"{request.method} {request.url.path}"]

    def client(url: str | None, *, token: str | None) -> Client:
        return Client("http://service", transport=httpx.MockTransport(handler), retries=0)

    monkeypatch.setattr("visitcal.commands.connection.Client", client)
    return seen


def finished(phase: str = "COMPLETED", **changes: Any) -> dict[str, Any]:
    return {
        "id": "job_1", "phase": phase, "version": 3, "stage": None, "progress": 1.0, "error": None, "warnings": [],
        "stages": [{"name": "psf.measure", "seconds": 1.25, "numbers": {"n_stars": 120}}],
        "queue": {"position": None}, "run_id": None, "created_at": "2026-11-22T03:14:15Z",
        "summary": {"psfSigma": 1.91, "zeroPoint": None}, "products": [],
    } | changes  # fmt: skip


SUMMARY_SCHEMA = httpx.Response(
    200,
    json={
        "items": [
            {"name": "psfSigma", "unit": "pix", "description": "determinant radius"},
            {"name": "zeroPoint", "unit": "mag", "description": "AB magnitude of one count"},
        ]
    },
)


@pytest.mark.parametrize(
    ("given", "is_warned"), [([], True), (["--refcat", "none"], False), (["--refcat", "x"], False)]
)
def test_submit_without_references_says_what_goes_without(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    is_warned: bool,
) -> None:
    (tmp_path / "a.fits").write_bytes(b"SIMPLE")
    serve_script(
        monkeypatch,
        {
            "PUT /v1/exposures": httpx.Response(201, json={"id": "exp_1"}),
            "POST /v1/jobs": httpx.Response(202, json=finished()),
        },
    )
    assert cli.main(["submit", str(tmp_path / "a.fits"), *given]) == 0
    assert ("no references are named" in capsys.readouterr().err) == is_warned


def test_submit_and_wait_prints_stages_and_statistics(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "a.fits").write_bytes(b"SIMPLE")
    seen = serve_script(
        monkeypatch,
        {
            "PUT /v1/exposures": httpx.Response(201, json={"id": "exp_1"}),
            "POST /v1/jobs": httpx.Response(202, json=finished()),
            "GET /v1/schema/summary": SUMMARY_SCHEMA,
        },
    )
    arguments = ["submit", str(tmp_path / "a.fits"), "--refcat", "gaia", "--wait", "--set-metadata", "gain=1.5"]
    assert cli.main(arguments) == 0
    sent = json.loads(seen[1].content)
    assert sent["references"] == {"astrometry": "gaia", "photometry": "gaia"}
    assert sent["metadata"] == {"gain": 1.5}
    out = capsys.readouterr().out
    assert "psf.measure" in out
    assert "n_stars=120" in out
    assert "1.91" in out
    assert "zeroPoint" not in out  # not computed
    assert "COMPLETED" in out


def test_failed_job_is_exit_code_3_and_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = {
        "code": "psf.too_few_good_stars", "type": "PsfexTooFewGoodStarsError", "message": "Only 2 stars in [/sky]",
        "numbers": {"num_good_stars": 2}, "hint": "Lower the threshold.", "suggested_config": {"a": 1},
    }  # fmt: skip
    serve_script(
        monkeypatch,
        {
            "POST /v1/jobs": httpx.Response(202, json=finished("ERROR", error=error)),
            "GET /v1/schema/summary": SUMMARY_SCHEMA,
        },
    )
    assert cli.main(["submit", "exp_1", "--refcat", "none", "--wait"]) == 3
    out = capsys.readouterr().out
    for expected in (
        "PsfexTooFewGoodStarsError",
        "stars in [/sky]",
        "num_good_stars = 2",
        "Lower the threshold.",
        '{"a": 1}',
    ):
        assert expected in out


@pytest.mark.parametrize(("status", "code"), [(422, 2), (404, 2), (500, 1), (503, 1)])
def test_problems_become_exit_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: int, code: int
) -> None:
    problem = {
        "detail": "No such thing [/tag].",
        "code": "job.x",
        "errors": [{"pointer": "/config/a", "detail": "unknown"}],
    }
    serve_script(monkeypatch, {"GET /v1/jobs/job_9": httpx.Response(status, json=problem)})
    assert cli.main(["status", "job_9"]) == code
    assert "No such thing [/tag]." in capsys.readouterr().err


def test_missing_file_and_silent_service_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    serve_script(monkeypatch, {})
    assert cli.main(["submit", "/nowhere/[/a].fits", "--refcat", "none"]) == 2
    assert "/nowhere/[/a].fits" in capsys.readouterr().err.replace("\n", "")
    monkeypatch.setattr("visitcal.commands.connection.Client", lambda url, token: Client(url, token=token, retries=0))
    assert cli.main(["status", "job_1", "--url", "http://127.0.0.1:1"]) == 1
    assert "does not answer" in capsys.readouterr().err


def test_status_lists_jobs_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    serve_script(monkeypatch, {"GET /v1/jobs": httpx.Response(200, json={"items": [finished()], "next": None})})
    assert cli.main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["id"] == "job_1"


def events_of(*events: tuple[str, dict[str, Any]]) -> httpx.Response:
    text = "retry: 2000\nid: 0\n\n: \n\n"
    for seq, (kind, data) in enumerate(events, 1):
        document = {"seq": seq, "job_id": "job_1", "kind": kind, "at": "2026-11-22T03:14:15.926Z", "data": data}
        text += f"event: {kind}\ndata: {json.dumps(document)}\nid: {seq}\n\n"
    return httpx.Response(200, text=text, headers={"Content-Type": "text/event-stream"})


def test_status_follows_a_job_to_its_end(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    stream = [
        ("phase", {"phase": "EXECUTING", "attempt": 1, "version": 2}),
        ("stage", {"name": "psf.measure", "seconds": 1.25, "numbers": {"n": 17, "list": [1]}}),
        ("progress", {"stage": "astrometry", "progress": 0.42}),
        ("log", {"level": "INFO", "logger": "a", "message": "header says \x1b[2J\u2028 [red]", "at": "x"}),
        ("product", {"product": "stars", "format": "parquet", "size": 10}),
        ("phase", {"phase": "COMPLETED", "attempt": 1, "version": 9}),
    ]
    answers = {
        "GET /v1/jobs/job_1": httpx.Response(200, json=finished()),
        "GET /v1/jobs/job_1/events": events_of(*stream),
        "GET /v1/schema/summary": httpx.Response(200, json={"items": []}),
    }
    serve_script(monkeypatch, answers)
    assert cli.main(["status", "job_1", "--follow"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:6] == [
        "03:14:15  phase     EXECUTING  attempt 1",
        "03:14:15  stage     psf.measure  1.25 s  n=17",
        "03:14:15  progress  42 %  astrometry",
        "03:14:15  log       INFO  a  header says \ufffd[2J\ufffd [red]",
        "03:14:15  product   stars  parquet  10 bytes",
        "03:14:15  phase     COMPLETED  attempt 1",
    ]
    answers["GET /v1/jobs/job_1/events"] = events_of(*stream)
    assert cli.main(["status", "job_1", "--follow", "--json"]) == 0
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(document["kind"], document["data"]) for document in documents] == stream
    assert cli.main(["status", "--follow"]) == 2


def test_refcat_lists_held_and_remote_catalogues(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    held = {"name": "held", "rows": 25, "bands": ["r"], "created_at": "2026-11-22T03:14:15Z", "remote": None}
    far = {"name": "far", "rows": None, "bands": ["G"], "created_at": None, "remote": {"url": "https://vo.example.org"}}
    serve_script(monkeypatch, {"GET /v1/refcats": httpx.Response(200, json={"items": [held, far]})})
    assert cli.main(["refcat", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(all(word in line for word in ("held", "25", "2026-11-22")) for line in lines)
    (line,) = (line for line in lines if "far" in line)
    assert "https://vo.example.org" in line
    assert "None" not in line


def test_serve_refuses_a_remote_catalogue_that_cannot_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    far = {"kind": "scs", "url": "http://vo.example.org/scs", "columns": {"ra": "ra", "dec": "de", "r_mag": "r"}}
    monkeypatch.setenv("VISITCAL_REMOTE_REFCATS", json.dumps({"far": far}))
    assert cli.main(["migrate", "--data-dir", str(tmp_path)]) == 2
    assert "remote_refcats.far: catalogues are asked by https" in capsys.readouterr().err
    assert cli.main(["calibrate", "a.fits", "--refcat", "far", "--out", str(tmp_path)]) == 2
    assert "asked by https" in capsys.readouterr().err
    assert cli.main(["calibrate", "a.fits", "--refcat", "near", "--out", str(tmp_path)]) == 2
    assert "near is not a file, nor a remote catalogue" in capsys.readouterr().err


def test_simulate_writes_an_exposure_with_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("service.simulation")
    assert cli.main(["simulate", "--size", "128", "--seed", "3", "--stars", "20", str(tmp_path / "out")]) == 0
    written = capsys.readouterr().out.split()
    assert str(tmp_path / "out" / "exposure.fits") in written
    assert all(Path(name).is_file() for name in written)
    assert cli.main(["simulate", "--set", "fwhm=-1", str(tmp_path / "bad")]) == 2
    assert "fwhm" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["calibrate", "a.fits", "--out", "OUT"],
        ["calibrate", "a.fits", "--refcat", "/nowhere.parquet", "--out", "OUT"],
        ["calibrate", "a.fits", "b.fits", "c.fits", "--refcat", "none", "--out", "OUT"],
        ["calibrate", "a.fits", "--refcat", "none", "--parity", "--preset", "generic", "--out", "OUT"],
        ["calibrate", "a.fits", "--refcat", "none", "--config", "{", "--out", "OUT"],
        ["calibrate", "/nowhere.fits", "--refcat", "none", "--out", "OUT"],
        ["calibrate", "a.fits", "--refcat", "none", "--config", '{"no_such_key": 1}', "--out", "OUT"],
    ],
)
def test_calibrate_refuses_bad_input_with_exit_code_2(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("service.jobs.pipeline")
    (tmp_path / "a.fits").write_bytes(b"not fits")
    arguments = [str(tmp_path / part) if part in ("a.fits", "OUT") else part for part in arguments]
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err.strip()
