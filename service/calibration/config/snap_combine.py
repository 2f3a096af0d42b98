"""Settings of the combination of two snaps."""

from __future__ import annotations

from pydantic import Field

from service.calibration.config.base import ConfigModel

__all__ = ["SnapCombineConfig"]


class SnapCombineConfig(ConfigModel):
    """Pixelwise sum of two snaps (Rubin SnapCombineTask)."""

    bad_mask_planes: tuple[str, ...] = Field(
        (),
        description="planes of pixels left out: the other snap is doubled there, or NO_DATA is set where both are",
    )
