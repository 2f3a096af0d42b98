"""Inputs of single stages as the recorded upstream runs had them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from service.exposure.background import BackgroundModel
from service.exposure.exposure import Exposure
from service.exposure.geometry import Box
from service.exposure.mask import MaskPlanes
from service.exposure.masked_image import MaskedImage
from service.exposure.psf import PsfexPsf


class ParityRun:
    """One recorded run of upstream's task: ``field`` such as ``typical1k``, ``variant`` such as ``rubin_classic``."""

    def __init__(self, root: Path, field: str, variant: str) -> None:
        self.stages = root / field / variant / "stages"
        if not self.stages.is_dir():
            pytest.skip(f"no recorded stages of {field}/{variant}")
        self._exposure_file = root / field / "exposure.fits"

    def path(self, name: str, suffix: str) -> Path:
        """The only file whose name is ``NNN_<name><suffix>``."""
        (path,) = self.stages.glob(f"[0-9][0-9][0-9]_{name}{suffix}")
        return path

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        with np.load(self.path(name, ".npz")) as data:
            return {key: data[key] for key in data}

    def options(self, name: str) -> dict[str, Any]:
        return json.loads(self.path(name, ".json").read_text())

    def number(self, name: str) -> int:
        return int(self.path(name, ".json").name[:3])

    def background(self, path: Path) -> np.ndarray | float:
        """The recorded model, drawn from its cells: the recorded pixels are rounded to 5e-4 counts."""
        with np.load(path) as data:
            if "model_constant" in data:
                return float(data["model_constant"])
            ny, nx = data["model_d2_milli"].shape
            cells = data["stats_value"], data["stats_stderr"], data["stats_mask"]
        order = json.loads(path.with_suffix(".json").read_text())["approx_order_used"][0]
        return BackgroundModel(*cells, Box(0, 0, nx, ny), approx_order=order).image()

    def masked_image(self, before: str, *, first_background: int = 0) -> MaskedImage:
        """Pixels as stage ``before`` found them: backgrounds, the last repair and the rims of detections before it."""
        stop = self.number(before)
        with fits.open(self._exposure_file) as hdus:
            image = hdus["IMAGE"].data.astype(np.float32)
            mask = hdus["MASK"].data.astype(np.int32)
            variance = hdus["VARIANCE"].data.astype(np.float32)
            bits = {k[3:]: int(v) for k, v in hdus["MASK"].header.items() if k.startswith("MP_")}
        models = {int(p.name[:3]): np.float32(self.background(p)) for p in self.stages.glob("???_background_*.npz")}
        subtracted = {number for number in models if first_background <= number < stop}
        for number in sorted(subtracted):
            image -= models[number]
        planes = MaskPlanes(bits)
        repairs = [p for p in sorted(self.stages.glob("???_repair_*.npz")) if int(p.name[:3]) < stop]
        if repairs:
            filled = {number for number in models if number < int(repairs[-1].name[:3])}
            with np.load(repairs[-1]) as data:
                _, y, x = data["pixels"].T
                mask[y, x] |= planes.bitmask(["CR"])
                if not json.loads(repairs[-1].with_suffix(".json").read_text())["keep_crs"]:
                    image[y, x] = data["value_after"]
                    mask[y, x] |= planes.bitmask(["INTRP"])
                    for number in filled ^ subtracted:  # what was put back or taken off after the repair
                        model = np.broadcast_to(models[number], image.shape)[y, x]
                        image[y, x] += model if number in filled else -model
        for path in self.stages.glob("???_detection_*.json"):
            if int(path.name[:3]) < stop:
                rim = json.loads(path.read_text())["kernel_width"] // 2
                searched = np.zeros(mask.shape, bool)
                searched[rim:-rim, rim:-rim] = True
                mask[~searched] |= planes.bitmask(["EDGE"])
        return MaskedImage(image, mask, variance, planes)

    def psf(self, name: str) -> PsfexPsf:
        data = self.arrays(name)
        return PsfexPsf(
            data["components"],
            tuple(data["context_offset"].astype(float)),
            tuple(data["context_scale"].astype(float)),
            tuple(data["average_position"]),
        )

    def exposure(self, before: str, *, psf: str | None = None, first_background: int = 0) -> Exposure:
        masked = self.masked_image(before, first_background=first_background)
        return Exposure(masked, psf=None if psf is None else self.psf(psf))


@pytest.fixture(scope="session")
def parity_run(parity_dir: Path):
    """Opens a recorded run: ``parity_run(field, variant)``."""

    def opened(field: str, variant: str = "rubin_classic") -> ParityRun:
        return ParityRun(parity_dir, field, variant)

    return opened
