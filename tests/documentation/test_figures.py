"""The pictures of the pipeline can be drawn of today's code, and show what their page says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from making.figures import FIGURES, TARGET
from making.plots import save
from making.run import Run, calibrated


@pytest.fixture(scope="module")
def run() -> Run:
    return calibrated()


@pytest.mark.parametrize("name", FIGURES)
def test_is_drawn(name: str, run: Run, tmp_path: Path) -> None:
    save(FIGURES[name](run), tmp_path / "figure.png")
    made, kept = (tmp_path / "figure.png").stat().st_size, (TARGET / f"{name}.png").stat().st_size
    assert 0.5 < made / kept < 2.0


def test_every_picture_is_drawn() -> None:
    assert {path.stem for path in TARGET.iterdir()} == FIGURES.keys()


def test_they_show_what_is_said(run: Run) -> None:
    """Of pixels that the stages left: cosmic rays are found and filled, the background is the sky."""
    tracks = run.simulation.cosmic_rays[0] > 300
    found = run.plane("psf.measure", ["CR"])
    assert (found & tracks).sum() > 0.95 * tracks.sum()
    assert np.median(np.abs(run.result.background.image() - run.simulation.sky)) < 2
    left = run.pixels["psf.measure"].image[found & tracks]
    assert np.median(left) < 0.2 * np.median(run.pixels["raw"].image[found & tracks])
