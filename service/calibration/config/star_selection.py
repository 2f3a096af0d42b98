"""Settings of the selection of stars."""

from __future__ import annotations

from pydantic import Field

from service.calibration.config.base import ConfigModel

__all__ = ["StarSelectionConfig"]


class StarSelectionConfig(ConfigModel):
    """The cuts that make the star catalogue; all that are on have to pass, sky sources pass always."""

    bad_flags: tuple[str, ...] = Field(
        (
            "base_PixelFlags_flag_edge",
            "base_PixelFlags_flag_nodata",
            "base_PixelFlags_flag_saturated",
            "base_PsfFlux_flag",
        ),
        description="Flags none of which may be set.",
    )
    do_unresolved: bool = Field(True, description="Keep unresolved sources only.")
    unresolved_name: str = Field(
        "base_ClassificationSizeExtendedness_value", description="Column that tells unresolved sources."
    )
    unresolved_max: float = Field(0.1, description="Its largest value, exclusive; NaN fails.")
    do_signal_to_noise: bool = Field(True, description="Keep sources above a signal-to-noise ratio only.")
    signal_to_noise_min: float = Field(10.0, description="Lowest signal-to-noise ratio, exclusive; NaN fails.")
    signal_to_noise_max: float | None = Field(None, description="Highest signal-to-noise ratio, exclusive.")
    flux_field: str = Field(
        "slot_CalibFlux_instFlux", description="Flux of the ratio; its error is the same name with Err."
    )
    require_primary: bool = Field(
        False, description="Leave out parents of deblended sources, which otherwise may stand beside their children."
    )
