"""`Client.inspect`, `visitcal inspect` and `visitcal preset`: what is sent, what is shown, exit codes."""

from __future__ import annotations

import bz2
import gzip
import json
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from astropy.io import fits

from tests.fits_layouts import SHAPE, lsst, plain
from visitcal import cli
from visitcal.client import Client
from visitcal.fits_headers import FIRST_BYTES, file_start


def headers_of(data: bytes) -> bytes:
    """The headers of a file, by astropy."""
    with fits.open(BytesIO(data)) as hdus:
        places = [hdu.fileinfo() for hdu in hdus]
    return b"".join(data[place["hdrLoc"] : place["datLoc"]] for place in places)


def table_and_groups(path: Path) -> bytes:
    """Layouts whose data do not follow from their axes alone: a heap, a compressed image, random groups."""
    strings = fits.Column("names", "PA()", array=np.array(["a", "b" * 5000], dtype=object))
    image = fits.CompImageHDU(np.arange(90_000, dtype="i2").reshape(300, 300), name="SCI")
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns([strings], name="T"), image]).writeto(path)
    return path.read_bytes()


# -- what is sent


@pytest.mark.parametrize("pack", [None, gzip.compress, bz2.compress])
def test_all_headers_are_sent_and_no_data(tmp_path, pack):
    data = lsst(tmp_path / "a.fits", np.ones(SHAPE, "f4")).read_bytes()
    path = tmp_path / "b"
    path.write_bytes(data if pack is None else pack(data))
    start = file_start(path)
    assert start.data == headers_of(data)
    assert start.headers_only
    assert start.size == (len(data) if pack is None else None)


def test_heaps_and_compressed_images_are_passed_over(tmp_path):
    data = table_and_groups(tmp_path / "a.fits")
    assert file_start(tmp_path / "a.fits").data == headers_of(data)


def test_random_groups_are_passed_over(tmp_path):
    groups = fits.GroupData(np.ones((4, 1, 1, 2, 3), "f4"), bitpix=-32, parnames=["U"], pardata=[np.arange(4.0)])
    fits.HDUList([fits.GroupsHDU(groups), fits.ImageHDU(np.ones((30, 40), "f4"))]).writeto(tmp_path / "a.fits")
    assert file_start(tmp_path / "a.fits").data == headers_of((tmp_path / "a.fits").read_bytes())


def test_of_anything_else_the_beginning_is_sent(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG" * FIRST_BYTES)
    start = file_start(path)
    assert (start.headers_only, len(start.data), start.size) == (False, FIRST_BYTES, 4 * FIRST_BYTES)
    path.write_bytes(gzip.compress(bytes(100_000))[:50])
    assert not file_start(path).headers_only


def test_the_client_asks_with_what_a_job_would_say(tmp_path):
    path = plain(tmp_path / "a.fits", np.ones((600, 500), "f4"))
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"problem": None})

    with Client("http://service", transport=httpx.MockTransport(answer)) as client:
        found = client.inspect(path, references="gaia", instrument="ztf", metadata={"band": "r"})
    assert found["problem"] is None
    assert (seen[0].method, seen[0].url.path) == ("POST", "/v1/inspect")
    query = dict(seen[0].url.params)
    assert json.loads(query.pop("metadata")) == {"band": "r"}
    size = str(path.stat().st_size)
    assert query == {"headers_only": "true", "size": size, "references": "gaia", "instrument": "ztf"}
    assert len(seen[0].content) == 2880


# -- what is shown


def run(*arguments: str) -> int:
    return cli.main(list(arguments))


def test_a_file_is_looked_at_without_a_service(tmp_path, capsys):
    path = plain(tmp_path / "a.fits", np.ones((60, 50), "f4"), INSTRUME="DECam", FILTER="r DECam SDSS")
    assert run("inspect", str(path), "--local", "--json", "--set-metadata", "gain=2") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["instrument"]["name"] == "decam"
    assert found["metadata"]["gain"] == {"value": 2.0, "unit": "electron/count", "origin": "job parameter"}
    assert found["complete"]
    assert run("inspect", str(path), "--local", "--instrument", "ztf") == 0
    shown = capsys.readouterr().out
    assert "instrument ztf (job parameter)" in shown
    rows = [re.split(r"\s{2,}", line.strip()) for line in shown.splitlines()]
    assert ["gain", "6.2", "instrument preset ztf"] in rows


def test_a_file_that_cannot_work_is_exit_code_2(tmp_path, capsys):
    path = plain(tmp_path / "a.fits", np.ones((60, 50), "f4"), BAYERPAT="RGGB")
    assert run("inspect", str(path), "--local") == 2
    shown = capsys.readouterr().out
    assert "(format.bayer)" in shown
    assert "origin" not in shown  # nothing was read: no table without rows
    (tmp_path / "b").write_bytes(b"nothing" * 1000)
    assert run("inspect", str(tmp_path / "b"), "--local") == 2
    assert "(format.not_fits)" in capsys.readouterr().out
    assert run("inspect", str(tmp_path / "none"), "--local") == 2
    assert run("inspect", str(path), "--local", "--instrument", "nope") == 2
    assert "there is no instrument preset 'nope'" in capsys.readouterr().err


PRESET = "name: {name}\ndescription: Ours.\nmatch: [{{INSTRUME: roof}}]\nmetadata: {{gain: {gain}}}\n"


def test_presets_are_checked_listed_and_shown(tmp_path, capsys):
    good = tmp_path / "roof.yaml"
    good.write_text(PRESET.format(name="roof", gain=1.5))
    assert run("preset", "check", str(good)) == 0
    assert "roof can be used" in capsys.readouterr().out
    assert run("preset", "show", "roof", "--dir", str(tmp_path)) == 0
    assert json.loads(capsys.readouterr().out)["preset"]["metadata"] == {"gain": 1.5}
    assert run("preset", "list", "--dir", str(tmp_path)) == 0
    listed = capsys.readouterr().out
    assert "roof *" in listed
    assert "lsstcam" in listed
    assert run("preset", "show", "nope") == 2
    good.write_text(PRESET.format(name="ztf", gain=1.5))
    assert run("preset", "check", str(good)) == 0
    assert "in place of the preset ztf" in capsys.readouterr().out


def test_a_fault_is_told_with_file_line_and_key(tmp_path, capsys):
    bad = tmp_path / "roof.yaml"
    bad.write_text(PRESET.format(name="roof", gain=-1))
    assert run("preset", "check", str(bad)) == 2
    assert "roof.yaml: line 4: metadata.gain: Input should be greater than 0" in capsys.readouterr().err
    bad.write_text(PRESET.format(name="roof", gain=1) + "config: {photometry: {sigma: 1}}\n")
    assert run("preset", "check", str(bad)) == 2
    assert "config.photometry.sigma: Extra inputs" in capsys.readouterr().err


def test_a_service_does_not_start_with_a_preset_that_is_none(tmp_path, capsys, monkeypatch):
    (tmp_path / "bad.yaml").write_text("name: x\n")
    monkeypatch.setenv("VISITCAL_INSTRUMENTS_DIR", str(tmp_path))
    assert run("migrate", "--data-dir", str(tmp_path / "data")) == 2
    assert "bad.yaml: line 1: description: Field required" in capsys.readouterr().err
