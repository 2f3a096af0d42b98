"""Settings of the calibration-flux normalisation and of the aperture corrections."""

from __future__ import annotations

from pydantic import Field

from service.calibration.config.base import ConfigModel

__all__ = ["ApplyApertureCorrectionConfig", "MeasureApertureCorrectionConfig", "NormalizedCalibrationFluxConfig"]


class MeasureApertureCorrectionConfig(ConfigModel):
    """Ratio of a reference flux to other fluxes as a smooth function of position."""

    ref_flux_name: str = Field("slot_CalibFlux", description="Flux to which the others are corrected.")
    flux_names: tuple[str, ...] = Field(
        ("base_GaussianFlux", "base_PsfFlux"), description="Fluxes to correct; those not in the catalogue are skipped."
    )
    signal_to_noise_flux: str = Field("base_PsfFlux", description="Flux of the signal-to-noise limit.")
    signal_to_noise_min: float = Field(200.0, ge=0, description="Stars must exceed this signal-to-noise ratio.")
    min_stars: int = Field(
        8,
        ge=0,
        description="Where fewer stars exceed that ratio, so many of the brightest are taken: sparse fields have no"
        " other, and would end without a result (parity: 0).",
    )
    order_x: int = Field(2, ge=0, le=6, description="Chebyshev order in x.")
    order_y: int = Field(2, ge=0, le=6, description="Chebyshev order in y.")
    min_degrees_of_freedom: int = Field(
        1, ge=1, description="Stars required beyond the number of terms; the orders are lowered until there are."
    )
    num_iter: int = Field(4, ge=1, le=50, description="Rounds of clipping and fitting.")
    num_sigma_clip: float = Field(4.0, gt=0, description="Clipping limit in robust standard deviations.")
    do_final_median_shift: bool = Field(True, description="Shift the fit so that the median residual is 0.")
    allow_failure: tuple[str, ...] = Field((), description="Fluxes that may go without a correction.")
    weight_by_noise: bool = Field(
        True,
        description="Weight stars by the noise of their reference flux, and clip in its units; without it faint stars,"
        " of which there are more and to whose fluxes neighbours add more, decide (parity: false).",
    )
    weight_floor: float = Field(
        0.005, gt=0, description="Relative error that is added to the noise, so that no few bright stars decide."
    )
    remeasure_on_stars: bool = Field(
        True,
        description="Measure the corrections again where the same stars have been deblended and measured among all"
        " sources: the PSF stage sees neither blends nor anything below S/N 50, whose light in the ring of the"
        " calibration flux makes PSF fluxes of crowded fields too faint by several mmag (parity: false).",
    )
    remeasure_min_fraction: float = Field(
        0.5,
        ge=0,
        description="Least number of stars for that, as a share of those used before; with fewer the corrections of"
        " the PSF stage stay.",
    )


class NormalizedCalibrationFluxConfig(ConfigModel):
    """Compensated top-hat flux brought to the scale of the aperture flux by one factor."""

    raw_flux_name: str = Field("base_CompensatedTophatFlux_12", description="Flux that is normalised.")
    ref_flux_name: str = Field("base_CircularApertureFlux_12_0", description="Flux that sets the scale.")
    normalized_flux_name: str = Field("base_NormalizedCompensatedTophatFlux", description="Columns written.")
    signal_to_noise_min: float = Field(
        200.0, ge=0, description="Stars must exceed this signal-to-noise ratio of the raw flux."
    )
    min_stars: int = Field(
        8,
        ge=0,
        description="Where fewer stars exceed that ratio, so many of the brightest are taken: sparse fields have no"
        " other, and would end without a result (parity: 0).",
    )
    min_degrees_of_freedom: int = Field(1, ge=1, description="Stars required beyond the one term.")
    num_iter: int = Field(4, ge=1, le=50, description="Rounds of clipping and fitting.")
    num_sigma_clip: float = Field(4.0, gt=0, description="Clipping limit in robust standard deviations.")
    do_final_median_shift: bool = Field(True, description="Shift the fit so that the median residual is 0.")
    weight_by_noise: bool = Field(
        True, description="Weight stars by the noise of the reference flux, and clip in its units (parity: false)."
    )
    weight_floor: float = Field(
        0.005, gt=0, description="Relative error that is added to the noise, so that no few bright stars decide."
    )


class ApplyApertureCorrectionConfig(ConfigModel):
    """Application of the corrections to a catalogue."""

    do_flag_ap_corr_failures: bool = Field(
        True, description="Set the general failure flag of a flux that could not be corrected."
    )
