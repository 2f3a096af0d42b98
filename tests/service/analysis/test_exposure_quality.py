from __future__ import annotations

import math

import numpy as np
import pytest
from astropy.stats import mad_std
from numpy.typing import NDArray

from service.analysis.control_limits import LEAST_VALUES, Limits, control_limits
from service.analysis.exposure_quality import QUANTITIES, quality_figures
from service.calibration.summary_depth import magnitude_limit


def figures(*, is_rate: bool = False, **values: float) -> dict[str, float]:
    """The figures of one exposure; what is not given is not known."""
    names = ("psfSigma", "pixelScale", "zeroPoint", "skyBg", "magLim", "astromOffsetMean", "exposure_time")
    columns: dict[str, NDArray[np.float64]] = {name: np.array([values.get(name, np.nan)]) for name in names}
    return {name: column.item() for name, column in quality_figures(columns, np.array([is_rate])).items()}


class TestFigures:
    def test_values_by_hand(self) -> None:
        found = figures(
            psfSigma=2.0, pixelScale=0.2, zeroPoint=30.0, skyBg=100.0, magLim=24.0, astromOffsetMean=0.005,
            exposure_time=100.0,
        )  # fmt: skip
        assert set(found) == set(QUANTITIES)
        assert found["seeing"] == pytest.approx(0.9419280)  # 2.3548200 x 0.4
        assert found["zero_point"] == pytest.approx(25.0)  # 100 s are five magnitudes
        assert found["sky"] == pytest.approx(30.0 - 2.5 * 3.39794, abs=1e-5)  # 2500 counts a square arcsec
        assert found["depth"] == pytest.approx(24.0 - 0.653598, abs=1e-6)  # 1.25 log10(100 / 30)
        assert found["astrometry"] == pytest.approx(5.0)

    def test_seeing_is_where_a_gaussian_has_half_its_height(self) -> None:
        fwhm = figures(psfSigma=3.0, pixelScale=1.0)["seeing"]
        assert math.exp(-((fwhm / 2.0) ** 2) / (2.0 * 3.0**2)) == pytest.approx(0.5)

    def test_exposures_of_different_lengths_compare(self) -> None:
        """The same sky through the same air, for 30 s, for 300 s, and as counts per second."""
        throughput, sky, scale, psf_area = 28.0, 200.0, 0.25, 30.0  # mag, counts per second, arcsec, pixels
        seen = []
        for seconds, is_rate in ((30.0, False), (300.0, False), (300.0, True)):
            per = 1.0 if is_rate else seconds
            zero_point = throughput + 2.5 * math.log10(per)
            gain = seconds if is_rate else 1.0
            depth = magnitude_limit(zero_point, psf_area, sky * per, 0.0, gain)
            seen.append(
                figures(
                    zeroPoint=zero_point,
                    skyBg=sky * per,
                    pixelScale=scale,
                    magLim=depth,
                    exposure_time=seconds,
                    is_rate=is_rate,
                )
            )
        for name, tolerance in (("zero_point", 1e-9), ("sky", 1e-9), ("depth", 0.03)):
            values = [found[name] for found in seen]
            assert max(values) - min(values) < tolerance, name
        assert seen[0]["zero_point"] == pytest.approx(throughput)

    @pytest.mark.parametrize("missing", ["zeroPoint", "skyBg", "pixelScale"])
    def test_what_is_not_known_makes_nothing(self, missing: str) -> None:
        known = {"zeroPoint": 30.0, "skyBg": 100.0, "pixelScale": 0.2}
        assert math.isfinite(figures(**known)["sky"])
        assert math.isnan(figures(**{name: value for name, value in known.items() if name != missing})["sky"])

    def test_a_sky_below_zero_has_no_brightness(self) -> None:
        assert math.isnan(figures(zeroPoint=30.0, skyBg=-3.0, pixelScale=0.2)["sky"])
        assert math.isnan(figures(zeroPoint=30.0, exposure_time=0.0)["zero_point"])


class TestLimits:
    def test_values_by_hand(self) -> None:
        found = control_limits([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 90.0])
        # median 5; distances 4 3 2 1 0 1 2 3 85, of which the median is 2
        assert found == Limits(5.0, pytest.approx(5.0 - 8.8956), pytest.approx(5.0 + 8.8956), 9)

    def test_agrees_with_astropy(self) -> None:
        values = np.random.default_rng(3).normal(28.1, 0.02, 500)
        found = control_limits(np.append(values, [np.nan, np.inf]))
        assert found is not None
        assert found.n == 500
        assert found.high - found.center == pytest.approx(3.0 * mad_std(values), rel=1e-4)
        assert found.center == np.median(values)

    def test_a_bad_night_does_not_widen_them(self) -> None:
        values = np.random.default_rng(4).normal(0.0, 1.0, 300)
        clouded = np.append(values, np.full(60, -40.0))
        plain, robust = control_limits(values), control_limits(clouded)
        assert plain is not None
        assert robust is not None
        assert robust.high < 1.5 * plain.high

    def test_excess_is_one_at_the_limit(self) -> None:
        limits = Limits(5.0, 3.0, 7.0, 20)
        assert [limits.excess(value) for value in (3.0, 5.0, 7.0, 9.0)] == [-1.0, 0.0, 1.0, 2.0]

    def test_few_values_tell_nothing(self) -> None:
        values = list(np.linspace(0.0, 1.0, LEAST_VALUES))
        assert control_limits(values) is not None
        assert control_limits([*values[1:], math.nan]) is None

    def test_values_that_are_all_the_same_tell_nothing(self) -> None:
        assert control_limits([2.0] * 20) is None
