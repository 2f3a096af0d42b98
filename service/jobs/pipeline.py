"""The work of a job: read, calibrate, write. With and without a service around it."""

from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service import formats, refcats, threads
from service.calibration.calibrate_image import CalibrateImage, References
from service.calibration.config import CalibrateImageConfig
from service.calibration.input_errors import CalibrationInputError
from service.instruments import InstrumentStore
from service.jobs.configuration import resolved_config
from service.jobs.inspection import inspected
from service.jobs.instruments import described, reading_with
from service.jobs.outcome import JobError, JobOutcome
from service.jobs.product_files import write_products
from service.jobs.provenance import file_sha256, identity, input_documents, provenance
from service.jobs.references import JobReference, open_reference
from service.jobs.rerun import news
from service.jobs.stages import StageClock
from service.jobs.task import TransientFault
from service.storage.json_values import clean_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from service.calibration.result import CalibrationResult
    from service.jobs.task import Task

__all__ = ["calibrate_files", "run_job", "warm_up"]

logger = logging.getLogger("visitcal")

_USES = ("astrometry", "photometry")
_ILLUMINATION = "illumination"  # role of the companion file that is no plane of the exposure


@dataclass(frozen=True, slots=True)
class _Inputs:
    """Everything that a calibration needs, with paths in place of names."""

    exposures: Sequence[Mapping[str, Any]]  # path, sha256, filename
    companions: Mapping[str, Path]
    references: Mapping[str, JobReference | None]
    preset: str
    config: dict[str, Any]
    metadata: Mapping[str, Any]
    instrument: Mapping[str, Any]  # as `service.jobs.instruments.described` has it
    limits: formats.ReadLimits


def run_job(task: Task) -> JobOutcome:
    """Run the job of a task: what the child processes of the workers do.

    Parameters
    ----------
    task : Task
        Its ``spec`` is that of `service.jobs.spec.child_spec`.

    Returns
    -------
    JobOutcome
        Also where the input cannot be read, or the calibration fails: those are results.

    Raises
    ------
    TransientFault
        The reference store cannot be read now. A remote catalogue that does not answer is a result: it is not asked
        again unless somebody submits the job again.
    """
    spec, clock = task.spec, StageClock(task.report)
    try:
        inputs = _Inputs(
            exposures=[{**exposure, "path": Path(exposure["path"])} for exposure in spec["exposures"]],
            companions={role: Path(path) for role, path in spec["companions"].items()},
            references=_references(spec),
            preset=spec["preset"],
            config=spec["config"],
            metadata=spec["metadata"],
            instrument=spec["instrument"],
            limits=formats.ReadLimits(max_pixels=spec["max_pixels"]),
        )
        with threads.at_most(spec["threads"]):
            return _calibrate(inputs, task.directory, clock)
    except refcats.RefcatUnavailableError as error:
        raise TransientFault(str(error)) from error
    except (formats.FormatError, refcats.RefcatError, CalibrationInputError) as error:
        return JobOutcome(error=_input_error(error, clock.stage), stages=clock.finished)


