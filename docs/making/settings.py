"""The page of the tables that the file of settings may have."""

from __future__ import annotations

import inspect
import typing

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from making.configuration import type_of
from making.markdown import cell, code, table
from service.settings import Settings

__all__ = ["tables_page"]

_INTRO = """\
# Tables of settings

Settings are environment variables ([all of them](../operations.md#settings)) or keys of the TOML file that
`VISITCAL_CONFIG_FILE` names. Those that are tables are easier written in the file: `[remote_refcats.NAME]` and below
it keys and values.
"""


def tables_page() -> str:
    """Keys of every setting that is a table of models."""
    found = ((name, _model(info.annotation)) for name, info in Settings.model_fields.items())
    return _INTRO + "".join(_section(name, model) for name, model in found if model is not None)


def _model(annotation: object) -> type[BaseModel] | None:
    arguments = typing.get_args(annotation)
    inner = arguments[-1] if arguments else None
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None


def _section(name: str, model: type[BaseModel]) -> str:
    rows = (
        (
            code(key),
            type_of(info.annotation),
            "needed" if info.is_required() else code(to_jsonable_python(info.default)),
            cell(info.description or ""),
        )
        for key, info in model.model_fields.items()
    )
    return f"\n## {name}\n\n{inspect.getdoc(model)}\n\n" + table(["key", "type", "default", "meaning"], rows)
