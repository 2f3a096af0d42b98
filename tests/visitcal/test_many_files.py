"""`visitcal submit` of several files: a line and an exit code for each, and the worst for all."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from tests.visitcal.test_cli import finished
from visitcal import cli
from visitcal.client import Client
from visitcal.exit_codes import worst
from visitcal.file_board import FileBoard, FileOutcome
from visitcal.problems import Problem

ERROR = {"code": "psf.too_few_good_stars", "message": "Only 2 [/stars]\x1b[2J", "stage": "psf", "numbers": {}}


class Service:
    """Takes every file but those whose bytes say otherwise; jobs end at the second look."""

    def __init__(self) -> None:
        self.looks = 0
        self.jobs: dict[str, dict[str, Any]] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        content = request.read()
        match request.method, request.url.path:
            case "PUT", "/v1/exposures":
                if content == b"no fits":
                    return httpx.Response(415, json={"code": "upload.not_fits", "detail": "Not FITS."})
                return httpx.Response(201, json={"id": f"exp_{content.decode()}"})
            case "POST", "/v1/jobs":
                name = json.loads(content)["exposures"][0]
                job_id = f"job_{name}"
                self.jobs[job_id] = finished("EXECUTING", id=job_id, stage="psf.measure", progress=0.4, summary=None)
                return httpx.Response(202, json=self.jobs[job_id])
            case "GET", "/v1/jobs":
                return self.look()
            case "GET", path:
                return httpx.Response(200, json=self.jobs[path.rpartition("/")[2]])
        raise AssertionError(request.url)

    def look(self) -> httpx.Response:
        self.looks += 1
        if self.looks > 1:
            summary = {"psfSigma": 2.0, "pixelScale": 0.2, "zeroPoint": 27.4321, "nPsfStar": 53}
            for job_id in self.jobs:
                self.jobs[job_id] = finished(id=job_id, summary=summary)
            if "job_exp_bad" in self.jobs:
                self.jobs["job_exp_bad"] = finished("ERROR", id="job_exp_bad", summary=None, error=ERROR)
        return httpx.Response(200, json={"items": list(self.jobs.values()), "next": None})


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    service = Service()
    monkeypatch.setattr("visitcal.commands.many_files.PAUSE_S", 0.01)
    monkeypatch.setattr(
        "visitcal.commands.connection.Client",
        lambda *_, **__: Client("http://service", transport=httpx.MockTransport(service), retries=0),
    )
    return service


def written(folder: Path, **contents: str) -> list[str]:
    for name, content in contents.items():
        (folder / f"{name}.fits").write_text(content)
    return [str(folder / f"{name}.fits") for name in contents]


def test_a_line_a_file_and_the_worst_exit_code(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = written(tmp_path, good="good", broken="no fits", failing="bad")
    assert cli.main(["submit", *files, "--refcat", "none", "--wait"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    (good,) = (line for line in lines if "good.fits" in line)
    assert 'COMPLETED  seeing 0.94"  zero point 27.432  53 PSF stars  job_exp_good' in good
    assert any("broken.fits" in line and "refused  upload.not_fits: Not FITS." in line for line in lines)
    assert any("ERROR  psf.too_few_good_stars: Only 2 [/stars]\ufffd[2J" in line for line in lines)


def test_partial_results_are_3_and_all_well_is_0(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = written(tmp_path, good="good", failing="bad", fine="fine")
    assert cli.main(["submit", *files, "--wait"]) == 3
    assert cli.main(["submit", files[0], files[2], "--wait"]) == 0
    capsys.readouterr()
    assert cli.main(["submit", files[0], files[2], "--wait", "--json"]) == 0
    documents = json.loads(capsys.readouterr().out)
    assert [(one["file"], one["job"]["phase"], one["problem"]) for one in documents] == [
        (files[0], "COMPLETED", None),
        (files[2], "COMPLETED", None),
    ]


def test_without_waiting_each_line_has_the_job(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = written(tmp_path, one="one", two="two")
    assert cli.main(["submit", *files]) == 0
    assert service.looks == 0
    assert {line.split()[-1] for line in capsys.readouterr().out.splitlines()} == {"job_exp_one", "job_exp_two"}


def test_ctrl_c_leaves_jobs_running_and_says_how_to_follow_them(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> httpx.Response:
        raise KeyboardInterrupt

    monkeypatch.setattr(service, "look", interrupted)
    files = written(tmp_path, one="one", two="two")
    assert cli.main(["submit", *files, "--wait"]) == 130
    said = capsys.readouterr().err
    assert "2 jobs run on" in said
    assert "visitcal status job_exp_one --follow" in said
    assert cli.main(["submit", *files, "--wait", "--run-id", "night"]) == 130
    assert "visitcal status --run-id night" in capsys.readouterr().err


def test_worst() -> None:
    assert [worst(codes) for codes in ([], [0, 0], [0, 3], [3, 2, 0], [2, 1, 3])] == [0, 0, 3, 2, 1]


def test_bars_on_a_terminal() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=140, record=True)
    with FileBoard(console) as board:
        board.sent("a.fits", 5, 10)
        board.moved("b.fits", finished("EXECUTING", stage="psf.measure", progress=0.42))
        board._progress.refresh()
        drawn = screen.getvalue()
        board.ended(FileOutcome("b.fits", finished(summary=None)))
        board.ended(FileOutcome("c[/].fits", problem=Problem("x.y", "No [/good].", 2)))
    assert "upload" in drawn
    assert "50 %" in drawn
    assert "psf.measure" in drawn
    assert "42 %" in drawn
    text = console.export_text()
    assert "c[/].fits" in text
    assert "x.y: No [/good]." in text
