"""Forced photometry."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from api.schemas.catalogs import ColumnDocument
from api.schemas.common import Document

__all__ = ["MAX_POSITIONS", "ForcedPhotometryDocument", "PositionList"]

#: Positions of one request.
MAX_POSITIONS = 10_000
Pixel = Annotated[float, Field(ge=-1e6, le=1e6)]


def _label(given: object) -> object:
    """An id as text; said in one sentence, where a union has one for each of its types."""
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given)
    if not isinstance(given, str):
        raise PydanticCustomError("id_type", "must be a text or a whole number")
    return given


Label = Annotated[
    str,
    BeforeValidator(_label, json_schema_input_type=str | int),
    Field(description="Comes back with the fluxes."),
]


class PixelPosition(BaseModel):
    """A position in the parent frame, px."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    x: Pixel
    y: Pixel
    id: Label = ""


class SkyPosition(BaseModel):
    """A position on the sky, ICRS, deg."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    ra: Annotated[float, Field(ge=0, le=360)]
    dec: Annotated[float, Field(ge=-90, le=90)]
    id: Label = ""


_KINDS = {"pixels": {"x", "y"}, "sky": {"ra", "dec"}}


def _kind(positions: object) -> str | None:
    """Which kind of positions a list has, so that its faults are those of this kind; None where they are mixed."""
    listed = positions if isinstance(positions, list) else []
    named = {name for position in listed if isinstance(position, dict) for name in position}
    kinds = [kind for kind, names in _KINDS.items() if names & named]
    return None if len(kinds) > 1 else (kinds or ["pixels"])[0]


_Number = Field(min_length=1, max_length=MAX_POSITIONS)


class PositionList(BaseModel):
    """Where to measure."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"positions": [{"ra": 150.01, "dec": 2.21, "id": "SN"}]}]}
    )

    positions: Annotated[
        Annotated[list[PixelPosition], _Number, Tag("pixels")] | Annotated[list[SkyPosition], _Number, Tag("sky")],
        Discriminator(
            _kind,
            custom_error_type="mixed_positions",
            custom_error_message="must all be in pixels (x, y), or all on the sky (ra, dec)",
        ),
        Field(description="All in pixels, or all on the sky."),
    ]


class ForcedPhotometryDocument(Document):
    """Fluxes in the order of the positions."""

    items: Annotated[list[dict[str, Any]], Field(description="null where nothing could be measured.")]
    columns: list[ColumnDocument]
