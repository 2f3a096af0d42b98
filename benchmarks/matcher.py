"""Success rates of the astrometric solution on simulated lists, and how many were falsely solved.

A trial is solved when the corners of the field are within 2 arcsec of the truth, and false when `solve` and `check`
pass with more than that.

    python benchmarks/matcher.py [TRIALS]
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np

from service.calibration.astrometry import astrometry
from service.calibration.config.astrometry import AstrometryConfig
from service.calibration.errors import AlgorithmError
from service.exposure.catalog import SourceCatalog
from service.exposure.exposure import Exposure, FilterLabel
from service.exposure.masked_image import MaskedImage
from service.exposure.reference import ReferenceCatalog, reference_schema
from service.exposure.star_schema import psf_star_schema
from service.exposure.wcs import Wcs

_SIZE, _MARGIN, _SCALE = 2048, 250, 0.2
_FALSE_ARCSEC = 2.0


@dataclass(frozen=True)
class Case:
    """What is simulated.

    Parameters
    ----------
    name : str
        Of the row.
    n : int
        True references on the exposure and its margin.
    contamination : float
        Share of false sources and of false references, and of stars that each list lacks.
    doubles : float
        Share of the stars with a companion at 2 to 6 pixels that only the references have.
    """

    name: str
    n: int
    contamination: float = 0.0
    doubles: float = 0.0


CASES = (
    Case("8 references", 8),
    Case("25 references", 25, 0.1),
    Case("100, 15 %", 100, 0.15),
    Case("100, 30 %", 100, 0.3),
    Case("100, 60 %", 100, 0.6),
    Case("1000, 30 %", 1000, 0.3),
    Case("1000, doubles", 1000, 0.1, 0.2),
    Case("8000, 15 %", 8000, 0.15),
)


def simulate(case: Case, seed: int) -> tuple[Exposure, SourceCatalog, ReferenceCatalog, Wcs, int]:
    """Lists with an offset of up to 250 px and a rotation of up to 1 deg, the truth, and the number of common stars."""
    rng = np.random.default_rng(seed)
    center = (_SIZE - 1) / 2
    true = Wcs.tan((center, center), (150.0, 2.2), _SCALE / 3600 * np.array([[-1.0, 0.0], [0.0, 1.0]]))
    x, y = rng.uniform(-_MARGIN, _SIZE + _MARGIN, (2, case.n))
    magnitude = 21 - np.minimum(rng.exponential(1.4, case.n), 7)
    detected = (np.minimum(x, y) > 0) & (np.maximum(x, y) < _SIZE) & (rng.random(case.n) >= case.contamination)
    known = rng.random(case.n) >= case.contamination
    n_false = int(case.contamination * detected.sum())
    stars = SourceCatalog.allocate(psf_star_schema(), int(detected.sum()) + n_false)
    stars["id"] = np.arange(1, len(stars) + 1)
    false = rng.uniform(0, _SIZE, (2, n_false))
    for name, values, extra in (("x", x, false[0]), ("y", y, false[1])):
        stars[f"slot_Centroid_{name}"] = np.r_[values[detected], extra] + rng.normal(0, 0.1, len(stars))
        stars[f"slot_Centroid_{name}Err"] = 0.1
    source_magnitude = np.r_[magnitude[detected], 21 - rng.exponential(1.4, n_false)] + rng.normal(0, 0.1, len(stars))
    stars["slot_PsfFlux_instFlux"] = 10 ** (0.4 * (30 - source_magnitude))
    stars["slot_PsfFlux_instFluxErr"] = stars["slot_PsfFlux_instFlux"] / 100
    companion = np.flatnonzero(known & (rng.random(case.n) < case.doubles))
    angle, distance = rng.uniform(0, 2 * np.pi, companion.size), rng.uniform(2, 6, companion.size)
    extra = rng.uniform(-_MARGIN, _SIZE + _MARGIN, (2, int(case.contamination * known.sum())))
    rx = np.concatenate([x[known], x[companion] + distance * np.cos(angle), extra[0]])
    ry = np.concatenate([y[known], y[companion] + distance * np.sin(angle), extra[1]])
    faint = magnitude[companion] + 1.0
    rmag = np.concatenate([magnitude[known], faint, 21 - rng.exponential(1.4, extra.shape[1])])
    table = SourceCatalog.allocate(reference_schema(["phot_g_mean"]), rx.size)
    ra, dec = true.pixel_to_sky(rx, ry)
    table["id"], table["coord_ra"], table["coord_dec"] = np.arange(rx.size), np.radians(ra), np.radians(dec)
    table["phot_g_mean_flux"] = 10 ** (0.4 * (31.4 - rmag))
    turn, bearing = np.radians(rng.uniform(-1, 1)), rng.uniform(0, 2 * np.pi)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shift = rng.uniform(0, 250) * _SCALE / 3600 * np.array([np.cos(bearing), np.sin(bearing)])
    shape = (_SIZE, _SIZE)
    pixels = MaskedImage(np.zeros(shape, np.float32), np.zeros(shape, np.int32), np.zeros(shape, np.float32))
    exposure = Exposure(pixels, wcs=true.with_affine(matrix, shift), filter=FilterLabel("r"))
    return exposure, stars, ReferenceCatalog(table, ("phot_g_mean",)), true, int((detected & known).sum())


def error_arcsec(wcs: Wcs, true: Wcs) -> float:
    """Largest separation at the corners."""
    x, y = np.array([0.0, _SIZE, 0.0, _SIZE]), np.array([0.0, 0.0, _SIZE, _SIZE])
    (ra, dec), (found_ra, found_dec) = true.pixel_to_sky(x, y), wcs.pixel_to_sky(x, y)
    return float(3600 * np.hypot((found_ra - ra) * np.cos(np.radians(dec)), found_dec - dec).max())


def run(case: Case, trials: int, config: AstrometryConfig) -> tuple[int, int, float, float]:
    """Trials that were solved and falsely solved, the mean number of common stars, seconds per trial."""
    solved = false = common = 0
    start = time.process_time()
    for seed in range(trials):
        exposure, stars, references, true, n_common = simulate(case, seed)
        common += n_common
        try:
            result = astrometry.solve(exposure, stars, references, config)
            astrometry.check(result, config)
        except AlgorithmError:
            continue
        good = error_arcsec(result.wcs, true) <= _FALSE_ARCSEC
        solved, false = solved + good, false + (not good)
    return solved, false, common / trials, (time.process_time() - start) / trials


def main() -> None:
    """Print one row a case."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    config = AstrometryConfig()
    print(f"{'case':16} {'common':>7} {'solved':>10} {'false':>6} {'CPU s':>7}")
    for case in CASES:
        solved, false, common, seconds = run(case, trials, config)
        print(f"{case.name:16} {common:7.0f} {solved:5}/{trials:<4} {false:6} {seconds:7.2f}", flush=True)


if __name__ == "__main__":
    main()
