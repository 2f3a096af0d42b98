"""Stages of the calibration and how far along each is."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from service.calibration.config import CalibrateImageConfig

__all__ = ["STAGES", "OnProgress", "Progress", "stages_of"]

#: Stages of all variants in order, with their usual share of the work.
STAGES = {
    "snap_combine": 1,
    "references": 2,
    "psf.first_pass": 26,
    "psf.second_pass": 24,
    "psf.measure": 8,
    "aperture_correction": 1,
    "astrometry": 3,
    "stars.background": 9,
    "stars.detect": 8,
    "stars.deblend": 6,
    "stars.measure": 14,
    "stars.match": 1,
    "photometry": 1,
    "summary": 4,
    "calibrate_pixels": 1,
}


def stages_of(config: CalibrateImageConfig) -> dict[str, int]:
    """The stages that a run with this configuration goes through, with their usual share of the work.

    A step without references is left out as the run finds that out.
    """
    absent = "psf.second_pass" if config.do_adaptive_threshold_detection else ""
    new_background = config.remeasures_star_background
    return {n: w for n, w in STAGES.items() if n != absent and (n != "stars.background" or new_background)}


class OnProgress(Protocol):
    """Receiver of progress: called when a stage starts and when it ends."""

    def __call__(self, stage: str, fraction: float, numbers: dict[str, Any]) -> None:
        """Take note.

        Parameters
        ----------
        stage : str
            Name of the stage, one of `STAGES`.
        fraction : float
            Done so far, 0 to 1.
        numbers : dict
            What the stage found; empty at its start.
        """


class Progress:
    """Reports stages to a receiver.

    Parameters
    ----------
    receiver : OnProgress or None
        Nobody, if None.
    stages : mapping of str to int
        Stages of the run and their share of the work, see `stages_of`.
    """

    def __init__(self, receiver: OnProgress | None, stages: Mapping[str, int] = STAGES) -> None:
        self._receiver = receiver
        self._stages = stages
        self.stage = ""

    @contextmanager
    def __call__(self, stage: str) -> Iterator[dict[str, Any]]:
        """Run a stage; the dict that is yielded takes its numbers.

        A stage that fails reports no end, so that the last stage named is the one that failed.
        """
        names, weights = list(self._stages), list(self._stages.values())
        index, total = names.index(stage), sum(weights)
        self.stage = stage
        numbers: dict[str, Any] = {}
        self._report(stage, sum(weights[:index]) / total, {})
        yield numbers
        self._report(stage, sum(weights[: index + 1]) / total, numbers)

    def _report(self, stage: str, fraction: float, numbers: dict[str, Any]) -> None:
        if self._receiver is not None:
            self._receiver(stage, fraction, numbers)
