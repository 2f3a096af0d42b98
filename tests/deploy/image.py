"""What a target of the Dockerfile is, without an engine that builds it."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from dockerfile_parse import DockerfileParser

REPO = Path(__file__).parents[2]
DOCKERFILE = REPO / "docker" / "Dockerfile"


@dataclass
class Image:
    """A target, with what it has from those that it stands on."""

    environment: dict[str, str] = field(default_factory=dict)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    ports: list[str] = field(default_factory=list)
    user: str = ""
    stop_signal: str = ""
    runs: list[str] = field(default_factory=list)


def read_image(target: str, architecture: str = "amd64") -> Image:
    """Follow the stages from the base to the target."""
    stages = _stages(architecture)
    image = Image()
    chain: list[str] = []
    while target in stages:
        chain.insert(0, target)
        target = stages[target][0]
    assert chain, f"there is no stage {target}"
    for stage in chain:
        for instruction, value in stages[stage][1]:
            _apply(image, instruction, value)
    return image


def _stages(architecture: str) -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """By name: what each stage stands on, and its instructions."""
    with DOCKERFILE.open("rb") as file:
        structure = DockerfileParser(fileobj=file).structure
    stages: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    instructions: list[tuple[str, str]] = []
    for line in structure:
        if line["instruction"] == "FROM":
            base, _, name = line["value"].replace("${TARGETARCH}", architecture).split()
            instructions = []
            stages[name] = (base, instructions)
        else:
            instructions.append((line["instruction"], line["value"]))
    return stages


def _apply(image: Image, instruction: str, value: str) -> None:
    match instruction:
        case "ENV":
            image.environment |= dict(item.split("=", 1) for item in shlex.split(value))
        case "ENTRYPOINT":
            image.entrypoint = json.loads(value)
        case "CMD":
            image.command = json.loads(value)
        case "HEALTHCHECK":
            image.healthcheck = json.loads(value.partition("CMD ")[2])
        case "EXPOSE":
            image.ports += value.split()
        case "USER":
            image.user = value
        case "STOPSIGNAL":
            image.stop_signal = value
        case "RUN":
            image.runs.append(value)
