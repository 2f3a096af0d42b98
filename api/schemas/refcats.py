"""Reference catalogues."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field

from api.schemas.common import Document

if TYPE_CHECKING:
    from service.storage.records import RefcatRecord

__all__ = ["RefcatDocument"]


class RefcatDocument(Document):
    """A reference catalogue held by the service."""

    name: str
    sha256: Annotated[str, Field(description="Of its content; the same bytes under the same name change nothing.")]
    rows: int
    bands: Annotated[list[str], Field(description="Bands with magnitudes or fluxes.")]
    created_at: datetime
    info: Annotated[dict[str, Any], Field(description="What the ingest counted: epochs, coverage, size.")]
    links: dict[str, str]

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "name": "gaia",
                    "sha256": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
                    "rows": 48213,
                    "bands": ["g", "r", "i"],
                    "created_at": "2026-11-22T03:14:15.926535Z",
                    "info": {"epoch_min": 2016.0, "epoch_max": 2016.0, "has_proper_motion": True},
                    "links": {"self": "/v1/refcats/gaia"},
                }
            ]
        },
    )

    @classmethod
    def of(cls, record: RefcatRecord) -> RefcatDocument:
        """The document of a stored catalogue."""
        info = {key: value for key, value in record.info.items() if key not in ("name", "sha256", "n_rows")}
        return cls(
            name=record.name,
            sha256=record.sha256,
            rows=record.rows,
            bands=list(record.info.get("bands", [])),
            created_at=record.created_at,
            info=info,
            links={"self": f"/v1/refcats/{record.name}"},
        )
