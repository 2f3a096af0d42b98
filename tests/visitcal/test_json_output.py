"""``--json`` of every command: standard output parses, and has nothing else."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.settings import Settings
from service.storage import Storage
from service.storage.migration import migrate
from tests.fits_layouts import plain
from tests.visitcal.test_cli import SUMMARY_SCHEMA, events_of, finished
from visitcal import cli
from visitcal.client import Client
from visitcal.grammar import leaves, parser

PRODUCT = {"id": "p", "aliases": [], "kind": "document", "links": {"file": "/v1/jobs/job_1/products/p"}}
BATCH = {"id": "batch_1", "version": "1", "active": False, "phases": {"COMPLETED": 1}, "progress": 1.0, "failures": []}
MESSAGE = {"id": "msg_1", "type": "job.error", "state": "waiting"}
INSPECTION = {"problem": None}
REFCAT = {"name": "r", "rows": 1}
#: Arguments of each command; FILE, FOLDER and DATA are put in. Processes that serve are tried below.
ARGUMENTS = {
    "visitcal submit": ["FILE", "--refcat", "none", "--wait"],
    "visitcal rerun": ["job_1", "--wait"],
    "visitcal status": ["job_1"],
    "visitcal fetch": ["job_1", "--out", "FOLDER"],
    "visitcal report": ["job_1", "-o", "FOLDER/report.html"],
    "visitcal inspect": ["FILE"],
    "visitcal refcat list": [],
    "visitcal refcat put": ["r", "FILE"],
    "visitcal webhook secret": [],
    "visitcal webhook list": [],
    "visitcal webhook replay": ["msg_1"],
    "visitcal simulate": ["FOLDER", "--size", "96", "--stars", "5"],
    "visitcal preset check": ["PRESET"],
    "visitcal preset list": [],
    "visitcal preset show": ["ztf"],
    "visitcal migrate": ["--data-dir", "DATA"],
    "visitcal doctor": ["--data-dir", "DATA"],
    "visitcal token create": ["--data-dir", "DATA"],
    "visitcal token list": ["--data-dir", "DATA"],
    "visitcal token revoke": ["TOKEN", "--data-dir", "DATA"],
    "visitcal completion": ["bash"],
}
PROCESSES = {"visitcal serve", "visitcal worker", "visitcal watch"}
#: They calibrate, which takes compiled kernels.
LONG = {"visitcal demo", "visitcal calibrate", "visitcal warmup"}


def answer(request: httpx.Request) -> httpx.Response:
    request.read()
    document = finished(products=[PRODUCT], exposures=["exp_1"], run_id=None, preset="generic")
    answers: dict[str, Any] = {
        "PUT /v1/exposures": {"id": "exp_1"},
        "GET /v1/exposures/exp_1": {"id": "exp_1", "filename": "a.fits"},
        "POST /v1/jobs": document,
        "POST /v1/jobs/job_1/rerun": document,
        "GET /v1/jobs/job_1": document,
        "GET /v1/jobs": {"items": [document], "next": None},
        "POST /v1/batches": BATCH,
        "GET /v1/jobs/job_1/products": {"items": [PRODUCT]},
        "GET /v1/jobs/job_1/products/p": {},
        "GET /v1/refcats": {"items": [REFCAT]},
        "PUT /v1/refcats/r": REFCAT,
        "POST /v1/inspect": INSPECTION,
        "POST /v1/webhooks/secret": {"secret": "whsec_x", "previous_until": None},
        "GET /v1/webhooks/messages": {"items": [MESSAGE], "next": None},
        "POST /v1/webhooks/messages/msg_1/replay": MESSAGE,
        "GET /v1/schema/summary": json.loads(SUMMARY_SCHEMA.content),
    }
    name = f"{request.method} {request.url.path}"
    if name == "GET /v1/jobs/job_1/events":
        return events_of(("phase", {"phase": "COMPLETED", "attempt": 1, "version": 9}))
    if name not in answers:
        return httpx.Response(404, json={"code": "product.not_made", "detail": f"Nothing at {name}."})
    return httpx.Response(200, json=answers[name])


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """What stands for the words of `ARGUMENTS`."""
    monkeypatch.setattr(
        "visitcal.commands.connection.Client",
        lambda *_, **__: Client("http://service", transport=httpx.MockTransport(answer), retries=0),
    )
    preset = tmp_path / "mine.yaml"
    preset.write_text("name: mine\ndescription: a camera of mine\nmatch: [{INSTRUME: MINE}]\n")
    settings = Settings(data_dir=tmp_path / "data")
    migrate(settings)
    made = json.loads(run_json("visitcal token create", {"DATA": str(tmp_path / "data")}))
    (tmp_path / "folder").mkdir()
    yield {
        "FILE": str(plain(tmp_path / "a.fits", np.ones((8, 8), "f4"))),
        "FOLDER": str(tmp_path / "folder"),
        "DATA": str(tmp_path / "data"),
        "PRESET": str(preset),
        "TOKEN": made["id"],
    }
    Storage(settings).close()


def run_json(prog: str, places: dict[str, str], *more: str) -> str:
    """Standard output of a command with ``--json``."""
    words = [*prog.split()[1:], *ARGUMENTS.get(prog, []), *more, "--json"]
    for word, place in places.items():
        words = [one.replace(word, place) if one.startswith(word) else one for one in words]
    with redirect_stdout(io.StringIO()) as out:
        status = cli.main(words)
    assert status in ((0, 3) if prog == "visitcal doctor" else (0,)), out.getvalue()
    return out.getvalue()


def test_no_command_is_forgotten() -> None:
    assert {leaf.prog for leaf in leaves(parser())} == ARGUMENTS.keys() | PROCESSES | LONG


@pytest.mark.parametrize("prog", ARGUMENTS)
def test_output_is_one_document(prog: str, places: dict[str, str]) -> None:
    assert json.loads(run_json(prog, places))


@pytest.mark.parametrize("more", [["--batch"], []])
def test_several_files_are_one_document_too(
    more: list[str], places: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert cli.main(["submit", "exp_1", places["FILE"], "--wait", "--json", *more]) == 0
    assert json.loads(capsys.readouterr().out)


def test_events_are_lines(places: dict[str, str]) -> None:
    (line,) = run_json("visitcal status", places, "--follow").splitlines()
    assert json.loads(line)["kind"] == "phase"


def test_errors_are_problem_documents(places: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "job_absent", "--json"]) == 2
    said = capsys.readouterr()
    problem = json.loads(said.err)
    assert (problem["code"], problem["exit_code"], problem["status"]) == ("product.not_made", 2, 404)
    assert said.out == ""
    assert cli.main(["submit", "/nowhere/a.fits", "--json"]) == 2
    problem = json.loads(capsys.readouterr().err)
    assert (problem["code"], problem["detail"]) == ("file.unusable", "/nowhere/a.fits: No such file or directory")


@pytest.mark.parametrize(
    ("arguments", "event"),
    [
        (["serve", "--port", "0", "--no-worker", "--data-dir", "DATA"], "listening"),
        (["worker", "--data-dir", "DATA"], "started"),
        (["watch", "FOLDER", "--refcat", "none", "--url", "http://127.0.0.1:1", "--every", "0.1", "--all"], "waiting"),
    ],
)
@pytest.mark.end_to_end
def test_processes_write_lines_and_stop_when_told(arguments: list[str], event: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    plain(tmp_path / "folder" / "a.fits", np.ones((8, 8), "f4"))
    words = {"DATA": str(tmp_path / "data"), "FOLDER": str(tmp_path / "folder")}
    more = ["--settle", "0.1", "--state", str(tmp_path / "state")] if arguments[0] == "watch" else []
    process = subprocess.Popen(
        [sys.executable, "-m", "visitcal.cli", *(words.get(word, word) for word in arguments), *more, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["event"] == event
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert [json.loads(line)["event"] for line in rest.splitlines()] == (["stopped"] if event == "waiting" else [])
    assert process.returncode in (0, -signal.SIGTERM)


@pytest.mark.long
def test_what_calibrates_is_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", str(tmp_path / "sky"), "--size", "800", "--stars", "420"]) == 0
    capsys.readouterr()
    arguments = ["calibrate", str(tmp_path / "sky" / "exposure.fits"), "--refcat", "none", "--out", str(tmp_path / "o")]
    assert cli.main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["summary"]["psfSigma"] > 0
    assert cli.main(["demo", "--size", "800", "--stars", "420", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["job"]["phase"] == "COMPLETED"
    assert cli.main(["warmup", "--data-dir", str(tmp_path / "data"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["directory"]
