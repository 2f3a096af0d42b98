"""The report as HTML: whatever comes from a file's header stays text."""

from __future__ import annotations

import base64
import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import BaseLoader, Environment, StrictUndefined
from markupsafe import Markup

from visitcal.display import number, result_numbers

if TYPE_CHECKING:
    from visitcal.report.collect import Report

__all__ = ["render"]

#: Of the headers, what tells people which exposure it is.
CARDS = ("OBJECT", "OBSERVER", "PROPID", "TELESCOP", "DATE-OBS")
VALUES = {
    "instrument": "instrument",
    "detector": "detector",
    "visit": "visit",
    "physical_filter": "filter",
    "exposure_time": "exposure time [s]",
    "ra": "right ascension [deg]",
    "dec": "declination [deg]",
    "mjd": "MJD",
}
VERDICTS = {
    "COMPLETED": "Calibrated",
    "ERROR": "Not calibrated in full",
    "ABORTED": "Stopped before its end",
    "ARCHIVED": "Calibrated; the files of the result are gone",
}


def render(report: Report) -> str:
    """One HTML document that refers to nothing outside itself."""
    environment = Environment(
        loader=BaseLoader(), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(number=number, json=_as_json)
    folder = files("visitcal.report")
    template = environment.from_string((folder / "report.html.j2").read_text(encoding="utf-8"))
    job = report.job
    return template.render(
        report=report,
        job=job,
        error=job["error"],
        style=Markup((folder / "report.css").read_text(encoding="utf-8")),  # noqa: S704 - our own file
        observed=[_observed(file) for file in report.files],
        title=_title(report),
        verdict=VERDICTS.get(job["phase"], "Not ended yet"),
        headline=result_numbers(job["summary"]),
        picture=None if report.picture is None else base64.b64encode(report.picture).decode(),
        figures=[(figure, None if figure.svg is None else Markup(figure.svg)) for figure in report.figures],  # noqa: S704 - cleaned
        seconds=sum(stage["seconds"] or 0.0 for stage in job["stages"]),
    )


def _as_json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _title(report: Report) -> str:
    """What was observed, or the name of the file."""
    for file in report.files:
        cards = (file.get("metadata") or {}).get("cards") or {}
        if cards.get("OBJECT"):
            return str(cards["OBJECT"])
        if file.get("filename"):
            return str(file["filename"])
    return report.job["id"]


def _observed(file: dict[str, Any]) -> list[tuple[str, str]]:
    metadata = file.get("metadata") or {}
    cards, values = metadata.get("cards") or {}, metadata.get("values") or {}
    rows = [("file", file.get("filename"))]
    rows += [(name.lower(), cards.get(name)) for name in CARDS]
    rows += [(words, values.get(name)) for name, words in VALUES.items()]
    return [(words, number(value)) for words, value in rows if value not in (None, "")]
