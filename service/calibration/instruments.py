"""What is particular to single cameras: overrides of their presets."""

from __future__ import annotations

from typing import Any

__all__ = ["LSSTCAM"]

_BANDS = ("u", "g", "r", "i", "z", "y")


def _by_band(*values: float) -> dict[str, float]:
    return dict(zip(_BANDS, values, strict=True))


#: Rubin's production settings of LSSTCam. Its magnitude limits were found with other zero points than the ones here,
#: ComCam's; effective times refer to them all the same, as upstream's do.
LSSTCAM: dict[str, Any] = {
    "astrometry": {
        "ref_loader": {"pixel_margin": 1500},
        "matcher": {"max_offset_pix": 1500, "max_ref_objects": 4096},
        "min_match_distance_arc_sec": 0.07,
    },
    "compute_summary_stats": {
        "fiducials": {
            "sky_bg": _by_band(1.51, 15.45, 32.95, 52.94, 79.40, 90.57),
            "psf_sigma": _by_band(1.72, 1.63, 1.56, 1.51, 1.47, 1.44),
            "zero_point": _by_band(26.56, 28.59, 28.50, 28.29, 27.90, 26.87),
            "mag_lim": _by_band(23.70, 24.97, 24.52, 24.13, 23.56, 22.55),
            "read_noise": _by_band(*[9.0] * 6),
            "exp_time": _by_band(*[30.0] * 6),
        }
    },
}
