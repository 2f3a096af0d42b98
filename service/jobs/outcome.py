"""What an attempt ends with, as it travels from the child process to the worker."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from service.storage.records import StageRecord

__all__ = ["JobError", "JobOutcome", "ProductFile"]


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job ended in ERROR.

    Parameters
    ----------
    code : str
        Stable machine code, ``<area>.<what>``.
    type : str
        Class name of the failure.
    message : str
        A sentence for a person.
    stage : str or None
        Where in the sequence.
    numbers : dict
        What decided it.
    hint : str
        What may help.
    suggested_config : dict
        Configuration overrides that may help.
    """

    code: str
    type: str
    message: str
    stage: str | None = None
    numbers: dict[str, Any] = field(default_factory=dict)
    hint: str = ""
    suggested_config: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The error document of the API."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ProductFile:
    """A file that an attempt wrote.

    Parameters
    ----------
    product, format, media_type : str
        What it is.
    path : str
        Where it lies; its last part is the name under which it is served.
    rows : int or None
        Rows, where it is a table.
    sha256 : str or None
        Digest of the file, hex, where it is known.
    """

    product: str
    format: str
    media_type: str
    path: str
    rows: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """A finished attempt: complete, or with an error and whatever was computed before it.

    Parameters
    ----------
    error : JobError or None
        None for a complete run.
    warnings : tuple of str
        Sentences for a person.
    stages : tuple of StageRecord
        Seconds and numbers of each stage.
    summary : dict or None
        Summary statistics by name, None for not computed.
    identity : dict
        ``instrument``, ``band``, ``physical_filter``, ``visit``, ``detector``, ``observed_at`` (ISO),
        ``bbox_{min,max}_{x,y}``, ``dark_time``, ``sky_rotation`` where known.
    metadata, provenance : dict
        Task metadata; where everything came from.
    products : tuple of ProductFile
        Files, still in the attempt's directory.
    """

    error: JobError | None = None
    warnings: tuple[str, ...] = ()
    stages: tuple[StageRecord, ...] = ()
    summary: dict[str, Any] | None = None
    identity: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    products: tuple[ProductFile, ...] = ()

    @property
    def phase(self) -> str:
        """``"COMPLETED"`` or ``"ERROR"``."""
        return "COMPLETED" if self.error is None else "ERROR"

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> JobOutcome:
        """The reverse of `to_json`."""
        error = value.get("error")
        return cls(
            error=None if error is None else JobError(**error),
            warnings=tuple(value.get("warnings", ())),
            stages=tuple(StageRecord(**stage) for stage in value.get("stages", ())),
            summary=value.get("summary"),
            identity=value.get("identity", {}),
            metadata=value.get("metadata", {}),
            provenance=value.get("provenance", {}),
            products=tuple(ProductFile(**product) for product in value.get("products", ())),
        )
