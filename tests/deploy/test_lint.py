"""What linters and published schemas say of docker/."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.deploy.image import DOCKERFILE
from tests.deploy.manifests import COMPOSE, KUBERNETES, REPO, compose, documents

BINARIES = Path(sys.executable).parent


def run(program: str, *arguments: object, text: str | None = None) -> None:
    command = [BINARIES / program, *map(str, arguments)]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_dockerfile() -> None:
    run("hadolint", "--no-color", DOCKERFILE)


def test_compose_file() -> None:
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)


def test_shell() -> None:
    run("shellcheck", REPO / ".ci" / "run")
    script = compose()["services"]["bucket"]["command"][0].replace("$$", "$")
    run("shellcheck", "--shell=sh", "-", text=script)


@pytest.mark.parametrize("folder", ["base", "overlays/example"])
def test_manifests(folder: str) -> None:
    checked = 0
    for path, document in documents(folder):
        if not document["apiVersion"].startswith("keda.sh/"):  # what is no part of Kubernetes has no schema there
            kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
            checked += 1
        assert document["metadata"].get("namespace") is None, f"{path}: the overlay says where"
    assert checked


def test_what_the_overlay_becomes() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl to put the overlay together")
    command = [kubectl, "kustomize", KUBERNETES / "overlays" / "example"]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    made = {}
    for document in yaml.safe_load_all(rendered):
        made[document["kind"], document["metadata"]["name"]] = document
        if not document["apiVersion"].startswith("keda.sh/"):
            kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
        assert document["metadata"]["namespace"] == "visitcal"
        assert document["metadata"]["labels"]["app.kubernetes.io/part-of"] == "visitcal"
    assert len(made) == sum(1 for folder in ("base", "overlays/example") for _ in documents(folder)) - 1  # the secret
    assert "replicas" not in made["Deployment", "visitcal-worker"]["spec"], "KEDA's business"
    for kind, name in (("Deployment", "visitcal-api"), ("Deployment", "visitcal-worker"), ("Job", "visitcal-migrate")):
        (container,) = made[kind, name]["spec"]["template"]["spec"]["containers"]
        assert container["image"].startswith("registry.example.org/"), name


def test_kustomizations() -> None:
    for path in KUBERNETES.rglob("kustomization.yaml"):
        document = yaml.safe_load(path.read_text())
        assert document["kind"] == "Kustomization"
        for resource in document["resources"]:
            assert (path.parent / resource).exists(), resource
        listed = {(path.parent / resource).resolve() for resource in document["resources"]}
        beside = {other.resolve() for other in path.parent.glob("*.yaml")} - {path.resolve()}
        assert {other.name for other in beside - listed} <= {"secret.example.yaml"}
