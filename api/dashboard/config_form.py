"""The configuration as a form: fields from its JSON schema with the values of a run, and back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["ConfigField", "ConfigGroup", "Unreadable", "changes", "config_tree", "counting", "fields_of"]

_SCALARS = {"boolean": "bool", "integer": "integer", "number": "number", "string": "text"}
_RANGE = (("minimum", "≥ {}"), ("exclusiveMinimum", "> {}"), ("maximum", "≤ {}"), ("exclusiveMaximum", "< {}"))


@dataclass(frozen=True, slots=True)
class ConfigField:
    """A value of the configuration in the form.

    Parameters
    ----------
    path : str
        Names joined by dots.
    kind : str
        ``bool``, ``integer``, ``number``, ``text``, ``choice`` or ``json``.
    doc, unit, limits : str
        Meaning, unit and range, for people.
    value, default : JSON value
        That of the run, and the one that nobody chose.
    choices : list
        Of a ``choice``.
    is_nullable : bool
        Whether it may be left empty.
    key : str
        Name in the form: the path, but for fields of a model that is not chosen, which may share it.
    condition : tuple of str
        Key of the choice and what has to be chosen there for this field to count; empty where it always does.
    """

    path: str
    kind: str
    doc: str
    unit: str
    limits: str
    value: Any
    default: Any
    choices: list[Any] = field(default_factory=list)
    is_nullable: bool = False
    key: str = ""
    condition: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def is_default(self) -> bool:
        """Whether the run had the default."""
        return bool(self.value == self.default)

    def text(self, value: Any) -> str:
        """A value as the form has it."""
        if value is None and self.is_nullable:
            return ""
        return value if self.kind in ("text", "choice") and isinstance(value, str) else json.dumps(value)

    def parsed(self, text: str) -> Any:
        """The value of a text of the form.

        Raises
        ------
        ValueError
            It is none.
        """
        text = text.strip()
        if not text and self.is_nullable:
            return None
        if self.kind == "text":
            return text
        if self.kind == "choice":
            return next((one for one in self.choices if self.text(one) == text), text)
        value = json.loads(text)
        if self.kind in ("integer", "number") and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(text)
        return value


@dataclass(slots=True)
class ConfigGroup:
    """Fields of one model, and the models in it.

    Parameters
    ----------
    path, doc : str
        Names joined by dots; meaning.
    fields, groups : list
        In the order of the schema.
    variant : str
        Where this is one of several models: which. ``is_chosen`` says whether the run had it.
    """

    path: str
    doc: str = ""
    fields: list[ConfigField] = field(default_factory=list)
    groups: list[ConfigGroup] = field(default_factory=list)
    variant: str = ""
    is_chosen: bool = True


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A text of the form that is no value: the path of its field, and why."""

    path: str
    detail: str


def config_tree(schema: Mapping[str, Any], values: Mapping[str, Any], defaults: Mapping[str, Any]) -> ConfigGroup:
    """The form of a configuration.

    Parameters
    ----------
    schema : mapping
        JSON schema as pydantic writes it.
    values, defaults : mapping
        The complete configuration of the run, and that of a run of which nobody chose anything.
    """
    return _Builder(schema.get("$defs", {})).group(_Place("", "", ()), schema, values, defaults)


def fields_of(group: ConfigGroup) -> Iterator[ConfigField]:
    """All fields of a form."""
    yield from group.fields
    for inner in group.groups:
        yield from fields_of(inner)


def changes(tree: ConfigGroup, given: Mapping[str, str]) -> tuple[dict[str, Any], list[Unreadable]]:
    """Overrides that a filled form asks for: values that are not those of the run, nested.

    Parameters
    ----------
    tree : ConfigGroup
        The form.
    given : mapping
        Texts by key; a field that is not there is unchanged.

    Returns
    -------
    dict, list of Unreadable
        What to override, and texts that cannot be read.
    """
    overrides: dict[str, Any] = {}
    faults: list[Unreadable] = []
    for one in counting(tree, given):
        if one.key not in given:
            continue
        try:
            value = one.parsed(given[one.key])
        except (ValueError, RecursionError):  # the latter of brackets without end
            what = {"json": "JSON", "integer": "a whole number", "number": "a number"}.get(one.kind, "a value")
            faults.append(Unreadable(one.path, f"is not {what}"))
            continue
        if value != one.value or isinstance(value, bool) != isinstance(one.value, bool):
            _put(overrides, one.path, value)
    return overrides, faults


