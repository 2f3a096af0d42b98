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
    order_x: int = Field(2, ge=0, le=6, description="Chebyshev order in x.")
    order_y: int = Field(2, ge=0, le=6, description="Chebyshev order in y.")
    min_degrees_of_freedom: int = Field(
        1, ge=1, description="Stars required beyond the number of terms; the orders are lowered until there are."
    )
    num_iter: int = Field(4, ge=1, le=50, description="Rounds of clipping and fitting.")
    num_sigma_clip: float = Field(4.0, gt=0, description="Clipping limit in robust standard deviations.")
    do_final_median_shift: bool = Field(True, description="Shift the fit so that the median residual is 0.")
    allow_failure: tuple[str, ...] = Field((), description="Fluxes that may go without a correction.")


class NormalizedCalibrationFluxConfig(ConfigModel):
    """Compensated top-hat flux brought to the scale of the aperture flux by one factor."""

    raw_flux_name: str = Field("base_CompensatedTophatFlux_12", description="Flux that is normalised.")
    ref_flux_name: str = Field("base_CircularApertureFlux_12_0", description="Flux that sets the scale.")
    normalized_flux_name: str = Field("base_NormalizedCompensatedTophatFlux", description="Columns written.")
    signal_to_noise_min: float = Field(
        200.0, ge=0, description="Stars must exceed this signal-to-noise ratio of the raw flux."
    )
    min_degrees_of_freedom: int = Field(1, ge=1, description="Stars required beyond the one term.")
    num_iter: int = Field(4, ge=1, le=50, description="Rounds of clipping and fitting.")
    num_sigma_clip: float = Field(4.0, gt=0, description="Clipping limit in robust standard deviations.")
    do_final_median_shift: bool = Field(True, description="Shift the fit so that the median residual is 0.")


class ApplyApertureCorrectionConfig(ConfigModel):
    """Application of the corrections to a catalogue."""

    do_flag_ap_corr_failures: bool = Field(
        True, description="Set the general failure flag of a flux that could not be corrected."
    )
