"""Commands that need no service: calibrate, simulate."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from visitcal.commands.job_parameters import config_of
from visitcal.display import StageBar, failure_lines, statistics_table
from visitcal.exit_codes import EXIT_FAILED, EXIT_OK
from visitcal.options import OptionError, companion_files, key_values, reference_names

if TYPE_CHECKING:
    import argparse

    from service.jobs.outcome import JobOutcome
    from service.jobs.references import JobReference
    from visitcal.output import Output

__all__ = ["run"]

MAX_SNAPS = 2


def run(options: argparse.Namespace, output: Output) -> int:
    """Run one of the commands."""
    return (_calibrate if options.command == "calibrate" else _simulate)(options, output)


def _simulate(options: argparse.Namespace, output: Output) -> int:
    from pydantic import ValidationError

    from service.simulation import SimulationConfig, simulate, write_simulation

    values = {"size": options.size, "seed": options.seed, "n_stars": options.stars, "n_snaps": options.snaps}
    try:
        config = SimulationConfig(**{**values, **key_values(options.set)})
    except ValidationError as error:
        raise OptionError(str(error)) from error
    written = write_simulation(simulate(config), options.out)
    for path in written.values():
        output.say(str(path))
    if output.is_json:
        output.document({name: str(path) for name, path in written.items()})
    return EXIT_OK


def _calibrate(options: argparse.Namespace, output: Output) -> int:
    _prepare_kernels()
    if len(options.files) > MAX_SNAPS:
        raise OptionError("one exposure, or the two snaps of one")
    with StageBar(output.console) as bar:
        outcome = _outcome(options, bar)
    if output.is_json:
        output.document(_document(outcome, options.out))
    else:
        _print(outcome, output)
        output.say(f"{outcome.phase}: {options.out}")
    return EXIT_OK if outcome.phase == "COMPLETED" else EXIT_FAILED


def _prepare_kernels() -> None:
    """Before anything imports numba."""
    from service.jobs.kernel_cache import kernel_cache_dir
    from visitcal.demo import kernel_cache

    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the matrices are small: more threads only spin
    os.environ["NUMBA_CACHE_DIR"] = str(kernel_cache_dir(Path(os.environ.get("NUMBA_CACHE_DIR") or kernel_cache())))


def _outcome(options: argparse.Namespace, bar: StageBar) -> JobOutcome:
    from service import threads
    from service.calibration.input_errors import CalibrationInputError
    from service.formats import FormatError
    from service.instruments import InstrumentError, UnknownInstrumentError
    from service.jobs.errors import JobRequestError
    from service.jobs.pipeline import calibrate_files
    from service.refcats import RefcatError
    from visitcal.commands.presets import local_instruments

    instrument_errors = (InstrumentError, UnknownInstrumentError)
    if options.parity and options.preset not in (None, "parity"):
        raise OptionError("--parity is itself a preset")
    if options.threads is not None and options.threads < 1:
        raise OptionError("--threads is at least 1")
    try:
        with threads.at_most(options.threads or threads.sensible()):
            return calibrate_files(
                options.files,
                references=_references(options),
                reference_columns=options.columns,
                config=config_of(options),
                preset=options.preset or ("parity" if options.parity else "generic"),
                metadata=key_values(options.set_metadata),
                instrument=options.instrument,
                instruments=local_instruments(None),
                companions={role: Path(name) for role, name in companion_files(options)},
                out_dir=options.out,
                on_progress=bar.show_stage,
            )
    except (FormatError, RefcatError, CalibrationInputError, JobRequestError, *instrument_errors) as error:
        raise OptionError(str(error)) from error


def _document(outcome: JobOutcome, directory: Path) -> dict[str, Any]:
    return {
        "phase": outcome.phase,
        "out": str(directory),
        "summary": outcome.summary,
        "warnings": list(outcome.warnings),
        "error": None if outcome.error is None else outcome.error.document(),
    }


def _print(outcome: JobOutcome, output: Output) -> None:
    from service.exposure.summary import summary_fields

    console = output.console
    for warning in outcome.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}", highlight=False)
    if outcome.error is not None:
        for line in failure_lines(outcome.error.document()):
            console.print(line, highlight=False)
    if outcome.summary is not None:
        schema = [{"name": f.name, "unit": f.unit, "description": f.doc} for f in summary_fields()]
        console.print(statistics_table(outcome.summary, schema, width=console.width))


def _references(options: argparse.Namespace) -> dict[str, Path | JobReference | None]:
    """Files, and catalogues on other hosts that the settings declare, by use."""
    if options.refcat is None and options.astrometry is None and options.photometry is None:
        raise OptionError("--refcat is missing; --refcat none calibrates without references")
    names = reference_names(options.refcat, options.astrometry, options.photometry)
    opened = {name: _reference(name) for name in set(names.values()) - {"none"}}
    return {use: opened.get(name) for use, name in names.items()}


def _reference(name: str) -> Path | JobReference:
    if Path(name).is_file():
        return Path(name)
    from pydantic import ValidationError

    from service.jobs.references import remote_reference
    from service.refcats import RefcatError
    from service.settings import Settings

    try:
        settings = Settings()
        if name in settings.remote_refcats:
            return remote_reference(name, settings.remote_refcats[name], settings.tile_dir)
    except (ValidationError, RefcatError) as error:
        raise OptionError(f"the remote catalogues of the settings cannot be used: {error}") from error
    raise OptionError(f"{name} is not a file, nor a remote catalogue that the settings declare")