def counting(tree: ConfigGroup, given: Mapping[str, str]) -> Iterator[ConfigField]:
    """Fields that count in a filled form: of models among which one is chosen those of that one."""
    chosen = {one.key: one.value for one in fields_of(tree)} | dict(given)
    for one in fields_of(tree):
        if not one.condition or chosen[one.condition[0]] == one.condition[1]:
            yield one


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[name] = value


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the form: path and key, and the choice on which that depends."""

    path: str
    key: str
    condition: tuple[str, ...]

    def inner(self, name: str) -> _Place:
        path, key = (f"{outer}.{name}" if outer else name for outer in (self.path, self.key))
        return _Place(path, key, self.condition)


@dataclass(frozen=True, slots=True)
class _Builder:
    """Makes groups and fields of models by name."""

    models: Mapping[str, Any]

    def group(
        self, place: _Place, schema: Mapping[str, Any], values: Mapping[str, Any], defaults: Mapping[str, Any]
    ) -> ConfigGroup:
        group = ConfigGroup(place.path, schema.get("description", ""))
        for name, described in schema.get("properties", {}).items():
            inner, value, default = place.inner(name), values.get(name), defaults.get(name, described.get("default"))
            if "$ref" in described:
                one = self.group(inner, self._model(described), _mapping(value), _mapping(default))
                one.doc = described.get("description", one.doc)
                group.groups.append(one)
            elif "oneOf" in described:
                group.groups.append(self._union(inner, described, _mapping(value), _mapping(default)))
            else:
                group.fields.append(_field(inner, described, values.get(name, default), default))
        return group

    def _union(
        self, place: _Place, schema: Mapping[str, Any], values: Mapping[str, Any], defaults: Mapping[str, Any]
    ) -> ConfigGroup:
        """Several models of which one is chosen by its ``name``: that choice, and the fields of each."""
        group = ConfigGroup(place.path, schema.get("description", ""))
        options = {model["properties"]["name"]["const"]: model for model in map(self._model, schema["oneOf"])}
        chosen, default = values.get("name"), defaults.get("name")
        choice = _field(place.inner("name"), {"enum": list(options), "description": "which of them"}, chosen, default)
        group.fields.append(choice)
        for name, model in options.items():
            own = {key: value for key, value in model["properties"].items() if key != "name"}
            is_chosen = name == chosen
            where = _Place(place.path, place.key if is_chosen else f"{place.key}-{name}", (choice.key, name))
            part = self.group(
                where,
                {**model, "properties": own},
                values if is_chosen else {},
                defaults if name == default else {},
            )
            part.variant, part.is_chosen = name, is_chosen
            group.groups.append(part)
        return group

    def _model(self, reference: Mapping[str, Any]) -> Mapping[str, Any]:
        model: Mapping[str, Any] = self.models[reference["$ref"].rpartition("/")[2]]
        return model


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _field(place: _Place, schema: Mapping[str, Any], value: Any, default: Any) -> ConfigField:
    options = schema.get("anyOf", [schema])
    typed = [option for option in options if option.get("type") != "null"]
    main = typed[0] if len(typed) == 1 else {}
    choices = main.get("enum") or ([main["const"]] if "const" in main else [])
    return ConfigField(
        place.path,
        "choice" if choices else _SCALARS.get(main.get("type", ""), "json"),
        schema.get("description", ""),
        str(schema.get("unit", "")),
        " and ".join(words.format(f"{main[key]:g}") for key, words in _RANGE if key in main),
        value,
        default,
        choices=choices,
        is_nullable=len(typed) < len(options),
        key=place.key,
        condition=place.condition,
    )
