"""What of a configuration differs from the defaults, by its JSON Schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Change", "changes"]

_ABSENT: Any = object()


@dataclass(frozen=True)
class Change:
    """A field that has another value than its default.

    Parameters
    ----------
    path : str
        Names from the outside in, joined by points.
    value, default : object
        As JSON has them.
    description : str
        Of the field.
    """

    path: str
    value: Any
    default: Any
    description: str


def changes(config: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[Change]:
    """Fields of a complete configuration that differ, in the order of the schema."""
    yield from _changes(config, schema, schema.get("$defs", {}), "", {})


def _changes(
    config: Mapping[str, Any],
    schema: Mapping[str, Any],
    definitions: Mapping[str, Any],
    prefix: str,
    given: Mapping[str, Any],
) -> Iterator[Change]:
    """`given` are defaults that an outer field has for this part: they go before those of the part itself."""
    for name, field in schema.get("properties", {}).items():
        if name not in config:
            continue
        default = given.get(name, field.get("default", _ABSENT))
        inner = definitions.get(str(field.get("$ref", "")).rpartition("/")[2])
        if inner is not None and isinstance(config[name], dict):
            outer = default if isinstance(default, dict) else {}
            yield from _changes(config[name], inner, definitions, f"{prefix}{name}.", outer)
        elif default is not _ABSENT and config[name] != default:
            yield Change(f"{prefix}{name}", config[name], default, field.get("description", ""))
