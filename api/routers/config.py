"""The service describing itself: configuration, presets, columns, statistics, errors."""

from __future__ import annotations

import inspect
from functools import cache
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from api.dependencies import Product, product_problem
from api.problem_types import PROBLEM_TYPES
from api.responses import problems
from api.schemas.common import Items
from api.schemas.descriptions import (
    ErrorDescription,
    ErrorsDocument,
    PresetDocument,
    SchemaColumnDocument,
    StatisticDocument,
)
from service.calibration.config import CalibrateImageConfig
from service.calibration.errors import algorithm_errors
from service.calibration.presets import PRESETS
from service.exposure.star_schema import psf_star_schema, star_schema
from service.exposure.summary import summary_fields
from service.jobs.errors import JOB_FAILURES
from service.jobs.sources import SOURCE_FAILURES

if TYPE_CHECKING:
    from service.exposure.catalog import Schema

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["description"])

_SCHEMAS = {"single_visit_star_unstandardized": star_schema, "single_visit_psf_star": psf_star_schema}


@cache
def _config_schema() -> dict[str, Any]:
    return CalibrateImageConfig.model_json_schema()


@router.get("/config/schema")
def get_config_schema() -> dict[str, Any]:
    """JSON Schema of the configuration: each field with its default, unit, range and description."""
    return _config_schema()


@router.get("/presets")
def list_presets() -> Items[PresetDocument]:
    """Named sets of configuration overrides."""
    return Items(
        items=[
            PresetDocument(name=name, description=preset.description, config=preset.overrides)
            for name, preset in PRESETS.items()
        ]
    )


@router.get("/schema/catalogs/{product}", responses=problems(404))
def get_catalog_schema(product: Product) -> Items[SchemaColumnDocument]:
    """Columns of a catalogue with unit and meaning, in the order of the table."""
    if product not in _SCHEMAS:
        raise product_problem("product.unknown", product, "{} has no declared columns.")
    schema = _SCHEMAS[product]()
    return Items(items=[_column(schema, name) for name in schema.names])


def _column(schema: Schema, name: str) -> SchemaColumnDocument:
    column = schema[name]
    aliases = [
        alias + name[len(target) :]
        for alias, target in schema.aliases.items()
        if name == target or name.startswith(target + "_")
    ]
    return SchemaColumnDocument(
        name=name, dtype=column.dtype, unit=column.unit, description=column.doc, aliases=aliases
    )


@router.get("/schema/summary")
def get_summary_schema() -> Items[StatisticDocument]:
    """Summary statistics with unit and meaning."""
    return Items(
        items=[
            StatisticDocument(
                name=field.name, dtype=field.dtype, length=field.length, unit=field.unit, description=field.doc
            )
            for field in summary_fields()
        ]
    )


@router.get("/schema/errors")
def get_errors() -> ErrorsDocument:
    """Every error code: of answers (problem documents), of jobs that end in ERROR, of files that are fetched."""
    return ErrorsDocument(
        problems=[
            ErrorDescription(code=kind.code, title=kind.title, status=kind.status) for kind in PROBLEM_TYPES.values()
        ],
        job_errors=[
            ErrorDescription(
                code=error.code,
                title=(inspect.getdoc(error) or "").splitlines()[0],
                type=error.__name__,
                hint=error.hint or None,
                suggested_config=error.suggested_config or None,
            )
            for error in algorithm_errors()
        ]
        + [ErrorDescription(code=code, title=title) for code, title in JOB_FAILURES.items()],
        source_errors=[ErrorDescription(code=code, title=title) for code, title in SOURCE_FAILURES.items()],
    )
