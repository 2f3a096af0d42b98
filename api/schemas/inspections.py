"""What would be read from a file."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from api.schemas.common import Document

__all__ = ["InspectionDocument", "InstrumentChoiceDocument"]


class InstrumentChoiceDocument(Document):
    """The preset of the instrument."""

    name: str
    sha256: Annotated[str, Field(description="Digest of what results depend on.")]
    chosen_by: Annotated[str, Field(description="`header INSTRUME`, `job parameter`, or that no other fits.")]


class HduDocument(Document):
    """A part of the file."""

    index: int
    name: str
    kind: str
    shape: list[int]
    compressed: bool


class ValueDocument(Document):
    """A value and where it comes from."""

    value: Any
    unit: Annotated[str | None, Field(description="Null where it has none.")]
    origin: str | None


class ProspectDocument(Document):
    """Whether something can be computed, as far as headers tell."""

    possible: bool
    reason: Annotated[str | None, Field(description="Why not.")]
    remedy: Annotated[str | None, Field(description="What would help.")]


class ProspectsDocument(Document):
    """What a job could make."""

    image: Annotated[ProspectDocument, Field(description="The calibrated image, PSF, star catalogue in counts.")]
    astrometry: ProspectDocument
    photometry: ProspectDocument


class LackDocument(Document):
    """A value that is not known."""

    name: str
    consequence: str
    remedy: str


class ExpectedDocument(Document):
    """What a job would take; null while unknown."""

    seconds: float | None
    memory_bytes: int | None
    memory_limit_bytes: int


class FileProblemDocument(Document):
    """Why no job could use the file: code and words with which it would be refused."""

    code: str
    message: str


class InspectionDocument(Document):
    """What would be read from a file, and what a job could make of it."""

    format: Annotated[str | None, Field(description="Family of the layout, or `bayer`; null where none fits.")]
    instrument: InstrumentChoiceDocument
    shape: Annotated[tuple[int, int] | None, Field(description="Height and width of the image.")]
    hdus: list[HduDocument]
    complete: Annotated[bool, Field(description="Whether all headers of the file were seen, as far as can be told.")]
    metadata: Annotated[dict[str, ValueDocument], Field(description="Values that a job would use.")]
    can: ProspectsDocument
    missing: list[LackDocument]
    warnings: list[str]
    expected: ExpectedDocument
    problem: FileProblemDocument | None
