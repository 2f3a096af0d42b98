"""What others wrote is there as they released it."""

from __future__ import annotations

import hashlib
import re

from api.dashboard.assets import STATIC

_ROW = re.compile(r"^\| `([^`]+)` \|.*\| `([0-9a-f]{64})` \|$", re.MULTILINE)


def test_each_vendored_file_is_the_one_that_is_written_down() -> None:
    vendor = STATIC / "vendor"
    noted = dict(_ROW.findall((vendor / "README.md").read_text()))
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in vendor.iterdir()}
    files = {name: digest for name, digest in found.items() if name.endswith((".js", ".css"))}
    assert files == noted
    assert len(noted) >= 5


def test_each_vendored_package_has_its_licence() -> None:
    names = {path.name.split(".")[0] for path in (STATIC / "vendor").iterdir() if path.suffix in (".js", ".css")}
    assert {path.stem for path in (STATIC / "vendor").glob("*.LICENSE")} == names
