"""Answers before a file is uploaded: what would be read from it, and what a job could make of it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from service import formats
from service.formats.beginning import Beginning, read_beginning, read_headers_alone
from service.instruments import UnknownInstrumentError
from service.jobs.configuration import complete_config
from service.jobs.errors import InvalidRequestError, TooManyPixelsError
from service.jobs.forecast import family
from service.jobs.inspection import Inspected, inspected, instrument_document
from service.jobs.limits import check_pixels
from service.jobs.prospects import LACKS, References, prospects
from service.jobs.references import remote_services
from service.jobs.request import NO_REFERENCES, USES
from service.storage.records import RefcatRecord, Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from service.instruments import InstrumentStore
    from service.jobs.forecast import Forecaster
    from service.settings import Settings
    from service.storage import Storage

__all__ = ["Inspector", "Question", "report"]

_MORE = "the file goes on behind the bytes that were sent: masks and variances there are not known here"
_NO_IMAGE_YET = "no image is among the bytes that were sent: send more of the file, or its headers alone"


@dataclass(frozen=True, slots=True)
class Question:
    """A file of which only headers are here, and the job that would be submitted.

    Parameters
    ----------
    data : bytes
        The first bytes of the file, or its headers alone.
    headers_only : bool
        Which of the two.
    size : int, optional
        Bytes of the whole file.
    instrument : str, optional
        Preset of the instrument.
    preset : str
        Named set of configuration values.
    metadata : mapping
        Values over those in the file.
    references : mapping
        Name of the catalogue by use.
    """

    data: bytes
    headers_only: bool = False
    size: int | None = None
    instrument: str | None = None
    preset: str = "generic"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)


class Inspector:
    """Looks at headers for clients of the service.

    Parameters
    ----------
    storage : Storage
        Has the reference catalogues.
    settings : Settings
        Limits.
    instruments : InstrumentStore
        The presets.
    forecaster : Forecaster
        Says how long a job would run.
    """

    def __init__(
        self, storage: Storage, settings: Settings, instruments: InstrumentStore, forecaster: Forecaster
    ) -> None:
        self._storage = storage
        self._settings = settings
        self._instruments = instruments
        self._forecaster = forecaster
        self._remote = remote_services(settings)

    def look(self, scope: Scope, question: Question) -> dict[str, Any]:
        """The answer to a question of an owner; see `report`."""
        references = {use: self._references(scope, question.references.get(use)) for use in USES}
        return report(question, self._settings, self._instruments, references, self._forecaster.seconds)

    def _references(self, scope: Scope, name: str | None) -> References | None:
        if name is None or name == NO_REFERENCES:
            return None
        stored, shared = self._storage.refcats, Scope(self._settings.local_owner)
        # In the order in which a job looks.
        record = stored.get(scope, name) or self._remote.get(name) or stored.get(shared, name)
        if record is None:
            return References(name, None)
        if isinstance(record, RefcatRecord):
            return References(name, tuple(record.info["bands"]), record.info)
        return References(name, record.bands)


def report(
    question: Question,
    settings: Settings,
    instruments: InstrumentStore,
    references: Mapping[str, References | None],
    forecast: Callable[[Mapping[str, Any], int | None], float | None],
) -> dict[str, Any]:
    """What would be read, what a job could make of it, what is missing, and what it would take.

    Parameters
    ----------
    question : Question
        The file and the job.
    settings : Settings
        Limits.
    instruments : InstrumentStore
        The presets.
    references : mapping
        Catalogue by use; None where none is named.
    forecast : callable
        Seconds that a job of a specification runs, by its pixels; None while unknown.

    Returns
    -------
    dict
        JSON values, also where the file cannot be used: ``problem`` says why then.

    Raises
    ------
    InvalidRequestError, InvalidConfigurationError
        There is no such preset, or no such preset of an instrument.
    """
    limits = formats.ReadLimits(max_pixels=settings.max_pixels)
    read = read_headers_alone if question.headers_only else read_beginning
    try:
        beginning = read(question.data, limits, question.size)
        found = inspected(
            beginning.hdus, instruments, limits, instrument=question.instrument, metadata=question.metadata
        )
    except UnknownInstrumentError as error:
        raise InvalidRequestError("instrument", str(error)) from error
    except formats.FormatError as error:
        beginning = Beginning((), is_complete=False)
        found = Inspected(formats.Inspection(problem=error), instruments.choose({}), {})
    inspection = found.inspection
    config = complete_config(question.preset, {}, found.choice.preset.configuration).values
    pixels = None if inspection.shape is None else math.prod(inspection.shape)
    problem = _refusal(inspection, settings, pixels, is_complete=beginning.is_complete)
    spec = {"family": family(question.preset, config), "references": references}
    can = prospects(
        inspection, None if problem is None else problem["message"], references, config["photometry"]["ref_loader"]
    )
    return {
        **_headers(found, is_complete=beginning.is_complete),
        "can": {what: asdict(prospect) for what, prospect in can.items()},
        "warnings": [*inspection.warnings, *([] if beginning.is_complete or problem else [_MORE])],
        "expected": {
            "seconds": None if problem else forecast(spec, pixels),
            "memory_bytes": None if pixels is None else int(pixels * settings.memory_bytes_per_pixel) or None,
            "memory_limit_bytes": settings.memory_limit_bytes,
        },
        "problem": problem,
    }


def _headers(found: Inspected, *, is_complete: bool) -> dict[str, Any]:
    inspection = found.inspection
    return {
        "format": inspection.format or None,
        "instrument": instrument_document(found.choice),
        "shape": inspection.shape,
        "hdus": inspection.hdus,
        "complete": is_complete,
        "metadata": {
            name: {"value": value, "unit": formats.VALUE_UNITS.get(name), "origin": inspection.origins.get(name)}
            for name, value in inspection.values.items()
        },
        "missing": [
            {"name": name, "consequence": LACKS[name][0], "remedy": LACKS[name][1]} for name in inspection.missing
        ],
    }


def _refusal(
    inspection: formats.Inspection, settings: Settings, pixels: int | None, *, is_complete: bool
) -> dict[str, Any] | None:
    """Why a job would be refused, in the words of the refusal."""
    problem = inspection.problem
    if problem is not None:
        if problem.code == "format.no_image" and not is_complete:
            return {"code": "format.incomplete", "message": _NO_IMAGE_YET}
        return {"code": problem.code, "message": problem.message}
    try:
        check_pixels(settings, pixels, images=1)
    except TooManyPixelsError as error:
        return {"code": "request.too_many_pixels", "message": f"{error}."}
    return None