def calibrate_files(
    paths: Sequence[Path],
    *,
    references: Mapping[str, Path | JobReference | None],
    out_dir: Path,
    reference_columns: Mapping[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
    preset: str = "generic",
    metadata: Mapping[str, Any] | None = None,
    instrument: str | None = None,
    instruments: InstrumentStore | None = None,
    companions: Mapping[str, Path] | None = None,
    on_progress: Callable[[str, float, dict[str, Any]], None] | None = None,
) -> JobOutcome:
    """Calibrate without a service; the files go to a directory.

    Parameters
    ----------
    paths : sequence of Path
        One exposure, or two snaps.
    references : mapping of str to Path, JobReference or None
        Reference file, or a catalogue, by use (``astrometry``, ``photometry``); None leaves that fit out.
    out_dir : Path
        Gets ``summary.json``, ``metadata.json``, ``config.json``, ``provenance.json``, ``job.json`` and one file a
        product.
    reference_columns : mapping of str to str, optional
        Our names of reference columns to those in the file.
    config : mapping, optional
        Configuration values over those of the preset.
    preset : str
        Named set of configuration values.
    metadata : mapping, optional
        Values over those in the file.
    instrument : str, optional
        Preset of the instrument; by default the one that fits the header of the first file.
    instruments : InstrumentStore, optional
        The presets; by default the shipped ones.
    companions : mapping of str to Path, optional
        Further files of one exposure by role: ``mask``, ``variance``, ``weight``, ``ivar``, ``sigma``,
        ``field``, ``illumination``.
    on_progress : callable, optional
        Called with stage, fraction and numbers as each stage begins and ends.

    Returns
    -------
    JobOutcome
        Complete, or with an error and partial products.

    Raises
    ------
    FormatError, RefcatError, CalibrationInputError, JobRequestError, UnknownInstrumentError
        The input or the configuration is refused; nothing was written.
    """
    limits = formats.ReadLimits()
    choice = inspected(
        paths[0], instruments or InstrumentStore(), limits, instrument=instrument, metadata=metadata
    ).choice
    complete = resolved_config(preset, config or {}, choice.preset.configuration)
    # One file that serves both uses is read once.
    files = {given for given in references.values() if isinstance(given, Path)}
    opened = {
        path: JobReference(path.name, file_sha256(path), refcats.load_table(path, columns=reference_columns))
        for path in files
    }
    given = {use: references.get(use) for use in _USES}
    inputs = _Inputs(
        exposures=[{"path": path, "sha256": file_sha256(path), "filename": path.name} for path in paths],
        companions=companions or {},
        references={use: opened[what] if isinstance(what, Path) else what for use, what in given.items()},
        preset=preset,
        config=complete,
        metadata=metadata or {},
        instrument=described(choice),
        limits=limits,
    )
    out_dir.mkdir(parents=True, exist_ok=True)
    outcome = _calibrate(inputs, out_dir, StageClock(on_progress))
    documents = {
        "summary": outcome.summary,
        "metadata": outcome.metadata,
        "config": complete,
        "provenance": outcome.provenance,
        "job": _job_document(outcome),
    }
    for name, document in documents.items():
        (out_dir / f"{name}.json").write_text(json.dumps(clean_json(document), indent=1) + "\n")
    return outcome


def warm_up() -> None:
    """Compile or load every kernel, and import what a job imports, on a small simulated exposure."""
    import service.formats.tile_kernels  # noqa: F401 - compiled as they are imported
    from service.simulation import SimulationConfig, simulate, write_simulation  # not needed after this

    with tempfile.TemporaryDirectory(prefix="visitcal-warm-up-") as directory:
        simulation = simulate(SimulationConfig(size=512, n_stars=220, n_galaxies=10, seed=3))
        files = write_simulation(simulation, Path(directory))
        outcome = calibrate_files(
            [files["exposure"]],
            references=dict.fromkeys(_USES, files["references"]),
            out_dir=Path(directory) / "out",
        )
    if outcome.error is not None:
        logger.warning("the warm-up ended early: %s", outcome.error.message)


def _calibrate(inputs: _Inputs, directory: Path, clock: StageClock) -> JobOutcome:
    illumination = None
    planes = {role: path for role, path in inputs.companions.items() if role != _ILLUMINATION}
    with clock.reading() as numbers:
        read = [_read(inputs, given["path"], planes) for given in inputs.exposures]
        height, width = read[0].exposure.masked_image.shape
        if _ILLUMINATION in inputs.companions:
            path = inputs.companions[_ILLUMINATION]
            illumination = formats.read_companion_image(path, _ILLUMINATION, (height, width), inputs.limits)
        numbers |= {"width": width, "height": height, "format": read[0].format}
    config = CalibrateImageConfig.model_validate(inputs.config)
    used = {use: None if given is None else given.loader for use, given in inputs.references.items()}
    references = References(used["astrometry"], used["photometry"])
    what = identity(read[0].exposure)
    exposures = [given.exposure for given in read]
    result = CalibrateImage(config).run(exposures, references, clock, illumination_correction=illumination)
    with clock.writing() as numbers:
        products = write_products(result, directory)
        numbers["files"] = len(products)
    return JobOutcome(
        error=_algorithm_error(result, inputs.config),
        warnings=tuple(warning for given in read for warning in given.warnings) + tuple(result.warnings),
        stages=clock.finished,
        summary=result.summary.as_dict(),
        identity=what,
        metadata={**result.metadata, "inputs": input_documents(inputs.exposures, read)},
        provenance=provenance(
            inputs.exposures,
            read,
            inputs.references,
            preset=inputs.preset,
            config=inputs.config,
            instrument=inputs.instrument,
        ),
        products=products,
    )


def _read(inputs: _Inputs, path: Path, companions: Mapping[str, Path]) -> formats.ReadResult:
    known = reading_with(inputs.instrument["reading"])
    return formats.read_exposure(
        path, metadata=inputs.metadata, companions=companions, limits=inputs.limits, instrument=lambda _: known
    )


def _references(spec: Mapping[str, Any]) -> dict[str, JobReference | None]:
    """Catalogue by use; one that serves both is opened once."""
    named = {use: spec["references"].get(use) for use in _USES}
    opened = {given["name"]: open_reference(spec, given) for given in named.values() if given is not None}
    return {use: None if given is None else opened[given["name"]] for use, given in named.items()}


def _algorithm_error(result: CalibrationResult, config: Mapping[str, Any]) -> JobError | None:
    failure = result.failure
    if failure is None:
        return None
    return JobError(
        code=failure.code,
        type=failure.type_name,
        message=failure.message,
        stage=result.metadata["failure"]["stage"],
        numbers=dict(failure.numbers),
        hint=failure.hint,
        suggested_config=news(failure.suggested_config, config),
    )


def _input_error(
    error: formats.FormatError | refcats.RefcatError | CalibrationInputError, stage: str | None
) -> JobError:
    return JobError(
        code=error.code,
        type=type(error).__name__,
        message=error.message,
        stage=stage,
        numbers=dict(error.numbers),
        hint="The input cannot be used as it is: change the file, the metadata or the configuration.",
    )


def _job_document(outcome: JobOutcome) -> dict[str, Any]:
    return {
        "phase": outcome.phase,
        "error": None if outcome.error is None else outcome.error.document(),
        "warnings": list(outcome.warnings),
        "stages": [asdict(stage) for stage in outcome.stages],
        "products": [
            {"product": p.product, "format": p.format, "file": Path(p.path).name, "rows": p.rows}
            for p in outcome.products
        ],
    }
