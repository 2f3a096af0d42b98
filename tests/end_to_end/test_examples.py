"""Each script of examples/ against a real service."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from astropy.io import fits

from tests.documentation.blocks import World

if TYPE_CHECKING:
    from visitcal.client import Client
    from visitcal.result import Result
    from visitcal.server_process import ServerProcess

pytestmark = pytest.mark.end_to_end

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(server: ServerProcess, name: str, *arguments: object) -> list[str]:
    """Lines that an example prints."""
    program = "sh" if name.endswith(".sh") else sys.executable
    command = [program, str(EXAMPLES / name), *map(str, arguments)]
    environment = {**os.environ, "VISITCAL_URL": server.url}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def result_of(client: Client, exposure: Path) -> Result:
    """What a job like that of an example has given: it is the answer to whoever asks for the same."""
    return client.submit(exposure, references="sim").wait()


def brightest(client: Client, exposure: Path) -> list[tuple[float, float, float]]:
    """Position and magnitude of the first stars of such a job."""
    rows = result_of(client, exposure).rows(
        columns=["ra", "dec", "psfMag"], where="detect_isPrimary,!base_PsfFlux_flag", order="psfMag", limit=3
    )
    return [(row["ra"], row["dec"], row["psfMag"]) for row in rows]


def test_httpx(server: ServerProcess, client: Client, files: dict[str, Path]) -> None:
    job, *stars = run(server, "with_httpx.py", files["exposure"], "sim")
    assert job.endswith("COMPLETED")
    assert stars == [f"{ra:.5f} {dec:+.5f} {mag:.3f}" for ra, dec, mag in brightest(client, files["exposure"])]


def test_client(server: ServerProcess, client: Client, files: dict[str, Path]) -> None:
    lines = run(server, "with_client.py", files["exposure"], "sim")
    summary = result_of(client, files["exposure"]).summary
    assert lines[0] == f"zero point {summary['zeroPoint']:.3f}, seeing {summary['psfSigma']:.2f} px"
    assert "pixels in nJy" in lines[-2]
    assert lines[-1].startswith("the PSF has a FWHM of ")


def test_client_with_a_failure(server: ServerProcess, client: Client, files: dict[str, Path]) -> None:
    client.put_refcat("nothing", files["empty"])
    error, reached = run(server, "with_client.py", files["exposure"], "nothing")
    assert "ended as ERROR" in error
    assert "[astrometry.no_references]" in error
    assert int(reached.split()[-2]) > 10


def test_night(server: ServerProcess, client: Client, files: dict[str, Path], tmp_path: Path) -> None:
    for name in ("first.fits", "second.fits"):
        shutil.copy(files["exposure"], tmp_path / name)
        fits.setval(tmp_path / name, "COMMENT", value=name)  # so that neither is the other
    lines = run(server, "night.py", tmp_path, "sim")
    zero_point = next(client.jobs(run_id=tmp_path.name)).result.summary["zeroPoint"]
    assert sorted(lines) == [f"{n}.fits: COMPLETED, zero point {zero_point:.3f}" for n in ("first", "second")]
    assert len(list(client.jobs(run_id=tmp_path.name))) == 2


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is absent")
def test_curl(server: ServerProcess, client: Client, files: dict[str, Path]) -> None:
    job, header, *stars = run(server, "with_curl.sh", files["exposure"], "sim")
    assert job.endswith("COMPLETED")
    assert header == '"ra","dec","psfMag"'
    assert len(stars) == 3


def test_pyvo(server: ServerProcess, client: Client, files: dict[str, Path]) -> None:
    pytest.importorskip("pyvo")
    job, *_, stars = run(server, "with_pyvo.py", files["exposure"], "sim")
    assert job.endswith("COMPLETED")
    assert int(stars.split()[0]) > 10


def test_dashboard(server: ServerProcess, client: Client, files: dict[str, Path]) -> None:
    job = client.submit(files["exposure"], references="sim")
    job.wait(240)
    *story, ending = run(server, "dashboard.py", 1)  # of whichever job ended first, and then of the newest
    assert sum(line.split()[-1] in ("COMPLETED", "ERROR", "ABORTED") and " phase " in line for line in story) == 1
    assert {line.split()[2] for line in story if not line.startswith(("0%", "100%"))} <= {"phase", "stage"}
    assert ending.split()[0] == "100%"


def test_the_page_of_the_client(
    server: ServerProcess, client: Client, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.put_refcat("field", files["references"])
    shutil.copy(files["exposure"], tmp_path / "exposure.fits")
    monkeypatch.chdir(tmp_path)
    world = World(tmp_path, {"VISITCAL_URL": server.url})
    assert world.run_page("docs/client.md") > 4
    found = world.names
    assert found["why"][0] == "astrometry.bad_fit"
    assert found["why"][1]
    assert found["reached"][0] > 10
    assert found["told"][0] == "product.not_made"
    assert found["flux"].unit == "nJy"
    assert len(found["zero_points"]) == 2
    assert len(found["detections"]) >= 3
    assert set(found["curve"]["object"]) == {0}
    assert len(found["curve"]) < len(found["detections"])  # of one exposure the newest result alone
    assert set(found["statistics"]) >= {job.id for job in found["jobs"]}
    assert found["count"] == len(client.job(found["job"].id).result.stars)
