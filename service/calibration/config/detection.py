"""Settings of source detection."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from service.calibration.config.background import SubtractBackgroundConfig
from service.calibration.config.base import ConfigModel

__all__ = ["SourceDetectionConfig"]

_IGNORED_BY_WIDE = ("BAD", "EDGE", "NO_DATA")


class SourceDetectionConfig(ConfigModel):
    """Threshold the smoothed image, keep the regions that reach a higher level, grow them."""

    threshold_value: float = Field(5.0, gt=0, description="Threshold for footprints, in units of threshold_type.")
    include_threshold_multiplier: float = Field(
        1.0, ge=1, description="A footprint is kept when one of its pixels reaches this multiple of the threshold."
    )
    threshold_type: Literal["pixel_stdev", "stdev", "value"] = Field(
        "pixel_stdev",
        description="Unit of the threshold: standard deviation of each smoothed pixel, of the whole smoothed image"
        " (clipped), or counts.",
    )
    threshold_polarity: Literal["positive", "negative", "both"] = Field(
        "positive", description="Sign of the sources that are returned; negative ones come first."
    )
    min_pixels: int = Field(1, ge=1, description="Smallest footprint before growth.", json_schema_extra={"unit": "px"})
    n_sigma_for_kernel: float = Field(
        7.0, gt=0, description="Width of the smoothing Gaussian's stamp in multiples of its sigma."
    )
    n_sigma_to_grow: float = Field(
        2.4, ge=0, description="Radius by which footprints grow in multiples of the PSF's sigma."
    )
    return_original_footprints: bool = Field(
        False, description="Return the footprints before growth; the mask shows the grown ones."
    )
    n_peaks_max_simple: int = Field(
        1,
        ge=0,
        description="Footprints with at most so many peaks keep them after the temporary local background.",
    )
    do_temp_local_background: bool = Field(
        True, description="Find the peaks of blends again above a temporary small-scale background."
    )
    temp_local_background: SubtractBackgroundConfig = Field(
        SubtractBackgroundConfig(bin_size=64, use_approx=False),
        description="Temporary background under the peaks of blends.",
    )
    do_temp_wide_background: bool = Field(
        False, description="Detect above a temporary large-scale background, which is restored afterwards."
    )
    temp_wide_background: SubtractBackgroundConfig = Field(
        SubtractBackgroundConfig(bin_size=512, use_approx=False, ignored_pixel_mask=_IGNORED_BY_WIDE),
        description="Temporary background under the detection.",
    )
    re_estimate_background: bool = Field(
        True, description="Fit the background again with all detections masked, subtract and keep it."
    )
    background: SubtractBackgroundConfig = Field(
        SubtractBackgroundConfig(), description="The background that is estimated again."
    )
    stats_mask: tuple[str, ...] = Field(
        ("BAD", "SAT", "EDGE", "NO_DATA"),
        description="Planes left out of the image statistics that type stdev and the wide background need.",
    )
    exclude_mask_planes: tuple[str, ...] = Field(
        (), description="Nothing is detected where the smoothing reached a pixel with one of these planes."
    )
