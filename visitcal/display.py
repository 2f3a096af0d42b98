"""Progress and results on a terminal."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from visitcal.output import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from visitcal.documents import JobDocument
    from visitcal.event_stream import JobEvent

__all__ = [
    "PHASE_STYLES",
    "StageBar",
    "duration",
    "event_line",
    "failure_lines",
    "file_size",
    "number",
    "result_numbers",
    "statistics_table",
    "upload_bar",
]

SHOWN_NUMBERS = 3
GAP = 2
SHORTEST_MEANING = 12
FWHM_PER_SIGMA = math.sqrt(8 * math.log(2))
MINUTE, HOUR, DAY = 60, 3600, 86400
PHASE_STYLES = {"COMPLETED": "green", "EXECUTING": "cyan", "ERROR": "bold red", "ABORTED": "yellow", "HELD": "yellow"}


class StageBar:
    """A bar for the whole run, and a line for each stage that has ended.

    Parameters
    ----------
    console : Console
        Where to draw; on anything but a terminal only the lines are written.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<24}"),
            BarColumn(bar_width=40),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("waiting", total=1.0)
        self._shown = 0
        self._stage = ""
        self._since = 0.0

    def __enter__(self) -> StageBar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show_job(self, document: JobDocument) -> None:
        """Draw a job as the service tells it."""
        stages = document.get("stages", [])
        for stage in stages[self._shown :]:
            self.stage_ended(stage["name"], stage["seconds"], stage["numbers"])
        self._shown = max(self._shown, len(stages))
        if document["phase"] == "QUEUED":
            position = document["queue"]["position"]
            description = "queued" if position is None else f"queued, {position} before"
        else:
            description = document["stage"] or document["phase"].lower()
        self.move(description, document["progress"])

    def show_stage(self, stage: str, fraction: float, numbers: Mapping[str, Any]) -> None:
        """Draw a run in this process: called when a stage begins, and again when it has ended."""
        self.move(stage, fraction)
        if stage != self._stage:
            self._stage, self._since = stage, time.monotonic()
        else:
            self.stage_ended(stage, time.monotonic() - self._since, numbers)

    def move(self, description: str, fraction: float) -> None:
        """Draw where the run is."""
        self._progress.update(self._task, description=description, completed=fraction)

    def stage_ended(self, name: str, seconds: float | None, numbers: Mapping[str, Any]) -> None:
        """Write the line of a finished stage."""
        shown = [f"{key}={number(value)}" for key, value in numbers.items() if _is_plain(value)][:SHOWN_NUMBERS]
        time = "" if seconds is None else f"{seconds:7.2f} s"
        self._console.print(
            f"  [green]✓[/] {name:<24}{time}  [dim]{escape(' '.join(shown))}[/]",
            highlight=False,
            no_wrap=True,
            overflow="ellipsis",
        )


def upload_bar(console: Console) -> Progress:
    """A bar that counts bytes."""
    return Progress(
        TextColumn("{task.description:<26}"),
        BarColumn(bar_width=40),
        TextColumn("{task.percentage:>3.0f} %"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def duration(seconds: float) -> str:
    """A length of time in its largest fitting unit."""
    for unit, size in (("d", DAY), ("h", HOUR), ("min", MINUTE)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def file_size(size: int) -> str:
    """Bytes in decimal multiples."""
    return decimal(size)


def result_numbers(summary: Mapping[str, Any] | None) -> list[str]:
    """Seeing, zero point and stars of a run, each with its name; what was not computed is left out."""
    found = summary or {}
    sigma, scale, zero_point, stars = (found.get(name) for name in ("psfSigma", "pixelScale", "zeroPoint", "nPsfStar"))
    words = []
    if sigma is not None:
        fwhm = FWHM_PER_SIGMA * sigma
        words.append(f'seeing {fwhm * scale:.2f}"' if scale else f"FWHM {fwhm:.2f} px")
    if zero_point is not None:
        words.append(f"zero point {zero_point:.3f}")
    return [*words, f"{stars} PSF stars"] if stars else words


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def number(value: Any) -> str:
    """A value for people: five figures, enough of a coordinate, a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    if value != 0 and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.4e}"
    return f"{value:.7g}" if abs(value) >= 100 else f"{value:.5g}"


def statistics_table(
    summary: Mapping[str, Any],
    schema: Iterable[Mapping[str, Any]],
    truth: Mapping[str, Any] | None = None,
    *,
    width: int = 100,
) -> Table:
    """Statistics with unit and meaning, one a line; what was not computed is left out, lists are.

    Parameters
    ----------
    summary : mapping
        Value by name.
    schema : iterable of mapping
        ``name``, ``unit`` and ``description`` of each statistic, in order.
    truth : mapping, optional
        True values of some, for a simulation.
    width : int
        Columns of the terminal; what is left of them goes to the meanings.
    """
    titles = ["statistic", "value", *(["truth"] if truth else []), "unit", "meaning"]
    rows = []
    for field in schema:
        value = summary.get(field["name"])
        if value is None or isinstance(value, list):
            continue
        known = [number(truth[field["name"]]) if field["name"] in truth else ""] if truth else []
        rows.append([field["name"], number(value), *known, field["unit"], field["description"]])
    fixed = [max([len(row[column]) for row in rows] + [len(titles[column])]) for column in range(len(titles) - 1)]
    # Left to itself, rich would take the room for a long text from the numbers.
    left = width - sum(fixed) - GAP * len(fixed)
    table = Table(title="Summary statistics", title_justify="left", header_style="bold", box=None, pad_edge=False)
    table.padding = (0, GAP, 0, 0)
    for title, size in zip(titles, fixed, strict=False):
        justify: Literal["left", "right"] = "right" if title in ("value", "truth") else "left"
        table.add_column(title, justify=justify, no_wrap=True, width=size)
    if left >= SHORTEST_MEANING:
        table.add_column("meaning", style="dim", no_wrap=True, overflow="ellipsis", width=left)
    for row in rows:
        table.add_row(*row[: len(table.columns)])
    return table


def failure_lines(error: Mapping[str, Any]) -> list[str]:
    """What failed, the numbers that decided it, and what could be tried; as markup."""
    lines = [f"[bold red]{error['type']}[/] [dim]({error['code']})[/]: {escape(error['message'])}"]
    lines += [f"  {key} = {escape(number(value))}" for key, value in (error.get("numbers") or {}).items()]
    if error.get("hint"):
        lines.append(f"  [yellow]{escape(error['hint'])}[/]")
    if error.get("suggested_config"):
        lines.append(f"  could help: --config '{escape(json.dumps(error['suggested_config']))}'")
    return lines


def event_line(event: JobEvent) -> str:
    """An event as a line of plain text."""
    data = event.data
    match event.kind:
        case "phase":
            words = [data["phase"], *(f"{name} {data[name]}" for name in ("attempt", "reason") if data.get(name))]
        case "stage":
            words = [data["name"], f"{data['seconds']:.2f} s"]
            words += [
                f"{key}={number(value)}" for key, value in (data.get("numbers") or {}).items() if _is_plain(value)
            ]
        case "progress":
            words = [f"{100 * data['progress']:.0f} %", data.get("stage") or ""]
        case "product":
            words = [data["product"], data["format"], f"{data['size']} bytes"]
        case _:
            words = [str(data.get(name, "")) for name in ("level", "logger", "message")]
    text = printable("  ".join(words)).replace("\n", "\N{REPLACEMENT CHARACTER}")
    return f"{event.at[11:19]}  {event.kind:<8}  {text}".rstrip()
