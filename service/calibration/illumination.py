"""Illumination correction: from background-flattened to photometrically flat pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.calibration.input_errors import InvalidQuantumError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.exposure.exposure import Exposure

__all__ = ["APPLIED_KEY", "FLAT_APPLIED_KEY", "apply_illumination_correction"]

#: Exposure metadata that says whether pixels were divided by the flat; set by instrument signature removal.
FLAT_APPLIED_KEY = "LSST ISR FLAT APPLIED"
#: Exposure metadata that says whether they were divided by the illumination correction too.
APPLIED_KEY = "LSST CALIB ILLUMCORR APPLIED"

_TRUE = (True, "T", "TRUE", "True", "true")  # header readers differ


def apply_illumination_correction(
    exposure: Exposure, illumination_correction: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Divide the image by the illumination correction and the variance by its square, in place.

    Where the correction is not finite and positive the pixel cannot be made photometric: it stays as it is, its ratio
    is 1, and it gets NO_DATA.

    Method: Rubin CalibrateImage.

    Parameters
    ----------
    exposure : Exposure
        Divided by the flat, as its metadata ``LSST ISR FLAT APPLIED`` has to say; gets ``LSST CALIB ILLUMCORR
        APPLIED``.
    illumination_correction : ndarray of float32, shape of the image, or None
        Response to the uniform background over response to stars.

    Returns
    -------
    ndarray of float32, shape of the image
        The background-to-photometric ratio: the image times it is background-flattened.

    Raises
    ------
    InvalidQuantumError
        The flat was not applied; there is no correction, or not one of this exposure.
    """
    planes = exposure.masked_image
    if exposure.metadata.get(FLAT_APPLIED_KEY) not in _TRUE:
        raise InvalidQuantumError(
            "do_illumination_correction needs an exposure that was divided by its flat:"
            f" metadata '{FLAT_APPLIED_KEY}' is not true"
        )
    if illumination_correction is None:
        raise InvalidQuantumError("do_illumination_correction is on and there is no illumination correction")
    if illumination_correction.shape != planes.shape:
        raise InvalidQuantumError(
            f"the illumination correction has shape {illumination_correction.shape}, the image {planes.shape}"
        )
    ratio = np.array(illumination_correction, dtype=np.float32, order="C")
    bad = ~(np.isfinite(ratio) & (ratio > 0))
    if bad.any():
        ratio[bad] = 1.0
        planes.mask[bad] |= np.int32(planes.planes.bitmask(["NO_DATA"]))
    planes.image /= ratio
    planes.variance /= ratio
    planes.variance /= ratio
    exposure.metadata[APPLIED_KEY] = True
    return ratio
