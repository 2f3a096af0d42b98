"""The stored exposure of a finished job, open for reading in parts."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from api.dependencies import missing_product
from api.image_work import IMAGE, image_problem
from api.problems import Problem
from service import formats
from service.analysis.forced_photometry import ForcedInput
from service.formats.calibrated_file import CalibratedFile
from service.formats.cutout import no_wcs
from service.storage.products import canonical_product

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api.dependencies import Services
    from service.exposure.psf import Psf
    from service.storage.records import JobRecord, ProductRecord

__all__ = ["calibrated_image", "job_psf", "open_calibrated", "photometry_input", "pixel_position"]


def calibrated_image(services: Services, job: JobRecord) -> ProductRecord:
    """The stored exposure.

    Raises
    ------
    Problem
        Why there is none.
    """
    stored = services.storage.jobs.product(job, IMAGE, "fits")
    if stored is None:
        raise missing_product(job, IMAGE)
    return stored


@contextmanager
def open_calibrated(services: Services, stored: ProductRecord) -> Iterator[CalibratedFile]:
    """The stored exposure, open; what is asked for is read then.

    Raises
    ------
    Problem
        The file is damaged, or what is asked of it needs what it does not have.
    """
    with services.storage.blobs.local_copy(stored.sha256) as path, path.open("rb") as stream:
        try:
            yield CalibratedFile(stream)
        except formats.FormatError as error:
            raise image_problem(error) from error


def job_psf(job: JobRecord, file: CalibratedFile) -> Psf:
    """The PSF of a job.

    Raises
    ------
    Problem
        ``product.not_made``: the job ended before.
    """
    if file.psf is None:
        raise Problem("product.not_made", f"Job {job.id} ended without a PSF.", job_id=job.id, phase=job.phase)
    return file.psf


def pixel_position(
    file: CalibratedFile, x: float | None, y: float | None, ra: float | None, dec: float | None
) -> tuple[float, float]:
    """A position in the parent frame from pixels or sky, the centre of the exposure where neither is given.

    Raises
    ------
    Problem
        ``request.invalid``: half a position, both kinds, or one outside the exposure.
    FormatError
        ``image.no_wcs``: on the sky, of an exposure without a WCS.
    """
    if (x is None) != (y is None) or (ra is None) != (dec is None) or not (x is None or ra is None):
        raise _not_a_place("x", "Give x and y, or ra and dec, or nothing for the centre.")
    if ra is not None and dec is not None:
        wcs = file.about.wcs
        if wcs is None:
            raise no_wcs()
        sky = wcs.sky_to_pixel(np.array([ra]), np.array([dec]))
        x, y = (float(values[0]) for values in sky)
    if x is None or y is None:
        return file.bbox.center
    if not file.bbox.contains(x, y):
        raise _not_a_place("x" if ra is None else "ra", "The position is outside the exposure.")
    return x, y


def _not_a_place(parameter: str, detail: str) -> Problem:
    return Problem("request.invalid", detail, errors=[{"parameter": parameter, "detail": detail, "code": "invalid"}])


def photometry_input(services: Services, job: JobRecord, file: CalibratedFile) -> ForcedInput:
    """What forced photometry needs, with the units of the pixels.

    Raises
    ------
    Problem
        ``product.not_made``: the exposure has no variance.
    """
    if not file.has_variance:
        raise Problem("product.not_made", f"Job {job.id} has no variance plane.", job_id=job.id, phase=job.phase)
    about = file.about
    count, nanojansky = 1.0, np.nan if about.photo_calib is None else about.photo_calib.mean
    if about.unit == "nJy":
        applied = services.storage.jobs.product(job, canonical_product("photo_calib"), "json")
        if applied is not None:
            with services.storage.blobs.local_copy(applied.sha256) as path:
                count = nanojansky = formats.read_photo_calib(path).mean
    return ForcedInput(file, file.psf, file.ap_corr_map, about.wcs, count, nanojansky)
