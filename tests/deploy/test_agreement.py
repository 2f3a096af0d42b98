"""The Dockerfile, the compose file, the manifests and the code say the same."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from pydantic import TypeAdapter

from api.access import PUBLIC
from api.app import check_bind, create_app
from service.operations.metrics import JobMetrics
from service.settings import Settings
from service.storage.records import Phase
from tests.deploy.image import DOCKERFILE, REPO, read_image
from tests.deploy.manifests import COMPOSE, compose, documents, found, interpolated, kustomization, pods

SECRETS = {"POSTGRES_PASSWORD": "p" * 48, "S3_ACCESS_KEY_ID": "key", "S3_SECRET_ACCESS_KEY": "secret"}
OURS = ("api", "worker", "migrate")
IDLE_CHILD_BYTES = 512 << 20
#: What is left of the time to stop when all work is given back.
MARGIN = 15.0
UNITS = {"Mi": 1 << 20, "Gi": 1 << 30, "M": 1 << 20, "G": 1 << 30}  # compose's M and G are binary too


def in_bytes(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(\w+)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]


def of_compose(service: str) -> dict[str, str]:
    """Variables that a service gets from the compose file."""
    given: dict[str, Any] = compose()["services"][service].get("environment", {})
    return {name: interpolated(value, SECRETS) for name, value in given.items()}


def of_pod(name: str) -> dict[str, str]:
    """Variables that the container of a pod gets."""
    (container,) = pods()[name]["spec"]["containers"]
    values: dict[str, str] = {}
    for source in container["envFrom"]:
        (kind,) = source
        if kind == "configMapRef":
            values |= found("ConfigMap", source[kind]["name"])["data"]
        else:
            values |= found("Secret", source[kind]["name"])["stringData"]
    return values | {variable["name"]: variable["value"] for variable in container.get("env", [])}


def settings(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a container; a variable that is no setting fails."""
    known = {f"VISITCAL_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in variables if name.startswith("VISITCAL_")} <= known
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Settings()


@pytest.mark.parametrize("service", OURS)
def test_settings_of_compose(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = compose()["services"][service]["build"]["target"]
    made = settings(read_image(target).environment | of_compose(service), monkeypatch)
    assert made.jobs_url == f"postgresql+psycopg://visitcal:{SECRETS['POSTGRES_PASSWORD']}@database/visitcal"
    check_bind(made)
    assert not made.starts_worker or target == "worker"


@pytest.mark.parametrize("name", ["visitcal-api", "visitcal-worker", "visitcal-migrate"])
def test_settings_of_kubernetes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (container,) = pods()[name]["spec"]["containers"]
    target = container["image"].removeprefix("visitcal/")
    made = settings(read_image(target).environment | of_pod(name), monkeypatch)
    assert made.blob_url is not None
    check_bind(made)


def test_settings_of_the_overlay() -> None:
    known = {f"/data/VISITCAL_{name.upper()}" for name in Settings.model_fields}
    base = found("ConfigMap", "visitcal")["data"]
    for patch in kustomization("overlays/example")["patches"]:
        target = patch["target"]
        assert found(target["kind"], target["name"])
        if target["kind"] == "ConfigMap":
            for step in yaml.safe_load(patch["patch"]):
                assert step["path"] in known
                assert (step["path"].removeprefix("/data/") in base) == (step["op"] == "replace")


def test_an_address_of_the_overlay_is_its_ingress() -> None:
    ingress = found("Ingress", "visitcal", "overlays/example")["spec"]
    (host,) = [rule["host"] for rule in ingress["rules"]]
    patches = [patch["patch"] for patch in kustomization("overlays/example")["patches"]]
    assert any(f"https://{host}" in patch for patch in patches)
    assert ingress["tls"][0]["hosts"] == [host]
    (path,) = ingress["rules"][0]["http"]["paths"]
    backend = path["backend"]["service"]
    service = found("Service", backend["name"])
    assert backend["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}


def test_ports() -> None:
    image = read_image("api")
    assert image.ports == [image.environment["VISITCAL_PORT"]] == [str(Settings.model_fields["port"].default)]
    (published,) = compose()["services"]["api"]["ports"]
    assert published.split(":")[-1] == image.ports[0]
    (container,) = pods()["visitcal-api"]["spec"]["containers"]
    (port,) = container["ports"]
    assert str(port["containerPort"]) == image.ports[0]
    assert [one["targetPort"] for one in found("Service", "visitcal-api")["spec"]["ports"]] == [port["name"]]
    (rule,) = found("NetworkPolicy", "visitcal-api")["spec"]["ingress"]
    assert [one["port"] for one in rule["ports"]] == [port["containerPort"]]


def test_nothing_is_published_beyond_loopback() -> None:
    for name, service in compose()["services"].items():
        for published in service.get("ports", []):
            assert published.startswith("127.0.0.1:"), name


def test_every_container_of_compose_is_locked_up() -> None:
    for name, service in compose()["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"cap_add", "privileged", "network_mode", "pid"} & set(service), name
        if name != "migrate":
            assert service["deploy"]["resources"]["limits"]["memory"], name


def test_no_password_stands_in_the_compose_file() -> None:
    for service in compose()["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|KEY|DATABASE_URL", name):
                assert re.search(r"\$\{\w+:[?-]", str(value)), name
    assert set(re.findall(r"\$\{(\w+):\?", COMPOSE.read_text())) == set(SECRETS)


def test_the_page_makes_every_variable_of_the_compose_file() -> None:
    page = (REPO / "docs" / "deployment.md").read_text()
    made = re.search(r"for name in ([A-Z0-9_ ]+); do .* > docker/\.env\n", page)
    assert made is not None
    assert set(made[1].split()) == set(re.findall(r"\$\{(\w+):[?-]", COMPOSE.read_text()))


def test_every_pod_is_locked_up() -> None:
    for name, pod in pods().items():
        spec = pod["spec"]
        user, group = read_image("api").user.split(":")
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert (str(security["runAsUser"]), str(security["runAsGroup"]), str(security["fsGroup"])) == (
            user,
            group,
            group,
        )
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["enableServiceLinks"] is False, f"{name}: a Service may set VISITCAL_PORT to an address"
        assert spec["automountServiceAccountToken"] is False, name
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"/data", "/tmp"} <= {mount["mountPath"] for mount in container["volumeMounts"]}, name
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}


def test_the_user_of_the_image_owns_what_is_written() -> None:
    image = read_image("api")
    user, group = image.user.split(":")
    assert user.isdigit()
    assert int(user) > 0, "Kubernetes can tell that it is not root"
    assert any(f"install --directory --owner {user} --group {group} /data /data/refcats" in run for run in image.runs)
    assert any(f"--uid {user} --gid {group}" in run for run in image.runs)


@pytest.mark.parametrize("target", ["api", "worker"])
def test_temporary_files_are_where_there_is_room(target: str) -> None:
    """A compressed exposure is unpacked there; where /tmp is passed by it, a pod is evicted."""
    environment = read_image(target).environment
    assert environment["TMPDIR"] == environment["VISITCAL_DATA_DIR"]


def test_probes_of_the_api_are_addresses_that_anybody_may_ask(tmp_path: Path) -> None:
    paths = set(create_app(Settings(data_dir=tmp_path)).openapi()["paths"])
    (container,) = pods()["visitcal-api"]["spec"]["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        action = container[probe]["httpGet"]
        assert action["path"] in paths & PUBLIC
        assert action["port"] in {port["name"] for port in container["ports"]}
    assert "/healthz" in read_image("api").healthcheck[-1]


def test_probes_of_the_worker_are_the_check_of_its_image() -> None:
    (container,) = pods()["visitcal-worker"]["spec"]["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["exec"]["command"] == read_image("worker").healthcheck
    assert Path(read_image("worker").environment["VISITCAL_ALIVE_FILE"]).parent == Path("/tmp")


@pytest.mark.parametrize("name", ["api", "worker"])
def test_there_is_time_to_stop(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = read_image(name)
    assert image.stop_signal == "SIGTERM"
    stop = TypeAdapter(int).validate_python(compose()["services"][name]["stop_grace_period"].removesuffix("s"))
    with monkeypatch.context() as patch:
        assert stop >= settings(image.environment | of_compose(name), patch).shutdown_grace + MARGIN
    spec = pods()[f"visitcal-{name}"]["spec"]
    (container,) = spec["containers"]
    before = int(container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["", "0"])[1])
    grace = settings(image.environment | of_pod(f"visitcal-{name}"), monkeypatch).shutdown_grace
    assert spec["terminationGracePeriodSeconds"] >= grace + before + MARGIN


def test_a_container_has_the_memory_that_its_jobs_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = compose()["services"]["worker"]
    limit = in_bytes(worker["deploy"]["resources"]["limits"]["memory"])
    with monkeypatch.context() as patch:
        made = settings(read_image("worker").environment | of_compose("worker"), patch)
        assert limit >= made.slots * (made.memory_limit_bytes + IDLE_CHILD_BYTES)
    (container,) = pods()["visitcal-worker"]["spec"]["containers"]
    limit = in_bytes(container["resources"]["limits"]["memory"])
    made = settings(read_image("worker").environment | of_pod("visitcal-worker"), monkeypatch)
    assert limit >= made.slots * (made.memory_limit_bytes + IDLE_CHILD_BYTES)


def test_caches_fit_on_their_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("visitcal-api", "visitcal-worker"):
        with monkeypatch.context() as patch:
            made = settings(read_image(name.removeprefix("visitcal-")).environment | of_pod(name), patch)
        (data,) = [volume for volume in pods()[name]["spec"]["volumes"] if volume["name"] == "data"]
        assert in_bytes(data["emptyDir"]["sizeLimit"]) > made.blob_cache_bytes + made.image_cache_bytes


def test_selectors_select() -> None:
    labels = [pod["metadata"]["labels"] for pod in pods().values()]
    for path, document in documents():
        spec = document.get("spec", {})
        selector = spec.get("podSelector") or spec.get("selector")
        if selector is None:
            continue
        wanted = selector.get("matchLabels", selector)
        assert sum(wanted.items() <= one.items() for one in labels) == 1, f"{path} {document['metadata']['name']}"


def test_every_pod_has_a_network_policy_with_names_and_database() -> None:
    for name, pod in pods().items():
        policy = found("NetworkPolicy", name)["spec"]
        assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        ports = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
        assert {53, 5432, 443} <= ports
        assert bool(policy.get("ingress")) == (name == "visitcal-api")


def test_autoscaling_asks_for_numbers_that_there_are(tmp_path: Path) -> None:
    scaled = found("ScaledObject", "visitcal-worker", "overlays/example")["spec"]
    assert found("Deployment", scaled["scaleTargetRef"]["name"])
    registry = CollectorRegistry()
    JobMetrics(None, Settings(data_dir=tmp_path), registry)  # type: ignore[arg-type]
    known = {metric.name for metric in registry.collect()}
    for trigger in scaled["triggers"]:
        query = trigger["metadata"]["query"]
        assert set(re.findall(r"visitcal_\w+", query)) <= known
        (pattern,) = re.findall(r'phase=~"([^"]*)"', query)
        assert set(pattern.split("|")) == {Phase.QUEUED, Phase.EXECUTING}
    assert scaled["minReplicaCount"] >= 1, "somebody must mend what others broke, and send the webhooks"


def test_the_build_gets_all_that_it_copies_and_no_more() -> None:
    allowed = [line.removeprefix("!") for line in (REPO / ".dockerignore").read_text().splitlines() if line[:1] == "!"]
    copied = [
        source
        for line in DOCKERFILE.read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    assert sorted(allowed) == sorted(copied)
    for source in copied:
        assert (REPO / source).exists()
    assert not any(fnmatch.fnmatch("tests", pattern) for pattern in allowed)


def test_versions_agree() -> None:
    version = re.search(r'^version = "(.*)"', (REPO / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert f"ARG VERSION={version[1]}\n" in DOCKERFILE.read_text()
    tags = [compose()["services"][name]["image"].split(":")[1] for name in OURS]
    tags += [image["newTag"] for image in kustomization("overlays/example")["images"]]
    assert set(tags) == {version[1]}
    images = {image["name"] for image in kustomization("overlays/example")["images"]}
    assert images == {pod["spec"]["containers"][0]["image"] for pod in pods().values()}


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_kernels_are_for_many_processors(architecture: str) -> None:
    assert read_image("worker", architecture).environment["VISITCAL_KERNEL_CPU"] in ("x86-64-v3", "generic")
    build, image = read_image("build", architecture), read_image("worker", architecture)
    assert build.environment["VISITCAL_KERNEL_CPU"] == image.environment["VISITCAL_KERNEL_CPU"]
    directory = image.environment["VISITCAL_KERNEL_IMAGE_DIR"]
    assert any(f"VISITCAL_KERNEL_CACHE_DIR={directory} visitcal warmup" in run for run in build.runs)
