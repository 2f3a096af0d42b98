"""Settings of the exposure summary statistics."""

from __future__ import annotations

from pydantic import Field
from pydantic.config import JsonDict

from service.calibration.config.base import ConfigModel
from service.calibration.config.selectors import SourceSelectorConfig

__all__ = ["FiducialsConfig", "SummaryStatsConfig"]

_BANDS = ("u", "g", "r", "i", "z", "y")
_PIX: JsonDict = {"unit": "pix"}
_MAG: JsonDict = {"unit": "mag(AB)"}


def _all_bands(value: float) -> dict[str, float]:
    return dict.fromkeys(_BANDS, value)


class FiducialsConfig(ConfigModel):
    """Conditions to which the effective exposure time refers, by band."""

    sky_bg: dict[str, float] = Field(
        _all_bands(1.0), description="sky background", json_schema_extra={"unit": "ct/(pix s)"}
    )
    psf_sigma: dict[str, float] = Field(_all_bands(1.0), description="PSF sigma", json_schema_extra=_PIX)
    zero_point: dict[str, float] = Field(
        _all_bands(25.0), description="AB magnitude of one count per second", json_schema_extra=_MAG
    )
    read_noise: dict[str, float] = Field(
        _all_bands(9.0), description="read noise", json_schema_extra={"unit": "electron"}
    )
    exp_time: dict[str, float] = Field(_all_bands(30.0), description="exposure time", json_schema_extra={"unit": "s"})
    mag_lim: dict[str, float] = Field(_all_bands(25.0), description="limiting magnitude", json_schema_extra=_MAG)


class SummaryStatsConfig(ConfigModel):
    """Exposure summary statistics (Rubin ComputeExposureSummaryStatsTask)."""

    sigma_clip: float = Field(3.0, gt=0, description="clipping limit of sky noise and mean variance")
    clip_iter: int = Field(2, ge=1, description="passes of that clipping")
    bad_mask_planes: tuple[str, ...] = Field(
        ("NO_DATA", "SUSPECT"), description="mask planes left out of sky noise and mean variance"
    )
    star_selection: str = Field("calib_psf_used", description="flag of the stars that nPsfStar counts")
    star_selector: SourceSelectorConfig = Field(
        SourceSelectorConfig(
            good_flags=("calib_psf_used",),
            bad_flags=("slot_Shape_flag", "slot_PsfFlux_flag"),
            signal_to_noise_min=50.0,
            signal_to_noise_max=1000.0,
            flux_field="slot_PsfFlux_instFlux",
        ),
        description="stars of the star statistics",
    )
    star_shape: str = Field("slot_Shape", description="columns of the stars' moments")
    psf_shape: str = Field("slot_PsfShape", description="columns of the PSF's moments at the stars")
    star_higher_order_moment_base: str = Field(
        "ext_shapeHSM_HigherOrderMomentsSource",
        description="columns of standardised moments; without them those statistics stay empty",
    )
    psf_sampling: int = Field(8, ge=1, description="grid of maxDistToNearestPsf", json_schema_extra=_PIX)
    psf_grid_sampling: int = Field(96, ge=1, description="grid of the PSF variation", json_schema_extra=_PIX)
    psf_bad_mask_planes: tuple[str, ...] = Field(
        ("BAD", "CR", "EDGE", "INTRP", "NO_DATA", "SAT", "SUSPECT"), description="mask planes that spoil a grid node"
    )
    min_psf_ap_radius_pix: float = Field(
        2.0, gt=0, description="smallest aperture of psfApFluxDelta, else 3 psfSigma", json_schema_extra=_PIX
    )
    psf_ap_corr_field_name: str = Field(
        "base_PsfFlux_instFlux", description="aperture correction of psfApCorrSigmaScaledDelta"
    )
    mag_lim_snr: float = Field(5.0, gt=0, description="signal-to-noise ratio of magLim")
    max_effective_transparency: float | None = Field(
        None, gt=0, description="upper limit of effTimeZeroPointScale; null for none"
    )
    fiducials: FiducialsConfig = Field(FiducialsConfig(), description="reference conditions by band")
    use_parent_coordinates: bool = Field(
        True,
        description="grid nodes are parent pixels, as PSF and stars are; False takes array indices (parity: false)",
    )
    zenith_distance_tai_as_utc: bool = Field(
        False, description="read the TAI date as UTC, 0.15 deg off in hour angle (parity: true)"
    )
