"""What the options of `submit`, `rerun` and `watch` ask of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from visitcal.options import held_references, json_object, key_values

if TYPE_CHECKING:
    import argparse

    from visitcal.output import Output

__all__ = ["changes_of", "config_of", "parameters_of", "warn_of_no_references"]


def config_of(options: argparse.Namespace) -> dict[str, Any]:
    """Configuration overrides of ``--config`` and ``--variant``."""
    config = json_object(options.config)
    if options.variant is not None:
        config["do_adaptive_threshold_detection"] = options.variant == "adaptive"
    return config


def parameters_of(options: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments of `Client.submit` and `Client.submit_batch`."""
    return {
        "references": held_references(options.refcat, options.astrometry, options.photometry),
        "preset": options.preset,
        "instrument": options.instrument,
        "config": config_of(options),
        "metadata": key_values(options.set_metadata),
        "priority": options.priority,
        "run_id": options.run_id,
        "time_limit_s": options.time_limit,
        "callback": getattr(options, "callback", None),
    }


def warn_of_no_references(options: argparse.Namespace, output: Output) -> None:
    """Say on standard error what goes without where no catalogue is named: a night of it would be a pity."""
    is_named = any((options.refcat, options.astrometry, options.photometry))
    if not is_named and not output.is_json:  # there standard error is for problem documents
        output.complain(
            "no references are named: there will be no fitted WCS and no zero point; --refcat NAME takes one "
            "(visitcal refcat list), --refcat none says that this is meant",
            "yellow",
        )


def changes_of(options: argparse.Namespace) -> dict[str, Any]:
    """Changes of a rerun: what was given, and nothing else."""
    references = {"astrometry": options.astrometry, "photometry": options.photometry}
    if options.refcat is not None:
        references = {use: given or options.refcat for use, given in references.items()}
    changes = parameters_of(options) | {
        "references": {use: given for use, given in references.items() if given is not None}
    }
    return {name: value for name, value in changes.items() if value}
