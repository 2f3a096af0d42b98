"""The versions that the image installs are those that pyproject.toml allows, all of them, with their digests."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPO = Path(__file__).parents[2]
LOCK = REPO / "docker" / "requirements.lock"
BUILD_LOCK = REPO / "docker" / "build.lock"
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())
# The image runs where the tests do: on this Python, on Linux.
IMAGE = {"python_version": "3.11", "python_full_version": "3.11.14", "sys_platform": "linux", "extra": ""}


def locked(path: Path) -> dict[str, Version]:
    """Versions by name, of what is installed on Linux."""
    versions = {}
    for line in path.read_text().replace("\\\n", " ").splitlines():
        if not line or line.startswith("#"):
            continue
        requirement = Requirement(line.partition("--hash")[0].strip())
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", line), f"{requirement.name} has no digest"
        if requirement.marker is None or requirement.marker.evaluate(IMAGE):
            (specifier,) = requirement.specifier
            assert specifier.operator == "=="
            versions[canonicalize_name(requirement.name)] = Version(specifier.version)
    return versions


def extras_of_the_image() -> list[str]:
    recipe = subprocess.run(
        ["make", "--dry-run", "--always-make", "lock"], cwd=REPO, capture_output=True, text=True, check=True
    ).stdout
    return re.findall(r"--extra[= ](\w+)", recipe)


def check(wanted: str, versions: dict[str, Version], whose: str) -> None:
    requirement = Requirement(wanted)
    if requirement.marker is not None and not requirement.marker.evaluate(IMAGE):
        return
    version = versions.get(canonicalize_name(requirement.name))
    assert version is not None, f"{whose} needs {requirement.name}, which is not in the lock: run make lock"
    assert requirement.specifier.contains(version, prereleases=True), f"{whose} needs {wanted}, the lock has {version}"


def test_everything_that_the_project_asks_for_is_locked() -> None:
    versions = locked(LOCK)
    extras = extras_of_the_image()
    assert {"postgres", "s3", "oidc", "vo"} == set(extras)
    optional = PROJECT["project"]["optional-dependencies"]
    for wanted in [*PROJECT["project"]["dependencies"], *(one for extra in extras for one in optional[extra])]:
        check(wanted, versions, "visitcal")


def test_what_builds_the_wheel_is_locked() -> None:
    for wanted in PROJECT["build-system"]["requires"]:
        check(wanted, locked(BUILD_LOCK), "the build")


def needs(name: str) -> Iterator[str]:
    """What an installed package asks for without extras."""
    for wanted in metadata.requires(name) or []:
        marker = Requirement(wanted).marker
        if marker is None or marker.evaluate(IMAGE):
            yield wanted


def test_the_lock_is_closed() -> None:
    """A package that another one needs is there too; known of those whose locked version is installed here."""
    versions = locked(LOCK)
    looked_at = 0
    for name, version in versions.items():
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if Version(installed) == version:
            looked_at += 1
            for wanted in needs(name):
                check(wanted, versions, name)
    if not looked_at:
        pytest.skip("none of the locked versions is installed here")


@pytest.mark.parametrize("path", [LOCK, BUILD_LOCK])
def test_no_index_is_named(path: Path) -> None:
    """Where packages come from is for who builds."""
    text = path.read_text()
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links|--trusted-host| @ ", text)
