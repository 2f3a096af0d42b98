"""Pieces that several documents share."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Document", "Items", "PageDocument", "ProblemDocument"]

T = TypeVar("T")


class Document(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(frozen=True)


class Items(Document, Generic[T]):
    """A whole list."""

    items: list[T]


class PageDocument(Document, Generic[T]):
    """Some items of a list; the Link header (RFC 8288) leads to the next ones too."""

    items: list[T]
    next: Annotated[str | None, Field(description="Give it as `after` for the next page; null at the end.")]


class ProblemDocument(Document):
    """RFC 9457 problem document."""

    type: Annotated[str, Field(description="Where this kind of problem is described.")]
    title: Annotated[str, Field(description="The same sentence for each problem of this kind.")]
    status: int
    detail: Annotated[str, Field(description="What happened this time.")]
    code: Annotated[str, Field(description="Stable machine code, listed at /v1/schema/errors.")]
    instance: str | None = None
    errors: Annotated[
        list[dict[str, Any]],
        Field(description="What is wrong and where: a JSON `pointer` into the body, or the name of a `parameter`."),
    ] = []
    hint: Annotated[str | None, Field(description="What could be tried.")] = None

    model_config = ConfigDict(
        frozen=True,
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "/v1/schema/errors#job.config_invalid",
                    "title": "The configuration cannot be used.",
                    "status": 422,
                    "detail": "1 thing in the configuration cannot be used.",
                    "code": "job.config_invalid",
                    "instance": "/v1/jobs",
                    "errors": [
                        {
                            "pointer": "/config/photometry/match_radius",
                            "detail": "Extra inputs are not permitted",
                            "code": "extra_forbidden",
                        }
                    ],
                }
            ]
        },
    )
