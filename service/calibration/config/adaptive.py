"""Settings of the searches for detection thresholds (the adaptive variant)."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from service.calibration.config.background import SubtractBackgroundConfig
from service.calibration.config.base import ConfigModel
from service.calibration.config.detection import SourceDetectionConfig

__all__ = ["AdaptiveThresholdDetectionConfig", "StarBackgroundSearchConfig", "StarThresholdSearchConfig", "adapted"]

FALLBACK_BAND = "fallback"


class AdaptiveThresholdDetectionConfig(ConfigModel):
    """Raise or lower the PSF stage's threshold until the number of sources suits a PSF fit."""

    max_adaptive_det_iter: int = Field(20, ge=1, description="Detections tried; the last threshold counts regardless.")
    max_num_peak: dict[str, int] = Field(
        {"u": 3000, "g": 3000, "r": 3000, "i": 5000, "z": 5000, "y": 3000, FALLBACK_BAND: 5000},
        description="Most peaks wanted, by band; the entry fallback serves all other bands.",
    )
    min_footprint: int = Field(15, ge=1, description="With so few footprints or fewer the threshold is too high.")
    max_peak_to_foot_ratio: float = Field(
        800.0, gt=0, description="More peaks a footprint than this, with few isolated ones, mean too low a threshold."
    )
    min_isolated: int = Field(6, ge=0, description="So many footprints with one peak excuse any number of peaks.")
    sufficient_isolated: int = Field(
        100, ge=1, description="More footprints with one peak than this may end the search, see the next option."
    )
    sufficient_fraction_isolated: float = Field(
        0.45, ge=0, le=1, description="Share of them among all footprints that has to be exceeded, too."
    )
    reset_factor: bool = Field(
        True,
        description="Start each round without a factor: a single blend with 0.2 to 0.25 of all peaks wanted then ends"
        " the search. False multiplies by the factor of the round before (parity: false).",
    )
    inherit_detection: bool = Field(
        True,
        description="Search with the settings of psf_detection and star_detection, changed only in what the search"
        " needs; false takes nothing but their thresholds (parity: false).",
    )

    @model_validator(mode="after")
    def _limits_fit_together(self) -> Self:
        if FALLBACK_BAND not in self.max_num_peak:
            raise ValueError(f"max_num_peak needs an entry {FALLBACK_BAND!r}")
        if any(count < 1 for count in self.max_num_peak.values()):
            raise ValueError("max_num_peak has to be positive")
        if self.min_footprint < self.min_isolated:
            raise ValueError("min_footprint has to be at least min_isolated")
        if self.sufficient_isolated < self.min_isolated:
            raise ValueError("sufficient_isolated has to be at least min_isolated")
        return self

    def most_peaks(self, band: str | None) -> int:
        """Most peaks wanted in a band."""
        return self.max_num_peak.get(band or FALLBACK_BAND, self.max_num_peak[FALLBACK_BAND])


class StarThresholdSearchConfig(ConfigModel):
    """Raise the stars' threshold where the field is too crowded for the PSF stage's result."""

    max_iter: int = Field(8, ge=1, description="Detections tried; the last one counts regardless.")
    start_factor: float = Field(
        0.2, gt=0, description="First threshold, as a share of the level that the PSF stage's footprints had to reach."
    )
    max_peak_to_foot_ratio: float = Field(
        800.0, gt=0, description="More peaks a footprint than this mean too low a threshold."
    )


class StarBackgroundSearchConfig(ConfigModel):
    """Background for the stars, fitted with a well-chosen part of the image masked (adaptive variant)."""

    min_detected_fraction: float = Field(0.02, ge=0, le=1, description="Least share of good pixels to be masked.")
    max_detected_fraction: float = Field(0.93, ge=0, le=1, description="Largest share of good pixels to be masked.")
    dilation: int = Field(
        10,
        ge=1,
        description="Growth of the PSF stage's detections, which stay masked throughout.",
        json_schema_extra={"unit": "pix"},
    )
    max_iter: int = Field(40, ge=1, description="Detections tried; the last one counts regardless.")
    n_sigma_to_grow: float = Field(70.0, ge=0, description="Growth of the detections, in multiples of the PSF's sigma.")
    max_start_threshold: float | None = Field(
        200.0,
        ge=2,
        description="Bound of the first threshold, a fifth of the background's counts taken as a S/N, which is far off"
        " under a bright sky; null for no bound (parity: null).",
    )
    pedestal: SubtractBackgroundConfig = Field(
        SubtractBackgroundConfig(
            statistics_property="MEDIAN",
            bin_size=32,
            approx_order_x=0,
            ignored_pixel_mask=(
                *("BAD", "EDGE", "DETECTED", "DETECTED_NEGATIVE", "NO_DATA"),
                *("SAT", "SUSPECT", "SPIKE"),
            ),
        ),
        description="The constant that is fitted last, with bins that double until it stays;"
        " do_apply_flat_background_ratio is that of star_background.",
    )

    @model_validator(mode="after")
    def _fractions_are_ordered(self) -> Self:
        if self.min_detected_fraction >= self.max_detected_fraction:
            raise ValueError("min_detected_fraction has to be below max_detected_fraction")
        return self


def adapted(config: SourceDetectionConfig, *, inherit: bool, **changes: object) -> SourceDetectionConfig:
    """Detection settings of a search: those of the user, or the defaults with the user's thresholds, and changes."""
    if inherit:
        return config.model_copy(update=changes)
    fresh = SourceDetectionConfig(
        threshold_value=config.threshold_value, include_threshold_multiplier=config.include_threshold_multiplier
    )
    return fresh.model_copy(update=changes)
