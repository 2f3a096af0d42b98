"""Tables of a comparison: all of it for a terminal, the short one between marks in a page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

OURS, CLASSIC = "visitcal", "classic chain"
QUICK, CUBIC = "SCAMP, MATCH_RESOL 1", "SCAMP, DISTORT_DEGREES 3"
VARIANTS: dict[str, dict[str, object]] = {QUICK: {"MATCH_RESOL": 1}, CUBIC: {"DISTORT_DEGREES": 3}}
BEGIN, END = "<!-- from: python -m benchmarks.peers --readme README.md -->", "<!-- to here -->"
SHOWN = "typical 4k"  # the scene whose accuracy the short table has
#: Rows of the short table: what it says, the figures, how they are written.
ROWS = (
    ("stars found at S/N 10–15, 15–30 (%)", ("complete, S/N 10-15 (%)", "complete, S/N 15-30 (%)"), ".0f"),
    ("detections of nothing, of cosmic rays", ("detections of nothing", "detections of cosmic rays"), ".0f"),
    (
        "centroid scatter ÷ bound at S/N 15–30, 100–300",
        ("centroid scatter / bound, S/N 15-30", "centroid scatter / bound, S/N 100-300"),
        ".2f",
    ),
    (
        "flux scatter ÷ bound at S/N 15–30, 100–300",
        ("flux scatter / bound, S/N 15-30", "flux scatter / bound, S/N 100-300"),
        ".2f",
    ),
    (
        "position on the sky: bias, rms per axis (mas)",
        ("sky position bias, S/N > 50 (mas)", "sky position rms per axis, S/N > 50 (mas)"),
        ".1f",
    ),
    ("error of the zero point (mmag)", ("zero point error (mmag)",), ".1f"),
    (
        "error of the PSF's size: median, worst (%)",
        ("PSF size |dT|/T, median (%)", "PSF size |dT|/T, worst (%)"),
        ".2f",
    ),
)


def seconds(result: dict[str, Any], name: str) -> float:
    """CPU seconds from file to catalogue."""
    return float(sum(result[name]["cpu"].values()))


def quick_seconds(result: dict[str, Any]) -> float:
    """Those of the classic chain where SCAMP matches patterns no finer than to an arcsecond."""
    return seconds(result, CLASSIC) - float(result[CLASSIC]["cpu"]["SCAMP"]) + float(result["variants"][QUICK]["cpu"])


def text(name: str, result: dict[str, Any]) -> str:
    """All that was found on one scene."""
    lines = [f"\n{name}: CPU seconds"]
    for program in (OURS, CLASSIC):
        steps = ", ".join(f"{step} {value:.2f}" for step, value in result[program]["cpu"].items())
        lines.append(f"  {program:<14}{seconds(result, program):8.2f}   {steps}")
    lines.append(f"  visitcal as a command, with start-up and all products: {result['command_cpu']:.2f}")
    for variant, numbers in result["variants"].items():
        lines.append(f"  {variant}: {numbers['cpu']:.2f}, WCS at a grid {numbers['wcs']:.2f} mas")
    own = seconds(result, OURS)
    lines.append(f"  ratio {seconds(result, CLASSIC) / own:.2f}, with {QUICK}: {quick_seconds(result) / own:.2f}")
    columns = {program: result[program]["figures"] for program in (OURS, CLASSIC)}
    return "\n".join([*lines, table(name, columns)])


def table(title: str, columns: dict[str, dict[str, float]]) -> str:
    """Figures in rows, programs in columns."""
    lines = [f"\n{title}", f"{'':<50}" + "".join(f"{name:>24}" for name in columns)]
    rows = next(iter(columns.values()))
    lines += [f"{row:<50}" + "".join(f"{figures[row]:>24.4g}" for figures in columns.values()) for row in rows]
    return "\n".join(lines)


def markdown(results: dict[str, dict[str, Any]]) -> str:
    """The short table: CPU seconds of every scene, the rest of one."""
    lines = ["| | visitcal | SExtractor, PSFEx, SExtractor, SCAMP | ratio |", "|---|---|---|---|"]
    for name, result in results.items():
        own, theirs, quick = seconds(result, OURS), seconds(result, CLASSIC), quick_seconds(result)
        lines.append(
            f"| CPU seconds, {name} | {own:.1f} | {theirs:.1f} ({quick:.1f}) | {theirs / own:.1f} ({quick / own:.1f}) |"
        )
    shown = results[SHOWN]
    lines.append(f"| CPU seconds, {SHOWN} as a command, with start and all products | {shown['command_cpu']:.1f} | | |")
    for label, figures, form in ROWS:
        cells = [", ".join(format(shown[name]["figures"][key], form) for key in figures) for name in (OURS, CLASSIC)]
        lines.append(f"| {label} | {cells[0]} | {cells[1]} | |")
    return "\n".join(lines)


def block(page: str) -> str:
    """What stands between the marks of a page."""
    return page.split(BEGIN)[1].split(END)[0].strip()


def form(made: str) -> str:
    """A table without its numbers: what its rows say, and how many numbers stand in each cell."""
    rows = [line.split("|") for line in made.splitlines()]
    return "\n".join("|".join([*row[:2], *(re.sub(r"-?[\d.]+", "0", cell) for cell in row[2:])]) for row in rows)


def rewrite(path: Path, made: str) -> None:
    """Put a table between the marks of a page."""
    page = path.read_text()
    path.write_text(re.sub(f"(?s)(?<={re.escape(BEGIN)}).*?(?={re.escape(END)})", f"\n\n{made}\n\n", page))
