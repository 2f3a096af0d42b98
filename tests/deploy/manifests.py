"""The compose file and the manifests of Kubernetes, read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

REPO = Path(__file__).parents[2]
COMPOSE = REPO / "docker" / "compose.yaml"
KUBERNETES = REPO / "docker" / "kubernetes"

_VARIABLE = re.compile(r"\$\{(\w+)(?::([?-])([^}]*))?\}")


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return document


def interpolated(value: object, variables: dict[str, str]) -> str:
    """A value as compose gives it to a container."""

    def of(match: re.Match[str]) -> str:
        name, kind, default = match.groups()
        if kind == "?":
            return variables[name]
        return variables.get(name) or default or ""

    return _VARIABLE.sub(of, str(value)).replace("$$", "$")


def documents(folder: str = "base") -> Iterator[tuple[Path, dict[str, Any]]]:
    """All objects in a folder, with the files that they are in."""
    for path in sorted((KUBERNETES / folder).glob("*.yaml")):
        if path.name != "kustomization.yaml":
            for document in yaml.safe_load_all(path.read_text()):
                yield path, document


def found(kind: str, name: str, folder: str = "base") -> dict[str, Any]:
    (document,) = [one for _, one in documents(folder) if one["kind"] == kind and one["metadata"]["name"] == name]
    return document


def pods() -> dict[str, dict[str, Any]]:
    """Templates of pods by the name of what makes them."""
    return {
        document["metadata"]["name"]: document["spec"]["template"]
        for _, document in documents()
        if document["kind"] in ("Deployment", "Job")
    }


def kustomization(folder: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((KUBERNETES / folder / "kustomization.yaml").read_text())
    return document
