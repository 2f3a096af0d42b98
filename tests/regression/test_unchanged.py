"""A change of speed or style changes no result: every column, statistic and mask of five exposures, as recorded.

What a difference is, `tests.regression.comparison` says; how to record anew and when, `tests.regression.record`.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from service.calibration.calibrate_image import CalibrateImage
from service.calibration.presets import resolve_config
from service.simulation import simulate
from tests.regression.comparison import TOLERANCE, Values, differences
from tests.regression.exposures import CASES, calibrate, references, values
from tests.regression.record import load


@cache
def found(name: str) -> Values:
    return values(calibrate(CASES[name]))


@pytest.mark.parametrize("name", CASES)
def test_results_are_as_recorded(name: str) -> None:
    assert differences(load(name), found(name)) == []


def test_a_thousandth_more_noise_is_noticed() -> None:
    """The whole way from the pixels to the comparison: what is 0.1 % off anywhere is seen in many places."""
    case = CASES["sharp"]
    simulation = simulate(case.scene)
    simulation.exposures[0].masked_image.variance[:] *= np.float32(1.001)
    result = CalibrateImage(resolve_config(case.preset)).run(simulation.exposures, references(simulation))
    said = {line.partition(":")[0] for line in differences(load("sharp"), values(result))}
    assert {"pixels.variance", "stars.base_PsfFlux_instFluxErr", "stars.coord_raErr", "summary.meanVar"} <= said


FLUX, ERROR, FLAG = "stars.base_PsfFlux_instFlux", "stars.base_PsfFlux_instFluxErr", "stars.base_PsfFlux_flag"


@pytest.fixture
def recorded() -> Values:
    return load("typical")


def real_row(values: Values) -> int:
    return int(np.flatnonzero(~values["stars.sky_source"])[0])


def test_noise_of_float32_is_tolerated(recorded: Values) -> None:
    measured = [name for name, v in recorded.items() if name.startswith("stars.base_") and v.dtype.kind == "f"]
    assert len(measured) > 20
    shaken = {name: recorded[name].astype(np.float64) * (1 + 1e-7) for name in measured}
    assert differences(recorded, recorded | shaken) == []


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (FLUX, lambda value: value * (1 + 3 * TOLERANCE)),
        (ERROR, lambda value: value * (1 + 3 * TOLERANCE)),
        (FLUX, lambda value: np.nan),
        (FLAG, lambda value: not value),
        ("stars.id", lambda value: value + 1),
        ("stars.base_SdssCentroid_x", lambda value: value + 3 * TOLERANCE),
        ("stars.coord_ra", lambda value: value + 3e-10),
        ("stars.base_GaussianFlux_instFlux", lambda value: value * (1 + 3 * TOLERANCE)),
        ("summary.zeroPoint", lambda value: value + 0.01),
        ("metadata.star_count", lambda value: value + 1),
        ("mask.DETECTED", lambda value: value + 1),
    ],
)
def test_one_changed_number_is_named(recorded: Values, name: str, change) -> None:
    changed = recorded[name].copy()
    place = real_row(recorded) if changed.ndim else ()
    changed[place] = change(changed[place])
    lines = differences(recorded, recorded | {name: changed})
    assert [line.partition(":")[0] for line in lines] == [name]


def test_a_column_more_or_less_and_another_number_of_rows_are_named(recorded: Values) -> None:
    less = {name: v for name, v in recorded.items() if name != FLUX}
    assert differences(recorded, less) == differences(less, recorded) == [f"{FLUX}: not in both"]
    shorter = recorded | {FLUX: recorded[FLUX][1:]}
    assert differences(recorded, shorter) == [f"{FLUX}: shape {recorded[FLUX].shape} became {shorter[FLUX].shape}"]
