"""The page of the configuration: every field of every model, with what the presets make of it."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from annotated_types import Ge, Gt, Le, Lt, MaxLen
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from making.markdown import cell, code, table
from service.calibration.config import CalibrateImageConfig
from service.calibration.config.base import ConfigModel
from service.calibration.presets import PRESETS, resolve_config

__all__ = ["configuration_page", "type_of"]

_INTRO = """\
# Configuration

A job takes its configuration from four layers: the defaults, the preset of the instrument, a preset (`"preset":
"parity"`), and what the job says itself (`"config": {"astrometry": {"max_iter": 5}}`, or `--config FILE`). Later
layers win, value by value. Keys that are not known and values out of range are refused at submission, with the place
of the fault. The same as JSON Schema is at `GET /v1/config/schema`; what a job ran with, whole, is at `GET
/v1/jobs/{id}/config`.

Names are those of Rubin's `CalibrateImageConfig` in snake_case. Where the default differs from upstream's way, the
preset `parity` has upstream's, which the last column says. A model that stands at several places of the tree is
described once; a value of some places only is given with them.

"""
_SIGNS = {Ge: "≥", Gt: ">", Le: "≤", Lt: "<"}


@dataclass
class _Place:
    """A model somewhere in the tree, and what the presets have there."""

    path: tuple[str, ...]
    values: dict[str, Any]  # by preset; {} where the preset chose another model, or there is none yet

    @property
    def name(self) -> str:
        return ".".join(self.path)


@dataclass
class _Section:
    model: type[ConfigModel]
    places: list[_Place] = field(default_factory=list)


def configuration_page() -> str:
    """The page as Markdown."""
    sections: dict[type[ConfigModel], _Section] = {}
    resolved = {name: to_jsonable_python(resolve_config(name)) for name in PRESETS}
    _walk(CalibrateImageConfig, _Place((), resolved), sections)
    presets = "## Presets\n\n" + table(
        ["preset", "what it is"], ((code(name), cell(preset.description)) for name, preset in PRESETS.items())
    )
    return _INTRO + presets + "".join(_section(section) for section in sections.values())


def _walk(model: type[ConfigModel], place: _Place, sections: dict[type[ConfigModel], _Section]) -> None:
    """Models in the order of the tree, each with the places at which it stands."""
    sections.setdefault(model, _Section(model)).places.append(place)
    for name, info in model.model_fields.items():
        below = _models(info.annotation)
        for inner in below:
            values = {preset: _chosen(inner, having.get(name)) for preset, having in place.values.items()}
            _walk(inner, _Place((*place.path, name), values), sections)


def _models(annotation: Any) -> list[type[ConfigModel]]:
    if isinstance(annotation, type) and issubclass(annotation, ConfigModel):
        return [annotation]
    return [model for argument in typing.get_args(annotation) for model in _models(argument)]


def _chosen(model: type[ConfigModel], value: Any) -> dict[str, Any]:
    """The values of a model in a preset; none where it has another one there, or a list of them."""
    if not isinstance(value, dict) or not value.keys() <= model.model_fields.keys():
        return {}
    named = model.model_fields.get("name")
    return value if named is None or value.get("name") == named.default else {}


def _section(section: _Section) -> str:
    model = section.model
    title = model.__name__.removesuffix("Config")
    rows = (_row(name, info, section.places) for name, info in model.model_fields.items())
    at = ", ".join(code(place.name) for place in section.places if place.path)
    return "\n".join(
        [
            f"\n## {title}\n",
            cell(inspect.cleandoc(model.__doc__ or "").splitlines()[0]) + (f" At {at}." if at else "") + "\n",
            table(["field", "type", "default", "meaning", "other presets"], rows),
        ]
    )


def _row(name: str, info: FieldInfo, places: list[_Place]) -> list[str]:
    below = _models(info.annotation)
    default = _default(info)
    is_table = bool(below) and isinstance(default, dict) and bool(default)
    links = " or ".join(_link(model) for model in below)
    return [
        code(name),
        links or type_of(info.annotation) + _unit(info) + _range(info),
        "" if is_table else _by_place(name, "generic", places, default),
        cell(info.description or ""),
        "" if is_table else "; ".join(_changes(name, places, default)),
    ]


def _default(info: FieldInfo) -> Any:
    return None if info.is_required() else to_jsonable_python(info.get_default(call_default_factory=True))


def _by_place(name: str, preset: str, places: list[_Place], default: Any) -> str:
    """The one value; or the most common one, and the others with their places."""
    groups: dict[str, list[str]] = {}
    for place in places:
        groups.setdefault(code(place.values[preset].get(name, default)), []).append(code(place.name))
    common, *others = sorted(groups.items(), key=lambda group: -len(group[1]))
    if not others:
        return common[0]
    return "; ".join([f"{common[0]}", *(f"{value} at {', '.join(which)}" for value, which in others)])


def _changes(name: str, places: list[_Place], default: Any) -> Iterator[str]:
    """What the presets have where that is not the default."""
    for preset in PRESETS:
        others = [
            place
            for place in places
            if place.values[preset].get(name, default) != place.values["generic"].get(name, default)
        ]
        if others:
            where = "" if len(others) == len(places) else f" at {', '.join(code(place.name) for place in others)}"
            yield f"{preset}: {_by_place(name, preset, others, default)}{where}"


def _link(model: type[ConfigModel]) -> str:
    title = model.__name__.removesuffix("Config")
    return f"[{title}](#{title.lower()})"


def type_of(annotation: Any) -> str:
    """A type as the reader writes values: ``number``, ``list of text``, ``"a" or "b"``."""
    names = {bool: "yes or no", int: "integer", float: "number", str: "text", type(None): "null", SecretStr: "secret"}
    if annotation in names:
        return names[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return type_of(arguments[0])
    if origin is typing.Literal:
        return " or ".join(code(value) for value in arguments)
    if origin is tuple:
        return f"list of {type_of(arguments[0])}"
    if origin is dict:
        return f"table of {type_of(arguments[1])}"
    return " or ".join(type_of(argument) for argument in arguments)


def _unit(info: FieldInfo) -> str:
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    return f" [{extra['unit']}]" if "unit" in extra else ""


def _range(info: FieldInfo) -> str:
    limits = [
        f", {sign} {getattr(limit, kind.__name__.lower())}"
        for limit in info.metadata
        for kind, sign in _SIGNS.items()
        if isinstance(limit, kind)
    ]
    return "".join(limits) + "".join(f", {m.max_length} at most" for m in info.metadata if isinstance(m, MaxLen))
