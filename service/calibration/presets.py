"""Named sets of configuration overrides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from service.calibration.config import CalibrateImageConfig

__all__ = ["PRESETS", "Preset", "resolve_config"]

_VARIANT = "do_adaptive_threshold_detection"
_SURFACE_ALONE = {"structure_limit": 0}


@dataclass(frozen=True, slots=True)
class Preset:
    """A named set of overrides.

    Parameters
    ----------
    name : str
        How it is chosen.
    description : str
        What it is for.
    overrides : dict
        Nested configuration values that differ from the defaults.
    """

    name: str
    description: str
    overrides: dict[str, Any]


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("generic", "The defaults: Rubin's sequence, better where its quirks are known.", {}),
        Preset(
            "drp",
            "Rubin's data-release production: all sources instead of stars alone, nine apertures, pixels in counts.",
            {
                "star_detection": {"include_threshold_multiplier": 1.0},
                "star_measurement": {
                    "circular_aperture": {
                        "radii": (3.0, 6.0, 9.0, 12.0, 17.0, 25.0, 35.0, 50.0, 70.0),
                        "max_sinc_radius": 12.0,
                    },
                    "compensated_tophat": {"apertures": (12, 17)},
                },
                "star_selector": {"do_unresolved": False, "do_signal_to_noise": False},
                "do_calibrate_pixels": False,
            },
        ),
        Preset(
            "parity",
            "Rubin's task to the letter, quirks included, for comparisons.",
            {
                "psf_subtract_background": _SURFACE_ALONE,
                "psf_detection": {"background": _SURFACE_ALONE},
                "star_detection": {"background": _SURFACE_ALONE},
                "star_background": _SURFACE_ALONE,
                "psf_repair": {"cosmicray": {"fill": "noise"}},
                "psf_source_measurement": {
                    "keep_stale_flags": True,
                    "centroid": {"errors": "upstream"},
                    "moments": {"flag_galsim": False},
                    "circular_aperture": {"pad_small_circles": False},
                },
                "psf_measure_psf": {
                    "determiner": {
                        "name": "psfex",
                        "stamp_size_per_fwhm": 0,
                        "refinement": "blocks",
                        "normalization": "catalog",
                        "masked_pixels": "zero_full_weight",
                        "neighbor_threshold": None,
                        "fit_pedestal": False,
                    }
                },
                "psf_normalized_calibration_flux": {"min_stars": 0, "weight_by_noise": False},
                "measure_aperture_correction": {"min_stars": 0, "weight_by_noise": False, "remeasure_on_stars": False},
                "astrometry": {
                    "ref_loader": {"require_references": True},
                    "matcher": {
                        "name": "pessimistic_b",
                        "continue_after_failed_verify": False,
                        "retry_num_points_for_shape": (),
                    },
                    "wide_search": {"enabled": False},
                    "wcs_fitter": {"name": "affine", "num_rej_iter": 0},
                },
                "star_deblend": {
                    "max_footprint_area": 10000,
                    "split_big_parents": False,
                    "invert_psf_shift": True,
                    "fail_on_unseen_neighbors": True,
                    "flag_any_number_of_peaks": True,
                },
                "star_measurement": {
                    "centroid": {"errors": "upstream"},
                    "moments": {"flag_galsim": False},
                    "circular_aperture": {"pad_small_circles": False},
                },
                "photometry": {
                    "use_reference_errors": False,
                    "guard_first_clip": False,
                    "inverse_variance_weights": False,
                    "fail_without_good_stars": False,
                },
                "compute_summary_stats": {"use_parent_coordinates": False, "zenith_distance_tai_as_utc": True},
                "find_stars_after_astrometry_failure": False,
                "ignore_truncated_sky_sources": False,
                "keep_unfinished_psf_stars": False,
                "psf_adaptive_threshold_detection": {"reset_factor": False, "inherit_detection": False},
                "star_background_search": {"max_start_threshold": None},
            },
        ),
    )
}


def resolve_config(
    preset: str = "generic", overrides: dict[str, Any] | None = None, instrument: dict[str, Any] | None = None
) -> CalibrateImageConfig:
    """The whole configuration of a run: defaults, then the instrument, then a preset, then overrides.

    Parameters
    ----------
    preset : str
        One of `PRESETS`.
    overrides : dict, optional
        Nested values; what they do not name stays.
    instrument : dict, optional
        What is particular to the camera, likewise.

    Returns
    -------
    CalibrateImageConfig

    Raises
    ------
    KeyError
        There is no preset of that name.
    pydantic.ValidationError
        An unknown key, or a value outside its range.
    """
    layers = [instrument or {}, PRESETS[preset].overrides, overrides or {}]
    chosen = {key: value for layer in layers for key, value in layer.items() if key == _VARIANT}
    merged = CalibrateImageConfig.model_validate(chosen).model_dump()  # the variant has defaults of its own
    for layer in layers:
        merged = _merged(merged, layer)
    return CalibrateImageConfig.model_validate(merged)


def _merged(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Overrides on a base, table by table; a choice by another ``name`` starts from its own defaults."""
    if "name" in overrides and overrides["name"] != base.get("name", overrides["name"]):
        return overrides
    merged = dict(base)
    for key, value in overrides.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged
