"""The configuration of a job as a list: every value, its meaning, and where one that is not the default comes from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from service.calibration.config import CalibrateImageConfig
from service.calibration.presets import PRESETS
from service.jobs.configuration import complete_config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from service.storage.records import JobRecord

__all__ = ["Setting", "changed", "matching", "settings"]


@dataclass(frozen=True, slots=True)
class Setting:
    """A value of the configuration.

    Parameters
    ----------
    path : str
        Names of the fields joined by dots.
    value, default : JSON value
        What the job runs with, and would without anybody's choice.
    origin : str or None
        ``"job"``, ``"preset"``, ``"instrument"`` or ``"version"`` (the default was another when it ran) where both
        differ.
    doc, unit : str
        Meaning.
    """

    path: str
    value: Any
    default: Any
    origin: str | None
    doc: str
    unit: str


def settings(config: Mapping[str, Any], job: JobRecord, instrument: Mapping[str, Any]) -> list[Setting]:
    """All values in the order of the configuration; those of another version, unknown here, have no meaning.

    Parameters
    ----------
    config : mapping
        Every value that the job runs with.
    job : JobRecord
        Names the preset and has values of its own.
    instrument : mapping
        What the preset of the instrument puts under both.
    """
    defaults = _flat(complete_config("generic", {}).values)
    layers = {
        "job": _flat(job.spec["config"]),
        "preset": _flat(PRESETS[job.spec["preset"]].overrides if job.spec["preset"] in PRESETS else {}),
        "instrument": _flat(instrument),
    }

    def origin(path: str, value: Any) -> str | None:
        if path in defaults and defaults[path] == value:
            return None
        return next((name for name, values in layers.items() if _is_named(path, values)), "version")

    return [
        Setting(path, value, defaults.get(path), origin(path, value), *_meaning(path))
        for path, value in _flat(config).items()
    ]


def changed(found: list[Setting]) -> list[Setting]:
    """What is not the default: the job's own choices first."""
    order = ("job", "preset", "instrument", "version")
    return sorted((item for item in found if item.origin is not None), key=lambda item: order.index(str(item.origin)))


def matching(found: list[Setting], words: str) -> list[Setting]:
    """Those in whose name, meaning or value all the words are."""
    wanted = words.lower().split()
    return [item for item in found if all(word in f"{item.path} {item.doc} {item.value}".lower() for word in wanted)]


def _is_named(path: str, overrides: Mapping[str, Any]) -> bool:
    return any(path == name or path.startswith(f"{name}.") or name.startswith(f"{path}.") for name in overrides)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


@cache
def _all_meanings() -> dict[str, tuple[str, str]]:
    return dict(_meanings(CalibrateImageConfig, ""))


def _meaning(path: str) -> tuple[str, str]:
    """Description and unit of a field; of an entry of a mapping, those of the mapping."""
    while path and path not in _all_meanings():
        path = path.rpartition(".")[0]
    return _all_meanings().get(path, ("", ""))


def _meanings(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, tuple[str, str]]]:
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra
        unit = str(extra.get("unit", "")) if isinstance(extra, dict) else ""
        yield f"{prefix}{name}", (field.description or "", unit)
        for inner in _models(field.annotation):
            yield from _meanings(inner, f"{prefix}{name}.")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Models of an annotation: itself, or those of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models(argument)
